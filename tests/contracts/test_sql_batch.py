"""`batch`: deliveries that are under way together share a commit, and each keeps its own verdict, whatever befalls the others."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from esb.endpoints._sql.live import LiveSql
from esb.endpoints.sql import SqlSink, Upsert
from esb.errors import Rejected, Timeout, Unavailable
from esb.message import Message
from esb.steps.base import Reply
from tests.contracts.sink_contract import PATIENCE, SinkContract
from tests.contracts.sql_rigs import Database, Pg, Sqlite, connection_context, expression
from tests.contracts.test_sql_contracts import TableRig
from tests.contracts.test_sql_sink import RIG
from tests.servers.postgres import Postgres
from tests.servers.proxy import Proxy


class Open:
    """An open connection, its commits, and deliveries that begin at the same time."""

    def __init__(self, live: LiveSql) -> None:
        self.live, self.commits = live, 0
        event.listen(live.engine, "commit", self._committed)

    def _committed(self, _connection: Any) -> None:
        self.commits += 1

    def begin(self, sink: SqlSink, body: Any, id_: str = "", timeout: float = 10.0) -> asyncio.Task[Reply]:
        message = Message(body)
        delivery = TableRig.delivery(RIG, message, id=id_ or f"d-{body}", timeout=timeout)
        return asyncio.ensure_future(sink.send(message, delivery, self.live))

    async def together(self, sink: SqlSink, bodies: Sequence[Any], ids: Sequence[str] = ()) -> list[Any]:
        """What each comes to: the body of its answer, or its error."""
        tasks = [self.begin(sink, body, ids[n] if ids else "") for n, body in enumerate(bodies)]
        found = await asyncio.gather(*tasks, return_exceptions=True)
        return [one.body if isinstance(one, Reply) else one for one in found]


def run(database: Database, scenario: Callable[[Open], Awaitable[None]]) -> None:
    async def whole() -> None:
        live: Any = await database.connection().open(connection_context())
        try:
            async with asyncio.timeout(PATIENCE * 2):
                await scenario(Open(live))
        finally:
            await live.close()

    asyncio.run(whole())


async def moment() -> None:
    """Those that have begun wait for their group, or are in it."""
    for _ in range(10):
        await asyncio.sleep(0)


def insert(**more: Any) -> SqlSink:
    more = {"batch": 50, "values": {"n": expression("body")}, **more}
    return SqlSink(statement="insert into t (n) values (:n)", **more)


def numbers(database: Database) -> list[int]:
    return [row[0] for row in database.do("select n from t order by n")]


def kinds(found: Sequence[Any]) -> list[Any]:
    return [type(one) if isinstance(one, Exception) else one for one in found]


ONE = {"rows": 1}


def test_what_is_there_shares_one_commit(database: Database) -> None:
    database.do("create table t (n int)")

    async def scenario(db: Open) -> None:
        assert await db.together(insert(), range(40)) == [ONE] * 40
        assert (db.commits, numbers(database)) == (1, list(range(40)))
        assert await db.together(insert(batch=15), range(40, 80)) == [ONE] * 40
        assert (db.commits, numbers(database)) == (1 + 3, list(range(80)))
        assert await db.together(insert(), [80]) == [ONE]  # and one alone waits for nobody
        assert await db.together(insert(batch=1), [81, 82]) == [ONE] * 2
        assert db.commits == 4 + 1 + 2

    run(database, scenario)


def test_those_that_come_while_a_group_is_under_way_are_the_next(database: Database) -> None:
    database.do("create table t (n int)")

    async def scenario(db: Open) -> None:
        first = db.begin(insert(), 0)
        await moment()
        assert await db.together(insert(), range(1, 20)) == [ONE] * 19
        assert ((await first).body, db.commits) == (ONE, 2)

    run(database, scenario)


@pytest.mark.parametrize("poison", [[7], [0, 19], [2, 3, 4, 5, 6]])
def test_a_violated_constraint_is_the_fault_of_one(database: Database, poison: list[int]) -> None:
    database.do("create table t (n int check (n < 100))")
    bodies = [n + 100 if n in poison else n for n in range(20)]

    async def scenario(db: Open) -> None:
        found = await db.together(insert(), bodies)
        assert kinds(found) == [Rejected if n >= 100 else ONE for n in bodies]
        assert numbers(database) == [n for n in bodies if n < 100]

    run(database, scenario)


def test_a_value_that_the_driver_refuses_is_the_fault_of_one(database: Database) -> None:
    database.do("create table t (n int)")

    async def scenario(db: Open) -> None:
        assert kinds(await db.together(insert(), [1, 2**70, 3])) == [ONE, Rejected, ONE]
        assert numbers(database) == [1, 3]

    run(database, scenario)


def test_two_of_one_group_that_exclude_each_other_are_judged_by_what_was_committed(database: Database) -> None:
    database.do("create table t (n int primary key)")

    async def scenario(db: Open) -> None:
        found = await db.together(insert(), [1, 2, 2, 3], ids=["a", "b", "c", "d"])
        assert kinds(found) == [ONE, ONE, Rejected, ONE]
        assert numbers(database) == [1, 2, 3]

    run(database, scenario)


def test_rows_that_must_change_are_counted_for_each(database: Database) -> None:
    database.do("create table t (n int, v int)")
    for n in range(6):
        database.do("insert into t values (?, 0)", n)
    sink = SqlSink(
        statement="update t set v = v + 1 where n = :n", values={"n": expression("body")}, expect=1, batch=50
    )

    async def scenario(db: Open) -> None:
        assert kinds(await db.together(sink, [0, 1, 77, 3])) == [ONE, ONE, Rejected, ONE]
        assert database.do("select n, v from t order by n") == [(0, 1), (1, 1), (2, 0), (3, 1), (4, 0), (5, 0)]

    run(database, scenario)


def test_the_ledger_knows_each_delivery(database: Database) -> None:
    database.do("create table t (n int check (n < 100))")

    async def scenario(db: Open) -> None:
        again = {"rows": 0, "repeated": True}
        assert await db.together(insert(once=True), [1, 2, 2, 3], ids=["a", "b", "b", "c"]) == [ONE, ONE, again, ONE]
        found = await db.together(insert(once=True), [1, 100, 4], ids=["a", "x", "d"])
        assert kinds(found) == [again, Rejected, ONE]
        assert await db.together(insert(once=True), [5], ids=["x"]) == [ONE]  # what failed is not in it
        assert numbers(database) == [1, 2, 3, 4, 5]

    run(database, scenario)


def test_an_older_state_changes_nothing_also_in_a_group(database: Database) -> None:
    database.do("create table lots (lot text primary key, state text, seq int)")
    values = {name: expression(f"body.{name}") for name in ("lot", "state", "seq")}
    sink = SqlSink(upsert=Upsert(table="lots", key=("lot",), sequence="seq"), values=values, batch=50)

    async def scenario(db: Open) -> None:
        bodies = [{"lot": "1", "state": s, "seq": n} for s, n in (("HELD", 1), ("FREE", 3), ("HELD", 2))]
        await db.together(sink, bodies, ids=["a", "b", "c"])
        assert (db.commits, database.do("select * from lots")) == (1, [("1", "FREE", 3)])

    run(database, scenario)


@pytest.mark.parametrize(("result", "shape"), [("rows", lambda n: [{"n": n}]), ("row", lambda n: {"n": n}), ("value", lambda n: n)])  # fmt: skip
def test_each_has_the_answer_to_its_own_statement(database: Database, result: Any, shape: Callable[[int], Any]) -> None:
    database.do("create table t (n int)")
    sink = dataclasses.replace(insert(result=result), statement="insert into t (n) values (:n) returning n")

    async def scenario(db: Open) -> None:
        assert await db.together(sink, range(5)) == [shape(n) for n in range(5)]
        assert db.commits == 1

    run(database, scenario)


def test_lists_of_rows_stay_whole(database: Database) -> None:
    database.do("create table t (n int check (n < 100))")

    async def scenario(db: Open) -> None:
        found = await db.together(insert(each=expression("body")), [[1, 2], [3, 100, 4], [], [5]])
        assert kinds(found) == [{"rows": 2}, Rejected, {"rows": 0}, ONE]
        assert numbers(database) == [1, 2, 5]

    run(database, scenario)


# -- the commit -----------------------------------------------------------------------------------------------------------


def test_a_constraint_that_is_checked_at_the_commit_is_the_fault_of_one(postgres: Postgres) -> None:
    database = Pg(postgres)
    database.do("drop table if exists t")
    database.do("create table t (n int unique deferrable initially deferred)")
    database.do("insert into t values (3)")

    async def scenario(db: Open) -> None:
        assert kinds(await db.together(insert(), [1, 2, 3, 4])) == [ONE, ONE, Rejected, ONE]
        assert numbers(database) == [1, 2, 3, 4]

    run(database, scenario)


def test_a_connection_that_dies_at_the_commit_leaves_none_of_them_done(postgres: Postgres) -> None:
    database = Pg(postgres)
    database.do("drop table if exists t")
    database.do("create table t (n int)")
    database.do(
        "create or replace function die() returns trigger language plpgsql as"
        " 'begin if new.n < 100 then perform pg_terminate_backend(pg_backend_pid()); end if; return null; end'"
    )
    database.do("create constraint trigger dies after insert on t deferrable initially deferred for each row execute function die()")  # fmt: skip

    async def scenario(db: Open) -> None:
        assert kinds(await db.together(insert(), range(10))) == [Unavailable] * 10
        assert numbers(database) == []
        database.do("drop trigger dies on t")
        assert await db.together(insert(), range(10)) == [ONE] * 10  # and it is found again
        assert numbers(database) == list(range(10))

    run(database, scenario)


def test_a_commit_whose_answer_is_lost_is_done_for_none_and_has_its_effect_once(postgres: Postgres) -> None:
    """C16, for a group: the database has committed, the connection is gone before anybody hears of it."""
    database = Pg(postgres)
    for table in ("t", "esb_applied"):
        database.do(f"drop table if exists {table}")
    database.do("create table t (n int)")
    proxy = Proxy(postgres.port)
    try:
        database.url = database.url.replace(str(postgres.port), str(proxy.port))

        async def scenario(db: Open) -> None:
            await db.together(insert(once=True), [99])
            proxy.swallow(b"Q\0\0\0\x0bCOMMIT", b"COMMIT")
            assert set(kinds(await db.together(insert(once=True), range(10)))) <= {Unavailable, Timeout}
            found = await db.together(insert(once=True), range(10))
            assert found == [{"rows": 0, "repeated": True}] * 10
            assert numbers(database) == [*range(10), 99]

        run(database, scenario)
    finally:
        proxy.close()


def test_a_full_disk_at_the_commit_leaves_none_of_them_done(database: Database) -> None:
    """The commit itself fails, once; what it was about is rolled back."""
    database.do("create table t (n int)")

    async def scenario(db: Open) -> None:
        driver = sqlite3.OperationalError if isinstance(database, Sqlite) else psycopg.errors.DiskFull

        def fails(_connection: Any) -> None:
            event.remove(db.live.engine, "commit", fails)
            raise OperationalError("commit", {}, driver("disk is full"))

        event.listen(db.live.engine, "commit", fails)
        assert kinds(await db.together(insert(), range(5))) == [Unavailable] * 5
        assert numbers(database) == []
        assert await db.together(insert(), range(5)) == [ONE] * 5

    run(database, scenario)


# -- time -----------------------------------------------------------------------------------------------------------------


@contextmanager
def held(server: Postgres, statement: str) -> Iterator[Callable[[], None]]:
    """Another system holds what ``statement`` locks, until it is told to let go."""
    with server.connect() as other:
        other.execute("begin")
        other.execute(statement)  # type: ignore[call-overload]  # any statement
        yield lambda: other.execute("rollback") and None


@pytest.fixture
def stock(postgres: Postgres) -> Pg:
    database = Pg(postgres)
    database.do("drop table if exists t")
    database.do("create table t (n int primary key, v int default 0)")
    database.do("insert into t (n) select generate_series(0, 9)")
    return database


COUNT = SqlSink(statement="update t set v = v + 1 where n = :n", values={"n": expression("body")}, batch=50)


def test_a_locked_row_holds_up_its_own_delivery_only(stock: Pg) -> None:
    async def scenario(db: Open) -> None:
        with held(stock.server, "select * from t where n = 3 for update") as let_go:
            tasks = [db.begin(COUNT, n, timeout=60) for n in range(10)]
            await asyncio.wait([task for n, task in enumerate(tasks) if n != 3])
            assert [task.done() for task in tasks] == [n != 3 for n in range(10)]
            await db.begin(COUNT, 4, timeout=60)  # nor does it hold up those that come
            let_go()
            await tasks[3]
        assert stock.do("select v from t order by n") == [(2 if n == 4 else 1,) for n in range(10)]

    run(stock, scenario)


def test_one_that_waits_for_a_lock_is_not_in_the_way_of_those_behind_it(stock: Pg) -> None:
    async def scenario(db: Open) -> None:
        with held(stock.server, "select * from t where n = 3 for update") as let_go:
            first = db.begin(COUNT, 3, timeout=600)
            await moment()
            await asyncio.gather(
                *[db.begin(COUNT, n, timeout=600) for n in (4, 5)]
            )  # an eighth of its time would be too long
            assert not first.done()
            let_go()
            assert (await first).body == ONE

    run(stock, scenario)


def test_who_waits_too_long_for_others_goes_by_itself(stock: Pg) -> None:
    """The group before it hangs in its statement, which no lock explains."""
    hangs = SqlSink(statement="select pg_sleep(:s)", values={"s": expression("body")}, batch=50)

    async def scenario(db: Open) -> None:
        first = db.begin(hangs, 5, timeout=60)
        await moment()
        assert (await db.begin(hangs, 0, timeout=2.0)).body == [{"pg_sleep": ""}]
        assert not first.done()
        first.cancel()
        await asyncio.wait([first])

    run(stock, scenario)


def test_who_goes_away_before_its_turn_is_not_sent(stock: Pg) -> None:
    async def scenario(db: Open) -> None:
        with held(stock.server, "lock table t in access exclusive mode") as let_go:
            first = db.begin(COUNT, 0, timeout=60)
            await moment()
            waits, given_up = db.begin(COUNT, 2, timeout=60), db.begin(COUNT, 3, timeout=60)
            await moment()
            given_up.cancel()
            await asyncio.wait([given_up])
            let_go()
            await asyncio.gather(first, waits)
        assert stock.do("select n from t where v > 0 order by n") == [(0,), (2,)]

    run(stock, scenario)


def test_a_frozen_database_costs_no_more_than_the_deadline_of_each(postgres: Postgres, stock: Pg) -> None:
    async def scenario(db: Open) -> None:
        await db.begin(COUNT, 0)
        postgres.freeze()
        try:
            tasks = [db.begin(COUNT, n, timeout=1.0) for n in range(5)]
            await moment()
            tasks += [db.begin(COUNT, n, timeout=1.0) for n in range(5, 10)]
            async with asyncio.timeout(20):
                found = await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            postgres.thaw()
        assert set(kinds(found)) <= {Timeout, Unavailable}

    run(stock, scenario)


def test_what_takes_long_is_sent_as_without_a_batch(stock: Pg) -> None:
    slow = SqlSink(
        statement="update t set v = v + 1 from (select pg_sleep(2.2)) s where n = :n",
        values={"n": expression("body")},
        batch=50,
    )

    async def scenario(db: Open) -> None:
        found = await asyncio.gather(*[db.begin(slow, n, timeout=8.0) for n in range(3)])
        assert [reply.body for reply in found] == [ONE] * 3
        assert stock.do("select sum(v) from t") == [(3,)]

    run(stock, scenario)


def test_who_goes_away_takes_nobody_along(stock: Pg) -> None:
    async def scenario(db: Open) -> None:
        with held(stock.server, "lock table t in access exclusive mode") as let_go:
            tasks = [db.begin(COUNT, n, timeout=60) for n in range(4)]
            await moment()
            tasks[1].cancel()
            await asyncio.wait([tasks[1]])
            let_go()
            await asyncio.gather(tasks[0], *tasks[2:])
        assert {0, 2, 3} <= {row[0] for row in stock.do("select n from t where v > 0")}

    run(stock, scenario)


def test_a_connection_that_is_closed_leaves_nobody_waiting(stock: Pg) -> None:
    async def scenario(db: Open) -> None:
        with held(stock.server, "lock table t in access exclusive mode"):
            tasks = [db.begin(COUNT, n, timeout=60) for n in range(3)]
            await moment()
            await db.live.close()
            found = await asyncio.gather(*tasks, return_exceptions=True)
        assert kinds(found) == [Unavailable] * 3

    run(stock, scenario)


class BatchRig(TableRig):
    """Everything that a sink promises, with `batch`."""

    def sink(self) -> SqlSink:
        return dataclasses.replace(super().sink(), batch=50)

    def refused_sink(self) -> SqlSink:
        return dataclasses.replace(super().refused_sink(), batch=50)


class TestPostgresBatchSink(SinkContract):
    @pytest.fixture
    def rig(self, postgres: Postgres) -> BatchRig:
        return BatchRig(postgres)
