from __future__ import annotations

from datetime import timedelta

import pytest

from esb.errors import Invalid, Unmapped

STEP = """
fanout:
  mes:
    if: body.status == 'REL'
    steps: [ { to: mes.order } ]
  qms: [ { to: qms.order } ]
  analytics:
    if: body.big
    when_down: { drop_after: 1h }
    steps: [ { to: dwh.order } ]
"""


def test_each_true_branch_gets_the_message_as_it_is(run, read_step, context):
    step = read_step(STEP)
    context.step = "fanout"
    body = {"status": "REL"}
    answer = run(step, body, vars={"v": 1})
    assert answer.body is body
    mes, qms = context.emitted
    assert (mes.kind, mes.place, mes.keep_key, mes.key) == ("branch", "fanout/mes", True, None)
    assert mes.target == step.branches.entries[0][1].steps.id
    assert mes.message == answer
    assert qms.place == "fanout/qms"
    assert context.notes == {"branches": ["mes", "qms"]}


def test_no_true_branch_leaves_a_note(run, context):
    answer = run("fanout: { mes: { if: body.x, steps: [ { to: mes.order } ] } }", None)
    assert answer.body is None
    assert (context.emitted, context.notes) == ([], {"branches": []})


def test_branch_is_found_by_its_block(read_step):
    step = read_step(STEP)
    branch = step.branch(step.blocks[2].id)
    assert branch.when_down.drop_after == timedelta(hours=1)
    assert step.branch("elsewhere") is None
    assert len(step.blocks) == 3


def test_branch_may_be_called_like_an_option(run, context):
    run("fanout: { by: [ { to: mes.order } ] }", 1)
    assert context.notes == {"branches": ["by"]}


NAMED = """
fanout:
  by: body.systems
  branches:
    mes: [ { to: mes.order } ]
    qms: { if: body.big, steps: [ { to: qms.order } ] }
"""


@pytest.mark.parametrize(
    ("systems", "taken"),
    [("mes", ["mes"]), (["qms", "mes", "mes"], ["mes", "qms"]), ([], []), (None, []), ("", [])],
)
def test_message_names_its_receivers(run, context, systems, taken):
    run(NAMED, {"systems": systems, "big": True})
    assert context.notes == {"branches": taken}


def test_guard_of_a_named_branch_still_counts(run, context):
    run(NAMED, {"systems": ["mes", "qms"], "big": False})
    assert context.notes == {"branches": ["mes"]}


@pytest.mark.parametrize(("systems", "error"), [(["mes", "erp"], Unmapped), (7, Invalid), ([["mes"]], Invalid)])
def test_receiver_that_is_not_declared_stops_the_message_before_any_branch(run, context, systems, error):
    with pytest.raises(error):
        run(NAMED, {"systems": systems, "big": True})
    assert context.emitted == []


@pytest.mark.parametrize(
    ("text", "code", "hint"),
    [
        ("fanout: {}", "ESB102", "mes:"),
        ("fanout: { by: body.x, mes: [ { log: x } ] }", "ESB112", "branches:"),
        ("fanout: [ { to: mes.order } ]", "ESB103", "one line for each branch"),
        ("fanout: { mes: { if: body.x } }", "ESB102", "steps of the branch"),
        ("fanout: { mes: { when: body.x, steps: [ { log: x } ] } }", "ESB101", "here it is `if`"),
        ("fanout: { Mes Graz: [ { log: x } ] }", "ESB110", "small letters"),
        ("fanout: { mes: [] }", "ESB201", "at least one"),
        ("fanout: { mes: { if: body., steps: [ { log: x } ] } }", "ESB401", ""),
    ],
)
def test_problem_says_what_to_write(problem_of, text, code, hint):
    problem = problem_of(text)
    assert problem.code == code
    assert hint in problem.hint
