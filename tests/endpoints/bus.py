"""A bus in this process on the real clock, for routes that talk to real servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from esb.clock import SystemClock
from esb.endpoints.base import Incoming, Receipt
from esb.endpoints.ingress import HttpIngress
from esb.formats.json import Json
from esb.runtime.supervisor import Supervisor
from esb.store import open_store
from tests.runtime.conftest import load, write

PATIENCE = 60.0


@dataclass
class LiveBus:
    """A started bus."""

    root: Path
    supervisor: Supervisor
    store: Any
    logs: list[dict[str, Any]] = field(default_factory=list)

    async def send(self, route: str, body: Any) -> Receipt:
        intake = self.supervisor.routes[route].intake
        return await intake.accept(Incoming(json.dumps(body).encode(), codec=Json()))

    def counts(self, route: str) -> dict[str, int]:
        """Messages of a route by state; states without any are left out."""
        found = next((counts.states for counts in self.store.counts() if counts.route == route), {})
        return {str(state): count for state, count in found.items() if count}

    def events(self, name: str) -> list[dict[str, Any]]:
        return [entry for entry in self.logs if entry["event"] == name]

    async def reload(self, files: dict[str, str]) -> Any:
        write(self.root, files)
        return await self.supervisor.apply(load(self.root))


@asynccontextmanager
async def running(root: Path, files: dict[str, str]) -> AsyncIterator[LiveBus]:
    """Start a bus on a folder; at its end the store accounts for every message."""
    write(root, files)
    logs: list[dict[str, Any]] = []
    clock = SystemClock()
    workspace = load(root)
    store = await open_store(workspace.settings.store, root, clock=clock, min_free=0)
    log: Any = lambda level, event, **fields: logs.append({"level": level, "event": event, **fields})  # noqa: E731 - all that it does
    supervisor = Supervisor(store, clock, HttpIngress(), log, workspace)
    await supervisor.start()
    bus = LiveBus(root, supervisor, store, logs)
    try:
        yield bus
        assert store.verify_conservation() == []
    finally:
        await supervisor.stop(timedelta(seconds=2))
        await store.close()


async def until(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait until it is so; the wait, not the clock, is what a test asserts."""
    async with asyncio.timeout(patience):
        while not condition():
            await asyncio.sleep(0.02)
