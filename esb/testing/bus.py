"""A bus in this process: the real supervisor on the real store, its sources and targets in the hands of a test."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from esb.config.model import RouteSpec, Workspace
from esb.endpoints.base import Handler, Incoming, Request, Response, SourceContext
from esb.endpoints.ingress import HttpIngress
from esb.endpoints.limits import Quotas
from esb.message import Envelope, State
from esb.runtime.bench import Bench
from esb.runtime.births import Birth, Births
from esb.runtime.stored import StoredState
from esb.runtime.supervisor import LiveRoute, Supervisor
from esb.steps.base import HandOff
from esb.store import open_store
from esb.store.base import Filter, Stored
from esb.store.sqlstore import SqlStore
from esb.testing.clock import VirtualClock
from esb.testing.targets import StubbedTargets, Systems

#: Quiet turns of the loop after which nothing goes on without time passing.
_QUIET = 12
#: Seconds between two looks at what is due by a clock that was put forward: the runtime notices it after a nap.
_LATE = 0.5
#: Attempts in a case beyond which it is taken for one that never ends.
MOST_ATTEMPTS = 20_000
STORE = "sqlite:///bus.db"


class NeverEnds(Exception):
    """The case does not come to rest."""


async def empty_store(place: Path, clock: VirtualClock) -> None:
    """Make the store that a case begins with, in a folder that is there."""
    await (await _open(place, clock)).close()


async def _open(place: Path, clock: VirtualClock) -> SqlStore:
    return await open_store(STORE, place, clock=clock, min_free=0, threaded=False)


@dataclass(frozen=True, slots=True)
class Published:
    """A message handed to a topic or to another route."""

    topic: str
    body: Any
    headers: Mapping[str, Any]


@dataclass(slots=True)
class Told:
    """What a case learns from the running bus; it outlives one that is killed."""

    published: dict[str, Published] = field(default_factory=dict)  #: by place, so that a repeat counts once
    waits: list[timedelta] = field(default_factory=list)
    attempts: int = 0


class _ToldBirths(Births):
    """Notes what is handed to topics and other routes, whether or not somebody listens."""

    def __init__(self, births: tuple[Any, ...], told: Told) -> None:
        super().__init__(*births)
        self._told = told

    def of_handoff(
        self,
        handoff: HandOff,
        parent: Envelope,
        spec: RouteSpec,
        now: datetime,
        receivers: Callable[[str, str], Iterable[RouteSpec]],
    ) -> list[Birth]:
        if handoff.kind in ("topic", "route"):
            message = handoff.message
            place = f"{parent.origin}/{handoff.place}"
            self._told.published[place] = Published(handoff.target, message.body, message.headers)
        return super().of_handoff(handoff, parent, spec, now, receivers)


class _Mount:
    """The HTTP listener of one route: what it mounts is called, nothing listens."""

    def __init__(self) -> None:
        self.handler: Handler | None = None
        self.quotas = Quotas()

    def mount(self, method: str, path: str, handler: Handler, **_: Any) -> object:
        self.handler = handler
        return handler

    def unmount(self, token: object) -> None:
        self.handler = None


@dataclass(slots=True)
class _TestedSupervisor(Supervisor):
    """The supervisor with sources that nothing reaches but the test."""

    told: Told = field(default_factory=Told)
    mounts: dict[str, _Mount] = field(default_factory=dict)

    def _births(self) -> Births:
        return _ToldBirths(
            (self.workspace.registry, self.workspace.settings.site, self.watch, self.observer), self.told
        )

    def _bench(self) -> Bench:
        return replace(Supervisor._bench(self), chance=lambda: 1.0)

    def reporter(self, route: str) -> None:
        """No source hears of anything: what it would be told is kept in the message."""

    async def _start_source(self, name: str, spec: RouteSpec) -> None:
        live: LiveRoute = self.routes[name]
        live.digest = spec.digest
        if spec.source.protocol != "http":
            return  # files, queues and tables stay where they are: the test hands over what they would
        mount = self.mounts[name] = _Mount()
        context = SourceContext(
            route=name,
            intake=live.intake,
            clock=self.clock,
            workspace=self.workspace.root,
            state=StoredState(self.store, f"source:{name}"),
            ingress=mount,
            log=self.log,
            connection=None,
            site=spec.site_values(self.workspace.settings.site),
            timezone=spec.zone_name(self.workspace.settings.timezone),
        )
        live.source = replace(spec.source.options, auth=None).bind(context)
        await live.source.start()


@dataclass(slots=True)
class TestedBus:
    """The bus of one case. ``folder`` holds its stores, one for each life of the process; the first one is there."""

    workspace: Workspace
    clock: VirtualClock
    systems: Systems
    folder: Path
    told: Told = field(default_factory=Told)
    lives: int = 0
    _store: SqlStore | None = None
    _supervisor: _TestedSupervisor | None = None
    _survivor: Path | None = None  #: the store as a killed process left it
    #: Attempts of each message that the death of the process cut off.
    _cut: Counter[str] = field(default_factory=Counter)

    @property
    def store(self) -> SqlStore:
        assert self._store is not None
        return self._store

    @property
    def supervisor(self) -> _TestedSupervisor:
        assert self._supervisor is not None
        return self._supervisor

    # -- life ---------------------------------------------------------------------------------------------------------
    async def start(self) -> None:
        self._store = await _open(self._life(self.lives), self.clock)
        # what is published is told when it is born: not before its parent is in the store
        self._store.works_ahead = False
        log = partial(self._log, self.told)
        supervisor = _TestedSupervisor(self._store, self.clock, HttpIngress(), log, self.workspace, told=self.told)
        targets = StubbedTargets(self.clock, self.workspace.root, self.workspace.registry, log)
        targets.systems, targets.kill = self.systems, self._kill
        supervisor.targets = targets
        self._supervisor = supervisor
        await supervisor.start()

    async def stop(self) -> None:
        """End at once: what a test has not waited for does not matter."""
        await self.supervisor.stop(timedelta(seconds=0.001))
        await self.store.close()

    def _kill(self) -> None:
        """What is on the disk now is all that the next life knows, and nobody hears this one any more."""
        told = self.told
        self.told = Told(dict(told.published), list(told.waits), told.attempts)
        self._cut.update(one.envelope.id for one in self.store.find(Filter(states=(State.RUNNING,), limit=100_000)))
        self._survivor = self._life(self.lives + 1)
        shutil.copytree(self._life(self.lives), self._survivor)

    def _life(self, number: int) -> Path:
        return self.folder / str(number)

    async def _live_again(self) -> None:
        self._survivor = None
        with contextlib.suppress(Exception):
            await self.stop()
        self.lives += 1
        await self.start()

    def _log(self, told: Told, level: str, event: str, **fields: Any) -> None:
        if event == "message.retry":
            told.attempts += 1
            told.waits.append(fields["due"] - self.clock.now())

    # -- messages -----------------------------------------------------------------------------------------------------
    async def request(self, route: str, request: Request) -> Response:
        """Call a route over HTTP, without its login."""
        handler = self.supervisor.mounts[route].handler
        assert handler is not None
        return await handler(request)

    async def accept(self, route: str, incoming: Incoming) -> None:
        await self.supervisor.routes[route].intake.accept(incoming)

    # -- time ---------------------------------------------------------------------------------------------------------
    async def settle(self) -> None:
        """Let everything go on that can without a retry or wait coming due."""
        quiet, busy, pause = 0, 0, 0.001
        while quiet < _QUIET:
            if self._survivor is not None:
                await self._live_again()
            if self.told.attempts > MOST_ATTEMPTS:
                raise NeverEnds
            await asyncio.sleep(0)
            quiet = 0 if self._running() else quiet + 1
            busy = busy + 1 if self._running() else 0
            if busy > _QUIET:  # not work, but somebody who takes his time
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)

    def _running(self) -> bool:
        return any(live.runner.running for live in self.supervisor.routes.values())

    async def run_until(self, instant: float) -> None:
        """Go on until this second of the clock, and let what is due then end."""
        await self.settle()
        while (left := instant - self.clock.seconds) > 0:
            due = self._next_due()
            await self._pass(left if due is None else min(left, due))
            await self.settle()

    async def run_out(self) -> None:
        """Go on until nothing is left that time would change. Raises NeverEnds."""
        await self.settle()
        while (due := self._next_due()) is not None:
            self.told.attempts += 1
            await self._pass(due)
            await self.settle()

    async def _pass(self, seconds: float) -> None:
        """Let time pass at once, not nap by nap: nobody is at work who would notice."""
        if seconds > 0:
            self.clock.seconds += seconds + 2e-6
        else:
            await asyncio.sleep(_LATE)

    def _next_due(self) -> float | None:
        """Seconds until the next message that waits is due."""
        dues = [live.runner.lanes.next_due for live in self.supervisor.routes.values()]
        first = min((due for due in dues if due is not None), default=None)
        return None if first is None else (first - self.clock.now()).total_seconds()

    # -- what came of it ----------------------------------------------------------------------------------------------
    def messages(self) -> list[Stored]:
        """Every message in the order of acceptance, with its trace.

        An attempt that the death of the process cut off counts as none: it had no outcome that a test could expect.
        """
        found = self.store.find(Filter(limit=100_000, oldest_first=True))
        whole = [self.store.get(one.envelope.id) for one in found]
        return [replace(one, attempts=one.attempts - self._cut[one.envelope.id]) for one in whole if one is not None]
