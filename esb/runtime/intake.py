"""The way into a route: decode, check, key, commit; only then the source may acknowledge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

from msgspec.structs import replace

from esb.blob import Blob
from esb.config.model import Limits, RouteSpec
from esb.endpoints.base import Incoming, KeyConflict, Outcome, Receipt
from esb.errors import Disabled, Invalid, StoreBusy, StoreError, Unavailable
from esb.formats.packed import unpacked
from esb.message import OPEN_STATES, Envelope, State
from esb.pipeline import Overtime
from esb.runtime.births import Birth
from esb.runtime.hub import Hub
from esb.runtime.large import is_large, put_aside, release_all, stays_unread
from esb.runtime.origin import with_origin
from esb.runtime.outcomes import Told, Waiting
from esb.runtime.payload import reads_apart
from esb.runtime.rules import ON_ERROR
from esb.runtime.runner import RouteRunner
from esb.runtime.targets import Targets
from esb.steps.base import Target
from esb.store.base import Accepted, AuditEntry, NewMessage, Stored

#: Messages that wait for their turn without more of them making anything quicker: what is decoded long before it runs is
#: cold by then, and many thousands would be read from the store again.
MOST_READY = 100
#: What a source shall wait before it tries again what was not taken.
PAUSE = timedelta(seconds=5)


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
        self._slow: RouteSpec | None = None  #: the version whose payloads took too long to read here
        #: of the last delivery in an order: whether it is on its way to the store, or was not taken
        self._last: asyncio.Future[bool] | None = None
        self._known: RouteSpec | None = None  #: the version that `_rejecting` was read from
        self._rejecting: list[tuple[Target, int]] = []

    @property
    def open(self) -> bool:
        return not self._refusal()

    @property
    def behind(self) -> bool:
        runner = self._runner
        return runner.lanes.ready > MOST_READY and runner.spec.order.overtake is None  # that one must be known at once

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

    def accept(self, incoming: Incoming) -> Coroutine[Any, Any, Receipt]:
        return self._accept_in_order(incoming) if incoming.in_order else self._accept(incoming)

    async def _accept_in_order(self, incoming: Incoming) -> Receipt:
        """Those in an order are read side by side, and go to the store one behind the other."""
        before, mine = self._in_turn(), asyncio.get_running_loop().create_future()
        self._last = mine
        try:
            return await self._accept(incoming, before, mine)
        except (KeyConflict, Invalid):
            _pass_on(mine, taken=True)  # that was the last word on it
            raise
        except BaseException:
            _pass_on(mine, taken=False)  # it comes again, and who waits for it must not be there before it
            raise
        finally:
            _pass_on(mine, taken=True)

    async def _accept(
        self, incoming: Incoming, before: asyncio.Future[bool] | None = None, mine: asyncio.Future[bool] | None = None
    ) -> Receipt:
        runner, incoming = self._runner, self._let_in(incoming)
        birth = self._read_here(incoming) or await self._read_away(incoming)
        spool = runner.bench.store.blobs
        blob: Blob | None = None
        if is_large(birth.new.envelope, spool):
            birth, blob = await put_aside(birth, spool)
        # a future of its own: a caller that gives up does not take the message back; it is stored, so it must run
        told: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        try:
            if before is not None:
                await asyncio.wait([before])  # which has a deadline of its own wherever it waits
                if not before.result():
                    raise StoreBusy("what came before it was not taken", hint="try again later", retry_after=PAUSE)
            birth = self._ready(birth, incoming)
            runner.direct.accept(birth, partial(self._stored, birth, told, blob))
        except BaseException:
            release_all(spool, [blob] if blob is not None else [])
            raise
        if mine is not None:
            _pass_on(mine, taken=True)
        accepted = await told
        return self._receipt(birth, accepted)

    def accept_soon(self, incoming: Incoming, told: Callable[[Receipt | Exception], None]) -> bool:
        runner = self._runner
        payload, away = len(incoming.payload), runner.bench.away
        if incoming.blob is not None or payload > runner.bench.store.blobs.above or self._slow is runner.spec:
            return False
        if away is not None and (away.is_heavy(payload) or reads_apart(runner.spec, incoming.payload)):
            return False
        if incoming.in_order and self._in_turn() is not None:
            return False
        incoming = self._let_in(incoming)
        birth = self._quick_birth(incoming)
        if birth is None:
            self._slow = runner.spec
            return False
        birth = self._ready(birth, incoming)
        runner.direct.accept(birth, partial(self._landed, birth, told))
        return True

    def _in_turn(self) -> asyncio.Future[bool] | None:
        """The last one in an order, while it is not on its way to the store."""
        return self._last if self._last is not None and not self._last.done() else None

    def _let_in(self, incoming: Incoming) -> Incoming:
        """The delivery with where it began. Raises StoreBusy or Unavailable where nothing is taken now."""
        if refusal := self._refusal():
            raise StoreBusy(refusal, hint="try again later", retry_after=PAUSE)
        spec = self._runner.spec
        if spec is not self._known or self._rejecting:
            self._reject_when_down(spec)
        return with_origin(spec, incoming) if spec.system else incoming

    def _ready(self, birth: Birth, incoming: Incoming) -> Birth:
        """The birth as it goes to the store: with who sent it by hand, with the alert of one that is refused, and worked off
        where that can be done ahead."""
        runner = self._runner
        if birth.new.error is not None:
            birth = runner.births.with_alert(birth, runner.spec, runner.bench.clock.now(), self._hub.receivers)
        return runner.ahead.work(birth if incoming.by is None else sent_by_hand(birth, *incoming.by))

    def _receipt(self, birth: Birth, accepted: Accepted) -> Receipt:
        """What the source is told. Raises KeyConflict."""
        envelope, reused = birth.new.envelope, accepted.first_id or ""
        if accepted.conflict:
            raise KeyConflict(accepted.first_id or accepted.id)
        if accepted.known:
            first = self._runner.bench.store.get(accepted.id, trace=False)
            correlation = first.envelope.correlation_id if first is not None else envelope.correlation_id
            return Receipt(accepted.id, correlation, "known", accepted.first_id)
        if accepted.state is State.DUPLICATE:
            return Receipt(accepted.id, envelope.correlation_id, "duplicate", accepted.first_id)
        if accepted.state is State.DEAD:
            return Receipt(accepted.id, envelope.correlation_id, "dead", error=birth.new.error, reused=reused)
        outcome = birth.ended.outcome if birth.ended is not None and accepted.state is State.DONE else None
        return Receipt(accepted.id, envelope.correlation_id, "queued", seq=accepted.seq, outcome=outcome, reused=reused)

    def _read_here(self, incoming: Incoming) -> Birth | None:
        """Read the payload and apply the route's rules to it; None where that is not quick enough for the loop."""
        runner = self._runner
        spec, births, away, now = runner.spec, runner.births, runner.bench.away, runner.bench.clock.now()
        try:
            if stays_unread(spec, incoming, runner.registry, self.limits):
                return births.of_unseen(spec, incoming, now)
        except Invalid as error:
            return births.of_refused(spec, incoming, now, error)
        if away is None:
            return births.of_incoming(spec, incoming, now)
        if incoming.blob is None and not (away.is_heavy(len(incoming.payload)) or reads_apart(spec, incoming.payload)):
            return self._quick_birth(incoming)
        return None

    async def _read_away(self, incoming: Incoming) -> Birth:
        """The same in a worker process."""
        runner = self._runner
        spec, births, away, now = runner.spec, runner.births, runner.bench.away, runner.bench.clock.now()
        assert away is not None
        try:
            found = await away.admit(spec, incoming, now)
        except Invalid as error:
            return births.of_refused(spec, incoming, now, error)
        return births.of_unread(spec, incoming, now, found)

    def _quick_birth(self, incoming: Incoming) -> Birth | None:
        """A small payload is read here; None where that takes too long."""
        runner = self._runner
        spec, births, away, now = runner.spec, runner.births, runner.bench.away, runner.bench.clock.now()
        if away is None:
            return births.of_incoming(spec, incoming, now)
        try:
            away.watch.arm()
            try:
                return births.of_incoming(spec, incoming, now)
            finally:
                away.watch.disarm()
        except Overtime:
            return None

    async def once_more(self, envelope: Envelope) -> NewMessage:
        """A message that was refused at the door, as the route would take it now; dead again where it still would not."""
        runner, away = self._runner, self._runner.bench.away
        if (late := runner.births.too_old(runner.spec, envelope, runner.bench.clock.now())) is not None:
            return late.new
        if away is None or envelope.content != "source" or (envelope.blob is None and not away.is_heavy(envelope.size)):
            with suppress(Overtime):
                return runner.births.once_more(runner.spec, envelope).new
        incoming = Incoming(
            envelope.body,
            getattr(runner.spec.source.options, "format", None),
            headers=envelope.headers,
            meta=envelope.meta,
            contract=getattr(runner.spec.source.options, "contract", None),
            correlation_id=envelope.correlation_id,
            blob=envelope.blob,
        )
        new = (self._read_here(incoming) or await self._read_away(incoming)).new
        found = new.envelope
        return replace(
            new, envelope=replace(envelope, key=found.key, track=found.track, overtakes=found.overtakes), facts=()
        )

    async def outcome(self, message_id: str, timeout: float, seq: int = 0) -> Outcome | None:
        future: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()
        waiting = self._expect(message_id, timeout, seq, partial(_set, future))
        try:
            return await future
        finally:
            if waiting is not None:
                waiting.give_up()

    def outcome_then(self, message_id: str, timeout: float, seq: int, told: Told) -> None:
        self._expect(message_id, timeout, seq, told)

    def _expect(self, message_id: str, timeout: float, seq: int, told: Told) -> Waiting | None:
        """Have ``told`` hear of the end, never before this returns; None where it is on its way already."""
        runner = self._runner
        if not seq or runner.lanes.get(seq) is None:
            known = runner.outcomes.recent(message_id)
            if known is None:
                stored = runner.bench.store.get(message_id)
                known = outcome_of(stored) if stored is not None and stored.finished_at is not None else None
            if known is not None:
                asyncio.get_running_loop().call_soon(told, known)
                return None
        return runner.outcomes.expect(message_id, timeout, told)

    def _stored(
        self, birth: Birth, told: asyncio.Future[Accepted], blob: Blob | None, accepted: Accepted | StoreError
    ) -> None:
        """The commit is through: the message goes to its lane, whether or not somebody waits for the receipt."""
        if blob is not None:
            self._runner.bench.store.blobs.release(blob)
        if isinstance(accepted, StoreError):
            if not told.done():
                told.set_exception(accepted)
            return
        if not told.done():
            told.set_result(accepted)
        self._take_up(birth, accepted)

    def _landed(
        self, birth: Birth, told: Callable[[Receipt | Exception], None], accepted: Accepted | StoreError
    ) -> None:
        """The same for a delivery that no task waits for."""
        if isinstance(accepted, StoreError):
            told(accepted)
            return
        if birth.ended is not None and accepted.state is State.DONE and not accepted.known:
            self._hub.arrived(birth, accepted)
        else:
            self._take_up(birth, accepted)
        try:
            receipt: Receipt | Exception = self._receipt(birth, accepted)
        except (KeyConflict, StoreError) as error:
            receipt = error
        told(receipt)

    def _take_up(self, birth: Birth, accepted: Accepted) -> None:
        if accepted.known:
            self._find_again(accepted)
        elif accepted.state is State.DEAD:
            self._buried(birth, accepted)
        elif accepted.state is not State.DUPLICATE:
            self._hub.arrived(birth, accepted)

    def _find_again(self, accepted: Accepted) -> None:
        """A message that was stored although its commit reported an error is open, and nobody works on it."""
        runner = self._runner
        if accepted.state in OPEN_STATES and runner.lanes.get(accepted.seq) is None:
            found = runner.bench.store.pending(runner.spec.name, after_seq=accepted.seq - 1, limit=1)
            runner.adopt([row for row in found if row.seq == accepted.seq])

    def _buried(self, birth: Birth, accepted: Accepted) -> None:
        spec, error = self._runner.spec, birth.new.error
        for alert, one in zip(birth.beside, accepted.children, strict=False):
            self._hub.arrived(alert, one)
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

    def _reject_when_down(self, spec: RouteSpec) -> None:
        """``when_down: { reject: 503 }``: while the target's circuit is open the caller is told so at once."""
        if spec is not self._known:
            self._known, self._rejecting = spec, rejecting_targets(spec)
        for target, status in self._rejecting:
            if self._targets.is_down(target):
                error = Unavailable(f"{target.name} is down", hint="try again later", retry_after=timedelta(seconds=30))
                error.reply = {"status": status}
                raise error


def _pass_on(turn: asyncio.Future[bool], *, taken: bool) -> None:
    if not turn.done():
        turn.set_result(taken)


def _set(future: asyncio.Future[Outcome | None], outcome: Outcome | None) -> None:
    if not future.done():
        future.set_result(outcome)


def send_incoming(spec: RouteSpec, payload: bytes, headers: Mapping[str, str], by: tuple[str, str]) -> Incoming:
    """What ``esb send`` hands to a route: the payload under the source's own format and contract. Raises Disabled."""
    if not spec.enabled:
        raise Disabled(
            f"route {spec.name} takes nothing in: its file says `enabled: false`",
            hint=f"set `enabled: true` in {spec.position.path}, or try the route with `esb test`",
        )
    source = spec.source.options
    return Incoming(
        payload=payload,
        codec=getattr(source, "format", None),
        content_type=headers.get("content-type", ""),
        headers={name: value for name, value in headers.items() if name != "content-type"},
        meta={"source": {"type": "send"}},
        contract=getattr(source, "contract", None),
        correlation_id=headers.get("x-correlation-id", ""),
        on_invalid="refuse",
        by=by,
    )


def sent_by_hand(birth: Birth, actor: str, reason: str) -> Birth:
    """The same birth with its audit entry."""
    envelope = birth.new.envelope
    entry = AuditEntry(actor, "send", envelope.id, reason, {"route": envelope.route, "key": envelope.key})
    return replace(birth, new=replace(birth.new, by=entry))


def outcome_of(stored: Stored) -> Outcome:
    """How a stored message ended, with the answer that its caller had: of `respond` where it is done, of `on_error` where it is dead."""
    error = stored.error.as_dict() if stored.error else None
    last = stored.trace[-1].get("attempt") if stored.trace else None
    answers = [entry for entry in stored.trace if "response" in entry and entry.get("attempt") == last]
    if stored.state is State.DEAD:  # what a step before the fault would have answered was never said
        answers = [entry for entry in answers if entry["step"] == ON_ERROR]
    if not answers or stored.state not in (State.DONE, State.DEAD):
        return Outcome(stored.state.value, error=error)
    told = answers[-1]["response"]
    if "left_out" in told:
        return Outcome(stored.state.value, error=error, left_out=int(told["status"]))
    return Outcome(
        stored.state.value, error=error, response=(int(told["status"]), told["headers"], unpacked(told["body"]))
    )


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
