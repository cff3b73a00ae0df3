"""One route at work: its lanes, its versions, and the attempts that run its messages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeGuard

from msgspec.structs import replace

from esb.config.model import RouteSpec
from esb.endpoints.base import Outcome
from esb.errors import InternalFault, StoreError
from esb.message import Message, State
from esb.pipeline import Overtime, run_block
from esb.registry import Registry
from esb.runtime.ahead import Ahead
from esb.runtime.alarm import Alarm
from esb.runtime.bench import Bench
from esb.runtime.births import Birth, Births
from esb.runtime.direct import Direct
from esb.runtime.endings import expired, expires_at
from esb.runtime.groups import is_aggregate
from esb.runtime.hub import Hub
from esb.runtime.judge import AFTER_TROUBLE, Judge
from esb.runtime.lanes import Entry, LaneId, Lanes
from esb.runtime.outcomes import Meter, Outcomes
from esb.runtime.places import Places
from esb.runtime.rules import block_of, when_down_of
from esb.runtime.run import MessageRun
from esb.runtime.sequences import look, rank_of
from esb.runtime.standins import recall_stand_ins
from esb.runtime.straight import Straight
from esb.runtime.streams import hand_on
from esb.runtime.verdicts import Verdict, Verdicts, told_already
from esb.runtime.versions import Versions, hold
from esb.runtime.waits import entry_of, park, rouse
from esb.steps.base import Stop
from esb.store.base import Accepted, Pending

#: A message is dead when the process died this often while it computed its steps; meanwhile suspects run one at a time.
CRASHES = 3
#: Attempts of a route that may wait for their commit beside those at work.
SETTLING = 500
#: Messages that one turn starts before other routes have theirs.
PER_TURN = 16
#: Decoded messages kept in memory per route; beyond it the store is asked when their turn comes.
KEPT_DECODED = 4096
#: Bytes of them at most, if all were as large as the one that comes.
KEPT_BYTES = 16_000_000


class RouteRunner:
    """Runs the open messages of one route; lives as long as the route has open messages or a source."""

    def __init__(self, spec: RouteSpec, bench: Bench, births: Births, registry: Registry, hub: Hub) -> None:
        self.spec = spec
        self.bench = bench
        self.births = births
        self.lanes = Lanes(self._ends_at)
        self.paused = False
        self.stopping = False
        self.meter = Meter()
        self.outcomes = Outcomes()
        self.registry = registry
        self.hub = hub
        self._versions = Versions((spec, bench, births), partial(hub.recall, spec.name))
        self._tasks: set[asyncio.Task[None]] = set()
        self.places = Places()
        self._verdicts = Verdicts(bench, spec.name, self._concluded, self.blocks)
        self._alarm = Alarm(bench.clock, self.wake, self._clock_set_back)
        self._scheduled = False
        self.bear = partial(hand_on, self)
        self.ahead = Ahead(self)
        self.direct = Direct(self, self._verdicts)
        self.straight = Straight(self)
        self._judge = Judge(self, self._verdicts)
        self._suspects = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()

    # -- versions -----------------------------------------------------------------------------------------------------
    def update(self, spec: RouteSpec, bench: Bench, births: Births) -> None:
        """Messages that start from now on run on ``spec``; those that have started keep their version."""
        self.spec, self.bench, self.births = spec, bench, births
        self._versions.update((spec, bench, births), self.lanes)
        self.lanes.release(spec.digest, spec.blocks)
        self.lanes.age_anew()
        self.wake()

    # -- coming in ----------------------------------------------------------------------------------------------------
    def adopt(self, pending: Iterable[Pending]) -> None:
        """Take up open messages from the store (start, retry by a person)."""
        for row in pending:
            entry = entry_of(row, self._versions, self.bench.store)
            if row.state is State.HELD and entry.lane is not None:
                self.lanes.block(entry.lane, entry.seq)
            self.lanes.add(entry)
        self.wake()

    def arrived(self, birth: Birth, accepted: Accepted) -> None:
        """A message was committed: put it into its lane."""
        envelope = birth.new.envelope
        if accepted.superseded:
            self.lanes.drop(accepted.superseded)
        entry = Entry(
            seq=accepted.seq,
            id=accepted.id,
            scope=envelope.scope,
            key=envelope.key,
            accepted_at=envelope.accepted_at,
            version=envelope.version,
            overtakes=envelope.overtakes,
            size=envelope.size,
        )
        if entry.scope:  # of a group or of a sequence, perhaps
            spec = self._versions.bind(entry)
            entry.rank = rank_of(envelope, spec)
            if is_aggregate(envelope, spec) and not self.lanes.is_blocked(entry.lane):
                # it is no part of the group that is open meanwhile, and does not wait for its end
                entry.overtakes = True
        if envelope.overtakes and entry.lane is not None:
            self.lanes.unblock(entry.lane)
            self.lanes.supersede_running(entry.lane, entry.seq)
        if len(self.lanes) < KEPT_DECODED and len(self.lanes) * envelope.size < KEPT_BYTES:
            entry.envelope, entry.message = envelope, birth.message
        if accepted.state is State.RUNNING:
            self.direct.add(entry)
            self._idle.clear()
        self.lanes.add(entry)
        if entry.scope:
            rouse(self.lanes, entry, self._versions)
        self.wake()

    def look_again(self, pending: Iterable[Pending], blocked: Mapping[LaneId, int]) -> None:
        """Take up open messages that nobody told of, and follow the store's word on which lanes are blocked."""
        for lane in self.lanes.blocked():
            self.lanes.unblock(lane, blocked.get(lane, 0))
        for lane, seq in blocked.items():
            self.lanes.block(lane, seq)
        self.adopt([row for row in pending if self.lanes.get(row.seq) is None])

    def blocks(self, entry: Entry) -> bool:
        """Whether the death of this message holds its lane."""
        return entry.key is not None and self.spec.order.on_dead == "block" and not entry.superseded

    # -- dispatch -----------------------------------------------------------------------------------------------------
    def wake(self) -> None:
        """Look for runnable messages soon; cheap to call often."""
        if not self._scheduled and (not self.stopping or len(self.direct)):
            self._scheduled = True
            self.hub.turns.ask(self)

    def _go_on(self) -> None:
        if not self.running:
            self._idle.set()
        if not self.lanes.rest:
            self.wake()

    def turn(self) -> bool:
        """Start some runnable messages; true where there may be more that can start now."""
        rests, begun = self.paused or self.stopping, 0
        if not rests:
            self.lanes.wake(self.bench.clock.now())
        while begun < PER_TURN and (entry := self.direct.next(rests=rests)) is not None:
            self._start(entry)
            begun += 1
        self.bench.store.at_work(0)
        if begun == PER_TURN:
            return True
        self._scheduled = False
        if not rests:
            self._alarm.at(self.lanes.next_due)
        return False

    @property
    def has_place(self) -> bool:
        """Whether one more may be at work."""
        return self.places.busy < self.spec.concurrency and len(self._verdicts) < SETTLING

    def _start(self, entry: Entry) -> None:
        """Run an attempt up to its first wait, here and now; most only compute. One that must wait goes on as a task."""
        self._idle.clear()
        if not self.straight.takes(entry):
            self._drive(entry, self._attempt(entry))
            return
        opened = self._opened(entry)
        if self._begins(opened, entry):
            self.straight.begin(entry, opened)
        else:
            self._drive(entry, self._ended_by(self._otherwise(entry, opened)))

    def carry_on(self, entry: Entry, run: MessageRun, work: Coroutine[Any, Any, Message | Stop]) -> None:
        """Go on with an attempt that was straight so far: ``work`` are the rest of its steps."""
        run.on_its_own()
        self._drive(entry, self._ended_by(self._judge.judged(entry, run, work)))
        self._go_on()

    def end(self, verdict: Verdict) -> None:
        """A straight attempt is at its end."""
        self.places.leave()
        self._verdicts.add(verdict)
        if not self.lanes.rest:
            self.wake()

    def interrupted(self, entry: Entry, run: MessageRun) -> None:
        """A straight attempt ends without an end; it is as if it had not been."""
        self.end(self._judge.give_back(entry, run))

    def _drive(self, entry: Entry, attempt: Coroutine[Any, Any, None]) -> None:
        if not entry.crashes:
            try:
                attempt.send(None)
            except StopIteration:
                return
            except (Exception, Overtime) as error:  # noqa: BLE001 - a fault of our own must not stop the other messages
                self.fault(error)
                return
        task = asyncio.get_running_loop().create_task(attempt, name=f"esb:{self.spec.name}:{entry.seq}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fault(error)
        self._go_on()

    def fault(self, error: BaseException) -> None:
        self.bench.log("error", "runner.fault", route=self.spec.name, error=f"{type(error).__name__}: {error}")

    def _clock_set_back(self, by: timedelta) -> None:
        self.bench.log("warning", "clock.set_back", route=self.spec.name, by=str(by))
        self.lanes.shift(-by, self.bench.clock.now())

    async def stop(self, grace: float) -> None:
        """Take nothing new; let what runs end within ``grace`` seconds; the rest is cancelled and stays in the store.

        Who waits for the end of a message is told that it did not come.
        """
        self.stopping = True
        self._alarm.stop()
        await self._come_to_rest(grace)
        for task in self._tasks:
            task.cancel()
        self.straight.give_up()
        await self._come_to_rest(grace)
        self._verdicts.give_up()
        self.outcomes.leave()

    async def _come_to_rest(self, grace: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._idle.wait()

    @property
    def running(self) -> int:
        """Attempts at work, and those that wait for the commit of their end."""
        return len(self._tasks) + len(self.straight) + len(self._verdicts) + len(self.direct)

    # -- one attempt --------------------------------------------------------------------------------------------------
    async def _attempt(self, entry: Entry) -> None:
        if entry.crashes:
            async with self._suspects:  # one at a time: if the process dies again, this message is the reason
                await self._ended_by(self._run(entry))
        else:
            if self.spec.priority == "low":
                await asyncio.sleep(0)
            await self._ended_by(self._run(entry))

    async def _ended_by(self, attempt: Coroutine[Any, Any, Verdict | None]) -> None:
        verdict: Verdict | None = None
        try:
            verdict = await attempt
        finally:
            self.places.leave()
            if not self.lanes.rest:
                self.wake()
        if verdict is not None:
            self._verdicts.add(verdict)

    async def _run(self, entry: Entry) -> Verdict | None:
        """Run the message; gives how it ended, None where the store knows its end already."""
        opened = self._opened(entry)
        if self._begins(opened, entry):
            return await self._judge.judged(entry, opened, self._steps(entry, opened))
        return await self._otherwise(entry, opened)

    def _opened(self, entry: Entry) -> MessageRun | Verdict | None:
        """The attempt; where the message cannot be read, what becomes of it."""
        envelope, ledger = entry.envelope, {}
        if envelope is None:
            try:
                envelope, stored = self.bench.store.payload(entry.seq)
            except (StoreError, ValueError) as error:  # the latter: written by an older version, or by another hand
                return self._judge.unread(entry, error)
            hold(entry, ledger := dict(stored))
        spec, bench, births = self._versions.of(entry)
        if envelope.version != spec.digest:
            # the version that took it in may have read it in another way than every later attempt will
            entry.message, entry.was = None, envelope.version
            envelope = replace(envelope, version=spec.digest)
            entry.envelope = envelope if entry.envelope is not None else None
        return MessageRun(bench, spec, births, entry, envelope, ledger, self.lanes, self.registry, self.hub, self.bear)

    def _begins(self, opened: MessageRun | Verdict | None, entry: Entry) -> TypeGuard[MessageRun]:
        """Whether the steps are run; the attempt counts then."""
        if not isinstance(opened, MessageRun) or entry.over:
            return False
        if (end := expires_at(opened.spec, entry)) is not None and self.bench.clock.now() >= end:
            return False
        entry.attempts += 1
        opened.when_down = when_down_of(opened.spec, entry.scope)
        if opened.ledger:
            recall_stand_ins(opened)
        return True

    def _ends_at(self, entry: Entry) -> datetime | None:
        return expires_at(self._versions.of(entry)[0], entry)

    async def _otherwise(self, entry: Entry, opened: MessageRun | Verdict | None) -> Verdict | None:
        if isinstance(opened, MessageRun):
            return await expired(entry, opened, self.bench.clock.now())
        return opened

    async def _steps(self, entry: Entry, run: MessageRun) -> Message | Stop:
        if entry.crashes:
            await run.started()
        if entry.crashes >= CRASHES:
            raise InternalFault(f"the process died {entry.crashes} times while it computed its steps")
        run.bench.store.at_work(entry.seq)
        return await run_block(block_of(run.spec, entry.scope), run.first(), run)

    # -- the settlement -----------------------------------------------------------------------------------------------
    def _concluded(self, verdict: Verdict, accepted: tuple[Accepted, ...]) -> None:
        """The end of an attempt is in the store: the lane, the children and whoever waits hear of it."""
        entry, settlement = verdict.entry, verdict.settlement
        entry.envelope = entry.message = None
        entry.started = False
        entry.crashes = 0  # as in the store: the process lived through this attempt
        match settlement.state:
            case State.DONE:  # nearly all of them
                self.lanes.finish(entry)
            case State.WAITING | State.QUEUED if entry.superseded:  # it was told after the settlement was on its way
                self._verdicts.add(self._verdicts.again(entry, told_already(settlement)))
                return
            case State.WAITING:
                park(self.lanes, entry, settlement, self._versions)
            case State.QUEUED:
                self.lanes.park(entry, settlement.at + AFTER_TROUBLE)
            case State.DEAD:
                self.lanes.die(entry, block=settlement.hold_lane and not entry.superseded)  # as in the store
            case _:
                self.lanes.finish(entry)
        for birth, one in zip(verdict.births, accepted, strict=False):
            self.hub.arrived(birth, one)
        if settlement.state not in (State.WAITING, State.QUEUED):
            look(self.lanes, entry)
            if entry.scope:
                rouse(self.lanes, entry, self._versions)  # a group may have become complete behind it
            self.meter.count(self.bench.clock.monotonic())
            self.outcomes.tell(entry.id, verdict.outcome or Outcome(settlement.state.value))
        self._go_on()
