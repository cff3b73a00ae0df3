"""What is done again and again beside the messages: alerts, arrival windows, retention."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from esb.clock import Clock
from esb.store.connection import Answers


class Rounds:
    """One quiet task: ``work``, then a rest of ``every`` seconds, until :meth:`stop`.

    A round that fails is logged as ``<name>.failed``, whatever failed, and the next one tries again: a fault in one of them must
    not end them for the life of the process, where nobody would miss them. ``rested``: the first round comes after a rest.
    A round reads the store on the loop, so it begins only once ``store`` has answered: a server that hangs must not hold up the loop.
    """

    def __init__(
        self,
        name: str,
        every: float,
        work: Callable[[], Awaitable[object]],
        clock: Clock,
        log: Callable[..., None],
        *,
        store: Answers,
        rested: bool = False,
    ) -> None:
        self._name, self._every, self._work, self._rested = name, every, work, rested
        self._clock, self._log, self._store = clock, log, store
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"esb:{self._name}")

    async def stop(self) -> None:
        """Cut off the round that runs; what it has committed stays."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        if self._rested:
            await self._clock.sleep(self._every)
        while True:
            try:
                await self._store.answering()
                await self._work()
            except Exception as error:  # noqa: BLE001 - see above; cancelling is no Exception
                self._log("warning", f"{self._name}.failed", error=f"{type(error).__name__}: {error}")
            await self._clock.sleep(self._every)
