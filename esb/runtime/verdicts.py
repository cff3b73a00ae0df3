"""How attempts end, on the way into the store: nothing of an attempt counts before its end is committed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from esb.endpoints.base import Outcome
from esb.errors import ErrorRecord, StoreBusy, StoreError
from esb.message import State, short_version
from esb.runtime.bench import Bench
from esb.runtime.births import Birth
from esb.runtime.lanes import Entry
from esb.runtime.streams import committed
from esb.store.base import Accepted, Settlement

#: Seconds between two tries to store the end of an attempt.
PAUSE = 1.0


class Verdict(Struct, frozen=True, gc=False):
    """The end of one attempt: what is stored, the messages born of it, and what is told to callers that wait."""

    entry: Entry
    settlement: Settlement
    births: Sequence[Birth] = ()
    outcome: Outcome | None = None


def event_of(settlement: Settlement) -> str:
    """What this end is called by indicators, empty where the message is open still."""
    if settlement.state is State.DONE:
        return "filtered" if settlement.reason else "done"
    return settlement.state.value if settlement.state in (State.DEAD, State.EXPIRED) else ""


def told_already(settlement: Settlement) -> Settlement:
    """The same end without what is in the store since it was first told."""
    return replace(settlement, trace=(), ledger=())


def with_version(verdict: Verdict) -> Verdict:
    """The verdict of an attempt that ran on another version than the one that its message is stored with."""
    entry, settlement = verdict.entry, verdict.settlement
    first, *others = settlement.trace or ({},)
    trace = [{**first, "version_before": short_version(entry.was)}, *others] if first else settlement.trace
    entry.was = ""
    return replace(verdict, settlement=replace(settlement, version=entry.version, trace=trace))


class Verdicts:
    """Commits verdicts; ``concluded`` hears of each that is committed.

    While the store cannot take one it is kept and tried again: an effect must not be forgotten. ``len`` is the number of
    those that are not committed yet.
    """

    def __init__(
        self,
        bench: Bench,
        route: str,
        concluded: Callable[[Verdict, tuple[Accepted, ...]], None],
        blocks: Callable[[Entry], bool],
    ) -> None:
        self._blocks = blocks
        self._bench = bench
        self._route = route
        self._concluded = concluded
        self._open = 0
        self._again: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return self._open

    def add(self, verdict: Verdict) -> None:
        self._open += 1
        self._submit(self._observed(with_version(verdict) if verdict.entry.was else verdict))

    def _observed(self, verdict: Verdict) -> Verdict:
        """The verdict with what it says about indicators."""
        entry, settlement, observer = verdict.entry, verdict.settlement, self._bench.observer
        passed = (settlement.at - entry.accepted_at).total_seconds()
        observer.meters.attempt(self._route, settlement, max(0.0, passed))
        on = event_of(settlement)
        if on not in observer.rules(self._route) and observer.emit is None:
            return verdict
        try:
            envelope = entry.envelope or self._bench.store.payload(entry.seq)[0]
        except (StoreError, ValueError) as error:
            self._bench.log("warning", "kpi.fault", route=self._route, message=entry.id, error=str(error))
            return verdict
        observer.spans(envelope, settlement)
        facts = observer.event(on, envelope, settlement.at, entry.message)
        return replace(verdict, settlement=replace(settlement, facts=facts))

    def dead(self, entry: Entry, fault: str, now: datetime) -> Verdict:
        """The end of a message that the bus itself cannot go on with."""
        what = ErrorRecord("internal", fault[:2000])
        ending = Settlement(entry.seq, State.DEAD, entry.attempts, now, error=what, hold_lane=self._blocks(entry))
        return Verdict(entry, ending, outcome=Outcome("dead", error=what.as_dict()))

    def again(self, entry: Entry, settlement: Settlement) -> Verdict:
        """An end that leaves the message open; where a later one overtook it meanwhile it is over."""
        if not entry.superseded:
            return Verdict(entry, settlement)
        over = replace(settlement, state=State.SUPERSEDED, due=None, error=None, reason="overtaken")
        return Verdict(entry, over, outcome=Outcome("superseded"))

    def give_up(self) -> None:
        """Forget those that the store cannot take; their messages run again after the next start."""
        for task in self._again:
            task.cancel()

    def _submit(self, verdict: Verdict) -> None:
        try:
            self._bench.store.settle_then(verdict.settlement, partial(self._done, verdict))
        except Exception as error:  # noqa: BLE001 - the store is closed, or a child holds what cannot be stored
            self._failed(verdict, error)

    def _done(self, verdict: Verdict, stored: tuple[Accepted, ...] | StoreError) -> None:
        if isinstance(stored, StoreError):
            self._failed(verdict, stored)
            return
        self._open -= 1
        if verdict.births:
            committed(verdict.births, self._bench.store.blobs)
        self._concluded(verdict, stored)

    def _failed(self, verdict: Verdict, error: BaseException) -> None:
        seq = verdict.settlement.seq
        if isinstance(error, StoreBusy):
            self._bench.log("error", "store.cannot_settle", route=self._route, seq=seq, error=str(error))
            task = asyncio.create_task(self._later(verdict))
            self._again.add(task)
            task.add_done_callback(self._again.discard)
            return
        self._open -= 1
        self._bench.log("error", "runner.fault", route=self._route, seq=seq, error=f"{type(error).__name__}: {error}")
        if not isinstance(error, StoreError) and verdict.settlement.state is not State.DEAD:
            what = f"how it ended cannot be stored: {type(error).__name__}: {error}"
            self.add(self.dead(verdict.entry, what, self._bench.clock.now()))

    async def _later(self, verdict: Verdict) -> None:
        await self._bench.clock.sleep(PAUSE)
        if verdict.entry.superseded:  # the one that overtook it may be done by now
            verdict = replace(verdict, settlement=replace(verdict.settlement, hold_lane=False))
        self._submit(verdict)
