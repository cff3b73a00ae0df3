from __future__ import annotations


def test_copy_is_sent_and_the_message_goes_on(run, context):
    answer = run("tap: { file: { path: x.json } }", {"a": 1}, meta={"m": 1})
    assert (answer.body, answer.meta) == ({"a": 1}, {"m": 1})
    target, message = context.copied[0]
    assert (target.protocol, message.body) == ("file", {"a": 1})
    assert context.sent == []


def test_copy_inside_the_bus_is_a_hand_off(run, context):
    run("tap: { topic: audit }", {"a": 1})
    assert context.emitted[0].target == "audit"
    assert context.copied == []


def test_copy_that_fails_is_noted_and_never_fails_the_message(run, context):
    assert run("tap: { topic: audit }", "broken").body == "broken"
    assert context.notes == {"failed": "invalid: cannot be handed on"}
    assert context.emitted == []


def test_target_must_be_given(problem_of):
    assert problem_of("tap: 5").code == "ESB103"
