"""One delivery to a database: its statement, for one row or many, in one transaction with the ledger of deliveries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text

from esb.endpoints._sql.dialects import escaped, ledger_entry, ledger_table
from esb.endpoints._sql.faults import fault_of
from esb.endpoints._sql.live import READS, LiveSql
from esb.endpoints._sql.values import parameter, row_body
from esb.endpoints.base import Delivery
from esb.errors import Invalid, Rejected
from esb.formats.faults import shown
from esb.steps.base import Reply

if TYPE_CHECKING:
    from esb.endpoints.sql import SqlSink


async def send(sink: SqlSink, delivery: Delivery, live: LiveSql) -> Reply:
    """Run the statement within ``delivery.timeout``. Raises Rejected, Unavailable, Timeout, Invalid."""
    rows = parameters(sink, delivery.scope, live.dialect)
    if not rows:
        return Reply(body={"rows": 0})
    statement = sink.sql(live.dialect)
    try:
        async with live.borrowed() as session:
            return await session.run(lambda c: _work(sink, statement, rows, delivery, live, c), delivery.timeout)
    except Exception as error:
        raise fault_of(live.name, error) from error


def parameters(sink: SqlSink, scope: Mapping[str, Any], dialect: str) -> list[dict[str, Any]]:
    """The bound values, one mapping per row. Raises Invalid for values that no column can hold."""
    items: Sequence[Any] = [scope.get("body")]
    if sink.each is not None:
        found = sink.each(scope)
        if not isinstance(found, list):
            raise Invalid(f"`each` is {shown(found)}, not a list of rows")
        items = found
    rows = []
    for item in items:
        inside = {**scope, "body": item}
        rows.append({name: parameter(name, value(inside), dialect) for name, value in sink.values.items()})
    return rows


def _work(
    sink: SqlSink, statement: str, rows: list[dict[str, Any]], delivery: Delivery, live: LiveSql, connection: Connection
) -> Reply:
    connection.info.pop(READS, None)
    try:
        _limit(connection, live, delivery.timeout)
        if sink.once and not _first_time(connection, live, delivery.id):
            connection.rollback()
            return Reply(body={"rows": 0, "repeated": True})
        result = connection.execute(text(escaped(statement)), rows if len(rows) > 1 else rows[0])
        body: Any
        if result.returns_rows:
            body = _answer(sink, [row_body(dict(row)) for row in result.mappings().fetchmany(sink.max_rows)])
        else:
            body = {"rows": max(result.rowcount, 0)}
            if sink.expect is not None and body["rows"] != sink.expect * len(rows):
                connection.rollback()
                hint = "the row is not there, or another one came first"
                raise Rejected(
                    f"{live.name}: {body['rows']} rows changed instead of {sink.expect * len(rows)}", hint=hint
                )
        connection.commit()
        return Reply(body=body)
    except BaseException:
        if not connection.invalidated:
            connection.rollback()
        raise


def _answer(sink: SqlSink, rows: list[dict[str, Any]]) -> Any:
    if sink.result == "rows":
        return rows
    row = rows[0] if rows else None
    if sink.result == "row" or row is None:
        return row
    return next(iter(row.values()), None)


def _limit(connection: Connection, live: LiveSql, seconds: float) -> None:
    """Where the database can end a statement itself, it does so a little before we stop waiting."""
    if live.dialect != "postgresql":
        return
    limit = max(int(seconds * 900), 50)
    connection.exec_driver_sql(f"set local statement_timeout = {limit}")
    connection.exec_driver_sql(f"set local lock_timeout = {limit}")


def _first_time(connection: Connection, live: LiveSql, delivery_id: str) -> bool:
    if not live.ledger_ready:
        _make_ledger(connection, live)
    taken = connection.execute(text(ledger_entry(live.dialect)), {"esb_delivery": delivery_id})
    return taken.rowcount != 0


def _make_ledger(connection: Connection, live: LiveSql) -> None:
    try:
        connection.execute(text(ledger_table(live.dialect)))
        connection.commit()
    except Exception:  # noqa: BLE001 - it exists (Oracle), or may not be made: then the entry says what is missing
        connection.rollback()
    live.ledger_ready = True
    _limit(connection, live, 30.0)
