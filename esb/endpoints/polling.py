"""What sources that look again and again share: one look at a time, rests while the intake is closed, an orderly stop."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress

from esb.endpoints.base import SourceContext


class Poller(ABC):
    """A :class:`~esb.endpoints.base.RunningSource` that calls :meth:`poll_once` until it is stopped.

    An error of one look is logged as ``trouble`` and the next look comes; ``stop`` lets the look in hand end.
    """

    trouble = "source.poll_failed"

    def __init__(self, context: SourceContext) -> None:
        self._context = context
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._rest_until = 0.0

    @abstractmethod
    async def poll_once(self) -> int:
        """Look once; how many messages were taken in hand."""

    @abstractmethod
    def pause(self) -> float:
        """Seconds until the next look; 0 for at once."""

    async def nap(self, seconds: float) -> None:
        """Wait for the next look."""
        await self._context.clock.sleep(seconds)

    async def start(self) -> None:
        self._stopping = False
        self._task = asyncio.create_task(self._run(), name=f"{type(self).__name__} of {self._context.route}")

    async def stop(self) -> None:
        """Take nothing new, end what is in hand, return."""
        self._stopping = True
        async with self._turn:
            pass
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def rest(self, seconds: float) -> None:
        """Take nothing for a while: the intake asked for it, or something is wrong."""
        self._rest_until = self._context.clock.monotonic() + seconds

    @property
    def resting(self) -> bool:
        now = self._context.clock.monotonic()
        return self._stopping or now < self._rest_until or not self._context.intake.open

    @property
    def rest_left(self) -> float:
        """Seconds of the rest that are left; below zero where it is over."""
        return self._rest_until - self._context.clock.monotonic()

    async def _run(self) -> None:
        while not self._stopping:
            try:
                await self.poll_once()
            except Exception as error:  # noqa: BLE001 - the source loop: whatever happened, the next look comes
                self._context.log(
                    "error", self.trouble, route=self._context.route, error=f"{type(error).__name__}: {error}"
                )
                self.rest(5.0)
            await self.nap(self.pause())
