"""Reading from and committing to a database across a network: what may be late, and may go away and come back.

While the database is away every command fails at once with StoreBusy, so sources keep what they have and settlements are
tried again; one thread, and nobody else, tries to reach it, once a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from esb.errors import StoreBusy, StoreError
from esb.failpoints import hit
from esb.store.ahead import Questions, questions_of
from esb.store.committer import Committer, Job
from esb.store.connection import Connection
from esb.store.reader import LONGEST_QUERY, Reader
from esb.store.writer import Mark, Writer

#: Seconds between two attempts to reach a database that is away.
AGAIN = 1.0
#: Seconds that a statement which does nothing may take.
QUICK = 1.0
_AWAY = "it is tried again every second; nothing that was acknowledged is lost"


class Link:
    """What readers and the committer know of the database: why it is away, empty while it is there."""

    def __init__(self) -> None:
        self.away = ""
        #: called, from any thread, by whoever met a fault
        self.doubt: Callable[[], None] = lambda: None


class RemoteReader(Reader):
    """A reader that connects when it is first asked, and again after a fault; see :class:`Reader`."""

    def __init__(self, connect: Callable[[], Connection], compiled: Callable[[Any], Any], link: Link) -> None:
        self._connect = connect
        self._compiled = compiled
        self._link = link
        self._lock = threading.RLock()
        self._open: Connection | None = None
        self._pinned = False

    def _connected(self) -> Connection:
        if self._link.away:
            raise StoreBusy(f"the store cannot be read: {self._link.away}", hint=_AWAY)
        if self._open is None:
            try:
                self._open = self._connect()
            except OSError as error:
                self._missed(error)
                raise StoreBusy(f"the store cannot be read: {error}", hint=_AWAY) from error
        return self._open

    def _missed(self, error: OSError) -> None:
        """Nobody waits for the same again before the committer has found out what it is."""
        self._link.away = str(error)
        self._link.doubt()

    def _drop(self) -> None:
        found, self._open = self._open, None
        if found is not None:
            found.close()

    def _ask(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any], most: float) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self._on(lambda connection: connection.execute(sql, parameters).fetchall(), most)
        return found

    def _on(self, ask: Callable[[Connection], Any], most: float) -> Any:
        for last in (self._pinned, True):
            connection = self._connected()
            try:
                connection.limit(most)
                return ask(connection)
            except TimeoutError as error:
                raise StoreBusy(
                    f"the query took longer than {most:g} s and was stopped",
                    hint="narrow it: a route, a key, a shorter span of time",
                ) from error
            except OSError as error:  # the server was restarted, perhaps: once more on a fresh connection
                self._drop()
                if last:
                    self._missed(error)
                    raise StoreBusy(f"the store could not be read: {error}", hint=_AWAY) from error
        raise AssertionError("not reached")

    def answer(self) -> None:
        """Ask what costs nothing. Raises StoreBusy; whoever asks afterwards is refused at once, until the server is back."""
        with self._lock:
            self._ask("SELECT 1", (), QUICK)

    def select(self, query: Any) -> list[tuple[Any, ...]]:
        return self.rows(*self._compiled(query))

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        with self._lock:
            self._on(lambda connection: connection.execute("BEGIN"), LONGEST_QUERY)
            self._pinned = True
            try:
                yield
            finally:
                self._pinned = False
                try:
                    if self._open is not None and self._open.in_transaction:
                        self._open.execute("ROLLBACK")
                except OSError:
                    self._drop()

    def used_bytes(self) -> int:
        with self._lock:
            return int(self._on(lambda connection: connection.used_bytes(), LONGEST_QUERY))

    def faults(self) -> list[str]:
        with self._lock:
            return list(self._on(lambda connection: connection.faults(), float("inf")))

    def close(self) -> None:
        with self._lock:
            self._drop()


class _Worked(NamedTuple):
    """What became of a group: answers, or what went wrong; whether another process has the store, or nobody reaches it."""

    answers: list[Any]
    mark: Mark
    fault: BaseException | None
    taken: bool = False
    lost: bool = False


class RemoteCommitter(Committer):
    """A committer whose whole group runs in its thread: an answer that is late holds up nobody else.

    A connection that broke while nothing was under way is replaced before the group; one that breaks on the way fails the
    group, which may have taken effect: ``in_doubt`` is called when the database can be reached again.
    """

    def __init__(self, writer: Writer, link: Link, read_ahead: Callable[[Any, Questions], None], **more: Any) -> None:
        super().__init__(writer, threaded=True, **more)
        self._read_ahead = read_ahead
        self._adapts = False
        self._link = link
        loop = asyncio.get_running_loop()
        link.doubt = lambda: _soon(loop, self._look)

    def _look(self) -> None:
        """Somebody met a fault: a command that does nothing finds out whether it is the database's."""
        if not self._must_reopen and not self._queue and not self._committing and self._thread is not None:
            self.put(Job(_nothing, (), lambda _: None))

    def close(self) -> None:
        self._link.doubt = lambda: None
        self._must_reopen = False  # nobody tries to reach it any more
        self.broken = self.broken or StoreBusy("the store is closed")
        super().close()

    # -- one group ----------------------------------------------------------------------------------------------------
    def _flush(self) -> None:
        self._scheduled = False
        if self._committing or not self._queue:
            return
        group = self._take()
        if self.broken is not None:
            self._answer(group, [self.broken] * len(group))
            self._next()
            return
        if self._must_reopen:
            self._answer(group, [StoreBusy(f"the store cannot be written: {self._link.away}", hint=_AWAY)] * len(group))
            self._next()
            return
        self._before_group()
        self._run_there(partial(self._work, group), partial(self._worked, group))

    def _run_there(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        self._committing = True
        assert self._thread is not None
        self._thread.run(work, partial(self._back, then))

    def _back(self, then: Callable[[Any], None], found: Any) -> None:
        self._committing = False
        if isinstance(found, BaseException):
            raise found
        then(found)

    def _work(self, group: list[Job]) -> _Worked:
        """In the thread."""
        writer = self._writer
        try:
            mark = writer.mark()
            try:
                writer.begin()
            except OSError:  # it broke while nothing was under way: nothing can have been done by half
                writer.reopen()
                mark = writer.mark()
                writer.begin()
        except (OSError, StoreError) as error:
            taken = writer.connection.in_transaction
            if taken:  # by another process; whoever comes next must not wait for us
                writer.close()
            return _Worked([], writer.mark(), error, taken=taken, lost=not taken)
        try:
            self._read_ahead(writer.cursor, questions_of(group, writer.words))
            answers = self._run(group, mark)
            hit("store.before_commit")
            fault = self._commit()
        except Exception as error:  # noqa: BLE001 - whatever it is: a group that hears nothing would wait for ever
            answers, fault = [], error
        if fault is not None:
            with contextlib.suppress(OSError):
                writer.rollback(mark)
        return _Worked(answers, mark, fault)

    def _worked(self, group: list[Job], found: _Worked) -> None:
        fault = found.fault
        if found.lost or (fault is not None and not isinstance(fault, StoreError)):
            self._must_reopen = self._must_reopen or found.lost
            self._link.away = str(fault)
        if found.taken and isinstance(fault, StoreError):
            self.broken = fault
        self._settle(group, found.answers, found.mark, fault)
        if not self._must_reopen:
            self._link.away = ""

    # -- after a fault ------------------------------------------------------------------------------------------------
    def _mend(self) -> None:
        self._mending = None
        if self._must_reopen and not self._committing:
            self._run_there(self._reach, self._reached)
        elif self._must_reopen:
            self._mend_in(AGAIN)

    def _reach(self) -> str:
        """In the thread: open the database again; gives why that is not possible."""
        try:
            self._writer.reopen()
        except (OSError, StoreError) as error:
            return str(error)
        return ""

    def _reached(self, away: str) -> None:
        self._link.away = away
        if away:
            self._mend_in(AGAIN)
        else:
            self._must_reopen = False
            self._in_doubt()
        self._next()

    def _verdict(self, error: BaseException) -> StoreError:
        if isinstance(error, StoreError):
            return error
        return StoreBusy(f"the store could not be written: {error}", hint=_AWAY)


def _soon(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(act)


def _nothing(writer: Writer) -> None:
    del writer
