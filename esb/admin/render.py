"""From data to HTML: the templates, with every value escaped, and the words that people read."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import DictLoader, Environment, StrictUndefined

from esb.admin.charts import bar
from esb.formats.json import Json

TEMPLATES = Path(__file__).parent / "templates"
#: Longest payload that a page shows, in characters; the JSON beside it has the whole.
LONGEST_BODY = 100_000
#: Longest value in a line of the timeline.
LONGEST_NOTE = 2_000

GLYPHS = {
    "done": "✓",
    "running": "▸",
    "queued": "…",
    "waiting": "◷",
    "held": "‖",
    "paused": "‖",
    "dead": "✗",
    "failed": "✗",
    "stopped": "‖",
}
#: How a state is coloured, never by colour alone.
TONES = {"done": "good", "running": "good", "dead": "bad", "failed": "bad", "held": "warn", "waiting": "warn", "paused": "warn", "stopped": "warn"}  # fmt: skip

#: What a person does about a dead letter, by its error class.
ADVICE = {
    "invalid": "The payload breaks its contract. Correct it with `esb dlq edit ID --data @fixed.json --reason … --retry`, or discard it and let the sender send again.",
    "unmapped": "A table has no row for a value. Add the row; the route reads it by itself. Then retry.",
    "rejected": "The target said no for good. See what it answered, correct the data there or here, then retry.",
    "timeout": "The target did not answer in time; nobody knows whether it acted. A retry goes out under the same delivery id.",
    "unavailable": "The target did not take it. Retry when it is back.",
    "exhausted": "All retries are used up. Retry when the target is back.",
    "expired": "Its time to live was over. Discard it, or retry if it is still of use.",
    "internal": "A fault in the route. Mend the file; the bus reads it by itself. Then retry.",
}

#: Facts of a trace entry that have columns of their own, or are for machines.
_QUIET = frozenset({"step", "at", "ms", "attempt", "delivery_id", "ended_at", "state", "error"})


def environment(folder: Path = TEMPLATES) -> Environment:
    """The templates of a folder. A name that is not given is a fault, never an empty text.

    Their files are read here and compiled at first use: another version of the program may be installed under a bus that runs.
    """
    found = Environment(
        loader=DictLoader({place.name: place.read_text(encoding="utf-8") for place in folder.glob("*.html")}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    found.filters.update(instant=instant, age=age, pretty=pretty, compact=compact, text=text, unpacked=unpacked)
    found.globals.update(glyph=lambda state: GLYPHS.get(state, "•"), tone=lambda state: TONES.get(state, "plain"))
    return found


def instant(value: str | None) -> str:
    """An RFC 3339 instant in UTC to the second."""
    if not value:
        return "–"
    return datetime.fromisoformat(value).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def age(seconds: float | None) -> str:
    """A span in its largest unit: ``3 h``."""
    if seconds is None:
        return "–"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def text(value: Any) -> str:
    """A value as one visible line: what is not printable stands as its number."""
    line = value if isinstance(value, str) else "–" if value is None else compact(value)
    return "".join(ch if ch.isprintable() else f"\\u{ord(ch):04x}" for ch in line)


def compact(value: Any) -> str:
    """A value as JSON in one line, its decimals exact."""
    try:
        return Json().encode(value).decode()
    except Exception:  # noqa: BLE001 - a trace may hold what JSON cannot; the page must show the rest
        return repr(value)


def pretty(body: Any) -> str:
    """A payload for people: JSON indented, its numbers as they came; other text as it is; cut at LONGEST_BODY."""
    whole = body if isinstance(body, str) else compact(body)
    if len(whole) <= LONGEST_BODY and whole.lstrip()[:1] in ("{", "["):
        # text that only begins like JSON stays as it is
        with suppress(msgspec.DecodeError, RecursionError, UnicodeError):
            whole = msgspec.json.format(whole.encode("utf-8", "surrogatepass"), indent=2).decode()
    shown = "".join(ch if ch.isprintable() or ch in "\n\t" else f"\\u{ord(ch):04x}" for ch in whole[:LONGEST_BODY])
    return shown if len(whole) <= LONGEST_BODY else shown + "\n… cut; the JSON of this page has the whole"


def unpacked(value: str) -> str:
    """The text of a payload in base64."""
    return base64.b64decode(value).decode("utf-8", "replace")


def timeline(trace: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The attempts of a message with their steps; notes are ``name value`` pairs, the answer of the target among them."""
    attempts = []
    for number, group in groupby(trace, key=lambda entry: entry.get("attempt", 1)):
        steps = list(group)
        took = max((float(one.get("at") or 0) + float(one.get("ms") or 0) for one in steps), default=0.0)
        attempts.append(
            {
                "number": number,
                "ended_at": steps[-1].get("ended_at"),
                "state": steps[-1].get("state", ""),
                "steps": [_step(entry, took) for entry in steps],
            }
        )
    return attempts


def _step(entry: Mapping[str, Any], took: float) -> dict[str, Any]:
    notes = {name: _note(value) for name, value in entry.items() if name not in _QUIET and value is not None}
    return {
        "step": str(entry.get("step", "–")),
        "at": entry.get("at"),
        "ms": entry.get("ms"),
        "bar": bar(float(entry.get("at") or 0), float(entry.get("ms") or 0), took),
        "error": str(entry.get("error", "")),
        "notes": notes,
    }


def _note(value: Any) -> str:
    line = text(value)
    return line if len(line) <= LONGEST_NOTE else line[:LONGEST_NOTE] + "…"


def command(*words: str, **options: Any) -> str:
    """A line to paste into a shell: every value is quoted; options without a value are left out."""
    parts = ["esb", *words]
    for name, value in options.items():
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if one not in (None, ""):
                parts += [f"--{name.replace('_', '-')}", str(one)]
    return shlex.join(parts)


def outcome(verb: str, results: Sequence[Mapping[str, Any]]) -> str:
    """What an action did, for people: how many of each result, and why some were left."""
    if not results:
        return f"{verb}: there was nothing left to do"
    counted: dict[str, int] = {}
    for one in results:
        counted[str(one["result"])] = counted.get(str(one["result"]), 0) + 1
    said = ", ".join(f"{count} {result}" for result, count in counted.items())
    why = next((str(one["why"]) for one in results if one.get("why")), "")
    return f"{verb}: {said}" + (f" ({why})" if why else "")
