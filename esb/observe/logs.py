"""Structured logs: one record per event, on stderr, as text for people or JSON for machines."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from esb.secret import Secret

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
#: Longest text of one field; the rest is cut (a log is no store).
LONGEST = 2000
#: Longest record, in characters.
LONGEST_RECORD = 20_000
#: Most records of one event, and of all, that are written in one second; the rest is counted.
PER_SECOND = 500
ALL_PER_SECOND = 2_000


class Log:
    """Writes events. Values are escaped, so that no message can break or forge a record, and no flood can fill the disk.

    Of one event at most :data:`PER_SECOND` records are written in a second; what was left out is told as `log.left_out`.
    """

    def __init__(
        self,
        *,
        level: str = "info",
        as_json: bool = False,
        stream: TextIO | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threshold = LEVELS[level]
        self._as_json = as_json
        self._stream = stream if stream is not None else sys.stderr
        self._seconds = seconds
        self._second = 0
        self._written: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()

    def __call__(self, level: str, event: str, **fields: Any) -> None:
        if LEVELS.get(level, 20) < self._threshold:
            return
        second = int(self._seconds())
        if second != self._second:
            self._second = second
            left_out, self._left_out = self._left_out, Counter()
            self._written.clear()
            for name, count in left_out.items():
                self._write("warning", "log.left_out", {"of": name, "records": count})
        if self._written[event] >= PER_SECOND or self._written.total() >= ALL_PER_SECOND:
            self._left_out[event] += 1
            return
        self._written[event] += 1
        self._write(level, event, fields)

    def _write(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        at = _plain(datetime.now(UTC))
        known = {name: _plain(value) for name, value in fields.items() if value not in (None, "")}
        if self._as_json:
            line = json.dumps({"at": at, "level": level, "event": event, **known}, ensure_ascii=True)
        else:
            words = " ".join(f"{name}={_word(value)}" for name, value in known.items())
            line = f"{at} {level:<7} {event}{' ' if words else ''}{words}"
        if len(line) > LONGEST_RECORD and "too_long" not in fields:
            # values are cut, never the record: a program that reads the log must be able to read this line, too
            short = {name: _cut(str(value), 200) for name, value in list(known.items())[:20]}
            self._write(level, event, {**short, "too_long": len(line)})
            return
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass  # a closed or full stderr must not stop messages


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, datetime):  # all instants of a record in one form
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value[:50]]
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in list(value.items())[:50]}
    text = "***" if isinstance(value, Secret) else str(value)
    return _cut(text, LONGEST)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[:longest] + "…"


def _word(value: Any) -> str:
    """A value as one word of a text line: quoted where it holds spaces, control characters always escaped."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    plain = text.isascii() and text.isprintable() and not any(ch in text for ch in ' "=\\')
    return text if plain and text else json.dumps(text, ensure_ascii=not text.isprintable())
