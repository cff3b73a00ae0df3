"""What becomes of an attempt, by what came of its steps."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from esb.endpoints.base import Outcome
from esb.errors import MessageError, StoreError
from esb.failpoints import hit
from esb.message import Message, State
from esb.pipeline import StepFailed, Withdrawn, run_block
from esb.runtime.endings import completed, expires_at
from esb.runtime.lanes import Entry
from esb.runtime.rules import ON_ERROR, alert_of, cause_of, fallback_of, reply_of
from esb.runtime.run import MessageRun
from esb.runtime.sagas import undoings
from esb.runtime.sending import shown
from esb.runtime.settle import GiveUp, RetryAt, decide, handler_for, record
from esb.runtime.standins import stand_in
from esb.runtime.streams import born
from esb.runtime.targets import CircuitOpen
from esb.runtime.verdicts import Verdict, Verdicts
from esb.runtime.waits import suspended
from esb.steps.base import Stop, Wait
from esb.store.base import Settlement

if TYPE_CHECKING:
    from esb.runtime.runner import RouteRunner

#: Seconds before a message that the store could not begin is tried again.
AFTER_TROUBLE = timedelta(seconds=1)


def forget_frames(error: BaseException | None) -> None:
    """Let go of the frames that an error and its causes came through: some of them know the error, and all of the attempt."""
    while error is not None and error.__traceback__ is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


class Judge:
    """Judges the attempts of one route."""

    def __init__(self, runner: RouteRunner, verdicts: Verdicts) -> None:
        self._runner = runner
        self._verdicts = verdicts

    async def judged(self, entry: Entry, run: MessageRun, work: Coroutine[Any, Any, Message | Stop]) -> Verdict | None:
        """How an attempt ended, by what came of its steps; None where the store knows its end already."""
        spec, bench, now = run.spec, run.bench, self._runner.bench.clock.now()
        try:
            try:
                return await self._complete(entry, run, await work)
            except StepFailed as failure:
                try:
                    return await self._failed(entry, run, failure)
                finally:
                    forget_frames(failure)
                    forget_frames(failure.error)
            except MessageError as error:
                return await self._bury(entry, run, error, error.error_class)
        except Wait as wait:
            return self._verdicts.again(entry, suspended(entry, run, wait))
        except Withdrawn:
            self._withdraw(entry)
            return None
        except asyncio.CancelledError:
            self._verdicts.add(self.give_back(entry, run))
            raise
        except StoreError as error:
            bench.log("warning", "store.trouble", route=spec.name, message=entry.id, error=str(error))
            return self.give_back(entry, run)
        except Exception as error:  # noqa: BLE001 - the worker loop: a fault of our own must not park the lane for ever
            self._runner.fault(error)
            return self._verdicts.dead(entry, f"the bus broke on this message: {type(error).__name__}: {error}", now)

    # -- how attempts end ---------------------------------------------------------------------------------------------
    async def _complete(self, entry: Entry, run: MessageRun, result: Message | Stop) -> Verdict:
        now = self._runner.bench.clock.now()
        return completed(entry, run, result, await born(run.handoffs, run, now) if run.handoffs else (), now)

    async def _failed(self, entry: Entry, run: MessageRun, failure: StepFailed) -> Verdict:
        error, now = failure.error, self._runner.bench.clock.now()
        if error.gave_up:
            return await self._bury(entry, run, error, error.gave_up, step=failure.node.id, message=failure.message)
        decision = decide(
            error,
            policy=failure.node.retry or run.spec.retry,
            attempt=entry.attempts,
            accepted_at=entry.accepted_at,
            now=now,
            counts=not isinstance(error, CircuitOpen),
            chance=self._runner.bench.chance,
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
        self._runner.bench.log(
            "info",
            "message.retry",
            route=run.spec.name,
            message=entry.id,
            correlation=run.envelope.correlation_id,
            step=failure.node.id,
            attempt=entry.attempts,
            due=decision.due,
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
            await stand_in(run, handler, steps, error, error_class)
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
        now = self._runner.bench.clock.now()
        alert = (handler.alert if handler is not None else "") or run.spec.alert
        # what the failed steps handed off is not born: a retry hands it off again; what `on_error` handed off is
        handoffs = [handoff for handoff in run.handoffs[:mark] if handoff.even_if_dead] + run.handoffs[mark:]
        handoffs += undoings(run, error, error_class)
        handoffs += [alert_of(alert, run.envelope, what, now, run.bench.observer.marked, run.trace)] if alert else []
        children = await born(handoffs, run, now)
        response = reply_of(handler)
        if response is not None:  # for the repeat of a synchronous call
            run.trace.append({"step": ON_ERROR, "response": shown(*response)})
        settlement = Settlement(
            entry.seq,
            State.DEAD,
            entry.attempts,
            now,
            error=what,
            trace=run.trace,
            ledger=run.fresh,
            children=[birth.new for birth in children],
            hold_lane=self._runner.blocks(entry) and error.holds_lane,
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
        outcome = Outcome("dead", error=what.as_dict(), response=response)
        return Verdict(entry, settlement, children, outcome)

    def unread(self, entry: Entry, error: StoreError | ValueError) -> Verdict | None:
        """The store gave no message: it is asked again, unless the message is gone or what stands there makes no sense."""
        self._runner.bench.log(
            "warning", "store.unread", route=self._runner.spec.name, message=entry.id, error=str(error)
        )
        if isinstance(error, ValueError):
            return self._verdicts.dead(entry, f"what is stored cannot be read: {error}", self._runner.bench.clock.now())
        self._runner.lanes.park(entry, self._runner.bench.clock.now() + AFTER_TROUBLE)
        with contextlib.suppress(StoreError):
            if self._runner.bench.store.get(entry.id, trace=False) is None:
                self._runner.lanes.finish(entry)
        return None

    def _withdraw(self, entry: Entry) -> None:
        """The store has given the message another end already; only the lane must hear of it."""
        self._runner.lanes.finish(entry)
        stored = self._runner.bench.store.get(entry.id, trace=False)
        if stored is not None and stored.finished_at is None:
            found = self._runner.bench.store.pending(self._runner.spec.name, after_seq=entry.seq - 1, limit=1)
            # held: it runs when its lane is released
            self._runner.adopt([row for row in found if row.seq == entry.seq])
            return
        self._runner.outcomes.tell(entry.id, Outcome(stored.state.value if stored is not None else "discarded"))

    def give_back(self, entry: Entry, run: MessageRun) -> Verdict:
        """The attempt was interrupted: the message is queued again and this attempt does not count."""
        entry.attempts -= 1
        settlement = Settlement(
            entry.seq, State.QUEUED, entry.attempts, self._runner.bench.clock.now(), trace=run.trace, ledger=run.fresh
        )
        return self._verdicts.again(entry, settlement)


__all__ = ["AFTER_TROUBLE", "Judge"]
