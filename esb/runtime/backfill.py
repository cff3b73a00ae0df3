"""Indicators over what is stored already: a new or changed one gets the numbers that it would have, had it been there all the time.

Messages are read in the order of acceptance, a few at a time with pauses; what they say is summed under a name of its own, with the place
noted in the same transaction, so that it goes on after a restart. What happens meanwhile is taken in by the last transaction, in which the new
numbers take the place of the old ones: nothing is counted twice, and nothing is missed.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, field, fields, replace
from datetime import datetime
from typing import Any

from esb.clock import Clock
from esb.config.kpis import Kpi
from esb.errors import EsbError, StoreBusy
from esb.observe.indicators import Observer
from esb.store.base import AuditEntry, Store
from esb.store.facts import Fact
from esb.store.past import Past, Told
from esb.store.values import instant_of, micros

SPACE = "kpi-backfill"
#: Messages of one step, those that the last transaction may still read, and its tries before they are read in steps again.
BATCH, LAST = 100, 2000
#: Seconds between two steps at least, and how many times as long as a step took.
PAUSE, TIMES = 0.01, 3.0
#: The numbers of an indicator in the making stand under its name with this behind it, which no name may have.
DRAFT = "~"


class CannotFill(EsbError):
    """The past does not hold what the indicator asks for, or it is filled already."""


_PLAIN = ("kpi", "text", "since", "after", "by", "reason", "done", "count", "closed")


@dataclass(slots=True)
class Progress:
    """How far it is: kept in the store."""

    kpi: str
    text: str
    since: int
    after: int
    by: str
    reason: str
    done: int = 0
    #: facts that come later than the messages read so far: instant, number, fact
    later: list[tuple[int, int, Fact]] = field(default_factory=list)
    #: messages of this step to which more may happen: how many events are told, and their mark; kept aside, a row for each step
    open: dict[int, tuple[int, str]] = field(default_factory=dict)
    count: int = 0
    #: entries of the audit that are told: pairs that a person closed
    closed: int = 0

    def close(self, past: Past) -> None:
        """Take in what a person closed since the last look."""
        found = past.closed_by_hand(self.kpi)
        for at, key in found[self.closed :]:
            if at >= self.since:
                self.push(Fact(_draft(self.kpi), "close", "", at, key), at)
        self.closed = len(found)

    def push(self, fact: Fact, at: int) -> None:
        self.count += 1
        heapq.heappush(self.later, (at, self.count, fact))

    def due(self, until: int) -> list[Fact]:
        """Facts up to an instant, oldest first."""
        found = []
        while self.later and self.later[0][0] <= until:
            found.append(heapq.heappop(self.later)[2])
        return found

    def packed(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in _PLAIN}
        later = [[at, number, list(astuple(fact))] for at, number, fact in sorted(self.later, key=lambda one: one[:2])]
        return {**plain, "later": later}

    @property
    def aside(self) -> tuple[str, Any] | None:
        return (f"{self.after:020}", [[seq, *mark] for seq, mark in self.open.items()]) if self.open else None

    @classmethod
    def of(cls, packed: Mapping[str, Any]) -> Progress:
        later = [(at, number, _fact(words)) for at, number, words in packed["later"]]
        return cls(**{**packed, "later": later})


class Backfills:
    """The indicators that are being filled. ``kpis`` are those of now, ``observer`` knows how payloads are read."""

    def __init__(
        self,
        store: Store,
        observer: Callable[[], Observer],
        kpis: Callable[[], Mapping[str, Kpi]],
        clock: Clock,
        log: Callable[..., None],
    ) -> None:
        self._store, self._observer, self._kpis, self._clock, self._log = store, observer, kpis, clock, log
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._faults: dict[str, str] = {}

    def progress(self, name: str) -> dict[str, Any] | None:
        """How far an indicator is; None where it is not being filled, and was not since the start."""
        if (packed := self._store.get_state(SPACE, name)) is not None:
            state = "running" if name in self._tasks else "waiting"
            at = instant_of(packed["since"]).isoformat() if packed["since"] else None
            head = self._store.indicators.past().head()
            return {"state": state, "since": at, "messages": packed["done"], "left": max(0, head - packed["after"])}
        return {"state": "failed", "error": self._faults[name]} if name in self._faults else None

    async def start(self, name: str, since: datetime | None, by: str, entry: AuditEntry) -> None:
        """Begin with an indicator; audited. Raises CannotFill."""
        kpi = self._kpis()[name]
        if any(rule.on == "delivered" for rule in kpi.rules()):
            raise CannotFill(f"{name} is about deliveries, and of those of the past the store has not what was sent")
        if self._store.get_state(SPACE, name) is not None:
            raise CannotFill(f"{name} is being filled already", hint=f"esb kpi show {name}")
        past, begin = self._store.indicators.past(), micros(since) if since is not None else 0
        after = past.begin(since) if since is not None else 0
        progress = Progress(name, _digest(kpi), begin, after, by, entry.reason)
        progress.close(past)
        await self._store.indicators.clear(_draft(name), f"{SPACE}/{name}")
        await self._store.put_state(SPACE, name, progress.packed(), entry)
        self._faults.pop(name, None)

    def begin(self, name: str) -> None:
        """Go on with it in the background."""
        self._tasks[name] = asyncio.create_task(self._run(name))

    async def run(self, name: str) -> None:
        """Go on with it to its end without pauses: for a bus that does not run. Raises CannotFill."""
        while not await self._step(name):
            pass

    def resume(self) -> None:
        """Go on with what the last process left."""
        for space, name, _ in self._store.states(SPACE, ("", ""), 1000):
            if space == SPACE and name not in self._tasks:
                self._log("info", "kpi.backfill_resumed", kpi=name)
                self.begin(name)

    async def close(self) -> None:
        """The bus stops: what is left goes on when it runs again."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    # -- inside -----------------------------------------------------------------------------------------------------------
    async def _run(self, name: str) -> None:
        try:
            over = False
            while not over:
                began, pause = self._clock.monotonic(), PAUSE
                try:
                    over = await self._step(name)
                except StoreBusy:
                    pause = 1.0
                if not over:
                    await self._clock.sleep(max(pause, TIMES * (self._clock.monotonic() - began)))
            self._log("info", "kpi.backfilled", kpi=name)
        except Exception as error:  # noqa: BLE001 - whoever looks at the indicator must see why its numbers are not there
            self._faults[name] = str(error)
            self._log("error", "kpi.backfill_failed", kpi=name, error=str(error))
            with suppress(EsbError):
                await self._store.put_state(SPACE, name, None)
                await self._store.indicators.clear(_draft(name), f"{SPACE}/{name}")
        finally:
            self._tasks.pop(name, None)

    async def _step(self, name: str) -> bool:
        """The next messages; true after the last ones, when the numbers are there."""
        packed, kpi = self._store.get_state(SPACE, name), self._kpis().get(name)
        progress = Progress.of(packed)
        if kpi is None or _digest(kpi) != progress.text:
            await self._store.put_state(SPACE, name, None)
            raise CannotFill(f"{name} was changed meanwhile", hint=f"esb kpi backfill {name}")
        reading = _Reading(self._observer().only(kpi), progress)
        past = self._store.indicators.past()
        found = reading.read(past, past.after(progress.after, BATCH))
        if len(found.seqs) == BATCH:
            await self._store.indicators.fill(found.facts, SPACE, name, progress.packed(), progress.aside)
            return False
        detail = {"since": instant_of(progress.since).isoformat() if progress.since else None, "by": progress.by}
        entry = AuditEntry("bus", "kpi.backfilled", name, progress.reason, detail)

        def work(past: Past) -> list[Fact] | None:
            own = Progress.of(packed)
            new = past.after(own.after, LAST)
            return _Reading(self._observer().only(kpi), own).rest(past, new) if len(new) < LAST else None

        if await self._store.indicators.finish(name, _draft(name), work, SPACE, entry, self._clock.now()):
            return True
        await self._store.indicators.fill(found.facts, SPACE, name, progress.packed(), progress.aside)
        return False


@dataclass(frozen=True, slots=True)
class _Found:
    seqs: list[int]
    facts: list[Fact]


class _Reading:
    """Turns messages into facts, in the order in which they happened."""

    def __init__(self, observer: Observer, progress: Progress) -> None:
        self._observer, self._progress = observer, progress

    def read(self, past: Past, batch: list[tuple[int, int]]) -> _Found:
        """The facts that are due when the last of some messages was accepted; the others wait in the progress."""
        progress, due = self._progress, []
        # the marks first: what happens between the two is seen by the events, or changes the mark
        marks = past.marks(seq for seq, _ in batch)
        for seq, created in batch:
            progress.after = seq
            if created < progress.since:
                continue
            due += progress.due(created)
            told = past.told(seq)
            for one in told:
                found = self._of(one)
                if one.at <= created:
                    due += found
                else:
                    for fact in found:
                        progress.push(fact, one.at)
            progress.done += 1
            if seq in marks:
                progress.open[seq] = (len(told), marks[seq])
        return _Found([seq for seq, _ in batch], due)

    def rest(self, past: Past, batch: list[tuple[int, int]]) -> list[Fact]:
        """Everything that is left, at this instant."""
        progress = self._progress
        known = {seq: (told, mark) for part in past.aside(SPACE, progress.kpi) for seq, told, mark in part}
        due = self.read(past, batch).facts
        progress.close(past)
        marks = past.marks(known)
        for seq, (told, mark) in known.items():
            if marks.get(seq) != mark:
                for one in past.told(seq)[told:]:
                    for fact in self._of(one):
                        progress.push(fact, one.at)
        return due + progress.due(1 << 62)

    def _of(self, told: Told) -> list[Fact]:
        found = self._observer.event(told.on, told.envelope, instant_of(told.at), None)
        return [replace(fact, kpi=_draft(fact.kpi)) for fact in found]


def _fact(words: Sequence[Any]) -> Fact:
    named = dict(zip((one.name for one in fields(Fact)), words, strict=True))
    return Fact(**{**named, "elements": tuple(named["elements"])})


def _draft(name: str) -> str:
    return name + DRAFT


def _digest(kpi: Kpi) -> str:
    return hashlib.sha256(f"{kpi.route}\n{kpi.name}\n{kpi.text}".encode()).hexdigest()
