"""Time as an argument: the real clock, and one that tests move by hand."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What the runtime knows of time. Instants are aware UTC; ``monotonic`` is in seconds and never jumps."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock that stands still until :meth:`advance`; sleepers wake in order of their time."""

    def __init__(self, start: datetime | str = "2026-01-05T09:00:00+00:00") -> None:
        instant = datetime.fromisoformat(start) if isinstance(start, str) else start
        self._now = instant.astimezone(UTC)
        self._mono = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = 0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._mono

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._order += 1
        self._sleepers.append((self._mono + seconds, self._order, future))
        await future

    def advance(self, delta: timedelta | float) -> None:
        """Move time on and wake every sleeper whose time has come."""
        seconds = delta.total_seconds() if isinstance(delta, timedelta) else float(delta)
        self._now += timedelta(seconds=seconds)
        self._mono += seconds
        due = sorted(entry for entry in self._sleepers if entry[0] <= self._mono)
        self._sleepers = [entry for entry in self._sleepers if entry[0] > self._mono]
        for _, _, future in due:
            if not future.done():
                future.set_result(None)
