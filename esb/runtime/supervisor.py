"""Starts and stops the parts of the bus, in the order in which messages flow; swaps routes when the workspace changes.

Start: store, lanes, sinks, workers, then sources. Stop: sources, ingress, workers, sinks, store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from esb.clock import Clock
from esb.config.model import RouteSpec, Workspace
from esb.config.settings import SETTINGS
from esb.endpoints.base import Ingress, ReportingSource, RunningSource
from esb.errors import EsbError, Problem
from esb.failpoints import hit
from esb.message import Envelope, State, short_version
from esb.observe.indicators import Observer
from esb.runtime.away import Away
from esb.runtime.bench import Bench, Logs
from esb.runtime.births import Birth, Births
from esb.runtime.guard import Watch
from esb.runtime.history import START, is_new, note_live, note_version
from esb.runtime.intake import RouteIntake
from esb.runtime.items import spec_item
from esb.runtime.lanes import LaneId
from esb.runtime.leftovers import Leftovers
from esb.runtime.payload import observe
from esb.runtime.recall import RouteVersion, recall
from esb.runtime.reports import reporter_of
from esb.runtime.runner import RouteRunner
from esb.runtime.sources import bound
from esb.runtime.targets import Targets
from esb.runtime.throttles import Throttles
from esb.runtime.turns import Turns
from esb.runtime.unstarted import cannot_start, placed
from esb.runtime.workers import Version, Workers
from esb.store.base import Accepted, AuditEntry, NewMessage, Pending, Store

#: Where the store keeps the note of a reload that has begun.
RELOADING = ("bus", "reloading")


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
    workers: Workers | None = None  #: without them everything runs on the loop
    watch: Watch | None = None
    routes: dict[str, LiveRoute] = field(default_factory=dict)
    targets: Targets = field(init=False)
    turns: Turns = field(init=False)
    leftovers: Leftovers = field(init=False)
    throttles: Throttles = field(default_factory=Throttles)
    observer: Observer = field(default_factory=Observer)
    draining: bool = False
    _version: Version = field(init=False)
    _ending: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.turns = Turns(self.clock)
        self._version = Version.of(self.workspace.root, self.workspace.texts)
        self.targets = Targets(self.clock, self.workspace.root, self.workspace.registry, self.log)
        self.leftovers = Leftovers(self)
        observe(self.observer, self.workspace, self.log)

    # -- Gate and Hub -------------------------------------------------------------------------------------------------
    @property
    def closed(self) -> str:
        if self.draining:
            return "the bus is shutting down"
        return self.store.refusal

    def receivers(self, kind: str, name: str) -> Iterable[RouteSpec]:
        if kind == "topic":
            return self.workspace.subscribers(name)
        live = self.routes.get(name)
        spec = live.runner.spec if live is not None else self.workspace.routes.get(name)
        return (spec,) if spec is not None else ()

    def arrived(self, birth: Birth, accepted: Accepted) -> None:
        live = self.routes.get(birth.new.envelope.route)
        if live is not None and birth.ended is not None and accepted.state is State.DONE:
            live.runner.ahead.done(birth, accepted)
        elif live is not None and accepted.state in (State.QUEUED, State.HELD, State.RUNNING) and not accepted.known:
            live.runner.arrived(birth, accepted)

    def ahead(self, birth: Birth, depth: int, until: float) -> Birth:
        live = self.routes.get(birth.new.envelope.route)
        return live.runner.ahead.work(birth, depth, until) if live is not None else birth

    def recall(self, route: str, digest: str) -> RouteVersion | None:
        return recall(route, digest, self.workspace, self.workspace.routes.get(route), self._bench())

    def reporter(self, route: str) -> ReportingSource | None:
        live = self.routes.get(route)
        return reporter_of(live.runner.spec, live.source) if live is not None else None

    # -- start and stop -----------------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Bring every route to life. Raises EsbError where a source cannot start."""
        self.store.blobs.above = self.workspace.settings.limits.blob
        await self.targets.configure(self.workspace.connectors, self.workspace.settings.timezone)
        for spec in self.workspace.routes.values():
            await self._follow_order(spec)
            self._add_runner(spec)
        await self._drain_removed()
        self._refill()
        self.store.when_unheard(self.look_again)
        await self._audit_start()
        await self.leftovers.at_start(self.workspace.routes)
        for name, spec in self.workspace.routes.items():
            await note_version(self.store, spec, self.clock.now(), "bus", START)
            with placed(spec):
                await self._start_source(name, spec)
        await self._note_live("bus", START)
        self.leftovers.start()

    async def stop(self, grace: timedelta) -> None:
        """Drain: no new messages, work in flight ends within ``grace``, everything else stays in the store."""
        self.draining = True
        await self.leftovers.stop()
        sources = [live.source for live in self.routes.values() if live.source is not None]
        if (
            ending := {asyncio.create_task(source.stop()) for source in sources} | self._ending
        ):  # callers that wait for an answer have as long as the work in flight
            _, late = await asyncio.wait(ending, timeout=grace.total_seconds())
            for task in late:
                task.cancel()
        ended = list(self.routes.values())  # a reload that is left to itself may still add one
        for live in ended:
            live.source = None
            live.runner.stopping = True
        for live in ended:
            await live.runner.stop(grace.total_seconds())
        if self.workers is not None:
            await self.workers.close()
        await self.targets.close()

    # -- reload -------------------------------------------------------------------------------------------------------
    async def apply(self, workspace: Workspace, actor: str = "bus", reason: str = "files changed") -> Change:
        """Swap to a new workspace: only routes whose digest changed are touched; sockets stay open.

        A route whose new source cannot start keeps its old version, and the reason comes back as a problem.
        """
        await self._enter_left_over()
        before = self.workspace
        touched = [name for name, spec in workspace.routes.items() if not self._is_up(name, spec, workspace)]
        removed = [name for name in before.routes if name not in workspace.routes]
        if touched or removed:  # entered before it takes effect: after a kill in the middle the next start tells of it
            about = {"touched": touched, "removed": removed}
            await self.store.put_state(*RELOADING, {"actor": actor, "reason": reason, "detail": about})
        for name, up in self.routes.items():  # what a source has in hand ends over the connection that it came by
            shared = up.runner.spec.source.connector
            if shared and _digest(before, shared) != _digest(workspace, shared):
                await self._stop_source(name)
        self.workspace = workspace
        self.store.blobs.above = workspace.settings.limits.blob
        self._version = Version.of(workspace.root, workspace.texts)
        observe(self.observer, workspace, self.log)
        await self.targets.configure(workspace.connectors, workspace.settings.timezone)
        added: list[str] = []
        changed: list[str] = []
        problems: list[Problem] = []
        for name, spec in workspace.routes.items():
            live = self.routes.get(name)
            if live is not None and name not in touched:
                if workspace.settings != before.settings:  # `site` and `limits.step` are no part of a route's version
                    live.runner.update(live.runner.spec, self._bench(), self._births())
                continue
            is_new = live is None or name not in before.routes
            try:
                await note_version(self.store, spec, self.clock.now(), actor, reason)
                if live is None:
                    await self._follow_order(spec)
                    live = self._add_runner(spec)
                    self._refill(name)
                else:
                    live.runner.update(spec, self._bench(), self._births())
                    if await self._follow_order(spec):
                        self.look_again()
                await self._start_source(name, spec)
            except EsbError as error:
                problems.append(cannot_start(spec, error))
                await self._go_back(name, before)
                continue
            (added if is_new else changed).append(name)
        for live in self.routes.values():
            live.intake.limits = workspace.settings.limits
        for name in removed:
            await self._stop_source(name)
        await self.leftovers.sweep()
        await self._note_live(actor, reason)
        change = Change(tuple(added), tuple(changed), tuple(removed), tuple(problems))
        if not change.nothing:
            hit("reload.swapped")
            await self._enter(actor, reason, {"added": added, "changed": changed, "removed": removed})
        return change

    async def _go_back(self, name: str, before: Workspace) -> None:
        """A route whose new source cannot start goes on as it was: its steps, and its source where that had to end."""
        live, spec = self.routes.get(name), before.routes.get(name)
        if live is None or spec is None:
            return
        self.workspace = replace(self.workspace, routes=MappingProxyType({**self.workspace.routes, name: spec}))
        live.runner.update(spec, self._bench(), self._births())
        if live.source is None:
            with suppress(EsbError):  # its problem is told already
                await self._start_source(name, spec)

    def _is_up(self, name: str, spec: RouteSpec, workspace: Workspace) -> bool:
        """Whether a route runs on this version already, its source over a connection that stays."""
        live, shared = self.routes.get(name), spec.source.connector
        if shared and _digest(self.workspace, shared) != _digest(workspace, shared):
            return False
        return live is not None and live.digest == spec.digest and (live.source is not None or not spec.enabled)

    async def _enter(self, actor: str, reason: str, detail: dict[str, Any]) -> None:
        """A reload and what it did, in the audit; the note of its beginning goes with the same commit."""
        entry = AuditEntry(actor, "reload", self.workspace.settings.bus, reason, detail)
        entered = self.store.audit(entry, self.clock.now())
        await asyncio.gather(entered, self.store.put_state(*RELOADING, None))

    async def _enter_left_over(self) -> None:
        """A reload that took effect, at least in part, and whose end never reached the audit."""
        if note := self.store.get_state(*RELOADING):
            await self._enter(note["actor"], note["reason"], {**note["detail"], "interrupted": True})

    # -- operators ----------------------------------------------------------------------------------------------------
    def pause(self, name: str, *, paused: bool) -> None:
        """Stop or go on taking and working off a route's messages; the store knows it already."""
        live = self.routes[name]
        live.runner.paused = paused
        live.runner.wake()

    def adopt(self, pending: Pending) -> None:
        """A message that a person queued again."""
        live = self.routes.get(pending.route)
        if live is None:
            return
        if pending.key is not None:
            self._follow_lane(live, pending.route, (pending.scope, pending.key))
        live.runner.adopt((pending,))

    def lane_released(self, route: str, scope: str, key: str, seqs: tuple[int, ...]) -> None:
        """The dead message that blocked a lane is gone or runs again: the messages behind it may go on."""
        live = self.routes.get(route)
        if live is not None:
            self._follow_lane(live, route, (scope, key))
            live.runner.wake()

    def _follow_lane(self, live: LiveRoute, route: str, lane: LaneId) -> None:
        """Let a lane go on up to the dead message that blocks it next: it may be another than the one a person dealt with."""
        live.runner.lanes.unblock(lane, self.store.blocked_lanes().get((route, *lane), 0))

    def dropped(self, route: str, seqs: tuple[int, ...]) -> None:
        """Messages that a person discarded."""
        live = self.routes.get(route)
        if live is not None:
            live.runner.lanes.drop(seqs)
            live.runner.wake()

    def intake_of(self, route: str) -> RouteIntake | None:
        return live.intake if (live := self.routes.get(route)) is not None else None

    async def once_more(self, envelope: Envelope) -> NewMessage | None:
        live = self.routes.get(envelope.route)
        return await live.intake.once_more(envelope) if live is not None else None

    def version_of(self, route: str) -> str:
        live = self.routes.get(route)
        return live.runner.spec.digest if live is not None else ""

    # -- facts for people ---------------------------------------------------------------------------------------------
    def names(self) -> list[str]:
        return [name for name, live in self.routes.items() if live.source or name in self.workspace.routes]

    def facts(self, route: str) -> dict[str, Any]:
        """What only the running bus knows of a route."""
        live = self.routes.get(route)
        if live is None:
            return {"state": "removed"}
        spec, runner = live.runner.spec, live.runner
        return {
            "state": self._route_state(route, live),
            "version": short_version(spec.digest),
            "digest": spec.digest,
            "own_version": spec.version,
            "throughput_per_minute": runner.meter.per_minute(self.clock.monotonic()),
            "in_flight": runner.running,
            **spec_item(spec),
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
        away = None
        if self.workers is not None and self.watch is not None:
            away = Away(self.workers, self.watch, self._version, settings.limits)
        return Bench(
            away=away,
            clock=self.clock,
            store=self.store,
            targets=self.targets,
            connectors=self.workspace.connectors,
            workspace=self.workspace.root,
            site=settings.site,
            timezone=settings.timezone,
            throttles=self.throttles,
            observer=self.observer,
            step_limit=settings.limits.step.total_seconds(),
            log=self.log,
        )

    def _births(self) -> Births:
        return Births(self.workspace.registry, self.workspace.settings.site, self.watch, self.observer)

    def _add_runner(self, spec: RouteSpec) -> LiveRoute:
        runner = RouteRunner(spec, self._bench(), self._births(), self.workspace.registry, self)
        saved = self.store.get_state("route", spec.name)
        runner.paused = bool(saved and saved.get("paused"))
        live = LiveRoute(runner, RouteIntake(runner, self.workspace.settings.limits, self, self, self.targets))
        self.routes[spec.name] = live
        return live

    def _refill(self, only: str | None = None) -> None:
        """Rebuild lanes from the store."""
        for (route, scope, key), seq in self.store.blocked_lanes().items():
            live = self.routes.get(route)
            if live is not None and (only is None or route == only):
                live.runner.lanes.block((scope, key), seq)
        for name, live in self.routes.items():
            if only is None or name == only:
                live.runner.adopt(self.store.pending(name))

    def look_again(self) -> None:
        """Bring every lane in line with the store, where something changed that nobody was told of."""
        blocked = self.store.blocked_lanes()
        for name, live in self.routes.items():
            lanes = {(scope, key): seq for (route, scope, key), seq in blocked.items() if route == name}
            live.runner.look_again(self.store.pending(name), lanes)

    async def _follow_order(self, spec: RouteSpec) -> bool:
        """With ``on_dead: skip`` no dead message of the route blocks its key, whatever was said when it died."""
        if spec.order.on_dead == "block" or all(route != spec.name for route, _, _ in self.store.blocked_lanes()):
            return False
        await self.store.release_route(spec.name)
        return True

    async def _drain_removed(self) -> None:
        """Routes that have open messages but are no longer in the workspace wait for their file to come back."""
        for counts in self.store.counts():
            if counts.route not in self.workspace.routes and counts.oldest_open is not None:
                open_ = sum(counts.states.get(s, 0) for s in ("queued", "waiting", "held", "running"))
                hint = "put its file back to drain it, or discard its messages"
                self.log("warning", "route.orphaned", route=counts.route, open=open_, hint=hint)

    async def _audit_start(self) -> None:
        """Files that changed while the bus was stopped become active without a reload."""
        await self._enter_left_over()
        specs = self.workspace.routes.values()
        changed = [spec.name for spec in specs if is_new(self.store, spec)]
        if changed:
            why, bus = "started with files that are new", self.workspace.settings.bus
            await self.store.audit(AuditEntry("bus", "reload", bus, why, {"changed": changed}), self.clock.now())

    async def _note_live(self, actor: str, reason: str) -> None:
        settings = self.workspace.texts.get(SETTINGS, "")
        await note_live(self.store, list(self.workspace.routes), settings, self.clock.now(), actor, reason)

    async def _start_source(self, name: str, spec: RouteSpec) -> None:
        live = self.routes[name]
        if not spec.enabled:
            await self._stop_source(name)
            live.digest = spec.digest
            return
        fresh = await bound(self, spec)
        old = before = live.source
        if old is not None and not getattr(fresh, "overlaps", False):
            await old.stop()
            live.source = old = None
        await self.leftovers.moved(spec, fresh, before)
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


def _digest(workspace: Workspace, connector: str) -> str:
    """The version of a connector: unlike a route's it also changes with the secrets that it shows."""
    found = workspace.connectors.get(connector)
    return found.digest if found is not None else ""
