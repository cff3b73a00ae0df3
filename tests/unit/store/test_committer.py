"""Group commit: what shares a commit shares its fate, what fails alone fails alone, and no answer comes before the disk's."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from esb.errors import StoreBusy, StoreCorrupt, StoreError
from esb.store import files, recovery
from esb.store.accept import Draft, accept
from esb.store.base import Accepted
from esb.store.committer import FEW, LARGEST_GROUP, Committer
from esb.store.writer import Words, Writer


class FaultyConnection(files.Connection):
    """A connection whose disk fails at a chosen statement."""

    faults: dict[str, list[BaseException | None]]

    def execute(self, sql: str, *rest: Any) -> Any:
        planned = self.faults.get(sql)
        if planned and (fault := planned.pop(0)) is not None:
            raise fault
        return super().execute(sql, *rest)


def fault(name: str, text: str = "planted") -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = getattr(sqlite3, f"SQLITE_{name}")
    return error


class Bench:
    """A committer on a store file of its own, with faults to plant."""

    def __init__(self, root: Path, stores: Any, *, threaded: bool) -> None:
        self.path = root / ".esb" / "bus.db"
        self.stores = stores
        self.connects = 0
        self.faults: dict[str, list[BaseException | None]] = {}
        files.prepare(self.path, stores.new().envelope.accepted_at)
        self.writer = Writer(self.connect, Words())
        recovery.recover(self.writer)
        self.committer = Committer(self.writer, threaded=threaded, after_group=lambda: None)

    def connect(self) -> sqlite3.Connection:
        self.connects += 1
        plain = files.connect_writer(self.path)
        plain.close()
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, factory=FaultyConnection)
        connection.faults = self.faults
        return connection

    def accept(self, **parts: Any) -> asyncio.Future[Any]:
        return self.committer.submit(accept, Draft.of(self.stores.new(**parts)))

    def stored(self) -> int:
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            count: int = connection.execute("SELECT count(*) FROM message").fetchone()[0]
        connection.close()
        return count


@pytest.fixture(params=[False, True], ids=["on the loop", "in a thread"])
def threaded(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def on_bench(tmp_path: Path, stores: Any, threaded: bool) -> Callable[..., None]:
    def run(test: Callable[[Bench], Awaitable[None]]) -> None:
        async def main() -> None:
            bench = Bench(tmp_path, stores, threaded=threaded)
            try:
                await test(bench)
                await bench.committer.drain()
            finally:
                bench.committer.close()
                bench.writer.close()

        asyncio.run(main())

    return run


def kinds(answers: list[Any]) -> list[type]:
    return [type(answer) for answer in answers]


def test_all_commands_of_one_turn_share_a_commit(on_bench: Any) -> None:
    async def check(bench: Bench) -> None:
        await asyncio.gather(*[bench.accept() for _ in range(LARGEST_GROUP)])
        assert bench.committer.groups == 1
        await asyncio.gather(*[bench.accept() for _ in range(LARGEST_GROUP + 1)])
        assert bench.committer.groups == 3
        assert bench.stored() == 2 * LARGEST_GROUP + 1

    on_bench(check)


def test_commands_that_come_while_a_commit_runs_wait_for_the_next(on_bench: Any) -> None:
    async def check(bench: Bench) -> None:
        first = bench.accept()
        await asyncio.sleep(0)
        second = bench.accept()
        assert (await first).seq + 1 == (await second).seq
        assert bench.committer.groups in (1, 2)
        assert bench.stored() == 2

    on_bench(check)


def test_a_cancelled_caller_does_not_take_its_command_back(on_bench: Any) -> None:
    async def check(bench: Bench) -> None:
        gone, kept = bench.accept(), bench.accept()
        gone.cancel()
        await kept
        assert bench.stored() == 2

    on_bench(check)


@pytest.mark.parametrize("error", [ValueError("odd"), sqlite3.IntegrityError("twice"), KeyError("k"), StoreError("no")])
def test_a_command_that_fails_takes_no_other_along(on_bench: Any, error: Exception) -> None:
    def broken(writer: Writer) -> None:
        writer.execute("DELETE FROM message")
        writer.word("half done")
        writer.count(0, 0)
        writer.next_seq += 10
        raise error

    async def check(bench: Bench) -> None:
        before = bench.accept(route="new")
        failing = bench.committer.submit(broken)
        after = bench.accept(route="newer")
        answers = await asyncio.gather(before, failing, after, return_exceptions=True)
        assert kinds(answers) == [Accepted, StoreError, Accepted]
        assert [answers[0].seq, answers[2].seq] == [1, 2]
        assert bench.writer.words.texts == ["", "new", "newer"]
        assert bench.stored() == 2
        await bench.accept(route="newest")

    on_bench(check)


@pytest.mark.parametrize("name", ["FULL", "IOERR", "IOERR_FSYNC", "BUSY", "CANTOPEN", "READONLY"])
def test_a_failed_commit_fails_its_whole_group_and_none_of_it_took_effect(on_bench: Any, name: str) -> None:
    async def check(bench: Bench) -> None:
        await bench.accept()
        bench.faults["COMMIT"] = [fault(name)]
        answers = await asyncio.gather(*[bench.accept(route="new") for _ in range(3)], return_exceptions=True)
        assert kinds(answers) == [StoreBusy] * 3
        assert answers[0].hint
        assert bench.stored() == 1
        assert (await bench.accept(route="other")).seq == 2
        assert bench.stored() == 2

    on_bench(check)


@pytest.mark.parametrize(("name", "reopened"), [("FULL", 0), ("IOERR_FSYNC", 1), ("IOERR_WRITE", 1)])
def test_a_failed_sync_is_never_tried_again_on_its_connection(on_bench: Any, name: str, reopened: int) -> None:
    async def check(bench: Bench) -> None:
        connects = bench.connects
        bench.faults["COMMIT"] = [fault(name)]
        with pytest.raises(StoreBusy):
            await bench.accept()
        await bench.accept()
        assert bench.connects == connects + reopened

    on_bench(check)


def test_a_full_disk_in_the_middle_of_a_group_is_no_fault_of_a_command(on_bench: Any) -> None:
    async def check(bench: Bench) -> None:
        (pages,) = bench.writer.connection.execute("PRAGMA page_count").fetchone()
        bench.writer.connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        answers = await asyncio.gather(*[bench.accept(body=b"x" * 100_000) for _ in range(3)], return_exceptions=True)
        assert kinds(answers) == [StoreBusy] * 3
        assert "disk is full" in str(answers[0])
        bench.writer.connection.execute("PRAGMA max_page_count = 1000000")
        await bench.accept()
        assert bench.stored() == 1

    on_bench(check)


def test_a_damaged_file_stops_the_store_for_good(on_bench: Any) -> None:
    async def check(bench: Bench) -> None:
        bench.faults["COMMIT"] = [fault("CORRUPT", "database disk image is malformed")]
        with pytest.raises(StoreCorrupt, match="malformed"):
            await bench.accept()
        with pytest.raises(StoreCorrupt, match="malformed"):
            await bench.accept()

    on_bench(check)


def test_while_the_file_cannot_be_opened_again_commands_fail_and_later_succeed(on_bench: Any) -> None:
    async def check(bench: Bench) -> None:
        bench.faults["COMMIT"] = [fault("IOERR_FSYNC")]
        with pytest.raises(StoreBusy):
            await bench.accept()
        away = bench.path.with_name("away")
        bench.path.rename(away)
        for _ in range(2):
            with pytest.raises(StoreBusy, match="could not be written"):
                await bench.accept()
        away.rename(bench.path)
        assert (await bench.accept()).seq == 1

    on_bench(check)


def test_a_process_that_lost_the_store_to_another_writes_no_more(on_bench: Any) -> None:
    async def check(bench: Bench) -> None:
        await bench.accept()
        other = Writer(lambda: files.connect_writer(bench.path), Words())
        recovery.recover(other)
        answers = await asyncio.gather(bench.accept(), bench.accept(), return_exceptions=True)
        other.close()
        assert kinds(answers) == [StoreBusy] * 2
        assert "taken over" in str(answers[0])
        assert bench.stored() == 1

    on_bench(check)


def test_commits_leave_the_loop_while_they_are_slow(
    tmp_path: Path, stores: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        bench = Bench(tmp_path, stores, threaded=True)
        threads: list[str] = []
        took = iter([0.0] * 2 + [0.01] * 3 + [0.0] * 40)  # a disk that is slow for a while, in seconds
        real, now = bench.writer.commit, [0.0]

        def commit() -> None:
            threads.append(threading.current_thread().name)
            now[0] += next(took)
            real()

        monkeypatch.setattr(type(bench.writer), "commit", lambda _: commit())
        monkeypatch.setattr("esb.store.committer.time.perf_counter", lambda: now[0])
        bench.committer = Committer(bench.writer, threaded=None, after_group=lambda: None)
        for _ in range(40):
            await bench.accept()
        bench.committer.close()
        bench.writer.close()
        away = ["commit" in name for name in threads]
        assert away[:3] == [False] * 3
        assert all(away[3:8])
        assert not away[-1]

    asyncio.run(main())


@pytest.mark.parametrize(("computes", "leaves"), [(0.0015, False), (0.01, True)])
def test_what_a_commit_computes_is_no_wait_for_the_disk_unless_it_is_much(
    tmp_path: Path, stores: Any, monkeypatch: pytest.MonkeyPatch, computes: float, leaves: bool
) -> None:
    """A large group takes longer than a slow disk although it hardly waits; a thread makes that no quicker."""

    async def main() -> None:
        bench = Bench(tmp_path, stores, threaded=True)
        away: list[bool] = []
        real, now, used = bench.writer.commit, [0.0], [0.0]

        def commit() -> None:
            away.append("commit" in threading.current_thread().name)
            now[0] += computes + 0.0002
            used[0] += computes
            real()

        monkeypatch.setattr(type(bench.writer), "commit", lambda _: commit())
        monkeypatch.setattr("esb.store.committer.time.perf_counter", lambda: now[0])
        monkeypatch.setattr("esb.store.committer.time.thread_time", lambda: used[0])
        bench.committer = Committer(bench.writer, threaded=None, after_group=lambda: None)
        for _ in range(12):
            await asyncio.gather(*(bench.accept() for _ in range(FEW + 1)))
        bench.committer.close()
        bench.writer.close()
        assert away[-1] is leaves

    asyncio.run(main())


def test_a_few_commands_alone_wait_on_the_loop_where_many_go_to_the_thread(
    tmp_path: Path, stores: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        bench = Bench(tmp_path, stores, threaded=True)
        away: list[bool] = []
        real, now = bench.writer.commit, [0.0]

        def commit() -> None:
            away.append("commit" in threading.current_thread().name)
            now[0] += 0.0008  # more than a commit should hold up a busy loop, in seconds
            real()

        monkeypatch.setattr(type(bench.writer), "commit", lambda _: commit())
        monkeypatch.setattr("esb.store.committer.time.perf_counter", lambda: now[0])
        bench.committer = Committer(bench.writer, threaded=None, waits=0.0008, after_group=lambda: None)
        await bench.accept()
        await asyncio.gather(*(bench.accept() for _ in range(FEW)))
        await asyncio.gather(*(bench.accept() for _ in range(FEW + 1)))
        await bench.accept()
        bench.committer.close()
        bench.writer.close()
        assert away == [False, False, True, False]

    asyncio.run(main())
