"""Structured logs: one record per event, on stderr, as text for people or JSON for machines."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from esb.secret import Secret

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
#: Longest text of one field; the rest is cut (a log is no store).
LONGEST = 2000


class Log:
    """Writes events. Values are escaped, so that no message can break or forge a record."""

    def __init__(self, *, level: str = "info", as_json: bool = False, stream: TextIO | None = None) -> None:
        self._threshold = LEVELS[level]
        self._as_json = as_json
        self._stream = stream if stream is not None else sys.stderr

    def __call__(self, level: str, event: str, **fields: Any) -> None:
        if LEVELS.get(level, 20) < self._threshold:
            return
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        known = {name: _plain(value) for name, value in fields.items() if value not in (None, "")}
        if self._as_json:
            line = json.dumps({"at": at, "level": level, "event": event, **known}, ensure_ascii=True)
        else:
            words = " ".join(f"{name}={_word(value)}" for name, value in known.items())
            line = f"{at} {level:<7} {event}{' ' if words else ''}{words}"
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass  # a closed or full stderr must not stop messages


def _plain(value: Any) -> Any:
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value[:50]]
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in list(value.items())[:50]}
    text = "***" if isinstance(value, Secret) else str(value)
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def _word(value: Any) -> str:
    """A value as one word of a text line: quoted where it holds spaces, control characters always escaped."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    plain = text.isascii() and text.isprintable() and not any(ch in text for ch in ' "=\\')
    return text if plain and text else json.dumps(text, ensure_ascii=not text.isprintable())
