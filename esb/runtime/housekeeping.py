"""What the bus does on the side: forget expired dedupe keys, remove old messages by ``retention``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from esb.clock import Clock
from esb.config.model import Settings
from esb.durations import parse_duration
from esb.errors import StoreError
from esb.message import State

#: Seconds between two rounds.
ROUND = 60.0
#: Messages removed per transaction: small, so that no accept waits for it.
CHUNK = 200


class Prunes(Protocol):
    """The part of the store that housekeeping uses."""

    async def purge_expired(self, now: datetime, limit: int = ...) -> int: ...

    def purge(self, before: datetime, states: Sequence[State], limit: int = ...) -> asyncio.Future[int]: ...


class Housekeeping:
    """One quiet task; an error of a round is logged and the next round tries again."""

    def __init__(self, store: Prunes, clock: Clock, settings: Settings, log: Callable[..., None]) -> None:
        self._store = store
        self._clock = clock
        self._log = log
        self._keep = keep_times(settings.retention)
        self._task: asyncio.Task[None] | None = None

    def configure(self, settings: Settings) -> None:
        """Take over the retention of a new workspace."""
        self._keep = keep_times(settings.retention)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="esb:housekeeping")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(ROUND)
            try:
                await self.round()
            except StoreError as error:
                self._log("warning", "housekeeping.failed", error=str(error))

    async def round(self) -> int:
        """Forget and remove what is due; gives the number of messages removed."""
        now, removed = self._clock.now(), 0
        while await self._store.purge_expired(now, 1000) >= 1000:
            await asyncio.sleep(0)
        for states, keep in self._keep:
            while (count := await self._store.purge(now - keep, states, CHUNK)) > 0:
                removed += count
                await asyncio.sleep(0)
        return removed


def keep_times(retention: Mapping[str, Any]) -> list[tuple[tuple[State, ...], timedelta]]:
    """``retention: { done: 30d, dead: 365d }`` as states and times; ``done`` stands for every good end."""
    ends = (State.DONE, State.EXPIRED, State.DUPLICATE, State.SUPERSEDED, State.DISCARDED)
    found: list[tuple[tuple[State, ...], timedelta]] = []
    for name, states in (("done", ends), ("dead", (State.DEAD,))):
        text = retention.get(name)
        if isinstance(text, str) and text != "forever":
            found.append((states, parse_duration(text)))
    return found
