"""How the source of a version comes to be: with what the bus lends it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from esb.clock import Clock
from esb.config.model import RouteSpec, Workspace
from esb.endpoints.base import Ingress, Intake, RunningSource, SourceContext
from esb.runtime.bench import Logs
from esb.runtime.stored import StoredState
from esb.runtime.targets import Targets
from esb.store.base import Store


class Live(Protocol):
    """A route in the bus; ``source`` is None while it has none at work."""

    source: RunningSource | None

    @property
    def intake(self) -> Intake: ...


class Bus(Protocol):
    """What lends."""

    store: Store
    clock: Clock
    log: Logs
    workspace: Workspace
    ingress: Ingress
    targets: Targets

    @property
    def routes(self) -> Mapping[str, Live]: ...


async def bound(bus: Bus, spec: RouteSpec) -> RunningSource:
    """The source of a version, which is not started yet; of a route that is gone it takes nothing in. Raises EsbError."""
    live: Any = bus.routes.get(spec.name)
    site = bus.workspace.settings.site
    context = SourceContext(
        route=spec.name,
        intake=live and live.intake,
        clock=bus.clock,
        workspace=bus.workspace.root,
        state=StoredState(bus.store, f"source:{spec.name}"),
        ingress=bus.ingress,
        log=bus.log,
        connection=await bus.targets.connection(spec.source.connector) if spec.source.connector else None,
        site=spec.site_values(site),
        timezone=spec.zone_name(bus.workspace.settings.timezone),
        spool=bus.store.blobs,
    )
    source: RunningSource = spec.source.options.bind(context)
    return source


__all__ = ["Bus", "Live", "bound"]
