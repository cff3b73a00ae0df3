from __future__ import annotations

from datetime import timedelta

import pytest

from esb.errors import InternalFault, Invalid, MessageError

PLAIN = "split: { each: body.lines, steps: [ { log: x } ] }"


def test_each_item_becomes_a_message_of_its_own(run, read_step, context):
    step = read_step(PLAIN)
    context.step = "split"
    message = run(step, {"lines": ["a", "b"]}, vars={"v": 1}, headers={"h": "2"}, meta={"route": "r"})
    assert message.body == {"lines": ["a", "b"]}
    first, second = context.emitted
    assert (first.kind, first.target, first.place) == ("split", step.steps.id, "split[0]")
    assert (first.message.body, first.message.vars, first.message.headers) == ("a", {"v": 1}, {"h": "2"})
    assert second.place == "split[1]"
    assert second.message.meta == {"route": "r", "split": {"index": 1, "count": 2}}
    assert context.notes == {"items": 2}


def test_item_without_a_key_of_its_own_has_none(run, context):
    run(PLAIN, {"lines": [1]})
    (item,) = context.emitted
    assert (item.key, item.keep_key, item.dedupe, item.dedupe_window) == (None, False, None, None)


def test_key_and_dedupe_are_read_from_the_item(run, context):
    step = """
    split:
      each: body.lines
      key: "join('-', [body.no, meta.split.index == `0` && 'first' || 'next'])"
      dedupe: { key: body.id, window: 1d }
      steps: [ { log: x } ]
    """
    run(step, {"lines": [{"no": "a", "id": 5}, {"no": "b", "id": True}]})
    assert [(h.key, h.dedupe, h.dedupe_window) for h in context.emitted] == [
        ("a-first", "5", timedelta(days=1)),
        ("b-next", "true", timedelta(days=1)),
    ]


def test_dedupe_may_be_written_short(run, context):
    run("split: { each: body, dedupe: body, steps: [ { log: x } ] }", ["a"])
    assert (context.emitted[0].dedupe, context.emitted[0].dedupe_window) == ("a", timedelta(days=7))


@pytest.mark.parametrize("value", [None, ""])
def test_null_and_empty_text_are_no_key(run, context, value):
    run("split: { each: body, key: body.k, dedupe: body.k, steps: [ { log: x } ] }", [{"k": value}])
    assert (context.emitted[0].key, context.emitted[0].dedupe) == (None, None)


@pytest.mark.parametrize("option", ["key", "dedupe"])
def test_key_that_is_no_single_value_is_invalid_and_names_the_item(run, option):
    with pytest.raises(Invalid, match="item 1: `split"):
        run(f"split: {{ each: body, {option}: body.k, steps: [ {{ log: x }} ] }}", [{"k": 1}, {"k": [2]}])


def test_failing_key_expression_names_the_item_in_the_trace(run, context):
    with pytest.raises(InternalFault):
        run("split: { each: body, key: 'add(body, `1`)', steps: [ { log: x } ] }", [1, "x"])
    assert context.notes["item"] == 1


@pytest.mark.parametrize("body", [{}, {"lines": None}, {"lines": []}, None])
def test_nothing_to_split_gives_no_message(run, context, body):
    assert run(PLAIN, body).body == body
    assert (context.emitted, context.notes) == ([], {"items": 0})


@pytest.mark.parametrize(("value", "words"), [("text", "the text"), ({"a": 1}, "an object"), (5, "the number")])
def test_what_is_no_list_is_invalid(run, value, words):
    with pytest.raises(Invalid, match=rf"`each: body\.lines` gives {words}.*, not a list"):
        run(PLAIN, {"lines": value})


def test_object_gets_a_hint_for_its_values(run):
    with pytest.raises(MessageError) as caught:
        run(PLAIN, {"lines": {"a": 1}})
    assert "values(body.lines)" in caught.value.hint


def test_blocks_are_known(read_step):
    step = read_step("split: { each: body, on_item_error: fail, steps: [ { log: x } ] }")
    assert step.blocks == (step.steps,)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("split: { each: body }", "ESB102"),
        ("split: { steps: [ { log: x } ] }", "ESB102"),
        ("split: { each: body, steps: [] }", "ESB201"),
        ("split: { each: body, on_item_error: retry, steps: [ { log: x } ] }", "ESB105"),
        ("split: body.lines", "ESB103"),
        ("split: { items: body, steps: [ { log: x } ] }", "ESB101"),
    ],
)
def test_problem_has_its_code(problem_of, text, code):
    assert problem_of(text).code == code
