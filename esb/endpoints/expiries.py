"""Many deadlines with one timer: nearly all are met long before, so only the next one is watched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

#: Seconds by which a timer may ring too early: loops count in milliseconds.
_EARLY = 0.002


class Expiries(Generic[T]):
    """``expired`` is called with everything whose time is up; a deadline costs no timer of its own.

    For what is told of its end and not cancelled, as a task is by :class:`esb.clock.Deadlines`. Belongs to the loop in
    which it is used.
    """

    def __init__(self, expired: Callable[[T], None]) -> None:
        self._expired = expired
        self._ends: dict[T, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._rings = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, what: T, seconds: float) -> None:
        """Watch ``what`` for so many seconds."""
        loop = self._loop
        if loop is None:  # asked for once: each time it is a call of the system
            loop = self._loop = asyncio.get_running_loop()
        end = self._ends[what] = loop.time() + seconds
        if self._timer is None or end < self._rings:
            self._ring_at(loop, end)

    def end(self, what: T) -> None:
        """It is over in time. Does nothing where it is not watched any more."""
        self._ends.pop(what, None)

    def _ring_at(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._rings = loop.call_at(at, self._ring), at

    def _ring(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time() + _EARLY
        late = [what for what, end in self._ends.items() if end <= now]
        for what in late:
            del self._ends[what]
        if self._ends:
            self._ring_at(loop, min(self._ends.values()))
        for what in late:
            self._expired(what)


__all__ = ["Expiries"]
