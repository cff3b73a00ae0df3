"""Stored messages through a version of a route, on the real bus, with what targets said then instead of targets.

Nothing is sent, nothing is stored, and time is that of the message's acceptance. Each message is tried by itself: neither its key
nor its dedupe key stands in the way of another, and they are reported instead.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

from msgspec import structs

from esb.config.model import RouteSpec, Workspace
from esb.config.stubs import Stub
from esb.endpoints.base import Incoming
from esb.errors import ErrorRecord, EsbError, MessageError
from esb.formats.json import Json
from esb.formats.packed import KEPT
from esb.message import Envelope, State
from esb.runtime.births import Birth, Births
from esb.store.base import Filter, Stored
from esb.testing.bus import NeverEnds, TestedBus, empty_store
from esb.testing.clock import VirtualClock, VirtualLoop
from esb.testing.run import scratch_folder
from esb.testing.targets import Asked, Systems

JSON = Json()
_FAILS = ("unavailable", "timeout", "rejected", "invalid")
#: Headers of an answer that mean something to a route.
_KEPT = ("retry-after", "location", "etag")
#: Messages that may come of one that is tried, as far as they are looked at.
MOST_CHILDREN = 2_000


#: Headers that may show who we are; their values are for the target alone.
_SHOWS_WHO = re.compile(r"auth|token|cookie|secret|passw|signature|(?<!idempotency-)key", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Trial:
    """A stored message, and by target what was answered when it ran."""

    envelope: Envelope
    state: str
    replies: Mapping[str, Sequence[Mapping[str, Any]]]

    @classmethod
    def of(cls, item: Mapping[str, Any], *, failures: bool = True) -> Trial:
        """From an item of ``/api/v1/routes/{name}/traffic``; without ``failures`` only what targets took is known."""
        replies = {
            target: [reply for reply in said if failures or not reply.get("error")]
            for target, said in item["replies"].items()
        }
        envelope = Envelope(
            id=item["id"],
            route=item["route"],
            body=base64.b64decode(item["body_base64"]),
            content=item["content"],
            accepted_at=datetime.fromisoformat(item["accepted_at"]),
            scope=item["scope"],
            key=item["key"],
            origin=item["origin"],
            correlation_id=item["correlation_id"],
            parent_id=item["parent_id"],
            headers=item["headers"],
            vars=item["vars"],
            meta=item["meta"],
            track=item["track"],
            seq=int(item["seq"]),
        )
        return cls(envelope, item["state"], replies)


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What came of a trial. ``sent`` is what each target would get, in order; ``unknown`` names targets without an answer."""

    id: str
    state: str
    error: Mapping[str, Any] | None = None
    reason: str = ""
    key: str | None = None
    dedupe: str | None = None
    track: Mapping[str, str] = field(default_factory=dict)
    sent: Sequence[Mapping[str, Any]] = ()
    published: Sequence[Mapping[str, Any]] = ()
    children: Sequence[Mapping[str, Any]] = ()

    def as_item(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def at_the_door(workspace: Workspace, spec: RouteSpec, trial: Trial) -> Birth:
    """The message as the route's own rules would accept it: format, contract, key, dedupe, track. Raises nothing for content."""
    envelope = trial.envelope
    meta = dict(envelope.meta)
    incoming = Incoming(
        envelope.body,
        codec=KEPT.get(envelope.content),
        content_type=str(meta.pop("content_type", "")),
        headers=envelope.headers,
        meta=meta,
        contract=getattr(spec.source.options, "contract", None),
        correlation_id=envelope.correlation_id,
    )
    return Births(workspace.registry, workspace.settings.site).of_incoming(spec, incoming, envelope.accepted_at)


class Recorded(Systems):
    """Answers: what the connector's ``stub`` says, else what the target said when the message ran, else a plain success."""

    said: Mapping[str, list[Mapping[str, Any]]] = MappingProxyType({})

    def stub_for(self, name: str, scope: Mapping[str, Any]) -> Stub:
        if self.stubs.get(name):
            return super().stub_for(name, scope)
        replies = self.said.get(name, [])
        if not replies:
            return Stub()
        return Stub(**stub_words(replies.pop(0) if len(replies) > 1 else replies[0]))


def stubs_of(workspace: Workspace) -> dict[str, list[Stub]]:
    """The answers that connectors declare, by target."""
    return {
        f"{name}.{operation}": list(answers)
        for name, connector in workspace.systems().items()
        for operation, answers in connector.settings.stub.items()
    }


def stub_words(reply: Mapping[str, Any]) -> dict[str, Any]:
    """What a target said once, as the options of a stub."""
    status, body = reply.get("status"), reply.get("body")
    failed, _, message = str(reply.get("error") or "").partition(": ")
    if failed and status is None:
        return {"fail": failed if failed in _FAILS else "unavailable", "message": message}
    headers = {k: str(v) for k, v in (reply.get("headers") or {}).items() if k.lower() in _KEPT}
    words = {"status": status, "headers": headers, "body" if isinstance(body, str) else "json": body}
    return {name: value for name, value in words.items() if value not in (None, {})}


def rehearse(
    workspace: Workspace,
    route: str,
    trials: Iterable[Trial],
    clock: VirtualClock,
    ended: Callable[[Stored], None] | None = None,
) -> Iterator[Rehearsed]:
    """Try messages on a route, one after the other. ``clock`` is the one that the workspace was read with.

    ``ended`` is told of every message that was made of a trial, its own first, as it was left on the stage.
    """
    alone = replace(workspace, routes=MappingProxyType({route: workspace.routes[route]}))
    with _stage(alone, clock) as (loop, bus, systems):
        for trial in trials:
            systems.said = {name: list(replies) for name, replies in trial.replies.items()}
            yield loop.run(_Try(alone, alone.routes[route], bus, systems, trial, ended).run())


@contextmanager
def _stage(workspace: Workspace, clock: VirtualClock) -> Iterator[tuple[asyncio.Runner, TestedBus, Recorded]]:
    with scratch_folder() as folder, asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as loop:
        (folder / "0").mkdir()
        loop.run(empty_store(folder / "0", clock))
        systems = Recorded(clock, workspace.root, stubs_of(workspace))
        bus = TestedBus(workspace, clock, systems, folder)
        loop.run(bus.start())
        try:
            yield loop, bus, systems
        finally:
            loop.run(bus.stop())


class _Try:
    """One message on the stage."""

    def __init__(
        self,
        workspace: Workspace,
        spec: RouteSpec,
        bus: TestedBus,
        systems: Systems,
        trial: Trial,
        ended: Callable[[Stored], None] | None,
    ) -> None:
        self._workspace, self._spec, self._bus, self._systems, self._trial = workspace, spec, bus, systems, trial
        self._ended = ended

    async def run(self) -> Rehearsed:
        bus, trial, spec = self._bus, self._trial, self._spec
        bus.clock.set(trial.envelope.accepted_at)
        calls, published = len(self._systems.calls), len(bus.told.published)
        bus.told.attempts = 0
        envelope, dedupe = trial.envelope, None
        if not envelope.scope:
            try:
                door = at_the_door(self._workspace, spec, trial)
            except (MessageError, EsbError) as error:
                return Rehearsed(envelope.id, "dead", {"class": "internal", "message": str(error), "step": "source"})
            found = door.new.envelope
            envelope = structs.replace(envelope, key=found.key, track=found.track)
            dedupe = door.new.dedupe.key if door.new.dedupe is not None else None
            if door.new.state is State.DEAD:
                return Rehearsed(
                    envelope.id, "dead", _error(door.new.error), key=found.key, dedupe=dedupe, track=dict(found.track)
                )
        birth = Births.of_replay(structs.replace(envelope, key=None), spec.digest, envelope.accepted_at)
        accepted = await bus.store.accept(birth.new)
        bus.supervisor.arrived(birth, accepted)
        ended = True
        try:
            await bus.run_out()
        except NeverEnds:
            ended = False
        own, children = bus.store.get(accepted.id, trace=False), self._born_after(accepted.seq)
        assert own is not None
        if self._ended is not None:
            for one in (own, *children):
                self._ended(one)
        return Rehearsed(
            id=envelope.id,
            state=own.state.value if ended else "never ends",
            error=_error(own.error),
            reason=own.reason,
            key=envelope.key,
            dedupe=dedupe,
            track=dict(envelope.track),
            sent=[_sent(asked) for asked in self._systems.calls[calls:]],
            published=[
                {"topic": one.topic, "headers": dict(one.headers), "body": one.body}
                for one in list(bus.told.published.values())[published:]
            ],
            children=[
                {"scope": child.envelope.scope, "state": child.state.value, "error": _error(child.error)}
                for child in children
            ],
        )

    def _born_after(self, seq: int) -> list[Stored]:
        found = self._bus.store.find(Filter(limit=MOST_CHILDREN))
        return sorted((one for one in found if one.envelope.seq > seq), key=lambda one: one.envelope.seq)


def _sent(asked: Asked) -> dict[str, Any]:
    where = {"method": asked.method, "path": asked.path} if asked.method else {}
    headers = {name: "***" if _SHOWS_WHO.search(name) else value for name, value in asked.headers.items()}
    return {"to": asked.to, **where, "headers": headers, "body": asked.body, "taken": asked.taken}


def _error(error: ErrorRecord | None) -> dict[str, Any] | None:
    if error is None:
        return None
    found = error.as_dict()
    return {name: found[name] for name in ("class", "step", "message", "pointer", "errors") if found.get(name)}


__all__ = ["Recorded", "Rehearsed", "Trial", "at_the_door", "rehearse", "stubs_of"]
