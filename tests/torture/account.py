"""What was sent, what arrived, and which of it may not be so. Pure: no process, no clock, no file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that somebody tried to hand over, under one business id however often.

    ``acked``: the bus said yes at least once. ``wanted`` false: it must end in the bus (a filter) and reach no sink.
    """

    id: str
    acked: bool
    wanted: bool = True


@dataclass(frozen=True, slots=True)
class Seen:
    """One arrival at a sink. ``key`` is the delivery id; ``applied`` that the sink acted instead of knowing the key."""

    sink: str
    id: str
    key: str
    applied: bool = True


@dataclass(slots=True)
class Verdict:
    """The account. The first five are faults; the last two happen and are allowed."""

    #: acknowledged, and one of the sinks never saw it
    lost: set[tuple[str, str]] = field(default_factory=set)
    #: arrived although it was never sent
    unknown: set[tuple[str, str]] = field(default_factory=set)
    #: arrived although a filter stands in its way
    leaked: set[tuple[str, str]] = field(default_factory=set)
    #: arrived under more than one delivery id
    split: set[tuple[str, str]] = field(default_factory=set)
    #: had its effect more than once
    doubled: set[tuple[str, str]] = field(default_factory=set)
    #: arrived again under the same delivery id
    repeated: int = 0
    #: arrived although its sender never heard a yes
    recovered: int = 0

    @property
    def faults(self) -> list[str]:
        """One line for each kind of fault, with some of the ids; empty where all is well."""
        found = []
        for name in ("lost", "unknown", "leaked", "split", "doubled"):
            pairs: set[tuple[str, str]] = getattr(self, name)
            if pairs:
                some = ", ".join(f"{id_} at {sink}" for sink, id_ in sorted(pairs)[:5])
                found.append(f"{name} {len(pairs)}: {some}")
        return found


def judge(sent: Iterable[Sent], seen: Iterable[Seen], sinks: Iterable[str]) -> Verdict:
    """Hold what every one of ``sinks`` saw against what was sent."""
    verdict = Verdict()
    known = {one.id: one for one in sent}
    keys: dict[tuple[str, str], set[str]] = defaultdict(set)
    effects: dict[tuple[str, str], int] = defaultdict(int)
    arrivals: dict[tuple[str, str], int] = defaultdict(int)
    for one in seen:
        place = (one.sink, one.id)
        keys[place].add(one.key)
        effects[place] += one.applied
        arrivals[place] += 1
    for place, under in keys.items():
        source = known.get(place[1])
        if source is None:
            verdict.unknown.add(place)
        elif not source.wanted:
            verdict.leaked.add(place)
        if len(under) > 1:
            verdict.split.add(place)
        if effects[place] > 1:
            verdict.doubled.add(place)
        verdict.repeated += arrivals[place] - len(under)
    for sink in sinks:
        for one in known.values():
            if one.wanted and (sink, one.id) not in keys and one.acked:
                verdict.lost.add((sink, one.id))
            elif one.wanted and not one.acked and (sink, one.id) in keys:
                verdict.recovered += 1
    return verdict
