from __future__ import annotations

from esb.message import Message
from esb.steps.base import Enter
from esb.steps.compensate import Undo


def test_step_registers_and_leaves_the_message_as_it_is(run, context):
    context.compensates = ["to:erp.reserve"]
    assert run("compensate: [ { log: x } ]", {"a": 1}).body == {"a": 1}
    assert context.notes == {"undoes": ["to:erp.reserve"]}


def test_undoing_goes_into_the_steps_of_its_step_with_the_answer_of_the_time(read_step, context):
    step = read_step("compensate: [ { log: x } ]")
    told = {"of": "m0", "step": "compensate", "undoes": ["to:a"], "reply": {"status": 201}}
    answer = Undo({"compensate": step.steps}).apply(Message(None, meta={"compensation": told}), context)
    assert isinstance(answer, Enter)
    assert (answer.block, answer.message.meta["reply"]) == (step.steps, {"status": 201})


def test_steps_must_be_given(problem_of):
    assert problem_of("compensate: []").code == "ESB201"
    assert problem_of("compensate: {}").code in ("ESB102", "ESB103")
