from __future__ import annotations

import pytest

from esb.errors import Invalid, Unavailable, Unmapped
from esb.steps.base import Reply


def test_message_is_delivered_and_the_answer_is_kept(run, context):
    context.answers = [Reply(201, {"etag": "1"}, {"id": 7})]
    answer = run("to: erp.usage-decision", {"a": 1}, meta={"route": "r"})
    assert answer.body == {"a": 1}
    assert answer.meta == {"route": "r", "reply": {"status": 201, "headers": {"etag": "1"}, "body": {"id": 7}}}
    target, message = context.sent[0]
    assert (target.name, message.body) == ("erp.usage-decision", {"a": 1})


@pytest.mark.parametrize("text", ["to: { http: { url: 'http://x' } }", "to: { target: { http: { url: 'http://x' } } }"])
def test_endpoint_may_stand_inline(run, context, text):
    run(text, None)
    assert context.sent[0][0].protocol == "http"


def test_failure_is_raised_for_the_runtime_to_decide(run, context):
    context.answers = [Unavailable("down")]
    with pytest.raises(Unavailable):
        run("to: erp.usage-decision", None)


def test_target_inside_the_bus_is_a_hand_off(run, context):
    context.step = "to:topic"
    answer = run("to: { topic: lots }", {"a": 1}, meta={"reply": {"status": 200}})
    assert context.sent == []
    assert (context.emitted[0].kind, context.emitted[0].target, context.emitted[0].place) == (
        "topic",
        "lots",
        "to:topic",
    )
    assert answer.meta == {"reply": {"status": 200}}


def test_target_must_be_given(problem_of):
    assert problem_of("to: 5").code == "ESB103"
    assert problem_of("to: []").code == "ESB103"


ANY = "to: { any_of: [erp.order, mes.order, mes.stop], by: body.system }"


@pytest.mark.parametrize(
    ("system", "name"), [("mes.stop", "mes.stop"), ("erp", "erp.order"), (["mes.order"], "mes.order")]
)
def test_message_names_the_one_that_it_goes_to(run, context, system, name):
    assert run(ANY, {"system": system}).meta["reply"]["status"] == 200
    assert [target.name for target, _ in context.sent] == [name]


@pytest.mark.parametrize(
    ("system", "error"),
    [("sap", Unmapped), ("mes", Unmapped), ("http://evil", Unmapped), (None, Invalid), (["erp", "mes.stop"], Invalid)],
)
def test_name_that_is_none_or_several_sends_nothing(run, context, system, error):
    with pytest.raises(error):
        run(ANY, {"system": system})
    assert context.sent == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("to: { any_of: [erp.order] }", "ESB102"),
        ("to: { any_of: [], by: body.x }", "ESB103"),
        ("to: { any_of: erp.order, by: body.x }", "ESB103"),
        ("to: { any_of: [ { http: { url: x } } ], by: body.x }", "ESB103"),
        ("to: { any_of: [erp.order], by: body.x, from: y }", "ESB101"),
    ],
)
def test_any_of_is_checked(problem_of, text, code):
    assert problem_of(text).code == code
