"""Statements of several deliveries sent to PostgreSQL without waiting for each answer: one round trip for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Dialect, text
from sqlalchemy.exc import DBAPIError

from esb.endpoints._sql.dialects import escaped, ledger_entry
from esb.endpoints._sql.work import Part, answer_of, judged, repeated
from esb.errors import MessageError
from esb.steps.base import Reply

if TYPE_CHECKING:
    from esb.endpoints._sql.live import LiveSql


def can_pipeline(connection: Connection) -> bool:
    """Whether the driver and its library can."""
    if connection.dialect.driver != "psycopg":
        return False
    from psycopg import Pipeline  # noqa: PLC0415 - the driver is an extra

    return bool(Pipeline.is_supported())


def sent(parts: Sequence[Part], live: LiveSql, connection: Connection) -> list[Reply] | int:
    """The answers in the transaction that runs; or the place of the first that failed, and it must be rolled back.

    Raises DBAPIError where the connection is lost.
    """
    taken = _taken(parts, live, connection)
    if isinstance(taken, int):
        return taken
    left = [place for place, first in enumerate(taken) if first]
    found = _run(connection, [(_compiled(connection.dialect, parts[n].statement), parts[n].rows) for n in left])
    if isinstance(found, int):
        return left[found]
    replies = [repeated() for _ in parts]
    for place, cursors in zip(left, found, strict=True):
        try:
            replies[place] = _reply(parts[place], live, cursors)
        except MessageError:
            return place
    return replies


def _taken(parts: Sequence[Part], live: LiveSql, connection: Connection) -> list[bool] | int:
    """For each whether it has its effect now for the first time, by the ledger where it asks for that."""
    asking = [place for place, part in enumerate(parts) if part.sink.once]
    first = [True] * len(parts)
    if asking:
        entry = _compiled(connection.dialect, ledger_entry(live.dialect))
        found = _run(connection, [(entry, [{"esb_delivery": parts[n].delivery}]) for n in asking])
        if isinstance(found, int):
            return asking[found]
        for place, (cursor,) in zip(asking, found, strict=True):
            first[place] = cursor.rowcount != 0
    return first


def _reply(part: Part, live: LiveSql, cursors: Sequence[Any]) -> Reply:
    if len(cursors) == 1 and cursors[0].description is not None:
        names = [column.name for column in cursors[0].description]
        rows = [dict(zip(names, row, strict=True)) for row in cursors[0].fetchmany(part.sink.max_rows)]
        return answer_of(part, rows)
    return judged(part, live, sum(max(cursor.rowcount, 0) for cursor in cursors))


def _run(connection: Connection, work: Sequence[tuple[str, Sequence[Any]]]) -> list[list[Any]] | int:
    """The cursors that each has been executed with, or the place of the first that failed."""
    driver: Any = connection.connection.driver_connection
    done: list[list[Any]] = [[] for _ in work]
    try:
        with _known(connection), driver.pipeline():
            for place, (statement, rows) in enumerate(work):
                for row in rows:
                    done[place].append(cursor := driver.cursor())
                    cursor.execute(statement, row)
    except Exception as error:
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            raise
        behind = (place for place, cursors in enumerate(done) if any(one.pgresult is None for one in cursors))
        return next(behind, 0)
    return done


@contextmanager
def _known(connection: Connection) -> Iterator[None]:
    """Errors of the driver as SQLAlchemy has them."""
    dialect: Any = connection.dialect
    base: type[Exception] = dialect.loaded_dbapi.Error
    try:
        yield
    except base as error:
        lost = dialect.is_disconnect(error, connection.connection.driver_connection, None)
        if lost:
            connection.invalidate(error)
        raise DBAPIError.instance(
            None, None, error, base, hide_parameters=True, connection_invalidated=lost, dialect=dialect
        ) from error


@lru_cache(maxsize=256)
def _compiled(dialect: Dialect, statement: str) -> str:
    """The statement in the words of the driver."""
    return str(text(escaped(statement)).compile(dialect=dialect))
