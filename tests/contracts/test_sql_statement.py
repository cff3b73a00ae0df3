"""Statements that go straight to psycopg's cursor: the rows, errors and transactions are those of SQLAlchemy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from esb.clock import SystemClock
from esb.endpoints._sql.faults import fault_of
from esb.endpoints._sql.live import LiveSql
from esb.endpoints._sql.rows import Marking, Statement, only_reads
from esb.endpoints.base import ConnectionContext
from esb.endpoints.sql import SqlConnection
from tests.servers.postgres import Postgres


@pytest.fixture
def connection(postgres: Postgres) -> Iterator[Connection]:
    postgres.execute("drop table if exists kept")
    postgres.execute("create table kept (id int primary key, sent int default 0, name text, at timestamptz, n numeric)")
    postgres.execute("insert into kept select i, 0, 'x%:y', '2026-01-05', i / 8.0 from generate_series(1, 4) i")
    context = ConnectionContext("erp", SystemClock(), Path(), lambda *_, **__: None)
    live = LiveSql(SqlConnection(url=postgres.url, user="esb"), context)
    with live.engine.connect() as made:
        assert made.dialect.driver == "psycopg"
        yield made


QUERY = "select *, ':no %s' as odd from kept where id > :n and name like '%%' || :part || '%' order by id"


def test_the_same_rows(connection: Connection) -> None:
    statement, values = Statement(QUERY), {"n": 1, "part": ":"}
    found = statement.rows(connection, values)
    rows = connection.execute(text(QUERY.replace("':no", r"'\:no")), values).mappings()
    assert found == [dict(row) for row in rows]
    assert [row["id"] for row in found] == [2, 3, 4]
    assert {row["odd"] for row in found} == {":no %s"}


@pytest.mark.parametrize(
    "words",
    [
        "select * from nowhere",
        "select 1 / :zero",
        "select pg_terminate_backend(pg_backend_pid())",
        "select cast(:zero as date)",
    ],
)
def test_the_same_fault(connection: Connection, postgres: Postgres, words: str) -> None:
    values = {"zero": 0}

    def fault(work: Any) -> Any:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - what it is, is asked
            found = fault_of("erp", error)
            return type(found), found.message
        return None

    ours = fault(lambda: Statement(words).rows(connection, values))
    with connection.engine.connect() as other:
        theirs = fault(lambda: other.execute(text(words), values))
    assert ours is not None
    assert ours == theirs


def test_a_transaction_is_sqlalchemys(connection: Connection, postgres: Postgres) -> None:
    def sent() -> list[Any]:
        return postgres.execute("select id from kept where sent = 1 order by id")

    query = Statement("select * from kept where sent = 0 order by id limit 2 for update")
    marking = Marking("update kept set sent = 1 where id = :id", "postgresql")
    marking.run(connection, query.rows(connection, {}))
    assert (connection.in_transaction(), sent()) == (True, [])
    connection.rollback()
    assert (connection.in_transaction(), sent()) == (False, [])
    assert connection.connection.driver_connection.info.transaction_status.name == "IDLE"
    marking.run(connection, query.rows(connection, {}))
    connection.commit()
    assert sent() == [(1,), (2,)]


def test_a_connection_that_only_reads_is_never_in_a_transaction(connection: Connection) -> None:
    only_reads(connection, "postgresql")
    assert len(Statement("select * from kept").rows(connection, {})) == 4
    assert not connection.in_transaction()
    assert connection.connection.driver_connection.info.transaction_status.name == "IDLE"
