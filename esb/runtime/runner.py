"""One route at work: its lanes, its versions, and the attempts that run its messages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import partial

from esb.config.model import RouteSpec
from esb.endpoints.base import Outcome
from esb.errors import InternalFault, MessageError, StoreError
from esb.failpoints import hit
from esb.message import Message, State
from esb.pipeline import Overtime, StepFailed, Withdrawn, run_block
from esb.registry import Registry
from esb.runtime.ahead import Ahead
from esb.runtime.alarm import Alarm
from esb.runtime.bench import Bench
from esb.runtime.births import Birth, Births
from esb.runtime.direct import Direct
from esb.runtime.endings import completed, expired, expires_at
from esb.runtime.hub import Hub
from esb.runtime.lanes import Entry, LaneId, Lanes
from esb.runtime.outcomes import Meter, Outcomes
from esb.runtime.places import Places
from esb.runtime.rules import alert_of, block_of, cause_of, fallback_of, reply_of, when_down_of
from esb.runtime.run import MessageRun
from esb.runtime.sagas import bind, undoings
from esb.runtime.sequences import look, rank_of
from esb.runtime.settle import GiveUp, RetryAt, decide, handler_for, record
from esb.runtime.streams import born, hand_on
from esb.runtime.targets import CircuitOpen
from esb.runtime.verdicts import Verdict, Verdicts, told_already
from esb.runtime.versions import Versions
from esb.runtime.waits import entry_of, park, rouse, suspended
from esb.steps.base import Stop, Wait
from esb.store.base import Accepted, Pending, Settlement

#: A message is dead when the process died this often while it computed its steps; meanwhile suspects run one at a time.
CRASHES = 3
#: Attempts of a route that may wait for their commit beside those at work.
SETTLING = 500
#: Messages that one turn starts before other routes have theirs.
PER_TURN = 16
#: Seconds before a message that the store could not begin is tried again.
AFTER_TROUBLE = timedelta(seconds=1)
#: Decoded messages kept in memory per route; beyond it the store is asked when their turn comes.
KEPT_DECODED = 4096
#: and bytes of them, if all were as large as the one that comes; what is not kept is read from the store when its turn is
KEPT_BYTES = 16_000_000


class RouteRunner:
    """Runs the open messages of one route; lives as long as the route has open messages or a source."""

    def __init__(self, spec: RouteSpec, bench: Bench, births: Births, registry: Registry, hub: Hub) -> None:
        self.spec = spec
        self.bench = bench
        self.births = births
        self.lanes = Lanes()
        self.paused = False
        self.stopping = False
        self.meter = Meter()
        self.outcomes = Outcomes()
        self.registry = registry
        self.hub = hub
        self._versions = Versions((spec, bench, births), partial(hub.recall, spec.name))
        self._tasks: set[asyncio.Task[None]] = set()
        self.places = Places()
        self._verdicts = Verdicts(bench, spec.name, self._concluded, self._blocks)
        self._alarm = Alarm(bench.clock, self.wake, self._clock_set_back)
        self._scheduled = False
        self.bear = partial(hand_on, self)
        self.ahead = Ahead(self)
        self.direct = Direct(self, self._verdicts)
        self._suspects = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()

    # -- versions -----------------------------------------------------------------------------------------------------
    def update(self, spec: RouteSpec, bench: Bench, births: Births) -> None:
        """Messages that start from now on run on ``spec``; those that have started keep their version."""
        self.spec, self.bench, self.births = spec, bench, births
        self._versions.update((spec, bench, births), self.lanes)
        self.lanes.release(spec.digest, spec.blocks)
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
        entry.rank = rank_of(envelope, self._versions.bind(entry))
        if envelope.overtakes and entry.lane is not None:
            self.lanes.unblock(entry.lane)
            self.lanes.supersede_running(entry.lane, entry.seq)
        if len(self.lanes) < KEPT_DECODED and len(self.lanes) * envelope.size < KEPT_BYTES:
            entry.envelope, entry.message = envelope, birth.message
        if accepted.state is State.RUNNING:
            self.direct.add(entry)
            self._idle.clear()
        self.lanes.add(entry)
        rouse(self.lanes, entry, self._versions)
        self.wake()

    def look_again(self, pending: Iterable[Pending], blocked: Mapping[LaneId, int]) -> None:
        """Take up open messages that nobody told of, and follow the store's word on which lanes are blocked."""
        for lane in self.lanes.blocked():
            self.lanes.unblock(lane, blocked.get(lane, 0))
        for lane, seq in blocked.items():
            self.lanes.block(lane, seq)
        self.adopt([row for row in pending if self.lanes.get(row.seq) is None])

    def _blocks(self, entry: Entry) -> bool:
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
        """Run an attempt up to its first wait, here and now; most only compute. One that waits goes on as a task."""
        self._idle.clear()
        attempt = self._attempt(entry)
        if not entry.crashes:
            try:
                attempt.send(None)
            except StopIteration:
                return
            except (Exception, Overtime) as error:  # noqa: BLE001 - a fault of our own must not stop the other messages
                self._fault(error)
                return
        task = asyncio.get_running_loop().create_task(attempt, name=f"esb:{self.spec.name}:{entry.seq}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fault(error)
        self._go_on()

    def _fault(self, error: BaseException) -> None:
        self.bench.log("error", "runner.fault", route=self.spec.name, error=f"{type(error).__name__}: {error}")

    def _clock_set_back(self, by: timedelta) -> None:
        self.bench.log("warning", "clock.set_back", route=self.spec.name, by=str(by))
        self.lanes.shift(-by)

    async def stop(self, grace: float) -> None:
        """Take nothing new; let what runs end within ``grace`` seconds; the rest is cancelled and stays in the store."""
        self.stopping = True
        self._alarm.stop()
        await self._come_to_rest(grace)
        for task in self._tasks:
            task.cancel()
        await self._come_to_rest(grace)
        self._verdicts.give_up()

    async def _come_to_rest(self, grace: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._idle.wait()

    @property
    def running(self) -> int:
        """Attempts at work, and those that wait for the commit of their end."""
        return len(self._tasks) + len(self._verdicts) + len(self.direct)

    # -- one attempt --------------------------------------------------------------------------------------------------
    async def _attempt(self, entry: Entry) -> None:
        verdict: Verdict | None = None
        try:
            if entry.crashes:
                async with self._suspects:  # one at a time: if the process dies again, this message is the reason
                    verdict = await self._run(entry)
            else:
                if self.spec.priority == "low":
                    await asyncio.sleep(0)
                verdict = await self._run(entry)
        finally:
            self.places.leave()
            if not self.lanes.rest:
                self.wake()
        if verdict is not None:
            self._verdicts.add(verdict)

    async def _run(self, entry: Entry) -> Verdict | None:
        """Run the message; gives how it ended, None where the store knows its end already."""
        store, now = self.bench.store, self.bench.clock.now()
        envelope, ledger = entry.envelope, {}
        if envelope is None:
            try:
                envelope, stored = store.payload(entry.seq)
            except (StoreError, ValueError) as error:  # the latter: written by an older version, or by another hand
                return self._unread(entry, error)
            bind(entry, ledger := dict(stored))
        spec, bench, births = self._versions.of(entry)
        run = MessageRun(bench, spec, births, entry, envelope, ledger, self.lanes, self.registry, self.hub, self.bear)
        if (end := expires_at(spec, entry)) is not None and now >= end:
            return await expired(entry, run, now)
        entry.attempts += 1
        run.when_down = when_down_of(spec, entry.scope)
        try:
            if entry.crashes:
                await run.started()
            try:
                if entry.crashes >= CRASHES:
                    raise InternalFault(f"the process died {entry.crashes} times while it computed its steps")
                store.at_work(entry.seq)
                block = block_of(spec, entry.scope)
                message = run.first()
                result = await run_block(block, message, run)
                return await self._complete(entry, run, result)
            except StepFailed as failure:
                return await self._failed(entry, run, failure)
            except MessageError as error:
                return await self._bury(entry, run, error, error.error_class)
        except Wait as wait:
            return self._verdicts.again(entry, suspended(entry, run, wait))
        except Withdrawn:
            self._withdraw(entry)
            return None
        except asyncio.CancelledError:
            self._verdicts.add(self._give_back(entry, run))
            raise
        except StoreError as error:
            bench.log("warning", "store.trouble", route=spec.name, message=entry.id, error=str(error))
            return self._give_back(entry, run)
        except Exception as error:  # noqa: BLE001 - the worker loop: a fault of our own must not park the lane for ever
            self._fault(error)
            return self._verdicts.dead(entry, f"the bus broke on this message: {type(error).__name__}: {error}", now)

    # -- how attempts end ---------------------------------------------------------------------------------------------
    async def _complete(self, entry: Entry, run: MessageRun, result: Message | Stop) -> Verdict:
        now = self.bench.clock.now()
        return completed(entry, run, result, await born(run.handoffs, run, now) if run.handoffs else (), now)

    async def _failed(self, entry: Entry, run: MessageRun, failure: StepFailed) -> Verdict:
        error, now = failure.error, self.bench.clock.now()
        decision = decide(
            error,
            policy=failure.node.retry or run.spec.retry,
            attempt=entry.attempts,
            accepted_at=entry.accepted_at,
            now=now,
            counts=not isinstance(error, CircuitOpen),
            chance=self.bench.chance,
        )
        if isinstance(decision, GiveUp):
            return await self._bury(
                entry, run, error, decision.error_class, step=failure.node.id, message=failure.message
            )
        if not decision.counts:
            entry.attempts -= 1
        if (end := expires_at(run.spec, entry)) is not None and decision.due >= end:
            decision = RetryAt(end, decision.counts)
        settlement = Settlement(
            entry.seq,
            State.WAITING,
            entry.attempts,
            now,
            due=decision.due,
            error=record(error, step=failure.node.id, error_class=error.error_class, spec=run.spec),
            trace=run.trace,
            ledger=run.fresh,
        )
        self.bench.log(
            "info",
            "message.retry",
            route=run.spec.name,
            message=entry.id,
            correlation=run.envelope.correlation_id,
            step=failure.node.id,
            attempt=entry.attempts,
            due=decision.due.isoformat(),
            error=f"{error.error_class}: {error}",
        )
        return self._verdicts.again(entry, settlement)

    async def _bury(
        self,
        entry: Entry,
        run: MessageRun,
        error: MessageError,
        error_class: str,
        *,
        step: str = "",
        message: Message | None = None,
    ) -> Verdict:
        """Dead, unless ``on_error`` has steps that succeed instead."""
        handler = handler_for(run.spec.on_error, error_class, error.error_class)
        mark = len(run.handoffs)
        steps = fallback_of(handler, run.spec, entry.scope)
        if handler is not None and steps is not None and message is not None:
            try:
                described = message.with_meta("error", {"class": error_class, "message": error.message, "step": step})
                result = await run_block(steps, described, run)
            except (StepFailed, MessageError, Wait) as second:
                run.bench.log("warning", "on_error.failed", route=run.spec.name, message=entry.id, error=str(second))
            else:
                if not handler.dead_letter:
                    return await self._complete(entry, run, result)
        hit("message.dying")
        entry.message = None
        what = record(error, step=step or run.step or "source", error_class=error_class, spec=run.spec, handler=handler)
        now = self.bench.clock.now()
        alert = (handler.alert if handler is not None else "") or run.spec.alert
        # what the failed steps handed off is not born: a retry hands it off again; what `on_error` handed off is
        handoffs = [handoff for handoff in run.handoffs[:mark] if handoff.even_if_dead] + run.handoffs[mark:]
        handoffs += undoings(run, error, error_class)
        handoffs += [alert_of(alert, run.envelope, what, now, run.bench.observer.marked, run.trace)] if alert else []
        children = await born(handoffs, run, now)
        settlement = Settlement(
            entry.seq,
            State.DEAD,
            entry.attempts,
            now,
            error=what,
            trace=run.trace,
            ledger=run.fresh,
            children=[birth.new for birth in children],
            hold_lane=self._blocks(entry) and error.holds_lane,
        )
        run.bench.log(
            "warning",
            "message.dead",
            route=run.spec.name,
            message=entry.id,
            key=entry.key,
            correlation=run.envelope.correlation_id,
            step=what.step,
            attempt=entry.attempts,
            error=f"{error_class}: {error}",
            cause=cause_of(error),
        )
        outcome = Outcome("dead", error=what.as_dict(), response=reply_of(handler))
        return Verdict(entry, settlement, children, outcome)

    def _unread(self, entry: Entry, error: StoreError | ValueError) -> Verdict | None:
        """The store gave no message: it is asked again, unless the message is gone or what stands there makes no sense."""
        self.bench.log("warning", "store.unread", route=self.spec.name, message=entry.id, error=str(error))
        if isinstance(error, ValueError):
            return self._verdicts.dead(entry, f"what is stored cannot be read: {error}", self.bench.clock.now())
        self.lanes.park(entry, self.bench.clock.now() + AFTER_TROUBLE)
        with contextlib.suppress(StoreError):
            if self.bench.store.get(entry.id, trace=False) is None:
                self.lanes.finish(entry)
        return None

    def _withdraw(self, entry: Entry) -> None:
        """The store has given the message another end already; only the lane must hear of it."""
        self.lanes.finish(entry)
        stored = self.bench.store.get(entry.id, trace=False)
        if stored is not None and stored.finished_at is None:
            found = self.bench.store.pending(self.spec.name, after_seq=entry.seq - 1, limit=1)
            self.adopt([row for row in found if row.seq == entry.seq])  # held: it runs when its lane is released
            return
        self.outcomes.tell(entry.id, Outcome(stored.state.value if stored is not None else "discarded"))

    def _give_back(self, entry: Entry, run: MessageRun) -> Verdict:
        """The attempt was interrupted: the message is queued again and this attempt does not count."""
        entry.attempts -= 1
        settlement = Settlement(
            entry.seq, State.QUEUED, entry.attempts, self.bench.clock.now(), trace=run.trace, ledger=run.fresh
        )
        return self._verdicts.again(entry, settlement)

    # -- the settlement -----------------------------------------------------------------------------------------------
    def _concluded(self, verdict: Verdict, accepted: tuple[Accepted, ...]) -> None:
        """The end of an attempt is in the store: the lane, the children and whoever waits hear of it."""
        entry, settlement = verdict.entry, verdict.settlement
        entry.envelope = entry.message = None
        entry.started = False
        entry.crashes = 0  # as in the store: the process lived through this attempt
        match settlement.state:
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
            self.meter.count(self.bench.clock.monotonic())
            self.outcomes.tell(entry.id, verdict.outcome or Outcome(settlement.state.value))
        self._go_on()
