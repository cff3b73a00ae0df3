"""Polling a database: read, store, and only then mark, delete or move the watermark.

Order of one look (each arrow happens before the next): read rows → commit them to the store → mark or delete them, or save the
watermark. A crash between two steps repeats the rows under the same ``source_key``, which the store knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Connection

from esb.endpoints._sql.dialects import READS, locked, outbox, page
from esb.endpoints._sql.faults import fault_of
from esb.endpoints._sql.listen import Listener
from esb.endpoints._sql.live import LiveSql, Session
from esb.endpoints._sql.rows import Marking, Read, Statement, key_of, numbered, only_reads, read
from esb.endpoints._sql.values import earlier, mark_of, of_mark
from esb.endpoints.base import Incoming, SourceContext
from esb.endpoints.polling import Poller
from esb.errors import InternalFault, StoreBusy, StoreError, Unavailable
from esb.formats.json import Json

if TYPE_CHECKING:
    from esb.endpoints.sql import SqlSource, Watermark

_JSON = Json()
_META = {"source": {"type": "sql"}}
#: rows of an overlap that are remembered as seen; beyond it the store is asked
SEEN = 200_000

Row = Mapping[str, Any]


class Feed(Protocol):
    """How rows are found and let go."""

    async def take(self, poller: SqlPoller) -> int:
        """One look; how many rows were stored."""
        ...


class SqlPoller(Poller):
    """A :class:`~esb.endpoints.base.RunningSource` over one session of the connector's database."""

    trouble = "sql.poll_failed"

    def __init__(self, options: SqlSource, context: SourceContext) -> None:
        super().__init__(context)
        self.options = options
        self.context = context
        self._live: LiveSql = context.connection
        self._session: Session | None = None
        self._more = False
        self._feed: Feed = (
            ByWatermark(options.watermark) if options.watermark is not None else ByMark(options, self._live.dialect)
        )
        self._listener = Listener(self._live, options.wake, context) if options.wake else None

    @property
    def dialect(self) -> str:
        return self._live.dialect

    @property
    def where(self) -> str:
        """The database that is read."""
        return self._live.where

    async def start(self) -> None:
        await super().start()
        if self._listener is not None:
            self._listener.start()

    async def stop(self) -> None:
        await super().stop()
        if self._listener is not None:
            await self._listener.stop()
        if self._session is not None:
            self._session.close()
            self._session = None

    async def poll_once(self) -> int:
        """One look at the database; how many messages were stored."""
        async with self._turn:
            if self.resting:
                return 0
            if self._listener is not None:
                self._listener.heard.clear()
            self._more = False
            try:
                return await self._feed.take(self)
            except StoreBusy as busy:
                self.rest(busy.retry_after.total_seconds() if busy.retry_after else 1.0)
                return 0
            except Exception as error:
                self._drop_session()
                raise fault_of(self.context.route, error) from error

    def pause(self) -> float:
        wait = self.options.every.total_seconds()
        if self._more and not self.resting:
            return 0.0
        return max(self.rest_left, 0.05 if not self.context.intake.open else 0.0, 0.0) or wait

    async def nap(self, seconds: float) -> None:
        if self._listener is None or seconds <= 0:
            await super().nap(seconds)
            return
        waits = [asyncio.ensure_future(super().nap(seconds)), asyncio.ensure_future(self._listener.heard.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    # -- for the feeds ------------------------------------------------------------------------------------------------
    async def run(self, job: Any) -> Any:
        if self._session is None or self._session.broken:
            self._session = self._live.session()
        return await self._session.run(job, self.options.timeout.total_seconds())

    def full(self, rows: Sequence[Read]) -> bool:
        """Whether the page was full: then the next one comes at once."""
        self._more = len(rows) >= self.options.batch
        return self._more

    async def store(self, rows: Sequence[tuple[Read, str]]) -> list[bool]:
        """Store the rows in their order; which of them are safe now (a refused one and those after it are not)."""
        results = await asyncio.gather(*(self._accept(one.payload, key) for one, key in rows), return_exceptions=True)
        safe, refused = [], None
        for result in results:
            if isinstance(result, BaseException):
                refused = refused or result
            safe.append(refused is None)
        if refused is not None:
            self._refused(refused)
        return safe

    async def _accept(self, payload: bytes, key: str) -> None:
        incoming = Incoming(
            payload=payload,
            codec=_JSON,
            content_type="application/json",
            meta=_META,
            contract=self.options.contract,
            source_key=key,
            in_order=True,
        )
        await self.context.intake.accept(incoming)

    def _refused(self, error: BaseException) -> None:
        if isinstance(error, (StoreBusy, Unavailable)):
            self.rest(error.retry_after.total_seconds() if error.retry_after else 1.0)
            return
        if isinstance(error, StoreError):
            self.rest(1.0)
            return
        raise error

    def _drop_session(self) -> None:
        """Whatever the transaction was, it is rolled back with its connection."""
        if self._session is not None:
            self._session.close()
            self._session = None


class ByWatermark:
    """Rows whose watermark is greater than the last one, with the overlap that late commits need."""

    def __init__(self, options: Watermark) -> None:
        self._options = options
        self._seen: dict[str, Any] = {}
        self._pages: dict[str, Statement] = {}

    async def take(self, poller: SqlPoller) -> int:
        columns = [self._options.column, self._options.tie]
        saved = await poller.context.state.get("watermark")
        if saved is not None and saved.get("of", columns) != columns:
            # the route was edited: rows of another order, most of which the store knows
            poller.context.log("warning", "sql.begins_anew", route=poller.context.route, before=saved["of"])
            saved = None
        saved = await self._goes_on(poller, saved)
        start, values = self._start(saved)
        total = 0
        while True:
            rows = await poller.run(lambda c, s=start, v=values: self._page(poller, c, s, v))
            fresh = [(one, key) for one in rows if (key := key_of(one.payload)) not in self._seen]
            safe = await poller.store(fresh)
            stored = sum(safe)
            total += stored
            self._seen.update((key, True) for _, key in fresh[:stored])
            whole = stored == len(fresh)
            last = rows[-1] if whole and rows else (fresh[stored - 1][0] if stored else None)
            if last is not None:
                mark, tie = self._value(last.row, self._options.column), self._value(last.row, self._options.tie)
                if self._options.overlap is None or saved is None or not _before(mark, of_mark(saved["mark"])):
                    saved = {"mark": mark_of(mark), "tie": mark_of(tie), "of": columns, "at": poller.where}
                    await poller.context.state.put("watermark", saved)
                start, values = "after", {"esb_mark": self._bound(mark), "esb_tie": tie}
            if not whole or not poller.full(rows) or poller.resting:  # an edit need not wait until all is read
                break
        self._forget()
        return total

    @staticmethod
    async def _goes_on(poller: SqlPoller, saved: Any) -> Any:
        """The number that was come to; where it is that of another database, whether it means something here is a person's to know."""
        if saved is None or saved.get("at", poller.where) == poller.where:
            return saved
        up_to = {"mark": str(of_mark(saved["mark"])), "before": saved["at"], "now": poller.where}
        hint = "rows up to there are not read; where this database counts anew, give the route another name"
        poller.context.log("warning", "sql.goes_on_elsewhere", route=poller.context.route, **up_to, hint=hint)
        saved = {**saved, "at": poller.where}
        await poller.context.state.put("watermark", saved)
        return saved

    def _start(self, saved: Any) -> tuple[str, dict[str, Any]]:
        if saved is None:
            return "first", {}
        mark = of_mark(saved["mark"])
        if self._options.overlap is not None:
            return "from", {"esb_mark": earlier(mark, self._options.overlap)}
        return "after", {"esb_mark": self._bound(mark), "esb_tie": of_mark(saved["tie"])}

    def _bound(self, mark: Any) -> Any:
        return str(mark) if self._options.bound == "snapshot" else mark

    def _page(self, poller: SqlPoller, connection: Connection, start: str, values: dict[str, Any]) -> list[Read]:
        only_reads(connection, poller.dialect)
        if start not in self._pages:
            query, column, tie = poller.options.query or "", self._options.column, self._options.tie
            snapshot = self._options.bound == "snapshot"
            self._pages[start] = Statement(page(poller.dialect, query, column, tie, start=start, snapshot=snapshot))
        try:
            return read(connection, self._pages[start], {**values, "esb_batch": poller.options.batch})
        finally:
            connection.rollback()  # an open transaction would hold back the clean-up of the source database

    def _value(self, row: Row, column: str) -> Any:
        if column not in row:
            found = ", ".join(row)
            raise InternalFault(f"the query gives no column `{column}`", hint=f"it gives {found}")
        value = row[column]
        return int(value) if self._options.bound == "snapshot" and column == self._options.column else value

    def _forget(self) -> None:
        if self._options.overlap is None:
            self._seen.clear()
        while len(self._seen) > SEEN:
            del self._seen[next(iter(self._seen))]


def _before(one: Any, other: Any) -> bool:
    try:
        return bool(one < other)
    except TypeError:
        return False


class ByMark:
    """Rows that are marked or deleted once they are stored, in the transaction that has read them.

    A row's ``source_key`` holds a generation that grows with every page that was marked, and where a marked row comes again: one that
    somebody sets back to be sent again is a new message, one whose marking was cut, or of whose commit nobody knows, is not.
    """

    def __init__(self, options: SqlSource, dialect: str) -> None:
        if options.outbox is not None:
            query, mark = outbox(options.outbox.table, options.outbox.id)
        else:
            assert options.query is not None
            assert options.mark is not None
            query, mark = options.query, options.mark.update
        self._query = Statement(locked(dialect, query))
        self._marking = Marking(mark, dialect)
        self._generation: int | None = None
        self._marked: set[str] = set()  #: keys of this generation

    async def take(self, poller: SqlPoller) -> int:
        if self._generation is None:
            self._generation = int(await poller.context.state.get("generation") or 0)
        rows: list[Read] = await poller.run(lambda c: self._read(poller, c))
        if not rows:
            return 0
        keyed = self._keyed(rows)
        if not self._marked.isdisjoint(key for _, key in keyed):
            await self._next(poller)
            keyed = self._keyed(rows)
        safe = await poller.store(keyed)
        stored = [one.row for one, is_safe in zip(rows, safe, strict=True) if is_safe]
        await poller.run(lambda c: self._let_go(c, stored))
        self._marked.update(key for (_, key), is_safe in zip(keyed, safe, strict=True) if is_safe)
        if len(stored) == len(rows):
            await self._next(poller)
            poller.full(rows)
        return len(stored)

    def _keyed(self, rows: Sequence[Read]) -> list[tuple[Read, str]]:
        return [(one, key_of(one.payload, self._generation or 0, at)) for one, at in numbered(rows)]

    async def _next(self, poller: SqlPoller) -> None:
        self._generation = (self._generation or 0) + 1
        self._marked.clear()
        await poller.context.state.put("generation", self._generation)

    def _read(self, poller: SqlPoller, connection: Connection) -> list[Read]:
        connection.info.pop(READS, None)
        connection.rollback()
        rows = read(connection, self._query, {"esb_batch": poller.options.batch})
        if not rows:
            connection.rollback()
        return rows

    def _let_go(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        if not rows:
            connection.rollback()
            return
        self._marking.run(connection, rows)
        connection.commit()
