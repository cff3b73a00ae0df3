"""What the bus does on the side: forget expired dedupe keys, remove old messages by ``retention``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from esb.clock import Clock
from esb.config.model import Settings
from esb.errors import StoreBusy
from esb.message import EMPTY, State
from esb.observe.kpis import KEPT
from esb.runtime.keeping import ENDS, Rule, export, keeping_of
from esb.runtime.rounds import Rounds
from esb.runtime.sequences import forget_old
from esb.store.anchor import Anchor
from esb.store.base import Store
from esb.store.indicators import Indicators

#: Seconds between two rounds.
ROUND = 60.0
#: Rounds between two looks for payload files that no message keeps, where nothing was removed.
SWEEP = 60
#: Messages removed per transaction: small, so that no accept waits for it.
CHUNK = 200
#: Rounds between two looks for hours of indicators that nobody needs any more.
HOURLY = 60
#: How far a store may be over its size before nothing new is taken.
OVER = 1.05
#: Messages that go at once where the store is over its size.
PIECE = 50
#: Seconds that the place of the anchor, perhaps on another machine, has for one line.
ANCHOR_LIMIT = 10.0


class Prunes(Store, Protocol):
    """The part of the store that housekeeping uses."""

    def audit_head(self) -> tuple[int, str]: ...

    async def purge_expired(self, now: datetime, limit: int = ...) -> int: ...

    full: bool

    @property
    def indicators(self) -> Indicators: ...

    def purge(
        self,
        before: datetime,
        states: Sequence[State],
        limit: int = ...,
        *,
        routes: Sequence[str] = ...,
        but: Sequence[str] = ...,
        only: Sequence[int] = ...,
    ) -> asyncio.Future[int]: ...

    def strip(
        self, before: datetime, states: Sequence[State], limit: int = ..., *, only: Sequence[int] | None = None
    ) -> asyncio.Future[int]: ...

    def stripping(self, before: datetime, states: Sequence[State], limit: int = ...) -> list[int]: ...

    def expiring(
        self,
        before: datetime,
        states: Sequence[State],
        limit: int,
        *,
        routes: Sequence[str] = ...,
        but: Sequence[str] = ...,
    ) -> list[int]: ...

    def used_bytes(self) -> int: ...

    def make_room(self) -> bool: ...

    def sweep(self) -> int: ...


class Housekeeping:
    """One quiet task; an error of a round is logged and the next round tries again."""

    def __init__(
        self,
        store: Prunes,
        clock: Clock,
        settings: Settings,
        log: Callable[..., None],
        anchor: Anchor | None = None,
        *,
        root: Path = Path(),
        classes: Mapping[str, str] = EMPTY,
    ) -> None:
        self._store = store
        self._clock = clock
        self._log = log
        self._root = root
        self._keep = keeping_of(settings.retention, classes)
        self._anchor = anchor
        self._task = Rounds("housekeeping", ROUND, self._whole_round, clock, log, store=store)
        self._rounds = 0

    def configure(self, settings: Settings, anchor: Anchor | None = None, classes: Mapping[str, str] = EMPTY) -> None:
        """Take over the retention and the anchor of a new workspace; ``classes`` gives the criticality of each route."""
        self._anchor = anchor
        self._keep = keeping_of(settings.retention, classes)

    def start(self) -> None:
        self._task.start()

    async def stop(self) -> None:
        await self._task.stop()
        await self.anchor()

    async def _whole_round(self) -> None:
        try:
            await self.round()
        finally:  # the head of the audit gets outside although something cannot be removed
            await self.anchor()

    async def anchor(self) -> None:
        """Write the head of the audit to its place outside; a place that cannot be written is logged, and tried again."""
        if self._anchor is None:
            return
        head, at = self._store.audit_head(), self._clock.now().isoformat()
        try:
            async with asyncio.timeout(ANCHOR_LIMIT):
                await asyncio.to_thread(self._anchor.write, *head, at)
        except (OSError, TimeoutError) as error:
            where = str(self._anchor.path)
            self._log("error", "audit.anchor_failed", path=where, error=str(error) or "it took too long")

    async def round(self) -> int:
        """Forget and remove what is due; gives the number of messages removed."""
        now, removed = self._clock.now(), 0
        while await self._store.purge_expired(now, 1000) >= 1000:
            await asyncio.sleep(0)
        for rule in self._keep.rules:
            removed += await self._remove(rule, now - rule.keep, now)
        if self._keep.payload is not None:
            await self._strip(now - self._keep.payload, now)
        removed += await self._shrink(now)
        if self._rounds % HOURLY == 0:
            await self._store.indicators.forget(now - KEPT)
            await forget_old(self._store, now)
        if removed or self._rounds % SWEEP == 0:
            await asyncio.to_thread(self._store.sweep)
        self._rounds += 1
        return removed

    async def _strip(self, before: datetime, now: datetime) -> None:
        """Take payloads away, in small pieces, each message written to the export first where there is one."""
        while True:
            only = None
            if self._keep.export and (only := self._store.stripping(before, ENDS, CHUNK)):
                await asyncio.to_thread(export, self._store, only, self._root / self._keep.export, now)
            if not await self._store.strip(before, ENDS, CHUNK, only=only):
                return
            await asyncio.sleep(0)

    async def _remove(self, rule: Rule, before: datetime, now: datetime, *, once: int = 0) -> int:
        """Remove what is older, in small pieces, each written to the export first where there is one; ``once`` only so many."""
        removed, store, piece, tight = 0, self._store, once or CHUNK, False
        while True:
            only: list[int] = []
            if self._keep.export:
                only = store.expiring(before, rule.states, piece, routes=rule.routes, but=rule.but)
                if not only:
                    break
                await asyncio.to_thread(export, store, only, self._root / self._keep.export, now)
            try:
                count = await store.purge(before, rule.states, piece, routes=rule.routes, but=rule.but, only=only)
            except StoreBusy:  # to remove takes room, too: less at a time takes less
                if piece == 1 or not store.make_room():
                    raise
                piece, tight = max(1, piece // 8), True
                continue
            if tight:
                store.make_room()
            removed += count
            if once or not count:
                break
            await asyncio.sleep(0)
        return removed

    async def _shrink(self, now: datetime) -> int:
        """Keep the store below its size: the oldest that ended well go first, whatever their age; then nothing new is taken."""
        size, removed, store = self._keep.max_size, 0, self._store
        if size is None:
            store.full = False
            return 0
        while (used := store.used_bytes()) > size:
            count = await self._remove(Rule(ENDS, timedelta(0)), now, now, once=PIECE)
            if not count:
                break
            removed += count
        if removed:
            self._log(
                "warning", "retention.max_size", removed=removed, bytes=used, hint="messages went before their time"
            )
        if (used > size * OVER) != store.full:
            store.full = not store.full
            hint = "nothing more may be removed, so nothing new is taken: raise `retention.max_size`, or end what is open and dead"
            self._log("error" if store.full else "info", "store.full", full=store.full, bytes=used, hint=hint)
        return removed
