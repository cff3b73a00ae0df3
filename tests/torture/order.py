"""Whether what a sink saw of each key is in the order in which it was accepted. Pure: no process, no clock, no file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Place:
    """The ``n``-th message of a key, as it was accepted or as it arrived (``key``: its delivery id)."""

    lot: str
    n: int
    kind: str = "RELEASE"
    key: str = ""


def violations(accepted: Iterable[Place], arrived: Iterable[Place]) -> list[str]:
    """What may not be so once everything has ended.

    Nothing arrives after a later one of its key, repeats included; a HOLD supersedes what was accepted before it and not
    sent; nothing else is missing; the last word at the sink is the last one that was accepted.
    """
    sent: dict[str, list[Place]] = defaultdict(list)
    seen: dict[str, list[Place]] = defaultdict(list)
    for one in accepted:
        sent[one.lot].append(one)
    for one in arrived:
        seen[one.lot].append(one)
    return [fault for lot in sorted({*sent, *seen}) for fault in _of_lot(lot, sent[lot], seen[lot])]


def _of_lot(lot: str, sent: list[Place], seen: list[Place]) -> Iterable[str]:
    for before, after in pairwise(seen):
        if after.n < before.n:
            yield f"{lot}: {after.kind} {after.n} arrived after {before.kind} {before.n}"
        elif after.n == before.n and after.key != before.key:
            yield f"{lot}: {after.n} arrived twice, under two delivery ids"
    arrived = {one.n for one in seen}
    last_hold = max((one.n for one in sent if one.kind == "HOLD"), default=-1)
    for one in sent:
        if one.n not in arrived and one.n >= last_hold:
            yield f"{lot}: {one.kind} {one.n} never arrived, and no later HOLD overtook it"
    if sent and seen and seen[-1].n != sent[-1].n:
        yield f"{lot}: the sink shows {seen[-1].kind} {seen[-1].n}, accepted last was {sent[-1].kind} {sent[-1].n}"
