"""What people read: tables that fit the terminal, and JSON for machines."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from esb.formats.json import Json

#: Characters of a cell; `--json` has it whole.
WIDEST = 64


def emit_json(words: Mapping[str, Any]) -> None:
    """Decimals keep their digits, as everywhere."""
    click.echo(msgspec.json.format(Json().encode(words), indent=2).decode())


def compact(value: Any) -> str:
    """A value as JSON in one line, its decimals exact."""
    return Json().encode(value).decode()


def log_line(level: str, event: str, **fields: Any) -> None:
    """An event of a part of the bus, in a command that is no bus: on stderr."""
    words = " ".join(f"{name}={value}" for name, value in fields.items())
    click.echo(f"{level}: {event} {words}".rstrip(), err=True)


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[tuple[str, str]], *, empty: str) -> None:
    """Columns are (title, key); the last one takes the rest of a terminal's line, the others at most ``WIDEST`` (a key may be long).
    What is cut ends in `…`."""
    if not rows:
        click.echo(empty)
        return
    cells = [[_cell(row.get(key)) for _, key in columns] for row in rows]
    cells = [[*(_cut(cell) for cell in line[:-1]), line[-1]] for line in cells]
    widths = [max(len(title), *(len(line[i]) for line in cells)) for i, (title, _) in enumerate(columns)]
    if sys.stdout.isatty() or "COLUMNS" in os.environ:  # a file or another program has no edge, and looks for words
        width = shutil.get_terminal_size((120, 24)).columns
        widths[-1] = min(widths[-1], max(20, width - sum(widths[:-1]) - 2 * len(widths)))
    click.echo(click.style(_line([title for title, _ in columns], widths), bold=True))
    for line in cells:
        click.echo(_line(line, widths))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(_cut(cell, size).ljust(size) for cell, size in zip(cells, widths, strict=True)).rstrip()


def _cut(cell: str, size: int = WIDEST) -> str:
    return cell if len(cell) <= size else f"{cell[: size - 1]}…"


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "–"
    text = value if isinstance(value, str) else compact(value)
    return "".join(ch if ch.isprintable() else "·" for ch in text)


def age(text: str | None) -> str:
    """An instant as its age: ``3 h``."""
    if not text:
        return "–"
    seconds = (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def clock(text: str | None) -> str:
    """An instant as local time of day with date where it is not today."""
    if not text:
        return "–"
    at = datetime.fromisoformat(text).astimezone()
    today = datetime.now(UTC).astimezone().date()
    return at.strftime("%H:%M:%S.%f")[:-3] if at.date() == today else at.strftime("%Y-%m-%d %H:%M:%S")


def safe(text: Any) -> str:
    """Message data for a terminal: no control characters, so that no payload can steer it."""
    return "".join(ch if ch.isprintable() or ch == "\n" else f"\\x{ord(ch):02x}" for ch in str(text))
