"""One attempt of one message: the context that steps see, its trace, its ledger and what will be born of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from msgspec import Struct

from esb.clock import Clock, Deadlines
from esb.config.model import RouteSpec
from esb.durations import Rate, millis
from esb.errors import BadRow, MessageError, StoreError
from esb.failpoints import pause as failpoint
from esb.message import Envelope, Message
from esb.pipeline import Elsewhere, Watch, Withdrawn, run_block
from esb.registry import Registry
from esb.runtime import sending
from esb.runtime.answers import question
from esb.runtime.arrivals import found_by
from esb.runtime.aside import Aside
from esb.runtime.away import Ended, Ran
from esb.runtime.bench import Bench
from esb.runtime.births import Births
from esb.runtime.findings import track
from esb.runtime.groups import absorb, peers
from esb.runtime.hub import Hub
from esb.runtime.lanes import Entry, Lanes
from esb.runtime.large import as_it_lies, is_for, work_out
from esb.runtime.origin import claimant_of
from esb.runtime.payload import decode_body, message_of
from esb.runtime.reports import report
from esb.runtime.sagas import keep
from esb.runtime.sending import shown
from esb.runtime.sequences import Fate, in_line
from esb.runtime.stored import swallow
from esb.runtime.throttles import SHORT
from esb.runtime.verify import verified
from esb.steps.base import Answer, Block, HandOff, OnTimeout, Reply, StepNode, Target, Wait, WhenDown
from esb.steps.nested import is_in
from esb.steps.reconcile import Found
from esb.store.base import Confirmed
from esb.store.facts import Fact

#: A step that a worker does in fewer milliseconds may run on the loop again.
QUICK = 20


class Bears(Protocol):
    """Stores children of a message while it runs, with how far it is."""

    def __call__(
        self, run: MessageRun, handoffs: Sequence[HandOff], progress: Any, part: str, /
    ) -> Awaitable[None]: ...


class MessageRun(Struct, eq=False):
    """Implements :class:`esb.steps.base.Context` and :class:`esb.pipeline.Run`."""

    bench: Bench
    spec: RouteSpec
    births: Births
    entry: Entry
    envelope: Envelope
    ledger: dict[str, Any]
    lanes: Lanes
    registry: Registry
    hub: Hub
    bear: Bears
    when_down: WhenDown | None = None
    step: str = ""
    place: str = ""  #: the id of the step that runs, also where several steps share it and `step` names it after one
    timeout: float = 0.0
    trace: list[dict[str, Any]] = []
    handoffs: list[HandOff] = []
    response: tuple[int, Mapping[str, str], Any] | None = None
    #: the start on its way to the store; it is committed before an effect
    _starting: asyncio.Future[bool] | None = None
    _started: bool = False
    _waited: bool = False  #: it is a task of its own, and another message may be noted as the one at work
    watch: Watch | None = None
    unread: bool = False
    heavy: bool = False
    _before: tuple[int, Any] = (0, None)  #: hand-offs and response as they were before the step that runs
    fresh: list[Confirmed] = []  #: what this attempt added to the ledger
    _saved: int = 0
    _on_timeout: OnTimeout | None = None  #: of the step that runs
    kind: str = ""  #: of the step that runs
    peers_seen: list[int] = []  #: the numbers of the messages that `peers` gave last
    confirmed: list[str] = []  #: steps that delivered since the last `compensate`
    #: the fallback that several steps share, and the step that it runs instead of
    _shared: tuple[Block, str] | None = None
    _began: float = 0.0
    _zero: float = 0.0
    _record: dict[str, Any] = {}

    def __post_init__(self) -> None:
        self.watch = self.bench.away.watch if self.bench.away is not None else None
        self._started = self.entry.started

    def first(self) -> Message:
        """The message that the first step sees; a large payload is left for a worker to read, with the steps after it."""
        away, envelope = self.bench.away, self.envelope
        if envelope.blob is not None or (away is not None and is_for(away, envelope, self.spec, self.entry)):
            message = as_it_lies(envelope, self.spec, self.entry, self.registry, away)
            self.unread = self.heavy = away is not None
            if self.unread or message.body is not None:
                return message
        if self.entry.message is not None:
            return self.entry.message
        return message_of(envelope, decode_body(envelope, self.spec, self.registry), self.entry.attempts)

    # -- what steps may know ------------------------------------------------------------------------------------------
    @property
    def clock(self) -> Clock:
        return self.bench.clock

    @property
    def site(self) -> Mapping[str, Any]:
        return self.spec.site_values(self.bench.site)

    @property
    def timezone(self) -> str:
        return self.spec.zone_name(self.bench.timezone)

    @property
    def route(self) -> str:
        return self.spec.name

    @property
    def message_id(self) -> str:
        return self.entry.id

    @property
    def attempt(self) -> int:
        return self.entry.attempts

    @property
    def accepted_at(self) -> datetime:
        return self.entry.accepted_at

    @property
    def step_limit(self) -> float:
        return self.bench.step_limit

    @property
    def deadlines(self) -> Deadlines:
        return self.bench.deadlines

    def scope(self, message: Message) -> dict[str, Any]:
        return {
            "body": message.body,
            "headers": message.headers,
            "vars": message.vars,
            "meta": message.meta,
            "site": self.spec.site_values(self.bench.site),
        }

    def emit(self, handoff: HandOff) -> None:
        self.handoffs.append(handoff)

    async def hand_on(self, handoffs: Sequence[HandOff], progress: Any, part: str = "") -> None:
        await self.bear(self, handoffs, progress, part)

    def tracked(self, name: str, value: str, route: str) -> Any:
        return found_by(name, value, route, self)

    @property
    def aside(self) -> Aside:
        return Aside(self)

    def note(self, **facts_: Any) -> None:
        self._record.update(facts_)

    def log(self, level: str, text: str, **fields: Any) -> None:
        self.bench.log(
            level,
            "message.log",
            text=text,
            route=self.route,
            message=self.message_id,
            correlation=self.envelope.correlation_id,
            step=self.step,
            **fields,
        )

    def respond(self, status: int, headers: Mapping[str, str], body: Any) -> None:
        self.response = (status, headers, body)
        self.note(response=shown(status, headers, body))

    # -- work elsewhere -----------------------------------------------------------------------------------------------
    def undo(self) -> None:
        count, self.response = self._before
        del self.handoffs[count:]
        del self.trace[-1]

    async def elsewhere(self, block: Block, place: int, message: Message, *, single: bool = False) -> Elsewhere:
        away = self.bench.away
        assert away is not None
        value = {"ledger": self.ledger, **work_out(self.envelope if self.unread else None, message, away.limits)}
        head = {
            "place": place,
            "single": single,
            "message_id": self.message_id,
            "attempt": self.attempt,
            "accepted_at": self.accepted_at.isoformat(),
        }
        await self.may_wait()
        began = self.clock.monotonic()
        self._zero = self._zero or began
        try:
            ran = await away.steps(self.spec, block, head, value)
        except Ended as ended:
            return self._ended(ended, place, message, single, began)
        if single and self.watch is not None and ran.trace and ran.trace[-1].get("ms", QUICK) < QUICK:
            self.watch.was_quick(block.nodes[place])
        self.unread = False
        self.heavy = self.heavy and away.is_heavy(ran.size)
        self._take_over(ran, millis(began - self._zero))
        if ran.wait is not None:
            raise ran.wait
        return ran.elsewhere

    def _ended(self, ended: Ended, place: int, message: Message, single: bool, began: float) -> Elsewhere:
        """The worker did not come back. What the message had become is known for a single step only."""
        self.step = ended.step or "source"
        at = millis(began - self._zero)
        self._record, self._began = {"step": self.step, "at": at, "worker": True}, began
        self.trace.append(self._record)
        self.end(error=ended.error)
        if single:
            return Elsewhere(place, message, ended.error)
        raise ended.error

    def _take_over(self, ran: Ran, offset: float) -> None:
        """What the steps said elsewhere is said here."""
        for entry in ran.trace:
            self.step = entry["step"]
            self.trace.append({**entry, "at": round(entry["at"] + offset, 3), "worker": True})
        for level, text, step, fields in ran.logs:
            self.step = step
            self.log(level, text, **fields)
        for step, value in ran.remembered.items():
            self.remember(step, value)
        if ran.response is not None:
            status, headers, body = ran.response
            self.response = (int(status), headers, body)
        self.handoffs.extend(ran.handoffs)

    # -- the ledger ---------------------------------------------------------------------------------------------------
    def recall(self, step: str) -> Any:
        return self.ledger.get(step)

    def remember(self, step: str, value: Any, facts: Sequence[Fact] = ()) -> None:
        self.ledger[step] = value
        self.fresh.append(Confirmed(step, value, facts))

    def save_ledger(self) -> None:
        """Put what is confirmed so far on its way to the store before the next effect; the settlement repeats it."""
        for entry in self.fresh[self._saved :]:
            self.bench.store.confirm(self.entry.seq, entry).add_done_callback(swallow)
        self._saved = len(self.fresh)

    async def claim(self, key: str, window: timedelta) -> bool:
        await self.started()
        now = self.clock.now()
        space = f"step:{self.spec.name}:{self.step}"
        return await self.bench.store.claim(space, key, claimant_of(self), now + window, now)

    # -- aggregates ---------------------------------------------------------------------------------------------------
    def peers(self) -> Sequence[Message]:
        return peers(self)

    async def absorb(self, count: int, message: Message) -> bool:
        return await absorb(self, count, message)

    async def in_line(self, number: int, gap: timedelta, first: int | None) -> Fate:
        return await in_line(self, number, gap, first)

    async def differences(self, found: Sequence[Found]) -> Mapping[str, Any]:
        """Implements :class:`esb.steps.reconcile.Tracks`."""
        await self.started()
        name = self.route if self.step == "reconcile" else f"{self.route}/{self.step}"
        return await track(self.bench.store, name, found, self.clock.now())

    async def turn(self, rate: Rate) -> None:
        throttles, step = self.bench.throttles, (self.route, self.place, rate)
        now = self.clock.monotonic()
        left = throttles.turn(step, self.message_id, now) - now
        if left > SHORT:
            self.note(turn_in=f"{left:.1f} s")
            raise Wait(self.clock.now() + timedelta(seconds=left))
        if left > 0:
            await self.clock.sleep(left)
        throttles.take(step, self.message_id)

    # -- deliveries ---------------------------------------------------------------------------------------------------
    async def deliver(self, target: Target, message: Message, *, ledger: bool = True) -> Reply:
        known = sending.known(self, target, message, ledger=ledger)
        if known is not None:
            return known
        await self.started()
        self.save_ledger()
        policy = self._on_timeout or target.on_timeout
        if ledger and policy is not None and (confirmed := await verified(self, policy, message)):
            sending.keep(self, confirmed, message)
            return confirmed
        message, delivery = sending.packed(self, target, message)
        await failpoint("send.started")
        try:
            reply = await self.bench.targets.send(target, message, delivery)
        except MessageError as error:
            sending.refused(self, error)
            raise
        await failpoint("send.answered")
        return sending.answered(self, reply, message if ledger else None)

    @property
    def retried(self) -> bool:
        return self.entry.earlier > 0

    @property
    def again(self) -> bool:
        return self.entry.attempts > 1 or self.entry.earlier > 0

    async def ask(self, target: Target, message: Message, *, cache: timedelta | None = None) -> Reply:
        keyed = getattr(target.sink, "cache_key", None)
        if cache is None or keyed is None:
            return await self.deliver(target, message, ledger=False)
        key = question(target, keyed(message, self.scope(message)))
        now, answers = self.clock.monotonic(), self.bench.answers
        known = answers.get(key, now)
        if known is None:
            known = await self.deliver(target, message, ledger=False)
            answers.put(key, known, now + cache.total_seconds())
        else:
            self.note(from_cache=True)
        return known

    async def copy(self, target: Target, message: Message) -> None:
        try:
            async with asyncio.timeout(self.timeout):
                await self.deliver(target, message)
        except (Withdrawn, StoreError):
            raise
        except MessageError as error:
            self.note(failed=f"{error.error_class}: {error}")
        except TimeoutError:
            self.note(failed=f"timeout: longer than {self.timeout:g} s")
        except Exception as error:  # noqa: BLE001 - a copy never fails the message, whatever is wrong with its target
            self.note(failed=f"internal: {type(error).__name__}: {error}")

    async def report(self, reason: str, rows: Sequence[BadRow], *, whole: bool) -> str:
        await self.started()
        return await report(self.bench.store, self.hub.reporter(self.route), self.envelope, reason, rows, whole=whole)

    async def compensable(self, message: Message) -> Sequence[str]:
        return keep(self, message)

    async def within(self, block: Block, message: Message) -> Answer:
        return await run_block(block, message, self)

    async def may_wait(self) -> None:
        """Before a step that waits: the attempt goes on as a task of its own, and the store hears that it runs."""
        if not self._waited and asyncio.current_task() is None:
            await asyncio.sleep(0)  # the runner makes the task here
        self._waited = True
        self.bench.store.at_work(0)  # whatever ends this process now, it is not this message
        self._start()

    def came_back(self) -> None:
        """An answer is there: what computes next is noted as the one at work."""
        self._waited = True

    def stand_in(self, block: Block) -> None:
        self._shared = block, self.step

    def name_of(self, node: StepNode, instead_of: str = "") -> str:
        if not instead_of and self._shared is not None and is_in(node, self._shared[0]):
            instead_of = self._shared[1]
        return f"{node.id}@{instead_of}" if instead_of else node.id

    def has_started(self) -> None:
        """The store has said so."""
        self._started = True

    def on_its_own(self) -> None:
        """From here on it is a coroutine, which becomes a task before it waits."""
        self._waited = False
        self.bench.store.at_work(self.entry.seq)

    def _start(self) -> None:
        if self._starting is None and not self._started:
            entry = self.entry
            self._starting = self.bench.store.start(entry.seq, entry.attempts, self.clock.now())
            self._starting.add_done_callback(swallow)  # by itself nobody may need the answer

    def start_then(self, told: Callable[[bool | StoreError], None]) -> bool:
        """Whether the store has this attempt as begun; where it has not yet, ``told`` hears its answer, as :meth:`started`."""
        if not self._started:
            self.bench.store.start_then(self.entry.seq, self.entry.attempts, told)
        return self._started

    async def started(self) -> None:
        """An attempt is counted in the store before its first effect, so that a crash cannot repeat it for ever.

        Raises Withdrawn where the message has another end already, StoreError where the store cannot take the start.
        """
        if not self._started:
            self._start()
            assert self._starting is not None
            if not await self._starting:
                raise Withdrawn
            self._started = True

    # -- the trace ----------------------------------------------------------------------------------------------------
    def begin(self, node: StepNode) -> None:
        self.step = self.place = node.id
        self.kind, self._on_timeout = node.kind, node.on_timeout
        if self._shared is not None:
            self.step = self.name_of(node)
        self._before = (len(self.handoffs), self.response)
        if self._waited:
            self._waited = node.waits
            self.bench.store.at_work(0 if node.waits else self.entry.seq)
        self._began = now = self.bench.clock.monotonic()
        if not self._zero:
            self._zero = now
        self._record = {"step": node.id, "at": millis(now - self._zero)}
        self.trace.append(self._record)

    def end(self, note: str = "", error: MessageError | None = None) -> None:
        self._record["ms"] = millis(self.bench.clock.monotonic() - self._began)
        if note:
            self._record["note"] = note
        if error is not None:
            self._record["error"] = f"{error.error_class}: {error.message[:500]}"
