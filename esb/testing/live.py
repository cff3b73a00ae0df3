"""A running bus whose targets are stubs: for the one who writes routes, with nothing around that could be harmed.

Sources that need no other system run (HTTP, files of the workspace, timers, topics); those of a connector do not: they would take real
messages away. What targets would get is told, and answered by the connector's ``stub``, else by a plain success.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from esb.clock import Clock, SystemClock
from esb.config.model import RouteSpec, Workspace
from esb.endpoints.base import Delivery
from esb.message import Message
from esb.runtime.supervisor import LiveRoute, Supervisor
from esb.runtime.targets import Port
from esb.steps.base import Reply, Target
from esb.testing.rehearse import Recorded, stubs_of
from esb.testing.targets import Asked, StubbedTargets


class RealTime(SystemClock):
    """The machine's clock, in the words of a test's."""

    @property
    def seconds(self) -> float:
        return self.monotonic()


class ToldTargets(StubbedTargets):
    """Tells every delivery, and forgets it."""

    tell: Callable[[str, Asked], None]

    async def _deliver(self, port: Port, target: Target, message: Message, delivery: Delivery) -> Reply:
        calls = self.systems.calls
        before = len(calls)
        try:
            return await super()._deliver(port, target, message, delivery)
        finally:
            for asked in [one for one in calls[before:] if one.id == delivery.id]:
                self.tell(str(message.meta.get("route", "")), asked)
                calls.remove(asked)


@dataclass(slots=True)
class DevSupervisor(Supervisor):
    """A supervisor with stubbed targets. ``resting`` are the routes whose source is left alone, with its connector."""

    tell: Callable[[str, Asked], None] = lambda _route, _asked: None
    resting: dict[str, str] = field(default_factory=dict)

    def stub_targets(self, clock: Clock) -> None:
        """Before the start: nothing leaves from now on."""
        targets = ToldTargets(clock, self.workspace.root, self.workspace.registry, self.log)
        targets.systems = Recorded(RealTime(), self.workspace.root, stubs_of(self.workspace))
        targets.kill = _never
        targets.tell = self.tell
        self.targets = targets

    def take_stubs(self, workspace: Workspace) -> None:
        """The stubs of a new version of the files."""
        if isinstance(self.targets, ToldTargets):
            self.targets.systems.stubs = stubs_of(workspace)

    def _is_up(self, name: str, spec: RouteSpec, workspace: Workspace) -> bool:
        live = self.routes.get(name)
        if spec.source.connector:
            return live is not None and live.digest == spec.digest
        return Supervisor._is_up(self, name, spec, workspace)

    async def _start_source(self, name: str, spec: RouteSpec) -> None:
        if not spec.source.connector:
            self.resting.pop(name, None)
            await Supervisor._start_source(self, name, spec)
            return
        await self._stop_source(name)
        self.routes[name].digest = spec.digest
        self.resting[name] = spec.source.connector

    def _route_state(self, name: str, live: LiveRoute) -> str:
        state = Supervisor._route_state(self, name, live)
        return "stubbed" if state == "failed" and name in self.resting else state


def _never(*_: Any) -> None:
    """No case kills this bus."""
