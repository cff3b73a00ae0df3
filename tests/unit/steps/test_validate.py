from __future__ import annotations

import pytest

from esb.errors import Invalid
from esb.steps.validate import pointer_to


def test_body_that_keeps_the_contract_goes_on_unchanged(run):
    body = {"no": 1, "qty": 2}
    assert run("validate: order.v1", body).body is body


def test_every_violation_is_reported_with_its_pointer(run):
    with pytest.raises(Invalid) as caught:
        run("validate: order.v1", {})
    assert [v.pointer for v in caught.value.violations] == ["/no", "/qty"]


def test_part_of_the_body_is_checked_and_pointed_to(run):
    with pytest.raises(Invalid) as caught:
        run("validate: { contract: order.v1, as: 'body.lines[1]' }", {"lines": [{}, {"no": 1}]})
    assert [v.pointer for v in caught.value.violations] == ["/lines/1/qty"]
    assert "in `body.lines[1]`" in caught.value.message
    assert caught.value.hint == "see the contract"


def test_part_outside_of_the_body_is_named_in_words(run):
    with pytest.raises(Invalid) as caught:
        run("validate: { contract: order.v1, as: vars.item }", None, vars={"item": {"no": 1}})
    assert [(v.pointer, v.detail) for v in caught.value.violations] == [("/qty", "is missing (in `vars.item`)")]


def test_missing_part_is_checked_as_null(run):
    with pytest.raises(Invalid) as caught:
        run("validate: { contract: order.v1, as: body.lot }", {})
    assert caught.value.violations[0].pointer == "/lot"


def test_part_that_keeps_the_contract_goes_on_unchanged(run):
    body = {"order": {"no": 1, "qty": 2}}
    assert run("validate: { contract: order.v1, as: body.order }", body).body is body


@pytest.mark.parametrize(
    ("part", "pointer"),
    [
        ("body", ""),
        ("body.lot.id", "/lot/id"),
        ('body."a/b"[3]', "/a~1b/3"),
        ("body[0].x", "/0/x"),
        ("vars.x", None),
        ("body.lines[].x", None),
        ("sort(body.x)", None),
    ],
)
def test_pointer_is_known_for_plain_paths_into_the_body(part, pointer):
    assert pointer_to(part) == pointer


def test_unknown_contract_is_a_problem(problem_of):
    assert problem_of("validate: odrer.v1").code == "ESB302"
