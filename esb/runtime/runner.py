"""One route at work: its lanes, its versions, and the attempts that run its messages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from esb.config.model import RouteSpec
from esb.endpoints.base import Outcome
from esb.errors import ErrorRecord, InternalFault, MessageError, StoreBusy, StoreError
from esb.message import Envelope, Message, State
from esb.pipeline import StepFailed, Withdrawn, run_block
from esb.registry import Registry
from esb.runtime.births import Birth, Births
from esb.runtime.lanes import Entry, Lanes
from esb.runtime.outcomes import Meter, Outcomes
from esb.runtime.payload import decode_body, message_of
from esb.runtime.rules import alert_of, block_of, cause_of, reply_of, when_down_of
from esb.runtime.run import Bench, MessageRun
from esb.runtime.settle import GiveUp, RetryAt, decide, handler_for, record
from esb.runtime.targets import CircuitOpen
from esb.steps.base import HandOff, Stop, Wait
from esb.store.base import Accepted, Pending, Settlement

#: A message whose attempts ended this many times with the death of the process is dead. Most deaths have other reasons, so
#: it is given the benefit of the doubt for long; meanwhile suspects run one at a time.
CRASHES = 10
#: Attempts of a route that may wait for their commit beside those at work.
SETTLING = 500
#: Decoded messages kept in memory per route; beyond it the store is asked when their turn comes.
KEPT_DECODED = 4096


class Hub(Protocol):
    """What a runner asks of the bus around it."""

    def receivers(self, kind: str, name: str) -> Iterable[RouteSpec]: ...

    def arrived(self, birth: Birth, accepted: Accepted) -> None: ...

    def alert(self, name: str, envelope: Envelope, error: ErrorRecord) -> None: ...


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
        self._registry = registry
        self._hub = hub
        self._versions: dict[str, tuple[RouteSpec, Bench, Births]] = {spec.digest: (spec, bench, births)}
        self._tasks: set[asyncio.Task[None]] = set()
        self._busy = 0  #: attempts at work; those that only wait for their commit leave their place to the next
        self._timer: asyncio.Task[None] | None = None
        self._timer_due: datetime | None = None
        self._scheduled = False
        self._suspects = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()

    # -- versions -----------------------------------------------------------------------------------------------------
    def update(self, spec: RouteSpec, bench: Bench, births: Births) -> None:
        """Messages that start from now on run on ``spec``; those that have started keep their version."""
        self.spec, self.bench, self.births = spec, bench, births
        self._versions[spec.digest] = (spec, bench, births)
        in_use = {entry.version for entry in self.lanes if entry.attempts} | {spec.digest}
        for digest in [digest for digest in self._versions if digest not in in_use]:
            del self._versions[digest]

    def _version_of(self, entry: Entry) -> tuple[RouteSpec, Bench, Births]:
        """Queued messages take the newest version when they start; started ones stay on theirs (SPEC promise 5)."""
        current = (self.spec, self.bench, self.births)
        known = self._versions.get(entry.version, current) if entry.attempts else current
        if entry.scope and entry.scope not in known[0].blocks:
            known = self._versions.get(entry.version, known)
        entry.version = known[0].digest
        return known

    # -- coming in ----------------------------------------------------------------------------------------------------
    def adopt(self, pending: Iterable[Pending]) -> None:
        """Take up open messages from the store (start, retry by a person)."""
        for row in pending:
            entry = Entry.of(row)
            if row.state is State.HELD and entry.lane is not None:
                self.lanes.block(entry.lane)
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
            size=len(envelope.body),
        )
        if envelope.overtakes and entry.lane is not None:
            self.lanes.unblock(entry.lane)
            self.lanes.supersede_running(entry.lane, entry.seq)
        if len(self.lanes) < KEPT_DECODED:
            entry.envelope, entry.message = envelope, birth.message
        self.lanes.add(entry)
        self.wake()

    # -- dispatch -----------------------------------------------------------------------------------------------------
    def wake(self) -> None:
        """Look for runnable messages soon; cheap to call often."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._scheduled = False
        if self.paused or self.stopping:
            return
        self.lanes.wake(self.bench.clock.now())
        while self._busy < self.spec.concurrency and len(self._tasks) < self._busy + SETTLING:
            entry = self.lanes.take()
            if entry is None:
                break
            self._idle.clear()
            self._busy += 1
            task = asyncio.create_task(self._attempt(entry), name=f"esb:{self.spec.name}:{entry.seq}")
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        self._set_timer()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.bench.log("error", "runner.fault", route=self.spec.name, error=f"{type(error).__name__}: {error}")
        if not self._tasks:
            self._idle.set()
        self.wake()

    def _set_timer(self) -> None:
        due = self.lanes.next_due
        if due is None or (self._timer is not None and self._timer_due is not None and self._timer_due <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = asyncio.create_task(self._sleep_until(due))

    async def _sleep_until(self, due: datetime) -> None:
        clock = self.bench.clock
        # in short naps, so that a jump of the wall clock is noticed
        while (left := (due - clock.now()).total_seconds()) > 0:
            await clock.sleep(min(left, 30.0))
        self._timer = self._timer_due = None
        self.wake()

    async def stop(self, grace: float) -> None:
        """Take nothing new; let what runs end within ``grace`` seconds; the rest is cancelled and stays in the store."""
        self.stopping = True
        if self._timer is not None:
            self._timer.cancel()
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=grace)
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left)

    async def idle(self) -> None:
        """Return when no attempt runs."""
        await self._idle.wait()

    @property
    def running(self) -> int:
        return len(self._tasks)

    # -- one attempt --------------------------------------------------------------------------------------------------
    async def _attempt(self, entry: Entry) -> None:
        settling: Awaitable[None]
        try:
            if entry.crashes:
                async with self._suspects:  # one at a time: if the process dies again, this message is the reason
                    settling = await self._run(entry)
            else:
                if self.spec.priority == "low":
                    await asyncio.sleep(0)
                settling = await self._run(entry)
        finally:
            self._busy -= 1
            if not self.stopping:
                self.wake()
        await settling

    async def _run(self, entry: Entry) -> Awaitable[None]:
        """Run the message; gives what is left to do: the settlement."""
        store, now = self.bench.store, self.bench.clock.now()
        spec, bench, births = self._version_of(entry)
        envelope, ledger = entry.envelope, {}
        if envelope is None:
            envelope, stored = store.payload(entry.seq)
            ledger = dict(stored)
        if spec.ttl is not None and now >= entry.accepted_at + spec.ttl:
            bench.log("info", "message.expired", route=spec.name, message=entry.id, key=entry.key)
            return self._end(entry, Settlement(entry.seq, State.EXPIRED, entry.attempts, now, reason="older than ttl"))
        entry.attempts += 1
        run = MessageRun(bench=bench, spec=spec, entry=entry, envelope=envelope, ledger=ledger)
        run.when_down = when_down_of(spec, entry.scope)
        run.starting = store.start(entry.seq, entry.attempts, now)
        try:
            if entry.crashes:
                await run.started()
            if entry.crashes >= CRASHES:
                raise InternalFault(f"the process died {entry.crashes} times while this message ran")
            block = block_of(spec, entry.scope)
            message = entry.message or message_of(envelope, decode_body(envelope, spec, self._registry), entry.attempts)
            result = await run_block(block, message, run)
        except Wait as wait:
            return self._suspend(entry, run, wait)
        except Withdrawn:
            return self._withdraw(entry)
        except StepFailed as failure:
            return self._failed(entry, run, births, failure)
        except MessageError as error:
            return self._bury(entry, run, error, error.error_class, births=births)
        except asyncio.CancelledError:
            await asyncio.shield(self._give_back(entry, run))
            raise
        except StoreError as error:
            bench.log("warning", "store.trouble", route=spec.name, message=entry.id, error=str(error))
            await bench.clock.sleep(1.0)
            return self._give_back(entry, run)
        return self._complete(entry, run, births, result)

    # -- how attempts end ---------------------------------------------------------------------------------------------
    async def _complete(self, entry: Entry, run: MessageRun, births: Births, result: Message | Stop) -> None:
        now = self.bench.clock.now()
        children = await self._children(run, births, now)
        settlement = Settlement(
            entry.seq,
            State.DONE,
            entry.attempts,
            now,
            reason=result.reason if isinstance(result, Stop) else "",
            trace=run.trace,
            children=[birth.new for birth in children],
        )
        body = None if isinstance(result, Stop) else result.body
        outcome = Outcome("done", response=run.response, body=body)
        await self._end(entry, settlement, children, outcome)

    async def _children(self, run: MessageRun, births: Births, now: datetime) -> list[Birth]:
        return await self._born(run.handoffs, run, births, now)

    async def _born(self, handoffs: Iterable[HandOff], run: MessageRun, births: Births, now: datetime) -> list[Birth]:
        children: list[Birth] = []
        for number, handoff in enumerate(handoffs):
            if number % 200 == 199:
                await asyncio.sleep(0)  # a large split must not hold up the other routes
            receivers = lambda name, kind=handoff.kind: self._hub.receivers(kind, name)  # noqa: E731 - binds the kind
            children.extend(births.of_handoff(handoff, run.envelope, run.spec, now, receivers))
        return children

    async def _suspend(self, entry: Entry, run: MessageRun, wait: Wait) -> None:
        entry.attempts -= 1  # a wait that the route asked for is no attempt
        settlement = Settlement(
            entry.seq,
            State.WAITING,
            entry.attempts,
            self.bench.clock.now(),
            due=wait.until,
            reason=f"{run.step} waits",
            trace=run.trace,
            ledger=run.fresh,
        )
        await self._end(entry, settlement)

    async def _failed(self, entry: Entry, run: MessageRun, births: Births, failure: StepFailed) -> None:
        error, now = failure.error, self.bench.clock.now()
        decision = decide(
            error,
            policy=failure.node.retry or run.spec.retry,
            attempt=entry.attempts,
            accepted_at=entry.accepted_at,
            now=now,
            counts=not isinstance(error, CircuitOpen),
        )
        if entry.superseded and isinstance(decision, RetryAt):
            settlement = Settlement(
                entry.seq, State.SUPERSEDED, entry.attempts, now, reason="overtaken", trace=run.trace
            )
            await self._end(entry, settlement, outcome=Outcome("superseded"))
            return
        if isinstance(decision, GiveUp):
            await self._bury(
                entry, run, error, decision.error_class, step=failure.node.id, message=failure.message, births=births
            )
            return
        if not decision.counts:
            entry.attempts -= 1
        if run.spec.ttl is not None and decision.due >= entry.accepted_at + run.spec.ttl:
            decision = replace(decision, due=entry.accepted_at + run.spec.ttl)
        settlement = Settlement(
            entry.seq,
            State.WAITING,
            entry.attempts,
            now,
            due=decision.due,
            error=record(error, step=failure.node.id, error_class=error.error_class),
            trace=run.trace,
            ledger=run.fresh,
        )
        self.bench.log(
            "info",
            "message.retry",
            route=run.spec.name,
            message=entry.id,
            step=failure.node.id,
            attempt=entry.attempts,
            due=decision.due.isoformat(),
            error=f"{error.error_class}: {error}",
        )
        await self._end(entry, settlement)

    async def _bury(
        self,
        entry: Entry,
        run: MessageRun,
        error: MessageError,
        error_class: str,
        *,
        births: Births,
        step: str = "",
        message: Message | None = None,
    ) -> None:
        """Dead, unless ``on_error`` has steps that succeed instead."""
        handler = handler_for(run.spec.on_error, error_class, error.error_class)
        mark = len(run.handoffs)
        if handler is not None and handler.steps is not None and message is not None:
            try:
                described = message.with_meta("error", {"class": error_class, "message": error.message, "step": step})
                result = await run_block(handler.steps, described, run)
            except (StepFailed, MessageError, Wait) as second:
                run.bench.log("warning", "on_error.failed", route=run.spec.name, message=entry.id, error=str(second))
            else:
                if not handler.dead_letter:
                    await self._complete(entry, run, births, result)
                    return
        entry.message = None
        blocks = entry.key is not None and run.spec.order.on_dead == "block" and not entry.superseded
        what = record(error, step=step or run.step or "source", error_class=error_class, handler=handler)
        now = self.bench.clock.now()
        alert = (handler.alert if handler is not None else "") or run.spec.alert
        # what the failed steps handed off is not born: a retry hands it off again; what `on_error` handed off is
        handoffs = [*run.handoffs[mark:], *([alert_of(alert, run.envelope, what, now)] if alert else [])]
        children = await self._born(handoffs, run, births, now)
        settlement = Settlement(
            entry.seq,
            State.DEAD,
            entry.attempts,
            now,
            error=what,
            trace=run.trace,
            ledger=run.fresh,
            children=[birth.new for birth in children],
            hold_lane=blocks,
        )
        run.bench.log(
            "warning",
            "message.dead",
            route=run.spec.name,
            message=entry.id,
            key=entry.key,
            step=what.step,
            attempt=entry.attempts,
            error=f"{error_class}: {error}",
            cause=cause_of(error),
        )
        outcome = Outcome("dead", error=what.as_dict(), response=reply_of(handler))
        await self._end(entry, settlement, children, outcome)

    async def _withdraw(self, entry: Entry) -> None:
        """The store has given the message another end already; only the lane must hear of it."""
        self.lanes.finish(entry)
        stored = self.bench.store.get(entry.id, trace=False)
        self.outcomes.tell(entry.id, Outcome(stored.state.value if stored is not None else "discarded"))

    async def _give_back(self, entry: Entry, run: MessageRun) -> None:
        """The attempt was interrupted: the message is queued again and this attempt does not count."""
        entry.attempts -= 1
        settlement = Settlement(
            entry.seq, State.QUEUED, entry.attempts, self.bench.clock.now(), trace=run.trace, ledger=run.fresh
        )
        await self._end(entry, settlement)

    # -- the settlement -----------------------------------------------------------------------------------------------
    async def _end(
        self, entry: Entry, settlement: Settlement, children: Iterable[Birth] = (), outcome: Outcome | None = None
    ) -> None:
        accepted = await self._commit(settlement)
        entry.envelope = entry.message = None
        match settlement.state:
            case State.WAITING:
                assert settlement.due is not None
                self.lanes.park(entry, settlement.due)
            case State.QUEUED:
                self.lanes.give_back(entry)
            case State.DEAD:
                self.lanes.die(entry, block=settlement.hold_lane)
            case _:
                self.lanes.finish(entry)
        for birth, one in zip(children, accepted, strict=False):
            self._hub.arrived(birth, one)
        if settlement.state not in (State.WAITING, State.QUEUED):
            self.meter.count(self.bench.clock.monotonic())
            self.outcomes.tell(entry.id, outcome or Outcome(settlement.state.value))

    async def _commit(self, settlement: Settlement) -> tuple[Accepted, ...]:
        """Store the settlement; while the store cannot take it, keep it and try again: an effect must not be forgotten."""
        while True:
            try:
                return await self.bench.store.settle(settlement)
            except StoreBusy as error:
                self.bench.log(
                    "error", "store.cannot_settle", route=self.spec.name, seq=settlement.seq, error=str(error)
                )
                await self.bench.clock.sleep(1.0)
