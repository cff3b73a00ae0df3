"""Starts and stops the parts of the bus, in the order in which messages flow; swaps routes when the workspace changes.

Start: store, lanes, sinks, workers, then sources. Stop: sources, ingress, workers, sinks, store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from esb.clock import Clock
from esb.config.model import RouteSpec, Workspace
from esb.endpoints.base import Ingress, RunningSource, SourceContext
from esb.errors import ErrorRecord, EsbError, Problem
from esb.message import Envelope, State
from esb.runtime.births import Birth, Births
from esb.runtime.intake import RouteIntake
from esb.runtime.rules import alert_of
from esb.runtime.run import Bench, Logs
from esb.runtime.runner import RouteRunner
from esb.runtime.targets import Targets
from esb.store.base import Accepted, AuditEntry, Pending, Store


@dataclass(slots=True)
class LiveRoute:
    """A route in the bus: its runner always, its source while it is enabled and not removed."""

    runner: RouteRunner
    intake: RouteIntake
    source: RunningSource | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """What a reload did."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def nothing(self) -> bool:
        return not (self.added or self.changed or self.removed or self.problems)


@dataclass(slots=True)
class Supervisor:
    """The composition of the running bus."""

    store: Store
    clock: Clock
    ingress: Ingress
    log: Logs
    workspace: Workspace
    routes: dict[str, LiveRoute] = field(default_factory=dict)
    targets: Targets = field(init=False)
    draining: bool = False
    _ending: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.targets = Targets(self.clock, self.workspace.root, self.workspace.registry, self.log)

    # -- Gate and Hub -------------------------------------------------------------------------------------------------
    @property
    def closed(self) -> str:
        if self.draining:
            return "the bus is shutting down"
        if not self.store.open_for_intake:
            return "disk space is short; nothing new is taken until there is room"
        return ""

    def receivers(self, kind: str, name: str) -> Iterable[RouteSpec]:
        if kind == "topic":
            return self.workspace.subscribers(name)
        live = self.routes.get(name)
        return (live.runner.spec,) if live is not None else ()

    def arrived(self, birth: Birth, accepted: Accepted) -> None:
        live = self.routes.get(birth.new.envelope.route)
        if live is not None and accepted.state in (State.QUEUED, State.HELD, State.RUNNING) and not accepted.known:
            live.runner.arrived(birth, accepted)

    def alert(self, name: str, envelope: Envelope, error: ErrorRecord) -> None:
        """Publish an alert about a message that was dead at the door."""
        now = self.clock.now()
        handoff = alert_of(name, envelope, error, now)
        spec = self.workspace.routes[envelope.route]
        for birth in self._births().of_handoff(handoff, envelope, spec, now, self.workspace.subscribers):
            self.store.accept(birth.new).add_done_callback(partial(self._alerted, birth))

    def _alerted(self, birth: Birth, done: asyncio.Future[Accepted]) -> None:
        if not done.cancelled() and done.exception() is None:
            self.arrived(birth, done.result())

    # -- start and stop -----------------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Bring every route to life. Raises EsbError where a source cannot start."""
        await self.targets.configure(self.workspace.connectors)
        for spec in self.workspace.routes.values():
            self._add_runner(spec)
        await self._drain_removed()
        self._refill()
        for name, spec in self.workspace.routes.items():
            await self._save_version(spec)
            await self._start_source(name, spec)

    async def stop(self, grace: timedelta) -> None:
        """Drain: no new messages, work in flight ends within ``grace``, everything else stays in the store."""
        self.draining = True
        ending = {asyncio.create_task(live.source.stop()) for live in self.routes.values() if live.source is not None}
        ending |= self._ending
        if ending:  # callers that wait for an answer have as long as the work in flight
            _, late = await asyncio.wait(ending, timeout=grace.total_seconds())
            for task in late:
                task.cancel()
        for live in self.routes.values():
            live.source = None
            live.runner.stopping = True
        for live in self.routes.values():
            await live.runner.stop(grace.total_seconds())
        await self.targets.close()

    # -- reload -------------------------------------------------------------------------------------------------------
    async def apply(self, workspace: Workspace) -> Change:
        """Swap to a new workspace: only routes whose digest changed are touched; sockets stay open.

        A route whose new source cannot start keeps its old version, and the reason comes back as a problem.
        """
        before, self.workspace = self.workspace, workspace
        await self.targets.configure(workspace.connectors)
        added: list[str] = []
        changed: list[str] = []
        problems: list[Problem] = []
        for name, spec in workspace.routes.items():
            live = self.routes.get(name)
            if live is not None and live.digest == spec.digest and (live.source is not None or not spec.enabled):
                continue
            is_new = live is None or name not in before.routes
            try:
                await self._save_version(spec)
                if live is None:
                    live = self._add_runner(spec)
                    self._refill(name)
                else:
                    live.runner.update(spec, self._bench(), self._births())
                await self._start_source(name, spec)
            except EsbError as error:
                problems.append(Problem("ESB801", f"route `{name}` cannot start: {error}", spec.position, error.hint))
                continue
            (added if is_new else changed).append(name)
        for live in self.routes.values():
            live.intake.limits = workspace.settings.limits
        removed = [name for name in before.routes if name not in workspace.routes]
        for name in removed:
            await self._stop_source(name)
        change = Change(tuple(added), tuple(changed), tuple(removed), tuple(problems))
        if not change.nothing:
            detail = {"added": added, "changed": changed, "removed": removed}
            await self.store.audit(
                AuditEntry("bus", "reload", workspace.settings.bus, "files changed", detail), self.clock.now()
            )
        return change

    # -- operators ----------------------------------------------------------------------------------------------------
    async def pause(self, name: str, *, paused: bool) -> None:
        """Stop or go on taking and working off a route's messages; kept over restarts."""
        await self.store.put_state("route", name, {"paused": True} if paused else None)
        live = self.routes[name]
        live.runner.paused = paused
        live.runner.wake()

    def adopt(self, pending: Pending) -> None:
        """A message that a person queued again."""
        live = self.routes.get(pending.route)
        if live is None:
            return
        if pending.key is not None and pending.state is State.QUEUED:
            live.runner.lanes.unblock((pending.scope, pending.key))
        live.runner.adopt((pending,))

    def lane_released(self, route: str, scope: str, key: str, seqs: tuple[int, ...]) -> None:
        """The dead message that blocked a lane is gone or runs again: the messages behind it may go on."""
        live = self.routes.get(route)
        if live is None or (route, scope, key) in self.store.blocked_lanes():
            return
        live.runner.lanes.unblock((scope, key))
        live.runner.wake()

    def dropped(self, route: str, seqs: tuple[int, ...]) -> None:
        """Messages that a person discarded."""
        live = self.routes.get(route)
        if live is not None:
            live.runner.lanes.drop(seqs)
            live.runner.wake()

    def version_of(self, route: str) -> str:
        live = self.routes.get(route)
        return live.runner.spec.digest if live is not None else ""

    # -- facts for people ---------------------------------------------------------------------------------------------
    def names(self) -> list[str]:
        return [name for name, live in self.routes.items() if live.source is not None or name in self.workspace.routes]

    def facts(self, route: str) -> dict[str, Any]:
        """What only the running bus knows of a route."""
        live = self.routes.get(route)
        if live is None:
            return {"state": "removed"}
        spec, runner = live.runner.spec, live.runner
        return {
            "state": self._route_state(route, live),
            "version": spec.version or spec.digest[:8],
            "digest": spec.digest,
            "throughput_per_minute": runner.meter.per_minute(self.clock.monotonic()),
            "source": spec.source.protocol,
            "owner": spec.owner,
            "criticality": spec.criticality,
            "description": spec.description,
            "in_flight": runner.running,
            "within_seconds": spec.within.total_seconds() if spec.within is not None else None,
            "file": spec.position.path,
        }

    def _route_state(self, name: str, live: LiveRoute) -> str:
        if name not in self.workspace.routes:
            return "draining" if len(live.runner.lanes) else "removed"
        if live.runner.paused:
            return "paused"
        if not live.runner.spec.enabled:
            return "disabled"
        return "running" if live.source is not None else "failed"

    # -- inside -------------------------------------------------------------------------------------------------------
    def _bench(self) -> Bench:
        settings = self.workspace.settings
        return Bench(
            clock=self.clock,
            store=self.store,
            targets=self.targets,
            connectors=self.workspace.connectors,
            workspace=self.workspace.root,
            site=settings.site,
            step_limit=settings.limits.step.total_seconds(),
            log=self.log,
        )

    def _births(self) -> Births:
        return Births(self.workspace.registry, self.workspace.settings.site)

    def _add_runner(self, spec: RouteSpec) -> LiveRoute:
        runner = RouteRunner(spec, self._bench(), self._births(), self.workspace.registry, self)
        saved = self.store.get_state("route", spec.name)
        runner.paused = bool(saved and saved.get("paused"))
        live = LiveRoute(runner, RouteIntake(runner, self.workspace.settings.limits, self, self, self.targets))
        self.routes[spec.name] = live
        return live

    def _refill(self, only: str | None = None) -> None:
        """Rebuild lanes from the store."""
        for route, scope, key in self.store.blocked_lanes():
            live = self.routes.get(route)
            if live is not None and (only is None or route == only) and live.runner.spec.order.on_dead == "block":
                live.runner.lanes.block((scope, key))
        for name, live in self.routes.items():
            if only is None or name == only:
                live.runner.adopt(self.store.pending(name))

    async def _drain_removed(self) -> None:
        """Routes that have open messages but are no longer in the workspace wait for their file to come back."""
        for counts in self.store.counts():
            if counts.route not in self.workspace.routes and counts.oldest_open is not None:
                self.log(
                    "warning",
                    "route.orphaned",
                    route=counts.route,
                    open=sum(counts.states.get(s, 0) for s in ("queued", "waiting", "held", "running")),
                    hint="put its file back to drain it, or discard its messages",
                )

    async def _save_version(self, spec: RouteSpec) -> None:
        if self.store.version(spec.name, spec.digest) is None:
            await self.store.save_version(spec.name, spec.digest, spec.files, self.clock.now())

    async def _start_source(self, name: str, spec: RouteSpec) -> None:
        live = self.routes[name]
        if not spec.enabled:
            await self._stop_source(name)
            live.digest = spec.digest
            return
        context = SourceContext(
            route=name,
            intake=live.intake,
            clock=self.clock,
            workspace=self.workspace.root,
            state=StoredState(self.store, f"source:{name}"),
            ingress=self.ingress,
            log=self.log,
            connection=await self.targets.connection(spec.source.connector) if spec.source.connector else None,
            site=self.workspace.settings.site,
            timezone=self.workspace.settings.timezone,
        )
        fresh: RunningSource = spec.source.options.bind(context)
        old = live.source
        if old is not None and not getattr(fresh, "overlaps", False):
            await old.stop()
            live.source = old = None
        await fresh.start()
        if old is not None:
            self._end(old)
        live.source, live.digest = fresh, spec.digest

    async def _stop_source(self, name: str) -> None:
        live = self.routes[name]
        source, live.source = live.source, None
        if source is not None and getattr(source, "overlaps", False):
            self._end(source)
        elif source is not None:
            await source.stop()

    def _end(self, source: RunningSource) -> None:
        """Let a source end on the side: its callers may wait for answers, a reload must not wait for them."""
        task = asyncio.create_task(source.stop())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


@dataclass(frozen=True, slots=True)
class StoredState:
    """Implements :class:`esb.endpoints.base.SourceState` over the store."""

    store: Store
    space: str

    async def get(self, name: str) -> Any:
        return self.store.get_state(self.space, name)

    async def put(self, name: str, value: Any) -> None:
        await self.store.put_state(self.space, name, value)

    async def forget(self, name: str) -> None:
        await self.store.put_state(self.space, name, None)
