"""Group commit: all commands of one turn of the loop share one transaction and one fsync."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec import Struct

from esb.errors import StoreBusy, StoreCorrupt, StoreError
from esb.failpoints import hit
from esb.store.apart import Apart
from esb.store.writer import Command, Mark, Writer

#: The most commands that share a commit.
LARGEST_GROUP = 500

#: Seconds that a commit waits, of late, from which on commits run in a thread, and below which they come back to the loop.
SLOW, QUICK = 0.0006, 0.0003

#: Seconds of a commit that count as no wait where it computes: it would do so in a thread as well, at a higher price, as
#: what it writes lies in the memory of another processor then.
COMPUTES = 0.002

#: Commands up to which a group is committed on the loop as long as a commit waits less than so many seconds: where so few
#: wait there is little else to do, and to wake a thread takes as long as a quick disk.
FEW, BEARABLE = 4, 0.001

_PRIMARY = 0xFF
#: Faults of the store itself, not of one command.
_STORE_FAULTS = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PROTOCOL,
    }
)


#: Hears the answer of a command, or the exception that stands for it, at once after the commit.
Then = Callable[[Any], None]


class Job(Struct, eq=False, gc=False):
    """A command that waits for its group. ``light`` stands in for ``run`` where the group settles ``seq`` as well.

    ``rows``: the command writes by :meth:`Writer.later` and looks at nothing that the others of its kind leave there;
    every other one finds all rows written.
    """

    run: Command
    args: tuple[Any, ...]
    then: Then
    seq: int = 0
    settles: bool = False
    rows: bool = False
    light: Command | None = None


class Committer:
    """Collects commands, commits them in order, then resolves their futures; nobody else writes.

    A command that fails alone fails alone: its group is taken back and run again with a savepoint around each. A commit
    that fails fails its whole group with StoreBusy, and none of it took effect (after an I/O error: perhaps). With
    ``threaded`` the commit, and nothing else, runs in a thread; new commands wait for the next group meanwhile. None: that
    is so while commits wait long, so that a slow disk does not hold up the loop and a quick one costs no thread; ``waits``
    is what the first is expected to wait, in seconds. A few commands alone wait for the disk on the loop for a bit longer.
    ``in_doubt`` is called once the store can be read again after a commit that may have taken effect all the same.
    """

    def __init__(
        self,
        writer: Writer,
        *,
        threaded: bool | None,
        waits: float = 0.0,
        after_group: Callable[[], None],
        before_group: Callable[[], None] = lambda: None,
        in_doubt: Callable[[], None] = lambda: None,
        broken: StoreError | None = None,
    ) -> None:
        self._writer = writer
        self._before_group = before_group
        self._in_doubt = in_doubt
        self._mending: asyncio.TimerHandle | None = None
        self._after_group = after_group
        self._queue: deque[Job] = deque()
        self._scheduled = False
        self._committing = False
        self._must_reopen = False
        self._idle: asyncio.Future[None] | None = None
        self._thread = Apart("esb-store-commit") if threaded is not False else None
        self._waits = waits
        self._slow = bool(threaded) or waits > SLOW
        self._adapts = threaded is None
        self.broken = broken
        self.groups = 0

    # -- coming in ----------------------------------------------------------------------------------------------------
    def submit(self, run: Command, *args: Any) -> asyncio.Future[Any]:
        """The future resolves after the commit. A cancelled future does not take its command back."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.put(Job(run, args, partial(resolve, future)))
        return future

    def put(self, job: Job) -> None:
        """Have a command run; its ``then`` is called on the loop after the commit, never before this returns."""
        if self.broken is not None:
            asyncio.get_running_loop().call_soon(job.then, self.broken)
            return
        self._queue.append(job)
        if not self._scheduled and not self._committing:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    async def drain(self) -> None:
        """Return when everything that was submitted is committed or has failed."""
        while self._queue or self._committing:
            if self._idle is None:
                self._idle = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)

    def close(self) -> None:
        if self._mending is not None:
            self._mending.cancel()
        if self._thread is not None:
            self._thread.close()

    # -- one group ----------------------------------------------------------------------------------------------------
    def _flush(self) -> None:
        self._scheduled = False
        if self._committing or not self._queue:
            return
        group, writer = self._take(), self._writer
        self._before_group()
        try:
            if self._must_reopen:
                self._reopen()
            mark = writer.mark()
            writer.begin()
        except (sqlite3.Error, OSError, StoreError) as error:
            self._fail(group, error, None)
            self._next()
            return
        try:
            answers = self._run(group, mark)
            hit("store.before_commit")
        except (sqlite3.Error, OSError, StoreError) as error:
            self._fail(group, error, mark)
            self._next()
            return
        if self._thread is None or not self._slow or self._is_bearable(group):
            self._settle(group, answers, mark, self._commit())
        else:
            self._committing = True
            self._thread.run(self._commit, partial(self._committed, group, answers, mark))

    def _is_bearable(self, group: list[Job]) -> bool:
        return self._adapts and len(group) <= FEW and self._waits < BEARABLE

    def _take(self) -> list[Job]:
        """The commands of the next group."""
        queue = self._queue
        if len(queue) > LARGEST_GROUP:
            return [queue.popleft() for _ in range(LARGEST_GROUP)]
        group = list(queue)
        queue.clear()
        return group

    def _run(self, group: list[Job], mark: Mark) -> list[Any]:
        """The answers of the group, one of them an exception where a command failed alone."""
        writer = self._writer
        settled = {job.seq for job in group if job.settles}
        try:
            answers = []
            for job in group:
                if not job.rows:
                    writer.flush()
                run = job.run if job.light is None or job.seq not in settled else job.light
                answers.append(run(writer, *job.args))
            writer.finish()
        except Exception as error:
            if _is_store_fault(error):
                raise
        else:
            return answers
        writer.rollback(mark)
        writer.begin()
        return [self._run_alone(job) for job in group]

    def _run_alone(self, job: Job) -> Any:
        writer = self._writer
        mark = writer.mark()
        writer.execute("SAVEPOINT one")
        try:
            answer = job.run(writer, *job.args)
            writer.finish()
        except Exception as error:
            if _is_store_fault(error):
                raise
            writer.reset(mark)
            writer.execute("ROLLBACK TO one")
            answer = error if isinstance(error, StoreError) else _explained(error)
        writer.execute("RELEASE one")
        return answer

    def _commit(self) -> BaseException | None:
        """Runs on the loop or in the thread; gives the fault instead of raising it."""
        began, used = time.perf_counter(), time.thread_time()
        try:
            hit("store.commit_error")
            self._writer.commit()
        except (sqlite3.Error, OSError) as error:
            return error
        if self._adapts:
            waited = time.perf_counter() - began - min(time.thread_time() - used, COMPUTES)
            self._waits += (waited - self._waits) / 8
            self._slow = self._waits > (QUICK if self._slow else SLOW)
        return None

    def _committed(self, group: list[Job], answers: list[Any], mark: Mark, fault: BaseException | None) -> None:
        self._committing = False
        self._settle(group, answers, mark, fault)

    def _settle(self, group: list[Job], answers: list[Any], mark: Mark, fault: BaseException | None) -> None:
        if fault is None:
            self.groups += 1
            try:
                hit("store.after_commit")
            except OSError as error:  # committed, but nobody hears of it: what a crash here looks like
                self._answer(group, [self._verdict(error)] * len(group))
                self._in_doubt()
            else:
                self._answer(group, answers)
        else:
            self._fail(group, fault, mark)
        self._next()

    def _next(self) -> None:
        self._after_group()
        if self._queue:
            if not self._scheduled:
                self._scheduled = True
                asyncio.get_running_loop().call_soon(self._flush)
        elif self._idle is not None:
            self._idle.set_result(None)
            self._idle = None

    # -- answers ------------------------------------------------------------------------------------------------------
    @staticmethod
    def _answer(group: list[Job], answers: list[Any]) -> None:
        for job, answer in zip(group, answers, strict=True):
            try:
                job.then(answer)
            except Exception as error:  # noqa: BLE001 - a fault of who asked must not keep the others from their answers
                words = {"message": "the answer of the store met a fault", "exception": error}
                asyncio.get_running_loop().call_exception_handler(words)

    def _fail(self, group: list[Job], error: BaseException, mark: Mark | None) -> None:
        """Nothing of the group took effect. The connection is replaced wherever the disk or the file gave the error."""
        verdict = self._verdict(error)
        try:
            self._writer.rollback(mark or self._writer.mark())
        except (sqlite3.Error, OSError):
            self._must_reopen = True
        if not isinstance(error, StoreError):
            self._must_reopen = self._must_reopen or _code(error) != sqlite3.SQLITE_FULL
        if isinstance(verdict, StoreCorrupt):
            self.broken = verdict
            group = [*group, *self._queue]
            self._queue.clear()
        elif self._must_reopen:
            self._mend_in(0.0)
        self._answer(group, [verdict] * len(group))

    # -- after a fault ------------------------------------------------------------------------------------------------
    def _reopen(self) -> None:
        self._writer.reopen()
        self._must_reopen = False
        self._in_doubt()

    def _mend_in(self, seconds: float) -> None:
        """Open the store again although nobody sends a command: messages may wait that nobody knows of."""
        if self._mending is None:
            self._mending = asyncio.get_running_loop().call_later(seconds, self._mend)

    def _mend(self) -> None:
        self._mending = None
        if not self._must_reopen or self._committing:
            return
        try:
            self._reopen()
        except (sqlite3.Error, OSError, StoreError):
            self._mend_in(1.0)

    def _verdict(self, error: BaseException) -> StoreError:
        if isinstance(error, StoreError):
            return error
        code = _code(error)
        if code == sqlite3.SQLITE_FULL:
            return StoreBusy(
                "the disk is full; nothing of this was stored", hint="free some space; it goes on by itself"
            )
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return StoreCorrupt(
                f"the store is damaged: {error}", hint="stop the bus, then `esb db verify` and `esb db restore`"
            )
        return StoreBusy(f"the store could not be written: {error}", hint="look at the disk; it is tried again")


def resolve(future: asyncio.Future[Any], answer: Any) -> None:
    """Give a future its result, or the exception that stands for it."""
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def _code(error: BaseException) -> int:
    """SQLite's primary error code; a fault of the system counts as an I/O error, a wrong call as none."""
    unknown = sqlite3.SQLITE_IOERR if isinstance(error, OSError) else 0
    return int(getattr(error, "sqlite_errorcode", unknown)) & _PRIMARY


def _is_store_fault(error: BaseException) -> bool:
    return _code(error) in _STORE_FAULTS


def _explained(error: Exception) -> StoreError:
    explained = StoreError(f"a command of the store failed: {type(error).__name__}: {error}")
    explained.__cause__ = error
    return explained
