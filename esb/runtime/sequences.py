"""The order of numbers: which message of a sequence goes on, which waits, which comes too late.

A sequence is a lane whose messages stand in the order of their numbers. What it has seen is in the store, per step and key:
the ``next`` number, and the ranges that were given up. Whether a message has passed is in its ledger, and written first: a
crash between the two lets it pass again, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from esb.config.model import RouteSpec
from esb.message import PARKED, Envelope
from esb.observe.indicators import REPLAY_OF
from esb.runtime.lanes import Entry, Lanes
from esb.steps.base import Wait
from esb.steps.resequence import Line
from esb.store.base import Store

if TYPE_CHECKING:
    from esb.runtime.run import MessageRun

SPACE = "sequence:"
#: A sequence that nothing came for in this time is forgotten: it begins as it did the first time.
KEPT = timedelta(days=30)
#: Sequences that are looked at together.
CHUNK = 200
Fate = Literal["next", "late", "duplicate"]
#: Ranges of numbers that were given up, the last ones of a sequence.
REMEMBERED = 100


async def in_line(run: MessageRun, number: int, gap: timedelta, first: int | None) -> Fate:
    """What becomes of the number. Raises Wait until every lower one has passed, or has been missing for ``gap``."""
    store, entry = run.bench.store, run.entry
    place = (f"{SPACE}{run.route}:{run.step}", entry.key or "")
    if REPLAY_OF in run.envelope.meta:  # a person wants it again, whatever has passed since
        run.note(fate="replayed")
        return "next"
    decided: Fate | None = run.recall(run.step)
    known = store.get_state(*place)
    if decided is None:
        if known is not None and number < int(known["next"]):
            late = any(start <= number <= end for start, end in known["missed"])
            decided = "late" if late else "duplicate"
        else:
            _wait(run, number, gap, int(known["next"]) if known is not None else first)
            decided = "next"
        await run.started()
        run.remember(run.step, decided)
        run.save_ledger()
    fresh = _after(known, number, decided, first)
    if fresh != known:
        await store.put_state(*place, {**fresh, "at": run.clock.now().isoformat()})
    run.note(fate=decided)
    return decided


def _wait(run: MessageRun, number: int, gap: timedelta, expected: int | None) -> None:
    """Raises Wait while it is not the turn of the number; the lane looks again when something of it changes."""
    lanes, entry = run.lanes, run.entry
    behind = lanes.behind(entry)
    entry.seen = len(behind) + 1
    if lanes.is_blocked(entry.lane):
        run.note(waits_for="the dead message before it")
        raise Wait(PARKED)
    if number == expected:
        return
    due = min([entry.accepted_at, *(other.accepted_at for other in behind)]) + gap
    if run.clock.now() < due:
        run.note(waits_for=expected)
        raise Wait(due)
    if expected is not None:
        run.note(given_up=[expected, number - 1])
        run.bench.log(
            "warning",
            "sequence.gap",
            route=run.route,
            key=entry.key,
            missing=f"{expected}..{number - 1}",
            step=run.step,
        )


def _after(known: Any, number: int, fate: Fate, first: int | None) -> Any:
    """What is known of the sequence once the number has its fate."""
    missed = [[int(start), int(end)] for start, end in known["missed"]] if known is not None else []
    expected = int(known["next"]) if known is not None else first
    if fate == "late":
        return {"next": expected, "missed": _without(missed, number)}
    if fate == "duplicate" or (expected is not None and number < expected):
        return known
    if expected is not None and expected < number:
        missed = [*missed, [expected, number - 1]][-REMEMBERED:]
    return {"next": number + 1, "missed": missed}


def _without(missed: Sequence[Sequence[int]], number: int) -> list[list[int]]:
    found: list[list[int]] = []
    for start, end in missed:
        if not start <= number <= end:
            found.append([start, end])
            continue
        found += [part for part in ([start, number - 1], [number + 1, end]) if part[0] <= part[1]]
    return found


async def forget_old(store: Store, now: datetime) -> int:
    """Forget the sequences that nothing came for in a long time; gives how many."""
    place, gone = (SPACE, ""), 0
    while rows := store.states(SPACE, place, CHUNK):
        for space, name, value in rows:
            if datetime.fromisoformat(value["at"]) < now - KEPT:
                await store.put_state(space, name, None)
                gone += 1
        place = rows[-1][:2]
        await asyncio.sleep(0)
    return gone


# -- lanes --------------------------------------------------------------------------------------------------------------


def is_sequence(scope: str, spec: RouteSpec) -> bool:
    """Whether the messages of a scope wait in the order of their numbers."""
    block = spec.blocks.get(scope) if scope else None
    return block is not None and bool(block.nodes) and isinstance(block.nodes[0].step, Line)


def rank_of(envelope: Envelope, spec: RouteSpec) -> int | None:
    """The number of a message in its sequence; None for one that is of none."""
    return int(envelope.meta["resequence"]["number"]) if is_sequence(envelope.scope, spec) else None


def ranked(entry: Entry, spec: RouteSpec, store: Store) -> Entry:
    """An entry from the store with its number, where it is of a sequence."""
    if is_sequence(entry.scope, spec):
        entry.rank = rank_of(store.payload(entry.seq)[0], spec)
        if not entry.attempts:
            entry.due = None  # it is not known whether it waits for a number that has come
    return entry


def look(lanes: Lanes, entry: Entry) -> None:
    """A message of a sequence has ended: the next one looks whether it is its turn."""
    if entry.rank is not None:
        lanes.look(entry.lane)
