"""Jinja's syntax errors in plain words, at their place as far as Jinja tells it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from jinja2 import TemplateSyntaxError

from esb.language.base import ExpressionError
from esb.language.checks import fault
from esb.language.template_checks import fault_in_line

_AT = re.compile(r"unexpected char .+ at (\d+)$")
_BRACKET = re.compile(r"unexpected '(.)'(?:, expected '(.)')?$")
_EXPECTED = re.compile(
    r"[Ee]xpected (?:token '(?P<token>.+?)'|(?P<what>an expression|name or number))(?:, got '(?P<got>.+)')?$"
)
_ENDED = re.compile(r"unexpected end of template, expected '(.+?)'")
_UNCLOSED = re.compile(r"innermost block that needs to be closed is '(\w+)'")
_TAG = re.compile(r"unknown tag '(\w+)'")

#: Jinja's names of tokens, as they are written
_TOKENS: Mapping[str, str] = MappingProxyType(
    {
        "end of print statement": "`}}`",
        "end of statement block": "`%}`",
        "end of template": "the end",
        "string": "a text",
        "integer": "a number",
        "float": "a number",
        "name": "a name",
    }
)

_CHARACTERS: Mapping[str, str] = MappingProxyType(
    {
        "&": "write `and`; texts are put together with `~`",
        "!": "write `not`, or `!=`",
        "?": "write `a if condition else b`",
        "`": "text stands in quotes: 'text'; a number stands alone",
        "$": "names begin with body, headers, vars, meta and site",
        "@": "names begin with body, headers, vars, meta and site",
        "'": "the text that begins here has no end",
        '"': "the text that begins here has no end",
    }
)


def syntax_fault(text: str, error: TemplateSyntaxError) -> ExpressionError:
    """The error for what Jinja could not read."""
    message = error.message or "the template cannot be read"
    if (at := _AT.search(message)) is not None and int(at[1]) < len(text):
        offset = int(at[1])
        found = text[offset]
        return fault("ESB406", text, f"`{found}` cannot stand here", offset, 1, _CHARACTERS.get(found, ""))
    if (bracket := _BRACKET.search(message)) is not None:
        hint = f"`{bracket[2]}` is missing before it" if bracket[2] else "an expression ends with `}}`"
        return _last_in_line(text, f"`{bracket[1]}` cannot stand here", error.lineno, bracket[1], hint)
    if (ended := _ENDED.search(message)) is not None:
        sign = "{{" if "print" in ended[1] else "{%"
        missing = _TOKENS.get(ended[1], f"`{ended[1]}`")
        return fault_in_line(text, "ESB406", f"`{sign}` is not closed", error.lineno, sign, f"add {missing}")
    if (unclosed := _UNCLOSED.search(message)) is not None:
        word = unclosed[1]
        hint = f"add {{% end{word} %}}"
        return _last_tag(text, f"`{{% {word} … %}}` is not closed", word, hint)
    if (tag := _TAG.search(message)) is not None:
        hint = "tags are for, if, set, with, macro, call, filter, include, import, extends, block and raw"
        return fault_in_line(text, "ESB406", f"`{tag[1]}` cannot stand here as a tag", error.lineno, tag[1], hint)
    if (expected := _EXPECTED.search(message)) is not None:
        return _expected(text, expected, error.lineno)
    return fault_in_line(text, "ESB406", message.rstrip("."), error.lineno, "")


def _expected(text: str, match: re.Match[str], line: int) -> ExpressionError:
    kind, got = match["token"], match["got"] or ""
    wanted = _TOKENS.get(kind, f"`{kind}`") if kind else {"an expression": "an expression"}.get(match["what"], "a name")
    found = _TOKENS.get(got, f"`{got}`" if got else "")
    if not got:
        return fault_in_line(text, "ESB406", f"{wanted} is missing", line, "", "")
    hint = ""
    if got == "=":
        hint = "values are compared with `==`"
    elif kind == "end of print statement":
        hint = "put texts together with `~`, conditions with `and`, `or`, `not`"
    word = "" if got in _TOKENS else got
    return fault_in_line(text, "ESB406", f"{found} stands where {wanted} is expected", line, word, hint)


def _last_in_line(text: str, message: str, line: int, word: str, hint: str) -> ExpressionError:
    lines = text.split("\n")
    start = sum(len(before) + 1 for before in lines[: line - 1])
    return fault("ESB406", text, message, max(text.rfind(word, start, start + len(lines[line - 1])), start), 1, hint)


def _last_tag(text: str, message: str, word: str, hint: str) -> ExpressionError:
    places = [match.start(1) for match in re.finditer(rf"\{{%[-+]?\s*({word})\b", text)]
    return fault("ESB406", text, message, places[-1] if places else 0, len(word), hint)
