"""The API of a stopped bus: the same words, served from the store under its lock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esb.admin.assembly import stopped_app
from esb.bus import anchor_of
from esb.clock import SystemClock
from esb.config.kpis import Kpi
from esb.config.loader import load_workspace, settings_at
from esb.config.model import RouteSpec, Settings, Workspace
from esb.config.site_items import site_items
from esb.errors import ConfigError, NotRunning, StoreError
from esb.message import Envelope, short_version
from esb.observe.indicators import Observer
from esb.observe.meters import Meters
from esb.observe.trends import StoredRows
from esb.operations import Operations
from esb.runtime.births import Births
from esb.runtime.history import live_routes, turns_of
from esb.runtime.intake import send_incoming, sent_by_hand
from esb.runtime.items import spec_item
from esb.runtime.payload import observe
from esb.secret import Secret
from esb.store import open_store
from esb.store.base import NewMessage
from esb.store.lock import StoreLock
from esb.store.sqlstore import SqlStore


@dataclass(slots=True)
class StoppedBus:
    """What there is to say of a bus that does not run."""

    root: Path
    store: SqlStore
    clock: SystemClock
    name: str = "stopped"
    uptime: float = 0.0
    not_ready: str = "the bus is stopped"
    _read: Mapping[str, RouteSpec] | None = None

    @property
    def health(self) -> Mapping[str, Any]:
        return {"ready": False, "reason": self.not_ready}

    @property
    def kpis(self) -> Mapping[str, Kpi]:
        """Raises ConfigError where the files have faults."""
        workspace = _read(self.root)
        return workspace.kpis

    @property
    def seal_key(self) -> Secret | None:
        settings = settings_at(self.root)
        return settings.audit.key if settings is not None else None

    @property
    def alerts(self) -> list[dict[str, Any]]:
        return []

    @property
    def meters(self) -> Meters:
        return Meters()

    @property
    def trends(self) -> StoredRows:
        return StoredRows(self.store)

    @property
    def kpi_faults(self) -> Mapping[str, int]:
        return {}

    def facts(self, route: str) -> Mapping[str, Any]:
        """Its version is the one that was live last; source, owner and the like are what its file says now."""
        saved = self.store.get_state("route", route)
        spec = self._specs().get(route)
        found: dict[str, Any] = spec_item(spec) if spec is not None else {}
        found |= {"state": "paused"} if saved and saved.get("paused") else {}
        if turns := turns_of(self.store, route):
            digest = turns[-1]["digest"]
            found |= {"version": short_version(digest), "digest": digest, "own_version": turns[-1]["own_version"]}
            found["file"] = turns[-1]["file"]
        return found

    def names(self) -> list[str]:
        """The routes that were live last or have messages; those on disk for a bus that never ran."""
        found = {count.route for count in self.store.counts()} | set(live_routes(self.store))
        return sorted(found or self._specs())

    def _specs(self) -> Mapping[str, RouteSpec]:
        """The routes on disk, read once; none where the files have faults."""
        if self._read is None:
            workspace, _ = load_workspace(self.root, need_secrets=False)
            self._read = workspace.routes if workspace is not None else {}
        return self._read

    @property
    def marked(self) -> frozenset[str]:
        return frozenset()

    def troubled(self, route: str) -> dict[str, str]:
        return {}  # nothing is asked of a target

    def site_of(self, route: str) -> str:
        return ""  # whoever holds the lock may do everything

    def described(self) -> tuple[Workspace, str]:
        workspace = _read(self.root)
        http = workspace.settings.http
        return workspace, f"{'https' if http.tls else 'http'}://{http.host}:{http.port}"

    def sites(self) -> list[dict[str, Any]]:
        """The sites on disk. Raises ConfigError where the workspace has faults."""
        workspace = _read(self.root)
        found = site_items(workspace)
        for route in (route for site in found for route in site["routes"]):
            route["state"] = "stopped"
        return found

    async def send(
        self, route: str, payload: bytes, headers: Mapping[str, str], wait: float, by: tuple[str, str]
    ) -> dict[str, Any]:
        """Store a message for a route; it runs at the next start."""
        if wait > 0:
            raise NotRunning("the bus is stopped, so nobody can wait for the end", hint="esb run, or leave out --wait")
        workspace = _read(self.root)
        spec = workspace.routes[route]
        observer = Observer()
        observe(observer, workspace)
        births = Births(workspace.registry, workspace.settings.site, observer=observer)
        birth = births.of_incoming(spec, send_incoming(spec, payload, headers, by), self.clock.now())
        birth = sent_by_hand(birth, *by)
        accepted = await self.store.accept(birth.new)
        return {
            "message_id": accepted.id,
            "correlation_id": birth.new.envelope.correlation_id,
            "state": accepted.state.value,
            "duplicate_of": accepted.first_id,
        }

    async def reload(self, actor: str, reason: str) -> dict[str, Any]:
        raise NotRunning("the bus is stopped; it reads its files when it starts")


def _read(root: Path) -> Workspace:
    """The workspace on disk. Raises ConfigError with its errors; what is a warning is for `esb lint`."""
    workspace, problems = load_workspace(root, need_secrets=False)
    if workspace is None:
        raise ConfigError([problem for problem in problems if problem.severity == "error"])
    return workspace


class _LateObserver(Observer):
    """Reads the workspace when a replay first asks for its indicators; most commands do not."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root: Path | None = root

    def rules(self, route: str) -> Mapping[str, Any]:
        root, self._root = self._root, None
        if root is not None:
            workspace, _ = load_workspace(root, need_secrets=False)
            if workspace is not None:
                observe(self, workspace)
        return super().rules(route)


class _LateDoor:
    """Reads the workspace when a message that was refused at the door is to be let in. Raises ConfigError for its faults."""

    def __init__(self, root: Path, clock: SystemClock) -> None:
        self._root, self._clock = root, clock
        self._workspace: Workspace | None = None

    async def once_more(self, envelope: Envelope) -> NewMessage | None:
        if self._workspace is None:
            self._workspace = _read(self._root)
        spec = self._workspace.routes.get(envelope.route)
        births = Births(self._workspace.registry, self._workspace.settings.site)
        if spec is None:
            return None
        return (births.too_old(spec, envelope, self._clock.now()) or births.once_more(spec, envelope)).new


@asynccontextmanager
async def offline_app(root: Path) -> AsyncIterator[Any]:
    """The API over the store of a stopped bus. Raises StoreBusy where a bus owns it."""
    clock, settings = SystemClock(), settings_of(root)
    lock = StoreLock(root / ".esb", command=True)
    lock.acquire()
    try:
        store = await open_store(settings.store, root, clock=clock)
        try:
            before, anchor = store.audit_head()[0], anchor_of(settings, root)
            operations = Operations(store, clock, observer=_LateObserver(root), door=_LateDoor(root, clock))
            yield stopped_app(StoppedBus(root, store, clock), store, operations, clock, settings, "offline")
            if anchor is not None and store.audit_head()[0] > before:
                anchor.write(*store.audit_head(), clock.now().isoformat())
        finally:
            await store.close()
    finally:
        lock.release()


def store_url(root: Path) -> str | Secret:
    """The store of a workspace, also where its routes are broken: a stopped bus must stay readable."""
    return settings_of(root).store


def settings_of(root: Path) -> Settings:
    """The settings of a workspace, also where its routes are broken. Raises StoreError where ``esb.yaml`` is."""
    settings = settings_at(root)
    if settings is None:
        raise StoreError("esb.yaml has faults, so nobody knows where the store is", hint="esb lint")
    return settings
