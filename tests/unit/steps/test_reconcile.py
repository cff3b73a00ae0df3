from __future__ import annotations

import pytest

SIDES = "left: { items: body.a, key: body.id }, right: { items: body.b, key: body.id }"


@pytest.fixture
def tracked(context):
    """The context keeps what the step found."""
    found = []

    async def differences(these):
        found.extend(these)
        return {"opened": [one.key for one in these], "closed": [], "open": len(these)}

    context.differences = differences
    return found


def test_what_one_side_lacks_or_says_otherwise_is_found(run, tracked):
    body = {
        "a": [{"id": "1", "n": 1}, {"id": "2", "n": 2}, {"id": "3"}],
        "b": [{"id": "1", "n": 1}, {"id": "2", "n": 3}],
    }
    answer = run(f"reconcile: {{ {SIDES} }}", body)
    assert answer.body == {"compared": 3, "found": 2, "opened": ["2", "3"], "closed": [], "open": 2}
    assert [one.what for one in tracked] == ["left and right do not agree", "right does not have it"]


def test_the_fingerprint_is_that_of_both_sides(run, tracked):
    for n in (1, 1, 2):
        run(f"reconcile: {{ {SIDES} }}", {"a": [{"id": "1", "n": n}], "b": []})
    first, same, other = (one.fingerprint for one in tracked)
    assert first == same != other


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("reconcile: { left: { items: body.a, key: body.id } }", "ESB102"),
        (f"reconcile: {{ {SIDES}, differ: body.x }}", "ESB101"),
        ("reconcile: both", "ESB103"),
    ],
)
def test_problem_has_its_code(problem_of, text, code):
    assert problem_of(text).code == code
