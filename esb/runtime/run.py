"""One attempt of one message: the context that steps see, its trace, its ledger and what will be born of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from esb.clock import Clock
from esb.config.model import Connector, RouteSpec
from esb.endpoints.base import Delivery
from esb.errors import MessageError, StoreError
from esb.message import EMPTY, Envelope, Message, delivery_id
from esb.pipeline import Withdrawn, facts, run_block
from esb.runtime.lanes import Entry
from esb.runtime.targets import Targets, timeout_for
from esb.steps.base import Answer, Block, HandOff, Reply, StepNode, Target, WhenDown
from esb.store.base import Confirmed, Store

#: A reply body larger than this (as text) is not kept in the ledger; a retry then sees the reply without it.
LEDGER_BODY = 256_000


class Logs(Protocol):
    def __call__(self, level: str, event: str, **fields: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Bench:
    """The tools that every attempt of a route shares."""

    clock: Clock
    store: Store
    targets: Targets
    connectors: Mapping[str, Connector]
    workspace: Path
    site: Mapping[str, Any]
    step_limit: float
    log: Logs


@dataclass(slots=True)
class MessageRun:
    """Implements :class:`esb.steps.base.Context` and :class:`esb.pipeline.Run`."""

    bench: Bench
    spec: RouteSpec
    entry: Entry
    envelope: Envelope
    ledger: dict[str, Any]
    when_down: WhenDown | None = None
    starting: asyncio.Future[bool] | None = None  #: the committed start, awaited before the first effect
    step: str = ""
    timeout: float = 0.0
    trace: list[dict[str, Any]] = field(default_factory=list)
    handoffs: list[HandOff] = field(default_factory=list)
    response: tuple[int, Mapping[str, str], Any] | None = None
    _fresh: list[Confirmed] = field(default_factory=list)
    _saved: int = 0
    _began: float = 0.0
    _zero: float = 0.0
    _record: dict[str, Any] = field(default_factory=dict)

    # -- what steps may know ------------------------------------------------------------------------------------------
    @property
    def clock(self) -> Clock:
        return self.bench.clock

    @property
    def site(self) -> Mapping[str, Any]:
        return self.bench.site

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

    def scope(self, message: Message) -> dict[str, Any]:
        return {
            "body": message.body,
            "headers": message.headers,
            "vars": message.vars,
            "meta": message.meta,
            "site": self.bench.site,
        }

    def emit(self, handoff: HandOff) -> None:
        self.handoffs.append(handoff)

    def note(self, **facts_: Any) -> None:
        self._record.update(facts_)

    def log(self, level: str, text: str, **fields: Any) -> None:
        self.bench.log(
            level, "message.log", text=text, route=self.route, message=self.message_id, step=self.step, **fields
        )

    def respond(self, status: int, headers: Mapping[str, str], body: Any) -> None:
        self.response = (status, headers, body)
        if not isinstance(body, bytes) and len(str(body)) <= LEDGER_BODY:
            self.note(response={"status": status, "headers": dict(headers), "body": body})

    # -- the ledger ---------------------------------------------------------------------------------------------------
    def recall(self, step: str) -> Any:
        return self.ledger.get(step)

    def remember(self, step: str, value: Any) -> None:
        self.ledger[step] = value
        self._fresh.append(Confirmed(step, value))

    @property
    def fresh(self) -> list[Confirmed]:
        """What this attempt added to the ledger."""
        return self._fresh

    def _save_ledger(self) -> None:
        """Put what is confirmed so far on its way to the store before the next effect; the settlement repeats it."""
        for entry in self._fresh[self._saved :]:
            self.bench.store.confirm(self.entry.seq, entry).add_done_callback(_swallow)
        self._saved = len(self._fresh)

    async def claim(self, key: str, window: timedelta) -> bool:
        await self.started()
        now = self.clock.now()
        space = f"step:{self.spec.name}:{self.step}"
        return await self.bench.store.claim(space, key, self._claimant(), now + window, now)

    def _claimant(self) -> int:
        """Whose claims these are: a replay acts for its original, whose effect it is asked to repeat."""
        seq, before = self.entry.seq, self.envelope.replay_of
        while before is not None and (stored := self.bench.store.get(before, trace=False)) is not None:
            seq, before = stored.envelope.seq, stored.envelope.replay_of
        return seq

    # -- deliveries ---------------------------------------------------------------------------------------------------
    async def deliver(self, target: Target, message: Message, *, ledger: bool = True) -> Reply:
        known = self.ledger.get(self.step) if ledger else None
        if known is not None:
            self.note(from_ledger=True, status=known.get("status"))
            return Reply(known.get("status"), known.get("headers") or EMPTY, known.get("body"))
        await self.started()
        self._save_ledger()
        delivery = self._delivery(target, message)
        self.note(target=target.name, delivery_id=delivery.id)
        try:
            reply = await self.bench.targets.send(target, message, delivery)
        except MessageError as error:
            if error.reply is not None:
                self.note(status=error.reply.get("status"), answered=facts(error.reply.get("body")))
            raise
        self.note(status=reply.status, answered=facts(reply.body))
        if ledger:
            body = reply.body if len(str(reply.body)) <= LEDGER_BODY else None
            self.remember(self.step, {"status": reply.status, "headers": dict(reply.headers), "body": body})
        return reply

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

    async def within(self, block: Block, message: Message) -> Answer:
        return await run_block(block, message, self)

    def _delivery(self, target: Target, message: Message) -> Delivery:
        return Delivery(
            id=delivery_id(self.envelope.origin, self.step),
            attempt=self.entry.attempts,
            timeout=timeout_for(target, self.timeout, self.bench.connectors),
            scope=self.scope(message),
            clock=self.clock,
            workspace=self.bench.workspace,
            message_id=self.message_id,
            correlation_id=self.envelope.correlation_id,
            key=self.entry.key,
            again=self.entry.attempts > 1 or self.entry.earlier > 0 or self.entry.crashes > 0,
        )

    async def started(self) -> None:
        """An attempt is counted in the store before its first effect, so that a crash cannot repeat it for ever."""
        if self.starting is not None:
            starting, self.starting = self.starting, None
            if not await starting:
                raise Withdrawn

    # -- the trace ----------------------------------------------------------------------------------------------------
    def begin(self, node: StepNode) -> None:
        self.step = node.id
        now = self.clock.monotonic()
        if not self._zero:
            self._zero = now
        self._began = now
        self._record = {"step": node.id, "at": round((now - self._zero) * 1000, 3)}
        self.trace.append(self._record)

    def end(self, note: str = "", error: MessageError | None = None) -> None:
        self._record["ms"] = round((self.clock.monotonic() - self._began) * 1000, 3)
        if note:
            self._record["note"] = note
        if error is not None:
            self._record["error"] = f"{error.error_class}: {error.message[:500]}"


def _swallow(future: Any) -> None:
    """A ledger entry that could not be saved early is saved by the settlement, or the delivery is repeated."""
    if not future.cancelled():
        future.exception()
