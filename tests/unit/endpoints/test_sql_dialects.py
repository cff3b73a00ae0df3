"""The SQL that is made for each database, as text; and which parameters a statement binds."""

from __future__ import annotations

import pytest

from esb.endpoints._sql.dialects import binds, ledger_entry, ledger_table, limited, locked, outbox, page, upsert

DIALECTS = ("sqlite", "postgresql", "mysql", "mssql", "oracle")


@pytest.mark.parametrize(
    ("statement", "names"),
    [
        ("insert into t values (:a, :b, :a)", ["a", "b"]),
        ("select '12:30:00', ':no', \":no\" from t -- :no\n where x = :yes /* :no */", ["yes"]),
        ("select a::text from t where b = cast(:c as int)", ["c"]),
        ("call post(:lot,:qty)", ["lot", "qty"]),
    ],
)
def test_bound_parameters_of_a_statement(statement: str, names: list[str]) -> None:
    assert binds(statement) == names


def test_paging() -> None:
    assert limited("postgresql", "q order by a") == "q order by a limit :esb_batch"
    for dialect in ("mssql", "oracle"):
        assert limited(dialect, "q order by a") == "q order by a offset 0 rows fetch next :esb_batch rows only"


def test_a_page_of_a_watermark_query() -> None:
    first = page("sqlite", "select * from t;", "at", "id", start="first")
    assert first == "select * from (select * from t) as esb_rows where at is not null order by at, id limit :esb_batch"
    after = page("postgresql", "select * from t", "at", "id", start="after")
    assert "where at >= :esb_mark and (at > :esb_mark or id > :esb_tie) order by at, id" in after
    assert "where at >= :esb_mark order by" in page("mysql", "select * from t", "at", "id", start="from")
    assert "as esb_rows" not in page("oracle", "select * from t", "at", "id", start="from")


def test_a_page_bound_by_the_snapshot() -> None:
    text = page("postgresql", "select * from t", "x", "id", start="after", snapshot=True)
    assert "cast(:esb_mark as xid8)" in text
    assert "and x < pg_snapshot_xmin(pg_current_snapshot())" in text


def test_rows_are_locked_where_the_database_can() -> None:
    query = "select id from t where sent = 0 order by id"
    assert locked("postgresql", query) == f"{query} limit :esb_batch for update skip locked"
    assert locked("mysql", query) == f"{query} limit :esb_batch for update skip locked"
    assert locked("sqlite", query) == f"{query} limit :esb_batch"
    assert locked("postgresql", f"{query} limit 5 for update") == f"{query} limit 5 for update"
    assert (
        locked("mssql", "select id from t")
        == "select id from t order by 1 offset 0 rows fetch next :esb_batch rows only"
    )


def test_an_outbox_has_its_query_and_its_deletion() -> None:
    assert outbox("esb_outbox", "id") == (
        "select * from esb_outbox order by id",
        "delete from esb_outbox where id = :id",
    )


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        (
            "postgresql",
            "insert into s (lot, state, seq) values (:lot, :state, :seq) on conflict (lot) do update set"
            " state = excluded.state, seq = excluded.seq where s.seq < excluded.seq",
        ),
        (
            "mysql",
            "insert into s (lot, state, seq) values (:lot, :state, :seq) on duplicate key update"
            " state = if(values(seq) > s.seq, values(state), s.state), seq = if(values(seq) > s.seq, values(seq), s.seq)",
        ),
        (
            "mssql",
            "merge into s with (holdlock) t using (select :lot as lot, :state as state, :seq as seq) s on (t.lot = s.lot)"
            " when matched and t.seq < s.seq then update set t.state = s.state, t.seq = s.seq"
            " when not matched then insert (lot, state, seq) values (s.lot, s.state, s.seq);",
        ),
        (
            "oracle",
            "merge into s t using (select :lot as lot, :state as state, :seq as seq from dual) s on (t.lot = s.lot)"
            " when matched then update set t.state = s.state, t.seq = s.seq where t.seq < s.seq"
            " when not matched then insert (lot, state, seq) values (s.lot, s.state, s.seq)",
        ),
    ],
)
def test_a_guarded_upsert(dialect: str, text: str) -> None:
    assert upsert(dialect, "s", ("lot", "state", "seq"), ("lot",), "seq") == text


def test_an_upsert_of_nothing_but_its_key() -> None:
    assert upsert("sqlite", "s", ("lot",), ("lot",)) == "insert into s (lot) values (:lot) on conflict (lot) do nothing"
    assert "when matched" not in upsert("oracle", "s", ("lot",), ("lot",))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_ledger_takes_an_id_once(dialect: str) -> None:
    assert "esb_applied" in ledger_table(dialect)
    assert binds(ledger_entry(dialect)) == ["esb_delivery"]
