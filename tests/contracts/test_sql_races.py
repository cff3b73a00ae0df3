"""Rows that are committed late, several readers of one table, and what becomes of rows when the store or the marking fails."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg import Rollback

from esb.endpoints.base import Incoming, Receipt
from esb.endpoints.sql import Mark, SqlSource, Watermark
from esb.errors import StoreBusy, StoreError
from tests.contracts.source_contract import DurableIntake
from tests.contracts.sql_rigs import Pg, RowRig, Sqlite, State, bound
from tests.servers.postgres import Postgres

WRITERS, EACH = 8, 25
FAST = timedelta(milliseconds=5)


def write_late(server: Postgres, seed: int) -> set[int]:
    """Eight writers; some transactions are committed after greater ids were, some are rolled back. The committed ids."""
    gate = threading.Barrier(WRITERS)

    def writer(number: int) -> None:
        chance = random.Random(seed * 100 + number)
        with server.connect() as connection:
            gate.wait()
            for _ in range(EACH):
                with connection.transaction() as transaction:
                    connection.execute("insert into late (n) values (1)")
                    if chance.random() < 0.3:
                        # the server's time, not ours
                        connection.execute("select pg_sleep(%s)", (chance.random() * 0.04,))
                    if chance.random() < 0.05:
                        raise Rollback(transaction)

    threads = [threading.Thread(target=writer, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {int(str(row[0])) for row in server.execute("select id from late")}


def read_while(server: Postgres, options: SqlSource, seed: int) -> tuple[set[int], list[int]]:
    """What the writers committed, and the ids that were stored, in their order."""

    async def scenario() -> tuple[set[int], list[int]]:
        intake, state = DurableIntake(), State()
        source = await bound(options, Pg(server), intake, state)
        await source.start()
        written = await asyncio.to_thread(write_late, server, seed)

        def ids() -> list[int]:
            return [json.loads(payload)["id"] for payload in intake.payloads]

        async with asyncio.timeout(30):
            while not written <= set(ids()):
                await asyncio.sleep(0.01)
        await source.stop()
        return written, ids()

    return asyncio.run(scenario())


@pytest.fixture
def late(postgres: Postgres) -> Postgres:
    postgres.execute("drop table if exists late")
    postgres.execute(
        "create table late (id bigserial primary key, n int, x xid8 default pg_current_xact_id(), at timestamptz default clock_timestamp())"
    )
    return postgres


def test_a_watermark_bound_by_the_snapshot_misses_no_late_commit(late: Postgres) -> None:
    options = SqlSource(
        query="select id, n, x from late", watermark=Watermark(column="x", tie="id", bound="snapshot"), every=FAST
    )
    written, stored = read_while(late, options, 1)
    assert sorted(stored) == sorted(written)  # each once


def test_a_watermark_with_an_overlap_misses_no_late_commit(late: Postgres) -> None:
    mark = Watermark(column="at", tie="id", overlap=timedelta(seconds=20))
    written, stored = read_while(late, SqlSource(query="select id, n, at from late", watermark=mark, every=FAST), 2)
    assert sorted(stored) == sorted(written)


def test_the_race_is_one_that_a_bare_watermark_loses(late: Postgres) -> None:
    """The test of the test: without a bound, a row is missed that is committed after one with a greater id was read."""
    options = SqlSource(query="select id, n from late", watermark=Watermark(column="id", tie="id"), every=FAST)

    async def scenario() -> list[int]:
        intake, state = DurableIntake(), State()
        source = await bound(options, Pg(late), intake, state)

        async def until_stored(count: int) -> None:
            async with asyncio.timeout(60):
                while len(intake.payloads) < count:
                    await asyncio.sleep(0.01)

        await source.start()
        with late.connect() as slow, slow.transaction():
            slow.execute("insert into late (n) values (1)")
            late.execute("insert into late (n) values (2)")
            await until_stored(1)
        late.execute("insert into late (n) values (3)")
        await until_stored(2)
        await source.stop()
        return [json.loads(payload)["n"] for payload in intake.payloads]

    assert asyncio.run(scenario()) == [2, 3]


def test_two_buses_share_a_table_and_take_each_row_once(postgres: Postgres) -> None:
    postgres.execute("drop table if exists notes")
    postgres.execute("create table notes (id int primary key, sent int default 0)")
    postgres.execute("insert into notes select i, 0 from generate_series(1, 300) i")
    mark = Mark(update="update notes set sent = 1 where id = :id")
    options = SqlSource(query="select id from notes where sent = 0 order by id", mark=mark, every=FAST, batch=20)

    async def scenario() -> list[int]:
        intakes = [DurableIntake(), DurableIntake()]
        sources = [await bound(options, Pg(postgres), intake, State()) for intake in intakes]
        for source in sources:
            await source.start()
        async with asyncio.timeout(30):
            while sum(len(intake.committed) for intake in intakes) < 300:
                await asyncio.sleep(0.01)
        for source in sources:
            await source.stop()
        return [json.loads(payload)["id"] for intake in intakes for payload in intake.payloads]

    assert sorted(asyncio.run(scenario())) == list(range(1, 301))


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("char(6)", "'a', 'b \"', 'c\\', '{,}', 'NULL', ''"),
        ("varchar(6)", "'a', 'b \"', 'c\\', '{,}', 'NULL', ''"),
        ("numeric(20, 0)", "1, 2, 12345678901234567890"),
        ("uuid", "gen_random_uuid(), gen_random_uuid()"),
        ("timestamptz", "now(), now() + interval '1 s'"),
        ("sql_mood", "'good', 'bad'"),
    ],
)
def test_a_batch_is_marked_whatever_the_key_is(postgres: Postgres, column: str, values: str) -> None:
    postgres.execute("drop table if exists kept")
    postgres.execute("drop type if exists sql_mood")
    postgres.execute("create type sql_mood as enum ('good', 'bad')")
    postgres.execute(f"create table kept (k {column} primary key, sent int default 0)")
    postgres.execute(f"insert into kept select unnest(array[{values}]::{column}[])")
    (count,) = postgres.execute("select count(*) from kept")[0]
    mark = Mark(update="update kept set sent = sent + 1 where k = :k")
    options = SqlSource(query="select k from kept where sent = 0 order by k", mark=mark)

    async def scenario() -> int:
        source: Any = await bound(options, Pg(postgres), DurableIntake(), State())
        stored = await source.poll_once()
        await source.stop()
        return int(stored)

    assert asyncio.run(scenario()) == count
    assert postgres.execute("select distinct sent from kept") == [(1,)]


def test_a_number_that_is_none_does_not_hold_up_the_rows_behind_it(postgres: Postgres) -> None:
    postgres.execute("drop table if exists kept")
    postgres.execute("create table kept (id int primary key, qty numeric)")
    postgres.execute("insert into kept values (1, 'NaN'), (2, 12.10)")
    intake = DurableIntake()

    async def scenario() -> None:
        options = SqlSource(query="select * from kept", watermark=Watermark(column="id", tie="id"))
        source: Any = await bound(options, Pg(postgres), intake, State())
        await source.poll_once()
        await source.stop()

    asyncio.run(scenario())
    assert intake.payloads == [b'{"id":1,"qty":"NaN"}', b'{"id":2,"qty":12.10}']


def test_numbers_inside_json_columns_keep_their_digits(postgres: Postgres) -> None:
    postgres.execute("drop table if exists kept")
    postgres.execute("create table kept (id int primary key, data jsonb)")
    postgres.execute("""insert into kept values (1, '{"qty": 12345678901234567890.120, "n": 7}')""")
    intake = DurableIntake()

    async def scenario() -> None:
        options = SqlSource(query="select * from kept", watermark=Watermark(column="id", tie="id"))
        source: Any = await bound(options, Pg(postgres), intake, State())
        await source.poll_once()
        await source.stop()

    asyncio.run(scenario())
    assert intake.payloads == [b'{"id":1,"data":{"n":7,"qty":12345678901234567890.120}}']


def test_a_notification_wakes_the_source(postgres: Postgres) -> None:
    postgres.execute("drop table if exists notes")
    postgres.execute("create table notes (id int primary key, sent int default 0)")
    mark = Mark(update="update notes set sent = 1 where id = :id")
    options = SqlSource(
        query="select id from notes where sent = 0 order by id",
        mark=mark,
        every=timedelta(hours=1),
        wake="notes_changed",
    )

    async def scenario() -> None:
        intake = DurableIntake()
        source: Any = await bound(options, Pg(postgres), intake, State())
        await source.start()
        async with asyncio.timeout(30):
            while not postgres.execute("select 1 from pg_stat_activity where query ilike 'listen%'"):
                await asyncio.sleep(0.01)
            while source._turn.locked() or not source._task:
                await asyncio.sleep(0.01)
            postgres.execute("insert into notes values (1)")
            postgres.execute("notify notes_changed")
            while not intake.committed:
                await asyncio.sleep(0.01)
        await source.stop()

    asyncio.run(scenario())


def test_a_row_that_is_set_back_is_a_new_message(tmp_path: Path) -> None:
    rig = RowRig(Sqlite(tmp_path), "mark")

    async def scenario() -> None:
        intake = DurableIntake()
        await rig.offer("a", rig.good)
        source = await rig.start(intake)
        await rig.until_held(0)
        rig.database.do("update notes set sent = 0")
        await rig.until(lambda: len(intake.committed) == 2)
        await rig.until_held(0)
        await source.stop()

    asyncio.run(scenario())


def test_a_watermark_goes_on_after_a_restart(tmp_path: Path) -> None:
    rig = RowRig(Sqlite(tmp_path), "watermark")

    async def scenario() -> None:
        intake = DurableIntake()
        for number in range(3):
            await rig.offer(str(number), b'{"n": %d}' % number)
        source = await rig.start(intake)
        await rig.until_held(0)
        await source.stop()
        await rig.offer("3", b'{"n": 3}')
        asked = intake.asked
        source = await rig.start(intake)
        await rig.until_held(0)
        await source.stop()
        assert intake.asked == asked + 1  # nothing is read twice without an overlap
        assert intake.payloads == [b'{"n": %d}' % number for number in range(4)]

    asyncio.run(scenario())


def test_a_watermark_on_another_column_begins_anew(tmp_path: Path) -> None:
    """The route was edited: what the old column had come to says nothing of the values of the new one."""
    database, intake, state = Sqlite(tmp_path), DurableIntake(), State()
    database.do("create table jobs (id integer primary key, version integer)")

    async def look(column: str) -> None:
        options = SqlSource(query="select id, version from jobs", watermark=Watermark(column=column, tie="id"))
        source: Any = await bound(options, database, intake, state)
        await source.poll_once()
        await source.stop()

    async def scenario() -> None:
        for row in ((7, 1), (8, 2), (9, 3)):
            database.do("insert into jobs values (?, ?)", *row)
        await look("id")
        database.do("insert into jobs values (?, ?)", 3, 4)
        await look("version")
        assert [json.loads(payload)["id"] for payload in intake.payloads] == [7, 8, 9, 3]
        asked = intake.asked
        await look("version")
        assert intake.asked == asked

    asyncio.run(scenario())


def test_a_look_that_goes_on_and_on_ends_with_its_source(tmp_path: Path) -> None:
    """An edit of the route waits for the rows in hand, not for all that there are."""
    database, intake = Sqlite(tmp_path), DurableIntake()
    database.do("create table jobs (id integer primary key)")
    database.do("insert into jobs select value from json_each('[' || ? || ']')", ",".join(map(str, range(1, 5001))))

    async def scenario() -> None:
        options = SqlSource(query="select id from jobs", watermark=Watermark(column="id", tie="id"), batch=10)
        source = await bound(options, database, intake, State())
        await source.start()
        while not intake.committed:
            await asyncio.sleep(0)
        await source.stop()
        assert len(intake.committed) < 5000

    asyncio.run(scenario())


def test_a_watermark_that_goes_on_in_another_database_says_so(tmp_path: Path) -> None:
    intake, state, logs = DurableIntake(), State(), []

    async def look(name: str) -> None:
        (tmp_path / name).mkdir(exist_ok=True)
        database = Sqlite(tmp_path / name)
        database.do("create table if not exists jobs (id integer primary key)")
        database.do("insert or ignore into jobs values (1), (2)")
        options = SqlSource(query="select id from jobs", watermark=Watermark(column="id", tie="id"))
        source: Any = await bound(options, database, intake, state)
        source.context = replace(source.context, log=lambda level, event, **fields: logs.append((event, fields)))
        await source.poll_once()
        await source.stop()

    async def scenario() -> None:
        await look("one")
        await look("one")
        assert not logs
        await look("two")
        await look("two")
        ((event, fields),) = logs
        assert (event, fields["mark"]) == ("sql.goes_on_elsewhere", "2")
        assert fields["now"].endswith("two/plant.db")

    asyncio.run(scenario())


def test_a_row_of_whose_commit_nobody_knows_is_not_stored_twice(tmp_path: Path) -> None:
    """The store reports an error for a commit that took effect, the one before it is fine: a server that died in the middle."""
    database = Sqlite(tmp_path)
    database.do("create table notes (id integer primary key, sent integer default 0)")
    database.do("insert into notes (id) values (1), (2), (3)")

    class InDoubt(DurableIntake):
        doubt = True

        async def accept(self, incoming: Incoming) -> Receipt:
            receipt = await super().accept(incoming)
            if self.doubt and len(self.committed) == 3:
                self.doubt = False
                raise StoreError("the server closed the connection")
            return receipt

    async def scenario() -> None:
        intake = InDoubt()
        query = "select id from notes where sent = 0 order by id"
        options = SqlSource(query=query, mark=Mark(update="update notes set sent = 1 where id = :id"), every=FAST)
        source: Any = await bound(options, database, intake, State())
        assert await source.poll_once() == 2
        source.rest(0.0)
        assert await source.poll_once() == 1
        assert [json.loads(payload)["id"] for payload in intake.payloads] == [1, 2, 3]
        database.do("update notes set sent = 0")
        assert await source.poll_once() == 3
        assert len(intake.payloads) == 6, "they were set back by somebody"
        await source.stop()

    asyncio.run(scenario())


def test_rows_that_are_alike_are_each_stored_where_the_store_takes_one_at_a_time(tmp_path: Path) -> None:
    database = Sqlite(tmp_path)
    database.do("create table notes (id integer primary key, n integer, sent integer default 0)")
    database.do("insert into notes (id, n) values (1, 7), (2, 7), (3, 7)")

    class Narrow(DurableIntake):
        left = 1

        async def accept(self, incoming: Incoming) -> Receipt:
            if not self.left:
                raise StoreBusy("the queue is full")
            self.left -= 1
            return await super().accept(incoming)

    async def scenario() -> None:
        intake = Narrow()
        mark = "update notes set sent = 1 where id = (select min(id) from notes where sent = 0 and n = :n)"
        options = SqlSource(query="select n from notes where sent = 0 order by id", mark=Mark(update=mark))
        source: Any = await bound(options, database, intake, State())
        for _ in range(3):
            intake.left = 1
            source.rest(0.0)
            await source.poll_once()
        assert len(intake.payloads) == 3
        assert database.do("select count(*) from notes where sent = 0") == [(0,)]
        await source.stop()

    asyncio.run(scenario())
