"""The systems around a route under test: what they answer, what they took, when they are down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from esb.clock import Clock
from esb.config.stubs import Stub
from esb.endpoints._http.answers import Answer
from esb.endpoints._http.client import Call, LiveHttp, Progress
from esb.endpoints._http.media import JSON, read_reply
from esb.endpoints.base import ConnectionContext, Delivery
from esb.endpoints.http import HttpConnection, HttpSink
from esb.endpoints.http_login import OutboundAuth
from esb.errors import InternalFault, Invalid, MessageError, Rejected, Timeout, Unavailable
from esb.formats.unread import Unread
from esb.message import Message
from esb.runtime.targets import Port, Targets
from esb.steps.base import Reply, Target
from esb.testing.effects import Effects, effects_of
from esb.testing.model import Faults, Outage, Slow

_FAILURES: Mapping[str, type[MessageError]] = {
    kind.error_class: kind for kind in (Unavailable, Timeout, Rejected, Invalid)
}


class Ticking(Clock, Protocol):
    """A clock whose seconds can be read at any time."""

    @property
    def seconds(self) -> float: ...


@dataclass(slots=True)
class Asked:
    """One time that a target was asked: what it was sent, and what it said (empty while it has not answered)."""

    to: str
    id: str
    body: Any
    headers: Mapping[str, str]
    at: float
    method: str = ""
    path: str = ""
    taken: bool = False
    said: str = ""
    effects: Effects = field(default_factory=Effects)


@dataclass(slots=True)
class Systems:
    """What all targets of a case share; it outlives a bus that is killed."""

    clock: Ticking
    root: Path
    stubs: Mapping[str, list[Stub]]
    faults: Faults = field(default_factory=Faults)
    began: float = 0.0
    calls: list[Asked] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)  #: targets without an answer, with the reason
    _given: dict[int, int] = field(default_factory=dict)
    killed: bool = False
    broken_off: set[tuple[str, str]] = field(default_factory=set)

    # -- faults -------------------------------------------------------------------------------------------------------
    def is_down(self, name: str) -> bool:
        return any(_names(outage, name) and self._lasts(outage) for outage in self.faults.outage)

    def _lasts(self, outage: Outage) -> bool:
        since = self.clock.seconds - self.began - outage.at.total_seconds()
        return since >= 0 and (outage.for_ is None or since < outage.for_.total_seconds())

    def slowness(self, name: str, stub: Stub) -> float:
        own = stub.slow.total_seconds() if stub.slow is not None else 0.0
        return max([own, *(slow.by.total_seconds() for slow in self.faults.slow if _names(slow, name))])

    def kills(self, name: str) -> bool:
        """Whether the process dies now, and never again."""
        due = not self.killed and self.faults.kill_after.rpartition(":")[2] == name
        self.killed = self.killed or due
        return due

    def lies(self, name: str) -> bool:
        return name in self.faults.lying

    def breaks_off(self, name: str, delivery: str) -> bool:
        """Whether the answer to this delivery gets lost: the first time it does."""
        due = name in self.faults.partial_update and (name, delivery) not in self.broken_off
        if due:
            self.broken_off.add((name, delivery))
        return due

    # -- answers ------------------------------------------------------------------------------------------------------
    def stub_for(self, name: str, scope: Mapping[str, Any]) -> Stub:
        """The first answer that fits and is not used up. Raises InternalFault where there is none."""
        stubs = self.stubs.get(name, [])
        for stub in stubs:
            if stub.times is not None and self._given.get(id(stub), 0) >= stub.times:
                continue
            if stub.when is not None and not stub.when.truth(scope):
                continue
            self._given[id(stub)] = self._given.get(id(stub), 0) + 1
            return stub
        if stubs:
            words = f"none of the {len(stubs)} answers under `{name}` is left or fits"
        else:
            words = f"`{name}` was asked and has no answer: write `stubs: {{ {name}: {{ status: 200 }} }}`"
        self.unknown[name] = words
        raise InternalFault(words)

    def content(self, stub: Stub) -> tuple[bytes, str]:
        """Body and content type of an answer."""
        if stub.file is not None:
            kind = {".json": "application/json", ".xml": "application/xml"}.get(Path(stub.file).suffix, "text/plain")
            return (self.root / stub.file).read_bytes(), kind
        if stub.body is not None:
            return stub.body.encode(), "text/plain; charset=utf-8"
        return (JSON.encode(stub.json), "application/json") if stub.json is not None else (b"", "")


def _names(fault: Outage | Slow, name: str) -> bool:
    return fault.target in (name, name.partition(".")[0])


class StubbedTargets(Targets):
    """Targets with a circuit, a rate and a concurrency as they are, and an answer of the test instead of a connection."""

    systems: Systems
    kill: Callable[[], None]
    dead = False

    async def connection(self, name: str) -> Any:
        return None

    def ready(self, target: Target) -> Port | None:
        """Every delivery comes past :meth:`_deliver`."""
        del target
        return None

    async def _deliver(self, port: Port, target: Target, message: Message, delivery: Delivery) -> Reply:
        if self.dead:
            await asyncio.Future()  # the process is gone: nothing of it reaches anybody
        if isinstance(target.sink, HttpSink):
            reply, asked = await self._over_http(port, target, target.sink, message, delivery)
        else:
            reply, asked = await self._otherwise(target, message, delivery)
        if self.systems.lies(target.name):
            asked.said = "said yes and took nothing (lying, of the test)"
            return reply
        asked.taken = True
        if self.systems.breaks_off(target.name, delivery.id):
            asked.said = "took it and broke off (partial_update, of the test)"
            raise Timeout(f"{target.name}: broke off after it had taken the message")
        if self.systems.kills(target.name):
            self.dead = True
            self.kill()
            await asyncio.Future()
        return reply

    async def _over_http(
        self, port: Port, target: Target, sink: HttpSink, message: Message, delivery: Delivery
    ) -> tuple[Reply, Asked]:
        settings = sink.own_connection() or port.options
        context = ConnectionContext(port.name, self.systems.clock, self.systems.root, _silent)
        live = _StubbedHttp(settings, context, self.systems, target, delivery)
        outer: Any = _WithoutAddress(live) if sink.own_connection() is not None else live
        try:
            reply = await sink.send(message, delivery, outer)
        except MessageError as error:
            _answered(live.asked, f"{error.error_class}: {error.message}")
            raise
        assert live.asked is not None
        return reply, live.asked

    async def _otherwise(self, target: Target, message: Message, delivery: Delivery) -> tuple[Reply, Asked]:
        systems = self.systems
        body = message.body.whole() if isinstance(message.body, Unread) else message.body
        asked = Asked(target.name, delivery.id, body, message.headers, systems.clock.seconds)
        systems.calls.append(asked)
        try:
            asked.effects = effects_of(target.sink, message, delivery)
            stub = await answer_of(systems, target.name, _scope(asked, delivery), delivery.timeout)
        except MessageError as error:
            _answered(asked, f"{error.error_class}: {error.message}")
            raise
        content, kind = systems.content(stub)
        return Reply(stub.status, stub.headers, read_reply(kind, content) if content else None), asked


async def answer_of(systems: Systems, name: str, scope: Mapping[str, Any], timeout: float) -> Stub:
    """The answer of a target after the time that it takes. Raises what a target that fails raises."""
    if systems.is_down(name):
        raise Unavailable(f"{name}: no connection (outage of the test)")
    stub = systems.stub_for(name, scope)
    takes = systems.slowness(name, stub)
    if stub.fail == "timeout" or takes > timeout:
        await systems.clock.sleep(timeout)
        raise Timeout(f"{name}: {stub.message or f'the answer did not come within {timeout:g}s'}")
    if takes:
        await systems.clock.sleep(takes)
    if stub.fail is not None:
        raise _FAILURES[stub.fail](f"{name}: {stub.message or f'stubbed as {stub.fail}'}")
    return stub


class _StubbedHttp(LiveHttp):
    """The HTTP connection of one delivery: requests are built and answers judged as ever, between them stands the test."""

    def __init__(
        self, settings: HttpConnection, context: ConnectionContext, systems: Systems, target: Target, delivery: Delivery
    ) -> None:
        super().__init__(settings, context, None)  # type: ignore[arg-type]  # there is no session: nothing leaves
        self._systems, self._target, self._delivery = systems, target, delivery
        self.asked: Asked | None = None

    async def close(self) -> None:
        return None

    async def exchange(self, call: Call, auth: OutboundAuth | None, progress: Progress) -> Answer:
        sink = self._target.sink
        if sink.etag is not None and call.method == "GET" and not self._systems.is_down(self._target.name):
            return Answer(200, {"etag": '"of-the-test"'}, b"")
        progress.sent = True
        systems, name = self._systems, self._target.name
        content_type = next((v for k, v in call.headers.items() if k.lower() == "content-type"), "")
        body = read_reply(content_type, call.body) if call.body is not None else None
        headers = {key.lower(): value for key, value in {**self.settings.headers, **call.headers}.items()}
        self.asked = asked = Asked(
            name, self._delivery.id, body, headers, systems.clock.seconds, call.method, call.path
        )
        systems.calls.append(asked)
        stub = await answer_of(systems, name, _scope(asked, self._delivery), self._delivery.timeout)
        content, kind = systems.content(stub)
        headers = {"content-type": kind} | {key.lower(): value for key, value in stub.headers.items()}
        status = stub.status if stub.status is not None else 200
        asked.said = str(status)
        return Answer(status, headers, content)


class _WithoutAddress:
    """What an endpoint with an address of its own asks for its connection."""

    def __init__(self, live: _StubbedHttp) -> None:
        self._live = live

    async def to(self, own: HttpConnection) -> _StubbedHttp:
        return self._live


def _answered(call: Asked | None, words: str) -> None:
    if call is not None:
        call.said = words


def _scope(call: Asked, delivery: Delivery) -> dict[str, Any]:
    return {**delivery.scope, "body": call.body, "headers": call.headers}


def _silent(*_: object, **__: object) -> None:
    return None


__all__ = ["Asked", "StubbedTargets", "Systems"]
