"""Reading: never on the writer's connection, never for long, and on the indexes that are there for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from esb.errors import StoreBusy
from esb.message import State
from esb.store import reader as reader_module
from esb.store.base import Filter
from esb.store.reader import Reader

FOREVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
def store(stores: Any) -> Iterator[Any]:
    async def fill() -> Any:
        store = await stores.open()
        await asyncio.gather(*[store.accept(stores.new(key=f"k{n}", track={"lot": str(n)})) for n in range(50)])
        return store

    yield asyncio.run(fill())


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
    "correlation": Filter(correlation_id="c"),
    "route": Filter(route="r"),
    "page": Filter(before_seq=10),
    "dead": Filter(states=(State.DEAD,)),
    "group": Filter(group="g"),
    "open of a route": Filter(states=(State.QUEUED,), route="r"),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_searches_of_people_use_indexes(store: Any, name: str) -> None:
    """No plan reads all messages to find some."""
    plans: list[str] = []

    class Explaining(Reader):
        def rows(self, sql: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
            plans.extend(row[3] for row in store._search.rows(f"EXPLAIN QUERY PLAN {sql}", parameters))
            return []

    explaining = Explaining.__new__(Explaining)
    type(store._queries)(explaining, store._words).find(SEARCHES[name])
    assert plans
    assert "SCAN message" not in plans


def test_a_span_of_time_is_found_without_reading_the_messages_of_other_times(store: Any, stores: Any) -> None:
    now = stores.new().envelope.accepted_at
    later = now + timedelta(days=1)

    async def main() -> None:
        await store.accept(stores.new("other", accepted_at=later))

    asyncio.run(main())
    assert len(store.find(Filter(since=later))) == 1
    assert len(store.find(Filter(since=later, route="r"))) == 0
