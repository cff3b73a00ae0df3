"""Searches give what a look at every message gives, and find it by an index: the benchmark's own searches over a small store."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.search import Population, searches
from esb.clock import SystemClock
from esb.store import files, open_store
from esb.store.base import Filter, Stored
from esb.store.search import places
from esb.store.sqlstore import SqlStore

PEOPLE = Population(3_000)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlStore]:
    path = tmp_path_factory.mktemp("search") / "bus.db"
    files.create(path, datetime.now(UTC))
    PEOPLE.write(path)
    opened = asyncio.run(open_store(f"sqlite:///{path}", path.parent, clock=SystemClock(), read_only=True))
    assert opened.verify_conservation() == []
    yield opened
    asyncio.run(opened.close())


@pytest.fixture(scope="module")
def everything(store: SqlStore) -> list[Stored]:
    return store.find(Filter(limit=10_000))


def fits(one: Stored, asked: Filter) -> bool:
    envelope = one.envelope
    words = {envelope.id, envelope.key, envelope.correlation_id, *envelope.track.values()}
    return (
        (not asked.route or envelope.route == asked.route)
        and (not asked.states or one.state in asked.states)
        and (asked.key is None or envelope.key == asked.key)
        and all(envelope.track.get(name) == value for name, value in asked.track)
        and (not asked.correlations or envelope.correlation_id in asked.correlations)
        and (not asked.text or asked.text in words)
        and (asked.since is None or envelope.accepted_at >= asked.since)
        and (asked.until is None or envelope.accepted_at < asked.until)
        and (asked.before_seq is None or envelope.seq < asked.before_seq)
    )


@pytest.mark.parametrize("name", searches(PEOPLE))
def test_a_search_gives_the_newest_that_fit_and_scans_no_table(
    store: SqlStore, everything: list[Stored], name: str
) -> None:
    chance = random.Random(name)
    for _ in range(10):
        asked = searches(PEOPLE)[name](chance)
        found = [one.envelope.seq for one in store.find(asked)]
        assert found == [one.envelope.seq for one in everything if fits(one, asked)][: asked.limit]


@pytest.mark.parametrize(
    ("name", "index"),
    [("a key on a route", "message_key"), ("dead or waiting", "outcome_notable"), ("dead", "outcome_notable")],
)
def test_the_rarest_word_of_a_search_finds_its_index(store: SqlStore, name: str, index: str) -> None:
    from sqlalchemy.dialects.sqlite import dialect

    asked = searches(PEOPLE)[name](random.Random(1))
    route = store._words.number(asked.route) if asked.route else None
    query = places(asked, route).compile(
        dialect=dialect(paramstyle="named"), compile_kwargs={"render_postcompile": True}
    )
    plan = store._search.rows(f"EXPLAIN QUERY PLAN {query}", query.params)
    words = " ".join(str(row[3]) for row in plan)
    assert index in words
    assert "message_route" not in words


def test_the_store_of_the_benchmark_is_kept_for_the_next_time(tmp_path: Path) -> None:
    from benchmarks.search import run

    figures = list(run(1_000, tmp_path, 2))
    assert len(figures) == len(searches(PEOPLE)) + 1
    assert [path.name for path in tmp_path.glob("*.db")] == ["search-1000.db"]
