"""The quotas of clients over restarts: saved a second after a charge, and at the end.

A charge is a number in memory, so that a request does not wait for it; a process that is killed forgets what was charged in its
last second.
"""

from __future__ import annotations

import asyncio

from esb.clock import Clock
from esb.endpoints.limits import Quotas
from esb.errors import StoreError
from esb.runtime.bench import Logs
from esb.store.base import Store

#: Where the store keeps them.
PLACE = ("bus", "quotas")
#: Seconds from a charge until it is saved, together with those that came meanwhile.
PAUSE = 1.0


class KeptQuotas:
    """``book`` holds the quotas; this saves what they are."""

    def __init__(self, store: Store, clock: Clock, log: Logs) -> None:
        self._store, self._clock, self._log = store, clock, log
        self._task: asyncio.Task[None] | None = None
        self._unsaved = False
        self.book = Quotas(store.get_state(*PLACE) or {}, self._changed)

    def _changed(self) -> None:
        self._unsaved = True
        if self._task is None:
            self._task = asyncio.create_task(self._later(), name="esb:quotas")

    async def _later(self) -> None:
        while self._unsaved:
            await self._clock.sleep(PAUSE)
            await self._save()
        self._task = None

    async def _save(self) -> None:
        self._unsaved = False
        try:
            await self._store.put_state(*PLACE, self.book.levels(self._clock.now()))
        except StoreError as error:
            self._unsaved = True
            self._log("warning", "quotas.unsaved", error=str(error))

    async def close(self) -> None:
        """Save what there is. Afterwards nothing is charged any more."""
        if self._task is not None:  # it may be in the middle of saving
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self._save()
