from __future__ import annotations

import pytest

from esb.steps.base import Enter

TWO = """
choose:
  - when: "body.qty > `100`"
    steps: [ { reject: too many } ]
  - when: body.urgent
    steps: [ { log: urgent } ]
"""
THREE = TWO + "  - otherwise: [ { set: { vars.a: body } } ]\n"


def test_first_true_branch_is_entered(run, read_step, context):
    step = read_step(THREE)
    answer = run(step, {"qty": 500, "urgent": True})
    assert isinstance(answer, Enter)
    assert answer.block is step.branches.cases[0].steps
    assert answer.message.body == {"qty": 500, "urgent": True}
    assert context.notes == {"branch": "body.qty > `100`"}


def test_second_branch_is_entered_where_the_first_is_false(run, read_step):
    step = read_step(THREE)
    assert run(step, {"qty": 5, "urgent": True}).block is step.branches.cases[1].steps


def test_otherwise_is_entered_where_no_branch_is_true(run, read_step, context):
    step = read_step(THREE)
    assert run(step, {"qty": 5}).block is step.branches.otherwise
    assert context.notes == {"branch": "otherwise"}


@pytest.mark.parametrize("body", [None, "text", {"urgent": ""}, {"urgent": []}, []])
def test_message_goes_on_where_nothing_fits_and_nothing_is_left(run, context, body):
    assert run(TWO, body).body == body
    assert context.notes == {"branch": "none"}


def test_blocks_are_known(read_step):
    step = read_step(THREE)
    assert [block.nodes[0].kind for block in step.blocks] == ["reject", "log", "set"]
    assert len(read_step(TWO).blocks) == 2


STEPS = "steps: [ { log: x } ]"


@pytest.mark.parametrize(
    ("text", "code", "hint"),
    [
        (f"choose: {{ when: body.x, {STEPS} }}", "ESB103", "- when: expression"),
        ("choose: []", "ESB102", "- when: expression"),
        ("choose: [ { otherwise: [ { log: x } ] } ]", "ESB102", "- when: expression"),
        ("choose: [ body.x ]", "ESB103", "when: …"),
        ("choose: [ { when: body.x } ]", "ESB102", "steps of the branch"),
        ("choose: [ { when: body.x, then: [ { log: x } ] } ]", "ESB101", "here it is `steps`"),
        (f"choose: [ {{ when: body.x, {STEPS} }}, {{ if: body.y, {STEPS} }} ]", "ESB101", "here it is `when`"),
        (f"choose: [ {{ otherwise: [ {{ log: x }} ] }}, {{ when: body.x, {STEPS} }} ]", "ESB107", "never be taken"),
        (
            f"choose: [ {{ when: body.x, {STEPS} }}, {{ otherwise: [ {{ log: x }} ] }}, {{ otherwise: [ {{ log: y }} ] }} ]",
            "ESB107",
            "never be taken",
        ),
        (f"choose: [ {{ when: body.x, {STEPS} }}, {{ otherwise: , {STEPS} }} ]", "ESB107", "`otherwise:` itself"),
        (
            f"choose: [ {{ when: body.x, {STEPS} }}, {{ otherwise: [ {{ log: x }} ], when: body.x }} ]",
            "ESB107",
            "begin another",
        ),
        (f"choose: [ {{ when: body. , {STEPS} }} ]", "ESB401", ""),
    ],
)
def test_problem_says_what_to_write(problem_of, text, code, hint):
    problem = problem_of(text)
    assert problem.code == code
    assert hint in problem.hint


def test_problem_names_the_branch(problem_of):
    assert "`choose[1]`" in problem_of(f"choose: [ {{ when: body.x, {STEPS} }}, {{ when: body.x }} ]").message
