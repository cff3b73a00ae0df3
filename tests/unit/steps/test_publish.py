from __future__ import annotations

import pytest

from esb.errors import InternalFault


def test_message_is_handed_to_the_topic_without_its_vars(run, context):
    context.step = "publish"
    answer = run("publish: quality.lot-blocked", {"a": 1}, vars={"v": 1}, headers={"h": "1"}, meta={"m": 1})
    assert answer.vars == {"v": 1}
    (handoff,) = context.emitted
    assert (handoff.kind, handoff.target, handoff.place) == ("topic", "quality.lot-blocked", "publish")
    assert (handoff.key, handoff.keep_key) == (None, False)
    assert handoff.message == answer.derive(vars={})


def test_body_and_headers_of_the_published_message_can_be_given(run, context):
    step = 'publish: { topic: lots, body: body.lot, headers: { X-Plant: "{{ site.plant }}/{{ body.lot.id }}" } }'
    answer = run(step, {"lot": {"id": 5}}, headers={"h": "1"})
    assert (answer.body, answer.headers) == ({"lot": {"id": 5}}, {"h": "1"})
    published = context.emitted[0].message
    assert (published.body, published.headers) == ({"id": 5}, {"h": "1", "x-plant": "P10/5"})


def test_header_with_a_line_break_is_refused(run):
    with pytest.raises(InternalFault, match="header `x`"):
        run('publish: { topic: lots, headers: { x: "{{ body }}" } }', "a\r\nb: c")


@pytest.mark.parametrize(
    ("text", "code", "hint"),
    [
        ("publish: Lot_Blocked", "ESB110", "small letters"),
        ("publish: 'lot-{{ body.x }}'", "ESB110", "`choose`"),
        ("publish: 5", "ESB103", ""),
        ("publish: { body: body.x }", "ESB102", "topic"),
        ("publish: { channel: x }", "ESB101", "here it is `topic`"),
        ("publish: { topic: x, headers: { 'a b': x } }", "ESB110", "letters, digits"),
    ],
)
def test_problem_says_what_to_write(problem_of, text, code, hint):
    problem = problem_of(text)
    assert problem.code == code
    assert hint in problem.hint
