"""One timer that rings at the earliest instant it was asked for, and notices that the clock was set back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from esb.clock import Clock

#: Seconds of the longest nap: a jump of the wall clock is noticed after one.
NAP = 5.0
#: A clock that went back by more than this was set.
SET_BACK = timedelta(seconds=5)


class Alarm:
    """Calls ``ring`` once when the earliest instant given to :meth:`at` has come.

    Instants are of the wall clock. Where that was set back they would come that much later: ``set_back`` is told by how
    much, moves what it keeps, and is rung at once.
    """

    def __init__(self, clock: Clock, ring: Callable[[], None], set_back: Callable[[timedelta], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._set_back = set_back
        self._zero = self._origin()
        self._task: asyncio.Task[None] | None = None
        self._due: datetime | None = None

    def at(self, due: datetime | None) -> None:
        """Ring at ``due`` unless it is set to an earlier instant already; None asks for nothing."""
        if due is None or (self._task is not None and self._due is not None and self._due <= due):
            return
        self.stop()
        if self._was_set_back():
            self._task = self._due = None
            self._ring()
            return
        self._due = due
        self._task = asyncio.create_task(self._sleep_until(due))

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _sleep_until(self, due: datetime) -> None:
        while (left := (due - self._clock.now()).total_seconds()) > 0:
            await self._clock.sleep(min(left, NAP))
            if self._was_set_back():
                break
        self._task = self._due = None
        self._ring()

    def _was_set_back(self) -> bool:
        """Whether the clock was set back since the last look; then everything kept is moved already."""
        before, self._zero = self._zero, self._origin()
        if before - self._zero <= SET_BACK:
            return False
        self._set_back(before - self._zero)
        return True

    def _origin(self) -> datetime:
        """The wall clock at zero of the clock that cannot be set."""
        return self._clock.now() - timedelta(seconds=self._clock.monotonic())
