"""What is wrong with the text of an expression, in plain words and with what to write instead."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from esb.language.base import ExpressionError

_WORDS = {"and": "&&", "or": "||", "not": "!"}
_ARITHMETIC = {"+": "add", "-": "sub", "*": "mul", "/": "div", "%": "mod"}
_QUOTES = "\u2018\u2019\u201c\u201d\u201e\u00b4"
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_NAMES = {"eof": "the end", "lparen": "`(`", "rparen": "`)`", "lbracket": "`[`", "rbracket": "`]`"}
_LITERALS = {"true", "false", "null"}


class Trouble(ValueError):
    """Raised while reading, where the reader itself knows best what is wrong."""

    def __init__(self, message: str, offset: int, length: int = 1, hint: str = "") -> None:
        super().__init__(message)
        self.offset, self.length, self.hint = offset, length, hint


def syntax_error(
    text: str, offset: int, tokens: Sequence[dict[str, Any]], trouble: Trouble | None = None
) -> ExpressionError:
    """The error for the character at ``offset``; ``tokens`` are those of the text where it could be split into them."""
    if trouble is not None:
        return _error(text, str(trouble), trouble.offset, trouble.length, trouble.hint)
    offset = _start_of(text, offset)
    if text.lstrip().startswith("{{"):
        inner = text.strip().strip("{}").strip()
        return _error(text, "an expression is written without `{{ }}`", 0, len(text), f"write `{inner}`")
    if offset >= len(text):
        return _unfinished(text)
    length, hint = _token_at(text, offset), _hint(text, offset, tokens)
    negated = re.search(r"\bnot\s*$", text[:offset])
    if negated is not None:
        offset, length = negated.start(), 3
    found = text[offset : offset + length]
    if found[0] in "'\"`" and not _closed(text, offset):
        return _error(text, f"the text that begins with {found[0]} has no end", offset, len(text) - offset, hint)
    return _error(text, f"`{found}` cannot stand at character {offset + 1}", offset, length, hint)


def _error(text: str, message: str, offset: int, length: int, hint: str) -> ExpressionError:
    line = text.count("\n", 0, offset) + 1
    column = offset - (text.rfind("\n", 0, offset) + 1) + 1
    return ExpressionError("ESB401", message, offset=offset, length=length, hint=hint, line=line, column=column)


def _start_of(text: str, offset: int) -> int:
    """jmespath points at the second character of some faults, or at the last one where the text ends early."""
    if 0 < offset < len(text) and text[offset] != "=" and text[offset - 1] == "=" and text[offset - 2 : offset] != "==":
        return offset - 1
    return offset


def _token_at(text: str, offset: int) -> int:
    match = re.compile(r"\w+|&&|\|\||[=!<>]=?|'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|`[^`]*`|.", re.DOTALL).match(
        text, offset
    )
    return len(match[0]) if match else 1


def _closed(text: str, offset: int) -> bool:
    return _token_at(text, offset) > 1


def _unfinished(text: str) -> ExpressionError:
    opened: list[tuple[str, int]] = []
    quote = ""
    for place, character in enumerate(text):
        if quote:
            quote = "" if character == quote and text[place - 1] != "\\" else quote
        elif character in "'\"`":
            quote = character
        elif character in _CLOSING:
            opened.append((character, place))
        elif character in ")]}" and opened:
            opened.pop()
    if opened:
        bracket, place = opened[-1]
        what = f"the `{bracket}` at character {place + 1} is not closed"
        return _error(text, f"the expression ends too early: {what}", place, 1, f"add `{_CLOSING[bracket]}`")
    return _error(text, "the expression ends too early", max(len(text.rstrip()) - 1, 0), 1, "something is missing here")


def _hint(text: str, offset: int, tokens: Sequence[dict[str, Any]]) -> str:
    here, before = text[offset:], text[:offset].rstrip()
    found = here[: _token_at(text, offset)]
    previous = re.search(r"\w+$", before)
    word = previous[0] if previous else ""
    if found in _WORDS:
        return f"write `{_WORDS[found]}`"
    if word in _WORDS:
        return f"write `{_WORDS[word]}` instead of `{word}`"
    if found == "=":
        return "two values are compared with `==`"
    if here.startswith("<>") or before.endswith("<"):
        return "write `!=`"
    if found == "&":
        return "both conditions: `&&`"
    if found == "?":
        return "there is no `? :`; write if_else(condition, then, otherwise)"
    if found in _QUOTES:
        return "write straight quotes: 'text'"
    if found[0] == "'" and before.endswith("'"):
        return "a quote within a text is written \\'"
    if found[0] == "'" and before.endswith("["):
        name = found.strip("'")
        quoted = name if re.fullmatch(r"[A-Za-z_]\w*", name) else f'"{name}"'
        return f"a field is written .{quoted}"
    if before.endswith("["):
        return "after `[` stands a number, `*`, `?condition` or `]`; arguments and elements are separated by commas"
    number = re.match(r"-?\d+(?:\.\d+)?(?!\w)", here)
    if number and before.endswith("."):
        return f"an element of a list is written [{number[0]}]"
    if number and not (here.startswith("-") and re.search(r"[\w)\]'`]$", before)):
        return f"a number stands in backticks: `{number[0]}`"
    return _hint_operator(text, offset, found, before)


def _hint_operator(text: str, offset: int, found: str, before: str) -> str:
    name = re.search(r"[A-Za-z_][\w-]*$", text[:offset])
    glued = re.match(r"-?\w+(?:-\w+)*", text[offset:])
    if name and glued and (found[0] == "-" or found[0].isdigit()) and not text[:offset].endswith(" "):
        return f'a name with other signs stands in double quotes: "{name[0]}{glued[0]}"'
    if before.endswith(".") and glued and found[0].isdigit():
        return f'a name that begins with a digit stands in double quotes: "{glued[0]}"'
    if found[0] in _ARITHMETIC:
        return f"there are no signs for arithmetic; write {_ARITHMETIC[found[0]]}(left, right)"
    if found == "." and before.endswith("."):
        return "one point is enough; a list's fields are `list[].field`"
    if found == "{" and before.endswith("$"):
        return "${…} reads the environment and only stands in plain text"
    if found == "!":
        return "not equal is `!=`"
    return ""
