"""The way into a route: decode, check, key, commit; only then the source may acknowledge."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Protocol

from esb.config.model import Limits, RouteSpec
from esb.endpoints.base import Incoming, KeyConflict, Outcome, Receipt
from esb.errors import StoreBusy, Unavailable
from esb.message import OPEN_STATES, State
from esb.runtime.births import Birth
from esb.runtime.runner import Hub, RouteRunner
from esb.runtime.settle import handler_for
from esb.runtime.targets import Targets
from esb.steps.base import Target
from esb.store.base import Accepted, Stored


class Gate(Protocol):
    """Says whether the bus as a whole takes messages now."""

    @property
    def closed(self) -> str:
        """Why nothing is taken (draining, disk short), empty while the gate is open."""
        ...


class RouteIntake:
    """Implements :class:`esb.endpoints.base.Intake` for one route; survives its reloads."""

    def __init__(self, runner: RouteRunner, limits: Limits, gate: Gate, hub: Hub, targets: Targets) -> None:
        self._runner = runner
        self.limits = limits
        self._gate = gate
        self._hub = hub
        self._targets = targets

    @property
    def open(self) -> bool:
        return not self._refusal()

    def _refusal(self) -> str:
        runner = self._runner
        if self._gate.closed:
            return self._gate.closed
        if runner.paused:
            return f"route {runner.spec.name} is paused"
        if len(runner.lanes) >= self.limits.queue:
            return f"the queue of {runner.spec.name} is full ({self.limits.queue} messages)"
        if runner.lanes.bytes >= self.limits.queue_bytes:
            return f"the queue of {runner.spec.name} is full ({self.limits.queue_bytes} bytes)"
        return ""

    async def accept(self, incoming: Incoming) -> Receipt:
        if refusal := self._refusal():
            raise StoreBusy(refusal, hint="try again later", retry_after=timedelta(seconds=5))
        runner = self._runner
        self._reject_when_down(runner.spec)
        birth = runner.births.of_incoming(runner.spec, incoming, runner.bench.clock.now())
        storing = runner.bench.store.accept(birth.new)
        storing.add_done_callback(lambda done: self._stored(birth, done))
        # a caller that gives up does not take the message back: it is stored, so it must run
        accepted = await asyncio.shield(storing)
        envelope = birth.new.envelope
        if accepted.conflict:
            raise KeyConflict(accepted.first_id or accepted.id)
        if accepted.known:
            first = runner.bench.store.get(accepted.id, trace=False)
            correlation = first.envelope.correlation_id if first is not None else envelope.correlation_id
            return Receipt(accepted.id, correlation, "known", accepted.first_id)
        if accepted.state is State.DUPLICATE:
            return Receipt(accepted.id, envelope.correlation_id, "duplicate", accepted.first_id)
        if accepted.state is State.DEAD:
            return Receipt(accepted.id, envelope.correlation_id, "dead", error=birth.new.error)
        return Receipt(accepted.id, envelope.correlation_id, "queued")

    async def outcome(self, message_id: str, timeout: float) -> Outcome | None:
        runner = self._runner
        recent = runner.outcomes.recent(message_id)
        if recent is not None:
            return recent
        stored = runner.bench.store.get(message_id)
        if stored is not None and stored.finished_at is not None:
            return outcome_of(stored)
        future = runner.outcomes.expect(message_id)
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            return None
        finally:
            runner.outcomes.forget(message_id, future)

    def _stored(self, birth: Birth, done: asyncio.Future[Accepted]) -> None:
        """The commit is through: the message goes to its lane, whether or not somebody waits for the receipt."""
        if done.cancelled() or done.exception() is not None:
            return
        accepted = done.result()
        if accepted.known:
            self._find_again(accepted)
            return
        if accepted.state is State.DEAD:
            self._buried(birth)
        elif accepted.state is not State.DUPLICATE:
            self._hub.arrived(birth, accepted)

    def _find_again(self, accepted: Accepted) -> None:
        """A message that was stored although its commit reported an error is open, and nobody works on it."""
        runner = self._runner
        if accepted.state in OPEN_STATES and runner.lanes.get(accepted.seq) is None:
            found = runner.bench.store.pending(runner.spec.name, after_seq=accepted.seq - 1, limit=1)
            runner.adopt([row for row in found if row.seq == accepted.seq])

    def _buried(self, birth: Birth) -> None:
        spec, error = self._runner.spec, birth.new.error
        if error is None:
            return
        self._runner.bench.log(
            "warning",
            "message.dead",
            route=spec.name,
            message=birth.new.envelope.id,
            step="source",
            error=f"{error.error_class}: {error.message}",
        )
        handler = handler_for(spec.on_error, error.error_class, error.error_class)
        alert = (handler.alert if handler is not None else "") or spec.alert
        if alert:
            self._hub.alert(alert, birth.new.envelope, error)

    def _reject_when_down(self, spec: RouteSpec) -> None:
        """``when_down: { reject: 503 }``: while the target's circuit is open the caller is told so at once."""
        for target, status in rejecting_targets(spec):
            if self._targets.is_down(target):
                error = Unavailable(f"{target.name} is down", hint="try again later", retry_after=timedelta(seconds=30))
                error.reply = {"status": status}
                raise error


def outcome_of(stored: Stored) -> Outcome:
    """How a stored message ended, with the answer that its ``respond`` step gave."""
    error = stored.error.as_dict() if stored.error else None
    response = next((entry["response"] for entry in reversed(stored.trace) if "response" in entry), None)
    if response is None:
        return Outcome(stored.state.value, error=error)
    answer = (int(response["status"]), response["headers"], response["body"])
    return Outcome(stored.state.value, error=error, response=answer)


def rejecting_targets(spec: RouteSpec) -> list[tuple[Target, int]]:
    """The targets of a route whose outage refuses new messages, with the status to answer."""
    found: list[tuple[Target, int]] = []
    for block in (spec.steps, *spec.blocks.values()):
        for node in block.nodes:
            policy = node.when_down or spec.when_down
            target = getattr(node.step, "target", None)
            if isinstance(target, Target) and policy.mode == "reject":
                found.append((target, policy.status))
    return found
