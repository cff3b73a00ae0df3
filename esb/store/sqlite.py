"""The embedded store: one file, one writing connection, one group committer on the loop."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from esb.clock import Clock
from esb.errors import StoreBusy, StoreError
from esb.message import OPEN_STATES, Envelope, State
from esb.store import accept, commands, files, operate, recovery, retention, verify
from esb.store.base import (
    Accepted,
    AuditEntry,
    Confirmed,
    DeadGroup,
    Filter,
    NewMessage,
    Pending,
    RouteCounts,
    Settlement,
    Stored,
)
from esb.store.chain import COLUMNS
from esb.store.committer import Committer
from esb.store.queries import Queries
from esb.store.reader import Reader
from esb.store.tables import CODES
from esb.store.values import dump_any, load_any, micros
from esb.store.writer import ALL_WORDS, Words, Writer

#: Above this time of an fsync, in seconds, commits run in a thread.
SLOW_SYNC = 0.002
#: Commits of one call of ``purge_expired``.
_LOOKS = 25
#: Seconds between two looks at the free space; it is far above what the bus can write meanwhile.
_BETWEEN_LOOKS = 0.5
_LEAST_FREE = 256 * 1024 * 1024
_MOST_FREE = 5 * 1024 * 1024 * 1024


class SqliteStore:
    """Implements :class:`esb.store.base.Store`; made by :func:`esb.store.open_store`, used from one event loop.

    Queries read committed data on connections of their own, never on the writer's: ``pending payload get get_state`` on
    one, what people ask on another, so that a long search does not delay a retry. They may be called from any thread.
    """

    def __init__(
        self, path: Path, clock: Clock, *, min_free: int | None, threaded: bool | None, read_only: bool
    ) -> None:
        self.path = path
        self.clock = clock
        #: messages that ran when the last process died; they are queued again
        self.recovered: list[Pending] = []
        #: whether the last process closed the store in peace
        self.clean_start = True
        self._words = Words()
        self._closed = False
        self._place = retention.FIRST_PLACE
        self._writer: Writer | None = None
        self._committer: Committer | None = None
        self._submit: Callable[..., asyncio.Future[Any]] = _refuse_to_write
        if not read_only:
            self._open_writer(threaded)
        self._hot = Reader(lambda: files.connect_reader(path))
        self._search = Reader(lambda: files.connect_reader(path))
        if read_only:
            self._words.reload = lambda: self._hot.rows(ALL_WORDS)
            self._words.fill(self._hot.rows(ALL_WORDS))
        self._hot_queries = Queries(self._hot, self._words)
        self._queries = Queries(self._search, self._words)
        self._min_free = self._default_watermark() if min_free is None else min_free
        self._short = False
        self._looked = 0.0
        self._look_at_disk()

    def _open_writer(self, threaded: bool | None) -> None:
        with files.explained(self.path):
            writer = Writer(lambda: files.connect_writer(self.path), self._words)
            try:
                self.clean_start, self.recovered = recovery.recover(writer)
            except BaseException:
                writer.close()
                raise
        if threaded is None:
            threaded = files.probe_sync(self.path.parent) > SLOW_SYNC
        self._writer = writer
        self._committer = Committer(writer, threaded=threaded, after_group=self._after_group)
        self._submit = self._committer.submit

    # -- commands -----------------------------------------------------------------------------------------------------
    def accept(self, new: NewMessage) -> asyncio.Future[Accepted]:
        """Raises StoreBusy at once while disk space is short, TypeError or ValueError for what cannot be stored."""
        draft = accept.Draft(new)
        if self._short and not self.open_for_intake:
            raise StoreBusy(
                "disk space is short; nothing new is taken", hint=f"free some space under {self.path.parent}"
            )
        future: asyncio.Future[Accepted] = self._submit(accept.accept, draft)
        return future

    def start(self, seq: int, attempts: int, at: datetime) -> asyncio.Future[bool]:
        del at  # the attempt's trace has its times
        future: asyncio.Future[bool] = self._submit(commands.start, seq, attempts, light=commands.would_start, seq=seq)
        return future

    def confirm(self, seq: int, entry: Confirmed) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._submit(commands.confirm, seq, entry.step, dump_any(entry.value))
        return future

    def settle(self, settlement: Settlement) -> asyncio.Future[tuple[Accepted, ...]]:
        """A message that is not open any more (discarded, superseded meanwhile) is left as it is: gives ``()``.

        A start of the same group, or one that could not be stored, is implied. Raises StoreError for an illegal move.
        """
        future: asyncio.Future[tuple[Accepted, ...]] = self._submit(
            commands.settle, commands.Ending(settlement), seq=settlement.seq, settles=True
        )
        return future

    def claim(self, space: str, key: str, seq: int, expires_at: datetime, now: datetime) -> asyncio.Future[bool]:
        future: asyncio.Future[bool] = self._submit(accept.claim, space, key, seq, micros(expires_at), micros(now))
        return future

    def put_state(self, space: str, name: str, value: Any) -> asyncio.Future[None]:
        packed = None if value is None else dump_any(value)
        future: asyncio.Future[None] = self._submit(commands.put_state, space, name, packed)
        return future

    def audit(self, entry: AuditEntry, at: datetime) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._submit(operate.audit, entry, micros(at))
        return future

    def retry(self, seq: int, audit: AuditEntry, at: datetime) -> asyncio.Future[Pending | None]:
        future: asyncio.Future[Pending | None] = self._submit(operate.retry, seq, audit, micros(at))
        return future

    def discard(self, seq: int, audit: AuditEntry, at: datetime) -> asyncio.Future[bool]:
        future: asyncio.Future[bool] = self._submit(operate.discard, seq, audit, micros(at))
        return future

    def edit(self, seq: int, body: bytes, audit: AuditEntry, at: datetime) -> asyncio.Future[bool]:
        future: asyncio.Future[bool] = self._submit(operate.edit, seq, body, audit, micros(at))
        return future

    def release_lane(self, route: str, scope: str, key: str) -> asyncio.Future[tuple[int, ...]]:
        future: asyncio.Future[tuple[int, ...]] = self._submit(commands.release_lane, route, scope, key)
        return future

    def save_version(self, route: str, version: str, source: Mapping[str, str], at: datetime) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._submit(commands.save_version, route, version, dict(source), micros(at))
        return future

    # -- housekeeping -------------------------------------------------------------------------------------------------
    def purge(self, before: datetime, states: Sequence[State], limit: int = 200) -> asyncio.Future[int]:
        """Remove up to ``limit`` messages that ended before an instant; gives the number removed.

        Below ``limit`` nothing is left to do; let other work go on between two calls. Raises StoreError for open states.
        """
        if wrong := [state for state in states if state in OPEN_STATES]:
            raise StoreError(f"messages that are {wrong[0]} cannot be purged")
        codes = [CODES[state] for state in states]
        future: asyncio.Future[int] = self._submit(retention.purge, micros(before), codes, limit)
        return future

    async def purge_expired(self, now: datetime, limit: int = 1000) -> int:
        """Remove expired dedupe keys, going on where the last call stopped; gives the number removed.

        Each commit looks at ``limit`` keys, a call at most at 25 times as many; from ``limit`` on there may be more.
        """
        removed = 0
        for _ in range(_LOOKS):
            some, self._place = await self._submit(retention.purge_expired, micros(now), self._place, limit)
            removed += some
            if removed >= limit or self._place == retention.FIRST_PLACE:
                break
        return removed

    def free_bytes(self) -> int:
        """Free space on the disk of the store."""
        return shutil.disk_usage(self.path.parent).free

    @property
    def open_for_intake(self) -> bool:
        if self._short:
            self._look_at_disk()
        return not self._short

    def _after_group(self) -> None:
        if self.clock.monotonic() - self._looked >= _BETWEEN_LOOKS:
            self._look_at_disk()

    def _look_at_disk(self) -> None:
        self._looked = self.clock.monotonic()
        try:
            self._short = self.free_bytes() < self._min_free
        except OSError:
            self._short = True

    def _default_watermark(self) -> int:
        """2 % of the disk, at least 256 MB and at most 5 GB."""
        return max(_LEAST_FREE, min(shutil.disk_usage(self.path.parent).total // 50, _MOST_FREE))

    # -- queries ------------------------------------------------------------------------------------------------------
    def pending(self, route: str | None = None, *, after_seq: int = 0, limit: int = 1_000_000) -> list[Pending]:
        return self._hot_queries.pending(route, after_seq, limit)

    def payload(self, seq: int) -> tuple[Envelope, Mapping[str, Any]]:
        """Raises StoreError where there is no such message (any more)."""
        return self._hot_queries.payload(seq)

    def get(self, id_: str, *, trace: bool = True) -> Stored | None:
        return self._hot_queries.get(id_, trace=trace)

    def find(self, filter_: Filter) -> list[Stored]:
        return self._queries.find(filter_)

    def children(self, ids: Sequence[str]) -> list[Stored]:
        return self._queries.children(ids)

    def counts(self) -> list[RouteCounts]:
        return self._queries.counts()

    def groups(self, filter_: Filter) -> list[DeadGroup]:
        return self._queries.groups(filter_)

    def newer_done(self, stored: Stored) -> str | None:
        return self._queries.newer_done(stored)

    def blocked_lanes(self) -> list[tuple[str, str, str]]:
        return self._hot_queries.blocked_lanes()

    def get_state(self, space: str, name: str) -> Any:
        row = self._hot.row("SELECT value FROM state WHERE space = ? AND name = ?", (space, name))
        return None if row is None else load_any(row[0])

    def version(self, route: str, version: str) -> Mapping[str, str] | None:
        row = self._hot.row("SELECT files FROM version WHERE route = ? AND version = ?", (route, version))
        files_of: Mapping[str, str] | None = None if row is None else load_any(row[0])
        return files_of

    def audit_entries(self, limit: int = 1000, after: int = 0) -> list[dict[str, Any]]:
        """Oldest first, from the entry behind ``after``."""
        columns = ", ".join(COLUMNS)
        rows = self._search.rows(
            f"SELECT {columns} FROM audit WHERE seq > ? ORDER BY seq LIMIT ?",  # noqa: S608 - constants
            (after, limit),
        )
        entries = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        for entry in entries:
            entry["detail"] = json.loads(entry["detail"])
        return entries

    def audit_head(self) -> tuple[int, str]:
        """Number and hash of the last entry, to be kept elsewhere: without it a full rewrite cannot be shown."""
        row = self._search.row("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
        return (0, "") if row is None else (row[0], row[1])

    def verify_audit(self) -> list[str]:
        return verify.audit_chain(self._search)

    def verify_conservation(self) -> list[str]:
        """Faults against SPEC promise 2, counted anew over the whole store; empty where every message is accounted for."""
        return verify.conservation(self._search, self._words)

    def verify_file(self) -> list[str]:
        """Faults that SQLite finds in the file; reads all of it."""
        return verify.file(self._search)

    # -- the end ------------------------------------------------------------------------------------------------------
    async def close(self) -> None:
        """Commit what was submitted, note that the end was peaceful, checkpoint."""
        if self._closed:
            return
        self._closed = True
        self._submit = _refuse_when_closed
        if self._committer is not None:
            await self._committer.drain()
            self._committer.close()
        self._hot.close()
        self._search.close()
        if self._writer is not None:
            recovery.leave(self._writer)
            self._writer.close()


def _refuse_to_write(*_: Any, **__: Any) -> asyncio.Future[Any]:
    raise StoreError("this store was opened to read only", hint="stop the bus, or ask it to do this")


def _refuse_when_closed(*_: Any, **__: Any) -> asyncio.Future[Any]:
    raise StoreBusy("the store is closed")
