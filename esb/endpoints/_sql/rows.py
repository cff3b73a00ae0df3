"""Rows as they are read and marked: without the ORM's row objects, encoded once, and marked a batch at a time where that is the same."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from esb.endpoints._sql.dialects import READS, binds, escaped
from esb.endpoints._sql.values import row_body
from esb.errors import Invalid
from esb.formats.json import Json
from esb.formats.numbers import in_bounds

_JSON = Json()
#: an update or deletion of one table whose last condition compares a column with its only parameter
_BY_COLUMN = re.compile(
    r"(?P<head>(?:update\s+(?:(?!\b(?:from|select)\b)[^()])+?|delete\s+from\s+[\w.\"]+)"
    r"\s+where\s+(?:(?:(?!\bselect\b)[^()])+\s+and\s+)?(?P<column>[\w.\"]+)\s*=\s*):(?P<name>[A-Za-z_]\w*)\s*;?\s*",
    re.IGNORECASE | re.DOTALL,
)
_QUOTES = re.compile(r"[\"\\]")
#: values that mean the same in the text of an array as by themselves
_PLAIN = frozenset({int, str, UUID})


class Read(NamedTuple):
    """A row, and its body as JSON."""

    row: dict[str, Any]
    payload: bytes


class Statement:
    """A statement that is executed again and again.

    With psycopg it goes straight to the driver's cursor, in the words that SQLAlchemy has compiled it to: what SQLAlchemy does
    around each execution takes a fifth of the time of a page. Errors are the same, and so are transactions.
    """

    def __init__(self, statement: str) -> None:
        self._text = text(escaped(statement))
        self._compiled = ""

    def rows(self, connection: Connection, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The rows of a query with the driver's own values."""
        if connection.dialect.driver == "psycopg":
            with self._cursor(connection, values) as cursor:
                names = [column.name for column in cursor.description]
                rows = cursor.fetchall()
        else:
            result = connection.execute(self._text, values)
            names = list(result.keys())
            rows = result.cursor.fetchall()
            result.close()
        return [dict(zip(names, row)) for row in rows]  # noqa: B905 - as many as there are names; `strict` would double its time

    def run(self, connection: Connection, values: Mapping[str, Any]) -> None:
        """Execute it once, for what it does."""
        if connection.dialect.driver == "psycopg":
            with self._cursor(connection, values):
                return
        connection.execute(self._text, values)

    def run_each(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Execute it once for each row."""
        connection.execute(self._text, list(rows))

    @contextmanager
    def _cursor(self, connection: Connection, values: Mapping[str, Any]) -> Iterator[Any]:
        """A cursor of psycopg that has executed it, inside the transaction that SQLAlchemy knows of."""
        dialect = connection.dialect
        if not self._compiled:
            self._compiled = str(self._text.compile(dialect=dialect))
        if not (connection.info.get(READS) or connection.in_transaction()):
            connection.begin()
        base: type[Exception] = dialect.loaded_dbapi.Error
        cursor = None
        try:
            cursor = connection.connection.cursor()
            cursor.execute(self._compiled, values)
            yield cursor
        except base as error:
            driver = connection.connection.driver_connection
            lost = dialect.is_disconnect(error, driver, cursor)  # type: ignore[arg-type]  # psycopg's own
            if lost:
                connection.invalidate(error)
            raise DBAPIError.instance(
                None, None, error, base, hide_parameters=True, connection_invalidated=lost, dialect=dialect
            ) from error
        finally:
            if cursor is not None:
                cursor.close()


def read(connection: Connection, statement: Statement, values: Mapping[str, Any]) -> list[Read]:
    """The same with their bodies."""
    return [Read(row, _payload(row)) for row in statement.rows(connection, values)]


def _payload(row: Mapping[str, Any]) -> bytes:
    body = row_body(row)
    try:
        return _JSON.encode(body)
    except Invalid:  # NaN, or more digits than a body may have: as text, so that it does not hold up the rows behind it
        return _JSON.encode({name: str(value) if _out_of_bounds(value) else value for name, value in body.items()})


def _out_of_bounds(value: Any) -> bool:
    return isinstance(value, (int, Decimal)) and not in_bounds(value)


def only_reads(connection: Connection, dialect: str) -> None:
    """From now on every statement is a transaction of its own where the driver can do that without asking: one round trip."""
    if not connection.info.get(READS):
        connection.info[READS] = True
        if dialect == "postgresql":
            connection.execution_options(isolation_level="AUTOCOMMIT")


def key_of(payload: bytes, *parts: int) -> str:
    """A source key: the hash of a row and of what it is read by."""
    return hashlib.sha256(b"[%b]" % b",".join((payload, *(b'"%d"' % part for part in parts)))).hexdigest()


def numbered(rows: Sequence[Read]) -> list[tuple[Read, int]]:
    """Each row with how many equal ones came before it in the page: two equal rows are two messages."""
    counts: dict[bytes, int] = {}
    found = []
    for one in rows:
        before = counts.get(one.payload, 0)
        found.append((one, before))
        counts[one.payload] = before + 1
    return found


class Marking:
    """The statement that lets rows go.

    PostgreSQL runs it once for all rows where it ends with ``column = :name`` and has no other parameter: ``column`` is compared
    with an array then, whose text takes the column's type as a single value's does. Else it runs once for each row.
    """

    def __init__(self, statement: str, dialect: str) -> None:
        self._each = Statement(statement)
        found = _BY_COLUMN.fullmatch(statement.strip()) if dialect == "postgresql" else None
        self._name = found["name"] if found is not None and not binds(found["head"]) else ""
        self._all = Statement(f"{found['head']}any(:esb_all)") if found is not None and self._name else self._each

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Mark the rows in the transaction of the connection."""
        values = [row.get(self._name) for row in rows] if self._name else []
        kinds = set(map(type, values))
        if len(kinds) == 1 and kinds <= _PLAIN and len(set(values)) == len(values):
            self._all.run(connection, {"esb_all": _array(values)})
        else:
            self._each.run_each(connection, rows)


def _array(values: Sequence[Any]) -> str:
    """The text of an array of PostgreSQL."""
    if isinstance(values[0], str):
        values = ['"' + _QUOTES.sub(r"\\\g<0>", str(value)) + '"' for value in values]
    return "{" + ",".join(map(str, values)) + "}"


__all__ = ["Marking", "Read", "Statement", "key_of", "numbered", "only_reads", "read"]
