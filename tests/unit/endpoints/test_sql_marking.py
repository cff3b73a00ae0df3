"""When rows are marked a batch at a time, and when one by one."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from esb.endpoints._sql.rows import Marking, Read, key_of, numbered
from esb.formats.json import Json


class Calls:
    """Stands for a connection: keeps what it is asked to execute."""

    dialect = SimpleNamespace(driver="other")

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []

    def execute(self, statement: Any, values: Any) -> None:
        self.seen.append((str(statement), values))


def marked(statement: str, rows: list[dict[str, Any]], dialect: str = "postgresql") -> tuple[str, Any]:
    calls = Calls()
    Marking(statement, dialect).run(calls, rows)  # type: ignore[arg-type]  # it only executes
    (seen,) = calls.seen
    return seen


ROWS: list[dict[str, Any]] = [{"id": 1}, {"id": 2}]


@pytest.mark.parametrize(
    ("statement", "batch"),
    [
        ("update queue set sent = 1 where id = :id", "update queue set sent = 1 where id = any(:esb_all)"),
        ("delete from s.box where id = :id;", "delete from s.box where id = any(:esb_all)"),
        ("UPDATE q SET a = 'x'\nWHERE a = 'y' AND q.id = :id", "UPDATE q SET a = 'x'\nWHERE a = 'y' AND q.id = any(:esb_all)"),
    ],
)  # fmt: skip
def test_a_statement_that_compares_one_column_runs_once(statement: str, batch: str) -> None:
    assert marked(statement, ROWS) == (batch, {"esb_all": "{1,2}"})


@pytest.mark.parametrize(
    "statement",
    [
        "update queue set sent = :id where id = :id",
        "update queue set sent = :at where id = :id",
        "update queue set sent = 1 where not id = :id",
        "update queue set sent = 1 where id <= :id",
        "update queue q set n = q.n + 1 from other o where q.id = o.id and o.k = :id",
        "update queue set n = (select max(n) from queue) where id = :id",
        "insert into seen select 1 from queue where id = :id",
        "update queue set sent = 1 where id = :id and n > 0",
        "delete from queue using other where other.id = :id",
        "call seen(:id)",
    ],
)
def test_any_other_statement_runs_for_each_row(statement: str) -> None:
    assert marked(statement, ROWS) == (statement, ROWS)


def test_other_databases_mark_row_by_row() -> None:
    assert marked("delete from box where id = :id", ROWS, "sqlite") == ("delete from box where id = :id", ROWS)


@pytest.mark.parametrize(
    "rows",
    [
        [{"id": 1}, {"id": 1}],
        [{"id": 1}, {"id": "2,3"}],
        [{"id": 1.5}],
        [{"id": True}],
        [{"id": None}],
        [{"no": 1}],
    ],
)
def test_values_that_an_array_may_read_otherwise_are_marked_row_by_row(rows: list[dict[str, Any]]) -> None:
    assert marked("delete from box where id = :id", rows)[1] == rows


def test_the_text_of_an_array() -> None:
    rows: list[dict[str, Any]] = [{"k": 'a"b'}, {"k": "c\\d"}, {"k": "NULL"}, {"k": ""}, {"k": "{,}"}]
    assert marked("delete from box where k = :k", rows)[1] == {"esb_all": r'{"a\"b","c\\d","NULL","","{,}"}'}
    id_ = UUID("00000000-0000-0000-0000-00000000000a")
    assert marked("delete from box where k = :k", [{"k": id_}])[1] == {"esb_all": f"{{{id_}}}"}


def test_a_source_key_stays_the_same() -> None:
    """Rows that were stored by an earlier version are known by their key."""
    payload = b'{"id":1}'
    assert key_of(payload) == hashlib.sha256(Json().encode([{"id": 1}])).hexdigest()
    assert key_of(payload, 3, 0) == hashlib.sha256(Json().encode([{"id": 1}, "3", "0"])).hexdigest()


def test_equal_rows_are_told_apart() -> None:
    rows = [Read({}, b"a"), Read({}, b"b"), Read({}, b"a")]
    assert [number for _, number in numbered(rows)] == [0, 0, 1]
