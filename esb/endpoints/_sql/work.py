"""What one delivery does in a transaction: its statement, for one row or many, beside the ledger of deliveries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text

from esb.endpoints._sql.dialects import READS, escaped, ledger_entry, ledger_table
from esb.endpoints._sql.values import row_body
from esb.errors import Rejected
from esb.steps.base import Reply

if TYPE_CHECKING:
    from esb.endpoints._sql.live import LiveSql
    from esb.endpoints.sql import SqlSink


@dataclass(frozen=True, slots=True)
class Part:
    """A delivery with the values of its rows bound; ``statement`` is in the words of the database."""

    sink: SqlSink
    statement: str
    rows: list[dict[str, Any]]
    delivery: str


def alone(part: Part, live: LiveSql, seconds: float, connection: Connection, *, lock: float | None = None) -> Reply:
    """One part in a transaction of its own. Raises what the driver raises, and Rejected."""
    try:
        ready((part,), live, seconds, connection)
        limit(connection, live, seconds * 0.9, lock=lock)
        reply = applied(part, live, connection)
        connection.commit()
        return reply
    except BaseException:
        if not connection.invalidated:
            connection.rollback()
        raise


def applied(part: Part, live: LiveSql, connection: Connection) -> Reply:
    """The effect of one part in the transaction that runs; where it raises, the transaction must be rolled back."""
    if part.sink.once and not _first_time(connection, live, part.delivery):
        return repeated()
    result = connection.execute(text(escaped(part.statement)), part.rows if len(part.rows) > 1 else part.rows[0])
    if result.returns_rows:
        return answer_of(part, [dict(row) for row in result.mappings().fetchmany(part.sink.max_rows)])
    return judged(part, live, max(result.rowcount, 0))


def repeated() -> Reply:
    """The answer to a delivery that the ledger knows."""
    return Reply(body={"rows": 0, "repeated": True})


def judged(part: Part, live: LiveSql, changed: int) -> Reply:
    """The answer of a statement that changed so many rows. Raises Rejected where that is not what it must change."""
    expect = part.sink.expect
    if expect is not None and changed != expect * len(part.rows):
        hint = "the row is not there, or another one came first"
        raise Rejected(f"{live.name}: {changed} rows changed instead of {expect * len(part.rows)}", hint=hint)
    return Reply(body={"rows": changed})


def answer_of(part: Part, found: Sequence[Mapping[str, Any]]) -> Reply:
    """The answer of a statement that gave these rows."""
    if part.sink.result == "rows":
        return Reply(body=[row_body(row) for row in found])
    row = row_body(found[0]) if found else None
    return Reply(body=row if part.sink.result == "row" or row is None else next(iter(row.values()), None))


def limit(connection: Connection, live: LiveSql, seconds: float, *, lock: float | None = None) -> None:
    """Where the database can end a statement itself, it does so before we stop waiting."""
    if live.dialect != "postgresql":
        return
    most = max(int(seconds * 1000), 50)
    least = most if lock is None else min(int(lock * 1000), most)
    set_both = f"set_config('statement_timeout', '{most}', true), set_config('lock_timeout', '{least}', true)"
    connection.exec_driver_sql(f"select {set_both}").close()  # for this transaction


def ready(parts: Iterable[Part], live: LiveSql, seconds: float, connection: Connection) -> None:
    """Begin a transaction that writes, with the ledger where a part needs it."""
    connection.info.pop(READS, None)
    if live.ledger_ready or not any(part.sink.once for part in parts):
        return
    try:
        limit(connection, live, seconds * 0.9)
        connection.execute(text(ledger_table(live.dialect)))
        connection.commit()
    except Exception:  # noqa: BLE001 - it exists (Oracle), or may not be made: then the entry says what is missing
        connection.rollback()
    live.ledger_ready = True


def _first_time(connection: Connection, live: LiveSql, delivery_id: str) -> bool:
    taken = connection.execute(text(ledger_entry(live.dialect)), {"esb_delivery": delivery_id})
    return taken.rowcount != 0
