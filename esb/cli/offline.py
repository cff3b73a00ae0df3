"""The API of a stopped bus: the same words, served from the store under its lock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esb.admin.api import Access, Api
from esb.bus import send_incoming
from esb.clock import SystemClock
from esb.config.loader import load_workspace, read_workspace
from esb.errors import ConfigError, NotRunning
from esb.operations import Operations
from esb.runtime.births import Births
from esb.secret import Secret
from esb.store import open_store
from esb.store.lock import StoreLock
from esb.store.sqlite import SqliteStore


@dataclass(slots=True)
class StoppedBus:
    """What there is to say of a bus that does not run."""

    root: Path
    store: SqliteStore
    clock: SystemClock
    name: str = "stopped"
    uptime: float = 0.0
    not_ready: str = "the bus is stopped"

    @property
    def health(self) -> Mapping[str, Any]:
        return {"ready": False, "reason": self.not_ready}

    def facts(self, route: str) -> Mapping[str, Any]:
        saved = self.store.get_state("route", route)
        return {"state": "paused"} if saved and saved.get("paused") else {}

    def names(self) -> list[str]:
        return [count.route for count in self.store.counts()]

    async def send(self, route: str, payload: bytes, headers: Mapping[str, str], wait: float) -> dict[str, Any]:
        """Store a message for a route; it runs at the next start."""
        if wait > 0:
            raise NotRunning("the bus is stopped, so nobody can wait for the end", hint="esb run, or leave out --wait")
        workspace, problems = load_workspace(self.root, need_secrets=False)
        if workspace is None:
            raise ConfigError(problems)
        spec = workspace.routes[route]
        births = Births(workspace.registry, workspace.settings.site)
        birth = births.of_incoming(spec, send_incoming(spec.source.options, payload, headers), self.clock.now())
        accepted = await self.store.accept(birth.new)
        return {
            "message_id": accepted.id,
            "correlation_id": birth.new.envelope.correlation_id,
            "state": accepted.state.value,
            "duplicate_of": accepted.first_id,
        }

    async def reload(self) -> dict[str, Any]:
        raise NotRunning("the bus is stopped; it reads its files when it starts")


@asynccontextmanager
async def offline_app(root: Path) -> AsyncIterator[Any]:
    """The API over the store of a stopped bus. Raises StoreBusy where a bus owns it."""
    clock = SystemClock()
    lock = StoreLock(root / ".esb")
    lock.acquire()
    try:
        store = await open_store(store_url(root), root, clock=clock)
        try:
            access = Access(Secret("offline"), None, ())
            yield Api(store, Operations(store, clock), StoppedBus(root, store, clock), clock, access).app()
        finally:
            await store.close()
    finally:
        lock.release()


def store_url(root: Path) -> str:
    """The store of a workspace, also where its routes are broken: a stopped bus must stay readable."""
    settings = read_workspace(root, need_secrets=False).settings
    if settings is None:
        raise NotRunning("esb.yaml has faults, so nobody knows where the store is", hint="esb lint")
    return settings.store
