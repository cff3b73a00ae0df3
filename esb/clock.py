"""Time as an argument: the real clock, and one that tests move by hand."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol


class Clock(Protocol):
    """What the runtime knows of time. Instants are aware UTC; ``monotonic`` is in seconds and never jumps."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The clock of the machine."""

    # no functions of Python: both are asked several times for each message
    now = staticmethod(partial(datetime.now, UTC))
    monotonic = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Within:
    """``with Within(5.0): await …`` raises TimeoutError where what is awaited takes longer, and cancels it.

    As ``asyncio.timeout``, at half its price: every delivery is bounded twice. Only inside a task.
    """

    __slots__ = ("_before", "_ended", "_handle", "_seconds", "_task")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ended = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can be bounded")
        self._task, self._before = task, task.cancelling()
        self._handle = asyncio.get_running_loop().call_later(self._seconds, self._end)

    def _end(self) -> None:
        self._ended = True
        self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._handle.cancel()
        # another cancellation that came meanwhile is somebody else's, and goes on
        if self._ended and self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error


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
