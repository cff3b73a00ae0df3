"""What messages say about indicators: facts that are stored in the transaction of the message that they come from.

So a number is never ahead of the messages or behind them, whatever ends the process, and nothing is ever counted by looking
through messages. Instants are microseconds since 1970 UTC, weights and levels millionths of the unit of the indicator.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from esb.store.writer import Writer

#: What is not given a label.
NO_LABEL = ""
#: Labels of one indicator that are told apart; what comes after them counts together.
MOST_LABELS = 50
OTHER = "other"
HOUR = 3_600_000_000
#: Steps of the distribution of times for each power of ten: two neighbours differ by 12 %.
STEPS = 20
#: What is so now, or was counted for ever, and is not of an hour.
NOW = 0

Part = Literal["start", "end", "count", "of", "add", "set", "close"]


@dataclass(frozen=True, slots=True)
class Fact:
    """What one event of one message says about one indicator.

    ``on`` is the event (``accepted``, ``done`` …): where the store decides what becomes of a message, it takes the facts of
    that event and no others. ``within`` are the microseconds that a pair may take. ``element`` names the part of a pair that
    ended, ``elements`` all that must end.
    """

    kpi: str
    part: Part
    on: str
    at: int
    key: str = ""
    label: str = NO_LABEL
    n: int = 1
    weight: int = 0
    within: int | None = None
    element: str = ""
    elements: tuple[str, ...] = ()


def apply(writer: Writer, facts: Iterable[Fact], events: frozenset[str] | None = None) -> None:
    """Take over facts, those of ``events`` where that is given."""
    for fact in facts:
        if events is not None and fact.on not in events:
            continue
        kpi = writer.word(f"kpi:{fact.kpi}")
        label = _label(writer, kpi, fact.label)
        if fact.part == "start":
            _start(writer, kpi, label, fact)
        elif fact.part == "end":
            _end(writer, kpi, fact)
        elif fact.part == "close":
            close(writer, kpi, fact.key, fact.at, "closed-by-hand")
        elif fact.part in ("add", "set"):
            _level(writer, kpi, label, fact)
        else:
            _count(writer, (kpi, fact.at // HOUR, label), fact.part, fact.n, fact.weight)


def _label(writer: Writer, kpi: int, label: str) -> str:
    """The label, or ``other`` where the indicator has as many as are told apart."""
    if not label or label == OTHER:
        return label
    known = "SELECT 1 FROM kpi_hour WHERE kpi = ? AND hour = 0 AND label = ? AND what = 'label'"
    if writer.execute(known, (kpi, label)).fetchone() is not None:
        return label
    many = "SELECT count(*) FROM kpi_hour WHERE kpi = ? AND hour = 0 AND what = 'label'"
    if writer.execute(many, (kpi,)).fetchone()[0] >= MOST_LABELS:
        return OTHER
    insert = "INSERT INTO kpi_hour (kpi, hour, label, what, n, weight) VALUES (?, 0, ?, 'label', 1, 0)"
    writer.execute(insert, (kpi, label))
    return label


def _count(writer: Writer, place: tuple[int, int, str], what: str, n: int, weight: int = 0) -> None:
    """Count in the hour, and for ever."""
    kpi, hour, label = place
    writer.tally((kpi, hour, label, what), n, weight)
    writer.tally((kpi, NOW, label, what), n, weight)


# -- pairs --------------------------------------------------------------------------------------------------------------
_PAIR = "SELECT label, start, due, weight, seen FROM kpi_pair WHERE kpi = ? AND key = ?"


def _start(writer: Writer, kpi: int, label: str, fact: Fact) -> None:
    """A pair begins; one that is open goes on from its first beginning, with the newest weight."""
    row = writer.execute(_PAIR, (kpi, fact.key)).fetchone()
    if row is not None:
        writer.execute("UPDATE kpi_pair SET weight = ? WHERE kpi = ? AND key = ?", (fact.weight, kpi, fact.key))
        writer.tally((kpi, NOW, row[0], "open"), 0, fact.weight - row[3])
        return
    due = None if fact.within is None else fact.at + fact.within
    writer.execute(
        "INSERT INTO kpi_pair (kpi, key, label, start, due, weight, seen) VALUES (?, ?, ?, ?, ?, ?, '[]')",
        (kpi, fact.key, label, fact.at, due, fact.weight),
    )
    writer.tally((kpi, NOW, label, "open"), 1, fact.weight)
    _count(writer, (kpi, fact.at // HOUR, label), "started", 1, fact.weight)


def _end(writer: Writer, kpi: int, fact: Fact) -> None:
    """A pair, or one of its parts, ends; an end without a beginning is counted and changes nothing."""
    row = writer.execute(_PAIR, (kpi, fact.key)).fetchone()
    hour = fact.at // HOUR
    if row is None:
        _count(writer, (kpi, hour, NO_LABEL), "unmatched", 1)
        return
    label, start, due, _, seen_text = row
    took = max(0, fact.at - start)
    if fact.elements:
        seen = set(json.loads(seen_text))
        if fact.element in seen or fact.element not in fact.elements:
            return
        seen.add(fact.element)
        _took(writer, (kpi, hour, label), took, f":{fact.element}", late=due is not None and fact.at > due)
        if not seen.issuperset(fact.elements):
            text = json.dumps(sorted(seen))
            writer.execute("UPDATE kpi_pair SET seen = ? WHERE kpi = ? AND key = ?", (text, kpi, fact.key))
            return
    close(writer, kpi, fact.key, fact.at, "closed")
    _took(writer, (kpi, hour, label), took, "", late=due is not None and fact.at > due)


def close(writer: Writer, kpi: int, key: str, at: int, what: str) -> bool:
    """Take an open pair away and count it as ``what``; false where there is none."""
    row = writer.execute(_PAIR, (kpi, key)).fetchone()
    if row is None:
        return False
    label, weight = row[0], row[3]
    writer.execute("DELETE FROM kpi_pair WHERE kpi = ? AND key = ?", (kpi, key))
    writer.tally((kpi, NOW, label, "open"), -1, -weight)
    _count(writer, (kpi, at // HOUR, label), what, 1, weight)
    return True


def _took(writer: Writer, place: tuple[int, int, str], took: int, suffix: str, *, late: bool) -> None:
    _count(writer, place, f"took{suffix}", took // 1000)
    _count(writer, place, f"t{bucket(took)}{suffix}", 1)
    if late:
        _count(writer, place, f"late{suffix}", 1)


def bucket(took: int) -> int:
    """The step of the distribution that a time in microseconds falls into; 0 is up to a millisecond."""
    from math import ceil, log10  # noqa: PLC0415 - for the few messages that end a pair

    return 0 if took <= 1000 else ceil(log10(took / 1000) * STEPS)


def bound(step: int) -> float:
    """The largest time of a step, in seconds."""
    return float(10 ** (step / STEPS) / 1000)


# -- levels -------------------------------------------------------------------------------------------------------------
def _level(writer: Writer, kpi: int, label: str, fact: Fact) -> None:
    """The level of a key rises, falls, or is set; at zero the key is forgotten."""
    found = "SELECT label, n, weight FROM kpi_level WHERE kpi = ? AND key = ?"
    row = writer.execute(found, (kpi, fact.key)).fetchone()
    before, before_weight = (row[1], row[2]) if row is not None else (0, 0)
    label = row[0] if row is not None else label
    adds = fact.part == "add"
    after = before + fact.n if adds else fact.n
    weight = before_weight + fact.weight if adds else fact.weight
    if after == 0:
        weight = 0
        writer.execute("DELETE FROM kpi_level WHERE kpi = ? AND key = ?", (kpi, fact.key))
    else:
        writer.execute(
            "INSERT INTO kpi_level (kpi, key, label, n, weight, since) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (kpi, key) DO UPDATE SET n = excluded.n, weight = excluded.weight",
            (kpi, fact.key, label, after, weight, fact.at),
        )
    keys = (after != 0) - (before != 0)
    writer.tally((kpi, NOW, label, "keys"), keys)
    writer.tally((kpi, NOW, label, "level"), after - before, weight - before_weight)
