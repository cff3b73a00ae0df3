from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import yaml

from esb.config import yaml as esb_yaml
from esb.config.yaml import MAX_DEPTH, Filled, read_documents, read_scalar
from esb.errors import Problem
from esb.spec import ListNode, MapNode, ScalarNode, to_plain


@pytest.fixture(params=["libyaml", "python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both parsers of PyYAML: the slow one is what a machine without libyaml has."""
    if request.param == "python":
        monkeypatch.setattr(esb_yaml, "_LOADER", yaml.SafeLoader)
    return str(request.param)


def read(text: str) -> tuple[list[Any], list[Problem]]:
    problems: list[Problem] = []
    documents, _ = read_documents(text, "f.yaml", problems.append)
    return [document.node for document in documents], problems


def plain(text: str) -> Any:
    nodes, problems = read(text)
    assert not problems, problems
    return to_plain(nodes[0])


def fault(text: str) -> Problem:
    _, problems = read(text)
    assert len(problems) == 1, problems
    return problems[0]


TEXTS = (
    "on off yes no NO y 10:30 12:30:45 0012 00 12e5 1e3 1_000 0x1f 0o17 010 .5 5. +5 .inf .nan 2026-11-24 1.2.3 < 01.5"
)


@pytest.mark.parametrize("text", [*TEXTS.split(), "2026-11-24T08:15:30Z", "-", "="])
def test_what_is_no_plain_number_or_word_stays_text(text: str) -> None:
    assert read_scalar(text) == text
    assert plain(f"a: {text if text not in ('-', '=') else repr(text)}") == {"a": text}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-7", -7),
        ("4711", 4711),
        ("12.10", Decimal("12.10")),
        ("-0.5", Decimal("-0.5")),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_plain_numbers_and_words_have_their_type(text: str, value: object) -> None:
    found = read_scalar(text)
    assert found == value
    assert type(found) is type(value)


def test_a_decimal_keeps_its_digits() -> None:
    assert str(plain("a: 12.10")["a"]) == "12.10"


def test_a_number_too_long_for_anybody_stays_text() -> None:
    assert read_scalar("9" * 5000) == "9" * 5000


@pytest.mark.parametrize("text", ["'12'", '"12"', "!!str 12"])
def test_quotes_make_a_text(text: str) -> None:
    assert plain(f"a: {text}") == {"a": "12"}


def test_values_know_their_place(parser: str) -> None:
    nodes, problems = read('a: 1\nb:\n  - "x ü"\n  - { c: body.lot }\n')
    assert not problems
    root = nodes[0]
    assert isinstance(root, MapNode)
    items = root.get("b")
    assert isinstance(items, ListNode)
    text, inner = items.items
    assert isinstance(inner, MapNode)
    value = inner.get("c")
    assert value is not None
    assert [str(n.position) for n in (root, items, text, inner, value)] == [
        "f.yaml:1:1", "f.yaml:3:3", "f.yaml:3:5", "f.yaml:4:5", "f.yaml:4:10",
    ]  # fmt: skip
    assert (text.position.length, inner.position.length, value.position.length) == (5, 15, 8)


@pytest.mark.parametrize("sign", ["|", ">-"])
def test_a_block_text_stands_where_its_first_line_stands(parser: str, sign: str) -> None:
    nodes, _ = read(f"a: {sign}\n\n    first\n    second\nb: 1\n")
    value = nodes[0].get("a")
    assert (value.position.line, value.position.column, value.position.length) == (3, 5, 5)
    assert value.quoted


def test_a_file_holds_several_documents_and_empty_ones_do_not_count() -> None:
    problems: list[Problem] = []
    documents, whole = read_documents("a: 1\n---\n# nothing\n---\nb: 2\nc: 3\n", "f.yaml", problems.append)
    assert whole
    assert not problems
    assert [to_plain(document.node) for document in documents] == [{"a": 1}, {"b": 2, "c": 3}]
    assert documents[0].text == "a: 1\n"
    assert documents[1].text.endswith("b: 2\nc: 3\n")


def test_what_stands_before_a_fault_is_still_read() -> None:
    problems: list[Problem] = []
    documents, whole = read_documents("a: 1\n---\nb: [\n", "f.yaml", problems.append)
    assert not whole
    assert [to_plain(document.node) for document in documents] == [{"a": 1}]


def test_a_key_that_stands_twice_names_both_places() -> None:
    problem = fault("a: 1\nb: 2\na: 3\n")
    assert (problem.code, problem.position.line) == ("ESB003", 3)
    assert problem.related[0][0].line == 1


@pytest.mark.parametrize("key", ["5", "true", "null", "~", "1.5", "[a]", "{a: 1}"])
def test_a_key_is_a_text(key: str) -> None:
    assert fault(f"? {key}\n: x\n").code == "ESB008"


@pytest.mark.parametrize("key", ["on", "'5'", "0012", "a.b"])
def test_a_text_is_a_key(key: str) -> None:
    assert plain(f"{key}: x") == {key.strip("'"): "x"}


@pytest.mark.parametrize("tag", ["!!int", "!!python/object/apply:os.system", "!own", "!<tag:x>", "!!binary"])
def test_tags_are_refused(tag: str) -> None:
    assert fault(f"a: {tag} '5'\n").code == "ESB007"


def test_an_alias_is_a_copy_with_the_place_of_its_anchor() -> None:
    nodes, problems = read("a: &x { b: 1 }\nc: *x\nd: *x\n")
    assert not problems
    root = nodes[0]
    assert to_plain(root) == {"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1}}
    assert root.get("c") is not root.get("d")
    assert root.get("c").position.line == 1


def test_a_merge_takes_in_what_is_not_there() -> None:
    assert plain("x: &x { a: 1, b: 2 }\ny:\n  <<: *x\n  b: 3\n")["y"] == {"b": 3, "a": 1}
    assert plain("x: &x { a: 1 }\nz: &z { a: 5, c: 6 }\ny: { <<: [*x, *z] }\n")["y"] == {"a": 1, "c": 6}
    assert fault("y: { <<: 5 }\n").code == "ESB103"


def test_an_alias_bomb_ends_early() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert fault("\n".join(lines)).code == "ESB005"


@pytest.mark.parametrize("text", ["a: &x [*x]", "a: &x { b: { c: *x } }"])
def test_an_alias_inside_what_it_names_is_refused(text: str) -> None:
    assert fault(text).code == "ESB005"


def test_nesting_is_bounded(parser: str) -> None:
    assert fault("[" * 20_000).code == "ESB005"
    assert plain("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None


@pytest.mark.parametrize(
    ("text", "code", "place", "words"),
    [
        ("a:\n\tb: 1\n", "ESB002", (2, 1), "tab"),
        ("a:\n  b: 1\n\tc: 1\n", "ESB002", (3, 1), "tab"),
        ('a: "x\nb: 1\n', "ESB001", (1, 4), "never closed"),
        ("a: [1, 2\nb: 3\n", "ESB001", (1, 4), "not closed"),
        ("a: { b: 1\nc: 3\n", "ESB001", (1, 4), "not closed"),
        ("a: [x,\n", "ESB001", (1, 4), "not closed"),
        ("a: [ { b: 1, c: [ 2 } ]\n", "ESB001", (1, 21), "missing"),
        ("a: b: c\n", "ESB001", (1, 5), "second `:`"),
        ("a: 1\n  b: 2\n", "ESB001", (2, 3), "has a value already"),
        ("a:b\nc: 1\n", "ESB001", (1, 2), "space is missing"),
        ("ab\nc: 1\n", "ESB001", (1, 1), "neither"),
        ("a: 1\nbcd\ne: 2\n", "ESB001", (2, 1), "neither"),
        ("a: 1\nb:c\ne: 2\n", "ESB001", (2, 2), "space is missing"),
        ("a:\n    b: 1\n  c: 2\n", "ESB001", (3, 3), "indentation"),
        ("- a\nb: 1\n", "ESB001", (2, 1), "list item"),
        ("a: @x\n", "ESB001", (1, 4), "`@`"),
        ("a: %x\n", "ESB001", (1, 4), "`%`"),
        ("a: *.csv\n", "ESB001", (1, 4), "`*`"),
        ("a: *x\n", "ESB001", (1, 4), "no anchor"),
        ('a: "\\d"\n', "ESB001", (1, 5), "`\\d`"),
        ("a: 'it's'\n", "ESB001", (1, 8), "closing quote"),
        ("a: [1]]\n", "ESB001", (1, 7), "unexpected"),
        ("a: 1\n}\n", "ESB001", (2, 1), "closes nothing"),
        ("a: - b\n", "ESB001", (1, 4), "list cannot begin"),
        ("a: |x\n  y\n", "ESB001", (1, 5), "nothing may follow"),
        ("a: \x01\n", "ESB001", (1, 4), "U+0001"),
        ("ok: 1\n\x02", "ESB001", (2, 1), "U+0002"),
        ("a: {{ b }} c\n", "ESB008", (1, 4), "quotes"),
        ("a: {{ b }}\n", "ESB008", (1, 4), "quotes"),
        ("a: [ {{ b }} ]\n", "ESB008", (1, 6), "quotes"),
    ],
)
def test_a_fault_is_said_in_plain_words_at_its_place(
    parser: str, text: str, code: str, place: tuple[int, int], words: str
) -> None:
    _, problems = read(text)
    problem = problems[0]
    assert problem.code == code
    assert words in problem.message
    assert (problem.position.line, problem.position.column) == place
    assert len(problems) == 1


def test_nothing_that_can_be_typed_raises(parser: str) -> None:
    pieces = [
        "a",
        ":",
        " ",
        "\n",
        "-",
        "[",
        "]",
        "{",
        "}",
        '"',
        "'",
        "|",
        ">",
        "&a",
        "*a",
        "!",
        "#",
        "%",
        "?",
        "\t",
        "<<",
    ]
    for first in pieces:
        for second in pieces:
            for third in pieces:
                read(f"k: {first}{second}{third}x\nl: 1\n")


def test_expansion_is_asked_for_values_only() -> None:
    seen: list[str] = []

    def expand(text: str, at: object) -> Filled:
        seen.append(text)
        return Filled("full")

    documents, _ = read_documents("${K}: ${A}\nb: 'x${B}'\nc: plain\n", "f.yaml", lambda _: None, expand)
    root = documents[0].node
    assert isinstance(root, MapNode)
    value = root.get("${K}")
    assert isinstance(value, ScalarNode)
    assert (value.value, value.text, value.expanded) == ("full", "${A}", True)
    assert seen == ["${A}", "x${B}"]
