from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from esb.errors import Invalid
from esb.message import PARKED, Message
from esb.steps.aggregate import Gather
from esb.steps.base import Stop, Wait


@pytest.fixture
def gather(read_step, context):
    """The bodies of a group through the first step of its aggregate: the aggregate, or when it looks again."""
    context.step = "aggregate/gather"

    def look(options: str, *bodies):
        step = Gather(read_step(f"aggregate: {{ by: body.no, {options} }}"))
        context.behind = [Message(body) for body in bodies[1:]]
        try:
            return asyncio.run(step.apply(Message(bodies[0], meta={"key": "g"}), context))
        except Wait as wait:
            return wait.until

    return look


def test_member_ends_and_its_part_waits_in_the_lane_of_its_group(run, context):
    answer = run(
        "aggregate: { by: body.no, complete: { size: 2 } }", {"no": 7}, meta={"aggregate": {"step": "x"}, "a": 1}
    )
    assert answer == Stop("aggregated")
    (part,) = context.emitted
    assert (part.kind, part.key, part.keep_key, part.message.body, part.message.meta) == (
        "split",
        "7",
        False,
        {"no": 7},
        {"a": 1},
    )


@pytest.mark.parametrize("body", [{}, {"no": ""}])
def test_member_of_no_group_is_invalid(run, body):
    with pytest.raises(Invalid, match="no group"):
        run("aggregate: { by: body.no, complete: { size: 2 } }", body)


def test_group_is_complete_by_its_size(gather, context):
    assert gather("complete: { size: 2 }", 1) == PARKED
    aggregate = gather("complete: { size: 2 }", 1, 2, 3)
    assert aggregate.body == [1, 2]
    assert aggregate.meta["aggregate"] == {"step": "aggregate/gather", "group": "g", "count": 2}
    assert context.absorbed == [1]


def test_group_is_complete_at_the_first_of_its_members_that_makes_it_so(gather, context):
    options = "complete: { when: sum(body) > `5` }"
    assert gather(options, 1, 2) == PARKED
    assert gather(options, 1, 2, 3, 4).body == [1, 2, 3]
    assert gather(options, 9).body == [9]


def test_group_is_complete_by_its_time(gather, context):
    due = context.accepted_at + timedelta(seconds=60)
    assert gather("complete: { timeout: 1m, size: 5 }", 1, 2) == due
    context.clock.advance(60)
    assert gather("complete: { timeout: 1m, size: 5 }", 1, 2).body == [1, 2]


def test_list_goes_into_a_place_of_the_first_member(gather):
    assert gather("into: body.all, complete: { size: 2 }", {"a": 1}, {"a": 2}).body == {
        "a": 1,
        "all": [{"a": 1}, {"a": 2}],
    }


def test_aggregate_that_is_tried_again_gathers_no_more(gather, read_step, context):
    aggregate = gather("complete: { size: 2 }", 1, 2)
    again = Gather(read_step("aggregate: { by: body.no, complete: { size: 2 } }"))
    assert asyncio.run(again.apply(aggregate, context)) is aggregate


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ("by: body.no", "ESB102"),
        ("by: body.no, complete: {}", "ESB102"),
        ("by: body.no, complete: { size: 0 }", "ESB106"),
        ("by: body.no, complete: { size: 2 }, into: headers.x", "ESB103"),
        ("key: body.no, by: body.no, complete: { size: 2 }", "ESB101"),
    ],
)
def test_problem_has_its_code(problem_of, options, code):
    assert problem_of(f"aggregate: {{ {options} }}").code == code
