"""What the demo says, as it happens: acts, sentences, checks with their time, and a verdict."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO, TypeVar

from examples.demo.harness import TooLate, until

T = TypeVar("T")

_GREEN, _RED, _BOLD, _DIM, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[1m", "\x1b[2m", "\x1b[0m"


class Account:
    """Writes to ``out``; colours only where a person looks at it."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._colours = out.isatty()
        self._acts = 0
        self.failed: list[str] = []
        self.passed = 0
        self._began = time.monotonic()

    def act(self, title: str) -> None:
        self._acts += 1
        self._line("")
        self._line(self._in(_BOLD, f"{self._acts}  {title}"))

    def say(self, text: str) -> None:
        """Something that happens."""
        self._line(f"   {text}")

    def aside(self, text: str) -> None:
        self._line(self._in(_DIM, f"     {text}"))

    def expect(self, text: str, check: Callable[[], T], *, within: float = 60.0) -> T | None:
        """Wait for ``check``; says how long it took. What it gave, or None when it did not come in time."""
        began = time.monotonic()
        try:
            found = until(check, within=within, what=text)
        except TooLate:
            self._no(text, f"not within {within:g} s")
            return None
        self._yes(text, f"{time.monotonic() - began:.2f} s")
        return found

    def check(self, text: str, truth: object, *, detail: str = "") -> None:
        """Something that must be so now."""
        if truth:
            self._yes(text, detail)
        else:
            self._no(text, detail)

    def table(self, rows: Sequence[tuple[Any, ...]]) -> None:
        widths = [max(len(str(row[place])) for row in rows) for place in range(len(rows[0]))]
        for row in rows:
            self._line(
                "     " + "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            )

    def verdict(self) -> int:
        """The last line, and the exit code."""
        total, spent = self.passed + len(self.failed), time.monotonic() - self._began
        self._line("")
        if self.failed:
            for text in self.failed:
                self._line(self._in(_RED, f"   ✗ {text}"))
            self._line(self._in(_RED, f"VERDICT  failed: {len(self.failed)} of {total} checks, {spent:.0f} s"))
            return 1
        self._line(self._in(_GREEN, f"VERDICT  passed: {total} of {total} checks, {spent:.0f} s"))
        return 0

    def _yes(self, text: str, detail: str) -> None:
        self.passed += 1
        self._line(f"   {self._in(_GREEN, '✓')} {text}" + (self._in(_DIM, f"  {detail}") if detail else ""))

    def _no(self, text: str, detail: str) -> None:
        self.failed.append(text)
        self._line(f"   {self._in(_RED, '✗')} {text}" + (self._in(_RED, f"  {detail}") if detail else ""))

    def _in(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self._colours else text

    def _line(self, text: str) -> None:
        print(text, file=self._out, flush=True)
