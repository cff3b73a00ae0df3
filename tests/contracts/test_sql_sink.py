"""Statements with bound parameters: one row or many, the ledger, guarded updates, answers, hostile values."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from esb.endpoints.sql import SqlSink, Upsert
from esb.errors import Invalid, Rejected, Timeout, Unavailable
from esb.formats.json import Json
from esb.message import Message
from esb.steps.base import Reply
from tests.contracts.sql_rigs import Database, Pg, Sqlite, connection_context, expression
from tests.contracts.test_sql_contracts import TableRig
from tests.servers.postgres import Postgres
from tests.servers.proxy import Proxy


def send(database: Database, sink: SqlSink, *bodies: Any, ids: tuple[str, ...] = ()) -> list[Reply]:
    """Send each body over one connection; ``ids`` are the delivery ids."""

    async def scenario() -> list[Reply]:
        live = await database.connection().open(connection_context())
        try:
            replies = []
            for number, body in enumerate(bodies):
                message = Message(body)
                changes = {"id": ids[number] if ids else f"d-{number}"}
                delivery = TableRig.delivery(RIG, message, **changes)
                replies.append(await sink.send(message, delivery, live))
            return replies
        finally:
            await live.close()

    return asyncio.run(scenario())


class _Rig:
    from esb.clock import SystemClock

    clock = SystemClock()
    workspace = Path()


RIG: Any = _Rig()


def test_one_row_for_each_delivery(database: Database) -> None:
    database.do("create table t (lot text, qty numeric(10,3))")
    sink = SqlSink(
        statement="insert into t (lot, qty) values (:lot, :qty)",
        values={"lot": expression("body.lot"), "qty": expression("body.qty")},
    )
    replies = send(database, sink, Json().decode(b'{"lot": "0012", "qty": 12.125}'))
    assert replies[0].body == {"rows": 1}
    assert [(str(lot), float(str(qty))) for lot, qty in database.do("select lot, qty from t")] == [("0012", 12.125)]


def test_many_rows_in_one_transaction(database: Database) -> None:
    database.do("create table t (n int check (n < 3))")
    sink = SqlSink(
        statement="insert into t (n) values (:n)", values={"n": expression("body")}, each=expression("body.items")
    )
    assert send(database, sink, {"items": [0, 1, 2]}, {"items": []})[1].body == {"rows": 0}
    with pytest.raises(Rejected):
        send(database, sink, {"items": [0, 1, 7]})
    assert database.do("select count(*) from t")[0][0] == 3
    with pytest.raises(Invalid, match="not a list of rows"):
        send(database, sink, {"items": 7})


def test_the_ledger_makes_the_effect_once(database: Database) -> None:
    database.do("create table t (n int)")
    sink = SqlSink(statement="insert into t (n) values (:n)", values={"n": expression("body.n")}, once=True)
    replies = send(database, sink, {"n": 1}, {"n": 1}, {"n": 2}, ids=("a", "a", "b"))
    assert [reply.body.get("repeated", False) for reply in replies] == [False, True, False]
    assert database.do("select n from t order by n") == [(1,), (2,)]


def test_a_commit_whose_answer_is_lost_is_found_in_the_ledger(postgres: Postgres) -> None:
    """C16: the database has committed, the connection is gone before anybody hears of it."""
    postgres.execute("drop table if exists once_only")
    proxy = Proxy(postgres.port)
    try:
        database = Pg(postgres)
        database.do("create table once_only (n int)")
        database.url = database.url.replace(str(postgres.port), str(proxy.port))
        sink = SqlSink(statement="insert into once_only (n) values (:n)", values={"n": expression("body.n")}, once=True)
        proxy.swallow(b"Q\0\0\0\x0bCOMMIT", b"COMMIT", nth=2)  # behind that of the ledger's table
        with pytest.raises((Timeout, Unavailable)):
            send(database, sink, {"n": 1}, ids=("lost",))
        assert send(database, sink, {"n": 1}, ids=("lost",))[0].body["repeated"] is True
        assert database.do("select n from once_only") == [(1,)]
    finally:
        proxy.close()


def test_an_effect_that_failed_is_not_in_the_ledger(database: Database) -> None:
    database.do("create table t (n int not null)")
    sink = SqlSink(statement="insert into t (n) values (:n)", values={"n": expression("body.n")}, once=True)
    with pytest.raises(Rejected):
        send(database, sink, {"n": None}, ids=("a",))
    send(database, sink, {"n": 1}, ids=("a",))
    assert database.do("select n from t") == [(1,)]


def test_an_older_state_changes_nothing(database: Database) -> None:
    database.do("create table lots (lot text primary key, state text, seq int)")
    values = {"lot": expression("body.lot"), "state": expression("body.state"), "seq": expression("body.seq")}
    sink = SqlSink(upsert=Upsert(table="lots", key=("lot",), sequence="seq"), values=values)
    bodies = [{"lot": "1", "state": state, "seq": seq} for state, seq in (("HELD", 1), ("FREE", 2), ("HELD", 1))]
    send(database, sink, *bodies)
    assert database.do("select lot, state, seq from lots") == [("1", "FREE", 2)]


def test_rows_that_must_change(database: Database) -> None:
    database.do("create table t (id int, state text)")
    database.do("insert into t values (1, 'NEW')")
    sink = SqlSink(
        statement="update t set state = 'DONE' where id = :id and state = 'NEW'",
        values={"id": expression("body.id")},
        expect=1,
    )
    send(database, sink, {"id": 1})
    with pytest.raises(Rejected, match="0 rows changed instead of 1"):
        send(database, sink, {"id": 1})


@pytest.mark.parametrize(
    ("result", "body"), [("rows", [{"n": 1, "s": "a"}, {"n": 2, "s": "b"}]), ("row", {"n": 1, "s": "a"}), ("value", 1)]
)
def test_answers_of_a_query(database: Database, result: Any, body: Any) -> None:
    database.do("create table t (n int, s text)")
    for n, s in ((1, "a"), (2, "b")):
        database.do("insert into t values (?, ?)", n, s)
    sink = SqlSink(
        statement="select n, s from t where n >= :n order by n", values={"n": expression("body")}, result=result
    )
    assert send(database, sink, 1)[0].body == body
    assert send(database, sink, 99)[0].body == ([] if result == "rows" else None)


HOSTILE = [
    "'; drop table t; --",
    "' or '1'='1",
    "\\'; --",
    ":n",
    "%s %(n)s ?",
    "a\u2028b",
    "𝔘 ñ \u202e",
    "{{ 7*7 }}",
    "\r\n\t",
]


def test_values_are_only_ever_values(database: Database) -> None:
    database.do("create table t (s text)")
    sink = SqlSink(statement="insert into t (s) values (:s) -- :no '", values={"s": expression("body")})
    send(database, sink, *HOSTILE)
    assert [row[0] for row in database.do("select s from t")] == HOSTILE
    with pytest.raises(Invalid, match="NUL"):
        send(database, sink, "a\0b")


@pytest.mark.parametrize(
    "statement", ["insert into nowhere values (:s)", "select :s from", "insert into t values (:s, 1)"]
)
def test_a_wrong_statement_is_rejected_without_its_values(database: Database, statement: str) -> None:
    database.do("create table t (s text)")
    with pytest.raises(Rejected) as refused:
        send(database, SqlSink(statement=statement, values={"s": expression("body")}), "geheim")
    assert "geheim" not in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**30])
def test_a_number_beyond_every_integer_is_rejected_not_a_fault_of_the_route(database: Database, number: int) -> None:
    """SQLite's driver refuses it with an error that is none of its own."""
    database.do("create table t (n int)")
    with pytest.raises(Rejected) as refused:
        send(database, SqlSink(statement="insert into t values (:n)", values={"n": expression("body")}), number)
    assert str(number) not in str(refused.value)


def test_a_locked_database_is_unavailable(tmp_path: Path) -> None:
    import sqlite3

    database = Sqlite(tmp_path)
    database.do("create table t (n int)")
    holder = sqlite3.connect(database.path)
    holder.execute("begin exclusive")
    try:
        with pytest.raises(Unavailable, match="locked"):
            send(database, SqlSink(statement="insert into t values (:n)", values={"n": expression("body")}), 1)
    finally:
        holder.close()


def test_a_procedure_is_called(postgres: Postgres) -> None:
    postgres.execute("create table if not exists posted (lot text)")
    postgres.execute("create or replace procedure post(lot text) language sql as 'insert into posted values (lot)'")
    send(Pg(postgres), SqlSink(statement="call post(:lot)", values={"lot": expression("body")}), "0012")
    assert postgres.execute("select lot from posted") == [("0012",)]
