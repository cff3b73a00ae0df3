"""Time of a test: an event loop that never waits, and the clock that shows what it skipped."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, TypeVarTuple

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

START = "2026-01-05T09:00:00+00:00"


class VirtualClock:
    """Moves only while everything waits. ``now`` can be set, ``monotonic`` never jumps (:class:`esb.clock.Clock`)."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._origin = datetime.fromisoformat(START)

    def set(self, start: datetime) -> None:
        self._origin = start.astimezone(UTC) - timedelta(seconds=self.seconds)

    def jump(self, by: timedelta) -> None:
        """What a person does who sets the clock of the machine."""
        self._origin += by

    def now(self) -> datetime:
        return self._origin + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Leaping(selectors.DefaultSelector):
    """Instead of waiting it moves the clock to where the next timer is due."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> Any:
        if timeout is not None and timeout > 0:
            self._clock.seconds += timeout
            timeout = 0
        return super().select(timeout)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time: an hour of waiting costs nothing, and no deadline is met late.

    What else is done in a thread is done here at once: no turn of the loop would wait for it, and time would pass meanwhile.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self._virtual = clock
        super().__init__(_Leaping(clock))

    def time(self) -> float:
        return self._virtual.seconds

    def run_in_executor(
        self, executor: Any, func: Callable[[*Arguments], Result], *args: *Arguments
    ) -> asyncio.Future[Result]:
        done: asyncio.Future[Result] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - whoever awaits it gets it, as from a thread
            done.set_exception(error)
        return done
