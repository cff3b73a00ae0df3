"""Where a pointer stands in a JSON file."""

from __future__ import annotations

import pytest

from esb.formats.json_place import place

TEXT = """{
  "type": "object",
  "a/b": [1, {"x": "y, { [ \\" "}, [true, null]],
  "nested": {"key": {"deep": 12.5}, "esc\\u0061pe": "v"},
  "last": []
}"""


def at(pointer: tuple[str | int, ...], *, key: bool = False) -> str:
    """What stands at the place that was found."""
    found = place(TEXT, "x.json", pointer, key=key)
    assert found.path == "x.json"
    return TEXT.splitlines()[found.line - 1][found.column - 1 :][: found.length]


@pytest.mark.parametrize(
    ("pointer", "text"),
    [
        (("type",), '"object"'),
        (("a/b", 0), "1"),
        (("a/b", 1, "x"), '"y, { [ \\" "'),
        (("a/b", 2, 0), "true"),
        (("a/b", 2, 1), "null"),
        (("nested", "key", "deep"), "12.5"),
        (("nested", "escape"), '"v"'),
    ],
)
def test_the_place_of_a_value(pointer: tuple[str | int, ...], text: str) -> None:
    assert at(pointer) == text


def test_the_place_of_an_object_or_list_is_its_bracket() -> None:
    assert at(("a/b",)) == "["
    assert at(("nested",)) == "{"
    assert place(TEXT, "x.json", ("last",)).line == 5


@pytest.mark.parametrize("pointer", [(), ("nowhere",), ("a/b", 9)])
def test_what_is_not_there_is_at_the_start(pointer: tuple[str | int, ...]) -> None:
    found = place(TEXT, "x.json", pointer)
    assert (found.line, found.column) == (1, 1)


def test_the_place_of_a_key() -> None:
    assert at(("nested", "key"), key=True) == '"key"'
