"""``-k EXPR``: which cases are meant."""

from __future__ import annotations

import re
from collections.abc import Sequence

from esb.testing.model import Case, Suite

_WORD = re.compile(r"\(|\)|[^\s()]+")


class BadSelection(ValueError):
    """The expression cannot be read."""


def select(suites: Sequence[Suite], expression: str) -> list[tuple[Suite, Case]]:
    """The cases whose file, route or name contain what ``expression`` says (`hold and not erp`). Raises BadSelection."""
    every = [(suite, case) for suite in suites for case in suite.options.cases]
    if not expression.strip():
        return every
    return [pair for pair in every if _Selection(expression, _text(*pair)).answer()]


def _text(suite: Suite, case: Case) -> str:
    return f"{suite.path} {suite.options.route} {case.name}".lower()


class _Selection:
    """Reads ``or``, ``and``, ``not`` and brackets; every other run of words is looked for as it stands."""

    def __init__(self, expression: str, text: str) -> None:
        self._words = _WORD.findall(expression.lower())
        self._text, self._at = text, 0

    def answer(self) -> bool:
        found = self._either()
        if self._at < len(self._words):
            raise BadSelection(f"`{self._words[self._at]}` is one too many")
        return found

    def _next(self) -> str:
        return self._words[self._at] if self._at < len(self._words) else ""

    def _either(self) -> bool:
        found = self._both()
        while self._next() == "or":
            self._at += 1
            found = self._both() or found
        return found

    def _both(self) -> bool:
        found = self._one()
        while self._next() == "and":
            self._at += 1
            found = self._one() and found
        return found

    def _one(self) -> bool:
        word = self._next()
        self._at += 1
        if word == "not":
            return not self._one()
        if word == "(":
            found = self._either()
            if self._next() != ")":
                raise BadSelection("a bracket is not closed")
            self._at += 1
            return found
        if word in ("", "and", "or", ")"):
            raise BadSelection("a word is missing" if not word else f"`{word}` stands where a word is missing")
        words = [word]
        while self._next() not in ("", "and", "or", "not", "(", ")"):
            words.append(self._next())
            self._at += 1
        return " ".join(words) in self._text
