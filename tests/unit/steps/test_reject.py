from __future__ import annotations

import pytest

from esb.errors import InternalFault, Rejected


def test_message_is_rejected_with_the_reason(run):
    with pytest.raises(Rejected, match=r"^lot 7 is unknown$"):
        run("reject: 'lot {{ body.lot }} is unknown'", {"lot": 7})
    with pytest.raises(Rejected, match="no"):
        run("reject: { reason: no stock }", None)


def test_empty_reason_says_so(run):
    with pytest.raises(Rejected, match="without a reason"):
        run("reject: '{{ body }}'", " ")


def test_reason_that_cannot_be_rendered_is_a_fault_of_the_route(run):
    with pytest.raises(InternalFault):
        run("reject: '{{ body.x.y }}'", {})


def test_other_words_for_the_option_are_answered(problem_of):
    assert problem_of("reject: { message: no }").hint == "here it is `reason`"
