"""Reading: never on the writer's connection, never for long, and on the indexes that are there for it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.dialects.sqlite import dialect

from esb.errors import StoreBusy
from esb.message import State
from esb.store import reader as reader_module
from esb.store.base import Filter
from esb.store.queries import NEWER_DONE
from esb.store.search import places

FOREVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
def store(stores: Any) -> Any:
    async def fill() -> Any:
        store = await stores.open()
        await asyncio.gather(*[store.accept(stores.new(key=f"k{n}", track={"lot": str(n)})) for n in range(50)])
        return store

    return asyncio.run(fill())


def test_a_query_without_end_is_stopped(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "LONGEST_QUERY", 0.01)
    with pytest.raises(StoreBusy, match="was stopped") as caught:
        store._search.rows(FOREVER)
    assert "narrow it" in caught.value.hint
    assert store._search.rows("SELECT 1") == [(1,)]


def test_queries_may_come_from_other_threads(store: Any) -> None:
    async def main() -> None:
        found = await asyncio.gather(*[asyncio.to_thread(store.find, Filter(key=f"k{n}")) for n in range(20)])
        assert [len(one) for one in found] == [1] * 20

    asyncio.run(main())


SEARCHES = {
    "key": Filter(key="k1"),
    "track": Filter(track=(("lot", "1"),)),
    "text": Filter(text="k1"),
    "correlation": Filter(correlations=("c",)),
    "route": Filter(route="r"),
    "page": Filter(before_seq=10),
    "dead": Filter(states=(State.DEAD,)),
    "group": Filter(group="g"),
    "open of a route": Filter(states=(State.QUEUED,), route="r"),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_searches_of_people_use_indexes(store: Any, name: str) -> None:
    """No plan reads all messages, or sorts them, to find some."""
    query = places(SEARCHES[name], 1 if SEARCHES[name].route else None)
    plans = [row[3] for row in store._search.select(text("EXPLAIN QUERY PLAN " + _literal(query)))]
    assert plans
    assert not [plan for plan in plans if plan in ("SCAN message", "SCAN outcome") or "ORDER BY" in plan]


def test_the_stale_guard_looks_at_the_messages_of_the_key_alone(store: Any) -> None:
    """Not at every newer message of the route: a retry of many would read the store once for each."""
    plans = [row[3] for row in store._search.rows(f"EXPLAIN QUERY PLAN {NEWER_DONE}", ("k", 1, 0, 1, 0, 0))]
    assert any("message_key (key=? AND seq>?)" in plan for plan in plans), plans


def _literal(query: Any) -> str:
    return str(query.compile(dialect=dialect(), compile_kwargs={"literal_binds": True}))


def test_a_span_of_time_is_found_without_reading_the_messages_of_other_times(store: Any, stores: Any) -> None:
    now = stores.new().envelope.accepted_at
    later = now + timedelta(days=1)

    async def main() -> None:
        await store.accept(stores.new("other", accepted_at=later))

    asyncio.run(main())
    assert len(store.find(Filter(since=later))) == 1
    assert len(store.find(Filter(since=later, route="r"))) == 0
