"""The store over a database: one writing connection, one group committer, two connections that read."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from importlib import import_module
from typing import Any

from esb.blob import Blob
from esb.clock import Clock
from esb.errors import StoreBusy, StoreError
from esb.message import Envelope
from esb.store import accept, blob_rows, commands, operate, recovery, retention, verify
from esb.store.base import (
    SAME_AS,
    Accepted,
    AuditEntry,
    Confirmed,
    DeadGroup,
    Filter,
    Memo,
    NewMessage,
    NewPayload,
    Pending,
    RouteCounts,
    Settlement,
    Stored,
)
from esb.store.blobs import Blobs, folder_of
from esb.store.chain import COLUMNS, canonical
from esb.store.committer import Committer, Job, resolve
from esb.store.connection import Database
from esb.store.differences import Differences
from esb.store.holds import Holds
from esb.store.indicators import Indicators
from esb.store.pruning import Pruning
from esb.store.queries import Queries
from esb.store.suspect import Suspect
from esb.store.values import dump_any, dump_vars, load_any, micros
from esb.store.writer import ALL_WORDS, Words, Writer

#: Commits of one call of ``purge_expired``.
_LOOKS = 25
#: Seconds between two looks at the free space; it is far above what the bus can write meanwhile.
_BETWEEN_LOOKS = 0.5
_LEAST_FREE = 256 * 1024 * 1024
_MOST_FREE = 5 * 1024 * 1024 * 1024


class SqlStore(Pruning):
    """Implements :class:`esb.store.base.Store`; made by :func:`esb.store.open_store`, used from one event loop.

    Queries read committed data on connections of their own, never on the writer's: ``pending payload get get_state`` on
    one, what people ask on another, so that a long search does not delay a retry. They may be called from any thread.
    """

    def __init__(
        self, database: Database, clock: Clock, *, min_free: int | None, threaded: bool | None, read_only: bool
    ) -> None:
        self._database = database
        self.path = path = database.path
        self.clock = clock
        #: messages that ran when the last process died; they are queued again
        self.recovered: list[Pending] = []
        self._unheard: Callable[[], None] = lambda: None
        #: whether the last process closed the store in peace
        self.clean_start = True
        self.works_ahead = True
        self._words = Words()
        self._closed = False
        self._place = retention.FIRST_PLACE
        self._writer: Writer | None = None
        self._committer: Committer | None = None
        self._suspect: Suspect | None = None
        self.at_work: Callable[[int], None] = _nobody_works
        self._submit: Callable[..., asyncio.Future[Any]] = _refuse_to_write
        self._put: Callable[[Job], None] = _refuse_to_write
        if not read_only:
            self._open_writer(threaded)
        self._hot = database.reader()
        self._search = database.reader()
        if read_only:
            self._words.reload = lambda: self._hot.rows(ALL_WORDS)
            self._words.fill(self._hot.rows(ALL_WORDS))
        #: over its size, and nothing may be removed: nothing new is taken
        self.full = False
        self.holds = Holds(self._search, self._send)
        self.differences = Differences(self._search, self._send)
        self._min_free = self._default_watermark() if min_free is None else min_free
        #: large payloads, in files of their own
        self.blobs = Blobs(folder_of(path), min_free=self._min_free)
        self.indicators = Indicators(self._search, self._words, self._send, self.blobs.at)
        self._hot_queries = Queries(self._hot, self._words, self.blobs.at)
        self._queries = Queries(self._search, self._words, self.blobs.at)
        self._short = False
        self._looked = 0.0
        self._look_at_disk()

    def _open_writer(self, threaded: bool | None) -> None:
        with self._database.explained():
            suspect = Suspect(self.path.with_name(self.path.name + ".work"))
            writer = Writer(self._database.writer, self._words)
            try:
                self.clean_start, self.recovered = recovery.recover(writer, suspect.noted)
                self.works_ahead = self.clean_start or not suspect.noted
                self._committer = self._database.committer(
                    writer,
                    threaded=threaded,
                    before_group=self._before_group,
                    after_group=self._after_group,
                    in_doubt=self._tell_unheard,
                )
            except BaseException:
                writer.close()
                raise
        suspect.note(0)
        self._suspect, self.at_work = suspect, suspect.note
        self._writer = writer
        self._submit, self._put = self._committer.submit, self._committer.put

    def _send(self, *command: Any) -> asyncio.Future[Any]:
        """``_submit`` as it is when a command comes, not as it was when the store was opened."""
        return self._submit(*command)

    # -- commands -----------------------------------------------------------------------------------------------------
    def accept(self, new: NewMessage) -> asyncio.Future[Accepted]:
        """Raises StoreBusy at once while disk space is short, TypeError or ValueError for what cannot be stored."""
        future: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        self.accept_then(new, partial(resolve, future))
        return future

    def accept_then(self, new: NewMessage, then: Callable[[Accepted | StoreError], None]) -> None:
        draft = accept.Draft.of(new)
        if self.full:
            raise StoreBusy("the store is at `retention.max_size`", hint="raise it, or end what is open and dead")
        if self._short and not self.open_for_intake:
            raise StoreBusy(
                "disk space is short; nothing new is taken", hint=f"free some space under {self.path.parent}"
            )
        self._put(Job(accept.accept, (draft,), then, rows=True))

    def start(self, seq: int, attempts: int, at: datetime) -> asyncio.Future[bool]:
        del at  # the attempt's trace has its times
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.start_then(seq, attempts, partial(resolve, future))
        return future

    def start_then(self, seq: int, attempts: int, then: Callable[[bool | StoreError], None]) -> None:
        self._put(Job(commands.start, (seq, attempts), then, seq=seq, rows=True, light=commands.would_start))

    def confirm(self, seq: int, entry: Confirmed) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        parts = (seq, entry.step, dump_any(entry.value), entry.facts)
        self._put(Job(commands.confirm, parts, partial(resolve, future), rows=True))
        return future

    def bear(
        self, seq: int, children: Sequence[NewMessage], progress: Confirmed
    ) -> asyncio.Future[tuple[Accepted, ...] | None]:
        drafts = [accept.Draft.of(child) for child in children]
        row = (seq, progress.step, dump_any(progress.value))
        future: asyncio.Future[tuple[Accepted, ...] | None] = self._submit(commands.bear, seq, drafts, row)
        return future

    def settle(self, settlement: Settlement) -> asyncio.Future[tuple[Accepted, ...]]:
        """A message that is not open any more (discarded, superseded meanwhile) is left as it is: gives ``()``.

        A start of the same group, or one that could not be stored, is implied. Raises StoreError for an illegal move.
        """
        future: asyncio.Future[tuple[Accepted, ...]] = asyncio.get_running_loop().create_future()
        self.settle_then(settlement, partial(resolve, future))
        return future

    def settle_then(self, settlement: Settlement, then: Callable[[tuple[Accepted, ...] | StoreError], None]) -> None:
        ending = accept.Ending.of(settlement)
        self._put(Job(commands.settle, (ending,), then, seq=settlement.seq, settles=True, rows=True))

    def absorb(
        self, seq: int, id_: str, others: Sequence[int], payload: NewPayload, at: datetime
    ) -> asyncio.Future[bool]:
        parts = (payload.body, payload.content, dump_vars(payload.vars), dump_vars(payload.meta))
        future: asyncio.Future[bool] = self._submit(accept.absorb, seq, id_, tuple(others), parts, micros(at))
        return future

    def claim(self, space: str, key: str, seq: int, expires_at: datetime, now: datetime) -> asyncio.Future[bool]:
        future: asyncio.Future[bool] = self._submit(accept.claim, space, key, seq, micros(expires_at), micros(now))
        return future

    def put_state(self, space: str, name: str, value: Any, audit: AuditEntry | None = None) -> asyncio.Future[None]:
        packed, at = None if value is None else dump_any(value), micros(self.clock.now())
        future: asyncio.Future[None] = self._submit(operate.put_state, space, name, packed, audit, at)
        return future

    def audit(self, entry: AuditEntry, at: datetime) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._submit(operate.audit, entry, micros(at))
        return future

    def put_access(
        self,
        kind: str,
        name: str,
        value: Mapping[str, Any] | None,
        before: Mapping[str, Any] | None,
        audit: AuditEntry,
        at: datetime,
    ) -> asyncio.Future[bool]:
        words = [None if one is None else canonical(one) for one in (value, before)]
        future: asyncio.Future[bool] = self._submit(operate.put_access, kind, name, *words, audit, micros(at))
        return future

    def pause(self, route: str, audit: AuditEntry, at: datetime, *, paused: bool) -> asyncio.Future[None]:
        value = dump_any({"paused": True}) if paused else None
        future: asyncio.Future[None] = self._submit(operate.put_state, "route", route, value, audit, micros(at))
        return future

    def retry(
        self, seq: int, audit: AuditEntry, at: datetime, memo: Memo | None = None, admitted: NewMessage | None = None
    ) -> asyncio.Future[Pending | None]:
        future: asyncio.Future[Pending | None] = self._submit(operate.retry, seq, audit, micros(at), memo, admitted)
        return future

    def discard(self, seq: int, audit: AuditEntry, at: datetime) -> asyncio.Future[bool]:
        future: asyncio.Future[bool] = self._submit(operate.discard, seq, audit, micros(at))
        return future

    def edit(self, seq: int, body: bytes, audit: AuditEntry, at: datetime, before: str = "") -> asyncio.Future[bool]:
        future: asyncio.Future[bool] = self._submit(operate.edit, seq, body, audit, micros(at), before)
        return future

    def release_lane(self, route: str, scope: str, key: str) -> asyncio.Future[tuple[int, ...]]:
        future: asyncio.Future[tuple[int, ...]] = self._submit(commands.release_lane, route, scope, key)
        return future

    def release_route(self, route: str) -> asyncio.Future[int]:
        future: asyncio.Future[int] = self._submit(commands.release_route, route)
        return future

    def save_version(self, route: str, version: str, source: Mapping[str, str], at: datetime) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._submit(commands.save_version, route, version, dict(source), micros(at))
        return future

    # -- housekeeping -------------------------------------------------------------------------------------------------
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

    def hold(self, seq: int, blob: Blob) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._submit(blob_rows.keep, seq, blob)
        return future

    def held(self, seq: int, sha256: str) -> Blob | None:
        row = self._hot.row("SELECT size FROM blob WHERE seq = ? AND sha = ?", (seq, bytes.fromhex(sha256)))
        return None if row is None else self.blobs.at(sha256, row[0])

    def sweep(self) -> int:
        """Remove payload files that no message keeps; gives their number. Blocks: call it in a thread."""
        return self.blobs.sweep(lambda names: blob_rows.unused(self._search, names))

    def free_bytes(self) -> int:
        """Free space on the disk of the store."""
        return shutil.disk_usage(self.path.parent).free

    async def answering(self) -> None:
        await self._database.answering()

    @property
    def refusal(self) -> str:
        if self._database.away:
            return f"the database of the store is away: {self._database.away}"
        if not (self._short or self.full) or self.open_for_intake:
            return ""
        return "disk space is short; nothing new is taken until there is room"

    @property
    def open_for_intake(self) -> bool:
        if self._short:
            self._look_at_disk()
        return not (self._short or self.full)

    def _before_group(self) -> None:
        self.at_work(0)

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

    def when_unheard(self, act: Callable[[], None]) -> None:
        self._unheard = act

    def _tell_unheard(self, *_: object) -> None:
        if not self._closed:
            self._unheard()

    # -- queries ------------------------------------------------------------------------------------------------------
    def pending(self, route: str | None = None, *, after_seq: int = 0, limit: int = 1_000_000) -> list[Pending]:
        return self._hot_queries.pending(route, after_seq, limit)

    def payload(self, seq: int) -> tuple[Envelope, Mapping[str, Any]]:
        """Raises StoreError where there is no such message (any more)."""
        return self._hot_queries.payload(seq)

    def get(self, id_: str, *, trace: bool = True) -> Stored | None:
        return self._hot_queries.get(id_, trace=trace)

    @staticmethod
    def warm_up() -> None:
        """Load what the searches of people need, which takes a while; without it the first one is slow."""
        import_module("esb.store.search")

    def tracked(self, name: str, value: str, route: str, after_seq: int, whole: str) -> list[int]:
        return self._hot_queries.tracked(name, value, route, after_seq, whole)

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

    def blocked_lanes(self) -> dict[tuple[str, str, str], int]:
        return self._hot_queries.blocked_lanes()

    def arrivals(self, route: str, since: datetime, until: datetime, most: int) -> list[datetime]:
        return self._hot_queries.arrivals(route, since, until, most)

    def states(self, prefix: str, after: tuple[str, str], limit: int) -> list[tuple[str, str, Any]]:
        return self._hot_queries.states(prefix, after, limit)

    def taken_under(self, route: str, key: str) -> str:
        return self._hot_queries.taken_under(route, key)

    def get_state(self, space: str, name: str) -> Any:
        row = self._hot.row("SELECT value FROM state WHERE space = ? AND name = ?", (space, name))
        return None if row is None else load_any(row[0])

    def access(self, kind: str) -> dict[str, dict[str, Any]]:
        rows = self._hot.rows("SELECT name, value FROM access WHERE kind = ? ORDER BY name", (kind,))
        return {name: json.loads(value) for name, value in rows}

    def version(self, route: str, version: str) -> Mapping[str, str] | None:
        row = self._hot.row("SELECT files FROM version WHERE route = ? AND version = ?", (route, version))
        files_of: Mapping[str, str] | None = None if row is None else load_any(row[0])
        if files_of is not None and SAME_AS in files_of and files_of[SAME_AS] != version:
            return self.version(route, files_of[SAME_AS])
        return files_of

    def audit_entries(self, limit: int = 1000, after: int = 0) -> list[dict[str, Any]]:
        """Oldest first, from the entry behind ``after``."""
        return self._audit("seq > ? ORDER BY seq LIMIT ?", (after, limit))

    def audit_of(self, objects: Sequence[str]) -> list[dict[str, Any]]:
        """What was done to these, such as messages by their ids; oldest first."""
        marks = ", ".join("?" * len(objects))
        return self._audit(f"object IN ({marks}) ORDER BY seq", tuple(objects)) if objects else []

    def _audit(self, which: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
        columns = ", ".join(COLUMNS)
        rows = self._search.rows(f"SELECT {columns} FROM audit WHERE {which}", values)  # noqa: S608 - constants
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

    def verify_blobs(self) -> list[str]:
        """Payload files that are missing or are not what they were; reads all of them."""
        return verify.blobs(self._search, self.blobs)

    def verify_file(self) -> list[str]:
        """Faults that the database finds in its own files."""
        return verify.file(self._search)

    # -- the end ------------------------------------------------------------------------------------------------------
    async def close(self) -> None:
        """Commit what was submitted, note that the end was peaceful, checkpoint."""
        if self._closed:
            return
        self._closed = True
        self._submit = self._put = _refuse_when_closed
        if self._committer is not None:
            await self._committer.drain()
            self._committer.close()
        self._hot.close()
        self._search.close()
        if self._writer is not None:
            recovery.leave(self._writer)
            self._writer.close()
        if self._suspect is not None:
            self._suspect.close()
        self._database.close()


def _nobody_works(_: int) -> None:
    """Nothing runs in a store that is only read."""


def _refuse_to_write(*_: Any) -> Any:
    raise StoreError("this store was opened to read only", hint="stop the bus, or ask it to do this")


def _refuse_when_closed(*_: Any) -> Any:
    raise StoreBusy("the store is closed")
