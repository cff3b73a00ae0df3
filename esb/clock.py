"""Time as an argument: the real clock, and one that tests move by hand."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol

#: Different lengths of waits that are kept ready.
LENGTHS = 100


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


class Deadlines:
    """``with deadlines.within(5.0): await …`` raises TimeoutError where what is awaited takes longer, and cancels it.

    As ``asyncio.timeout``, at a part of its price: waits of one length end in the order in which they began, so all of them
    share a timer, and nearly none of them ends by it.
    """

    __slots__ = ("_lengths",)

    def __init__(self) -> None:
        self._lengths: dict[float, Length] = {}

    def within(self, seconds: float) -> Within:
        """A bound for what runs inside of it. Only inside a task."""
        length = self._lengths.get(seconds)
        if length is None:
            if len(self._lengths) >= LENGTHS:
                self._lengths = {known: row for known, row in self._lengths.items() if row.armed}
            length = self._lengths[seconds] = Length(seconds)
        return Within(length)


class Within:
    """One wait of :class:`Deadlines`."""

    __slots__ = ("_before", "_ended", "_length", "_task")

    def __init__(self, length: Length) -> None:
        self._length = length
        self._ended = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can be bounded")
        self._task, self._before = task, task.cancelling()
        self._length.add(self)

    def end(self) -> None:
        """The time is up."""
        self._ended = True
        self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._length.drop(self)
        # another cancellation that came meanwhile is somebody else's, and goes on
        if self._ended and self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error


class Length:
    """The waits of one length, in the order of their ends."""

    __slots__ = ("_seconds", "_timer", "_waits")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waits: dict[Within, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, wait: Within) -> None:
        loop = asyncio.get_running_loop()
        self._waits[wait] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._ring)

    def drop(self, wait: Within) -> None:
        self._waits.pop(wait, None)

    @property
    def armed(self) -> bool:
        return self._timer is not None

    def _ring(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        for wait, at in list(self._waits.items()):
            if (left := at - loop.time()) > 0:
                self._timer = loop.call_later(left, self._ring)
                return
            del self._waits[wait]
            wait.end()


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
