"""Trends: what happened in each five minutes, taken from counters, over restarts, and never more than is kept."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from esb.errors import Rejected
from esb.observe import trends
from esb.observe.trends import StoredRows
from esb.operations import Who
from esb.runtime.trends import Trends
from esb.store.base import Filter

WHO = Who("tester", "because")
ROUTES = """
route: orders
key: body.no
from: { route: {} }
steps: [ { to: { probe: erp } } ]
---
route: lots
from: { route: {} }
steps: [ { to: { probe: mes } } ]
kpis:
  lots-in-time: { start: accepted, end: { step: "to:probe" }, by: body.no, within: 1m, weigh: body.value }
  stock: { gauge: { add: body.value }, by: body.no }
"""
FILES = {"esb.yaml": "bus: plant\n", "routes/a.yaml": ROUTES}


def trends_of(bus: Any) -> Trends:
    found = Trends(bus.store, bus.clock, bus.supervisor, lambda *_, **__: None)
    found.begin()
    return found


def points(bus: Any, rows: Any, series: str, span: str = "6h") -> list[dict[str, Any]]:
    return trends.series(rows, series, *trends.SPANS[span], bus.clock.now())


def test_every_slot_tells_what_happened_in_it_also_to_who_asks_the_store_alone(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(FILES) as bus:
            kept = trends_of(bus)
            probe.script["erp"] = [Rejected("never")]
            for no in range(3):
                await bus.send("orders", {"no": no})
            await bus.settle()
            await kept.round()
            await bus.advance(300)
            await kept.round()
            await bus.send("orders", {"no": 9})
            await bus.settle()
            await kept.round()
            for rows in (kept, StoredRows(bus.store)):
                now, before = points(bus, rows, "route:orders")[-1], points(bus, rows, "route:orders")[-2]
                assert (before["accepted"], before["done"], before["failed"], before["dead"]) == (3, 2, 1, 1)
                assert before["p95_seconds"] is not None
                assert (now["accepted"], now["done"], now["failed"], now["dead"]) == (1, 1, 0, 1)
                assert (before["at"], now["at"]) == ("2026-01-05T09:00:00+00:00", "2026-01-05T09:05:00+00:00")
                assert sum(point["accepted"] or 0 for point in points(bus, rows, "bus")) == 4
                assert points(bus, rows, "route:lots")[-1]["accepted"] == 0
                assert not points(bus, rows, "bus")[0]["running"], "five hours ago there was no bus"
                assert points(bus, rows, "bus")[0]["accepted"] is None
                assert trends.accepted_by_hour(rows, bus.clock.now())["orders"][-1] == 4
            assert points(bus, kept, "route:orders", "24h")[-1]["accepted"] == 4, "a quarter of an hour is three slots"

    asyncio.run(scenario())


def test_who_asks_sees_what_happened_since_the_last_round(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(FILES) as bus:
            kept = trends_of(bus)
            await kept.round()
            await bus.send("orders", {"no": 1})
            await bus.advance(2)
            assert points(bus, kept, "route:orders")[-1]["accepted"] == 0, (
                "however many ask, it looks every few seconds"
            )
            await bus.advance(3)
            assert points(bus, kept, "route:orders")[-1]["accepted"] == 1
            assert points(bus, StoredRows(bus.store), "route:orders")[-1]["accepted"] == 0

    asyncio.run(scenario())


def test_the_hour_goes_on_after_a_restart_and_its_end_is_written(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(FILES) as bus:
            kept = trends_of(bus)
            await bus.send("orders", {"no": 1})
            await bus.settle()
            await kept.round()
        async with start(clock=bus.clock) as bus:
            kept = trends_of(bus)
            await bus.send("orders", {"no": 2})
            await bus.settle()
            await kept.round()
            assert points(bus, kept, "route:orders")[-1]["accepted"] == 2
            await bus.advance(3590)
            await bus.send("orders", {"no": 3})
            await bus.settle()
            kept.look()  # seen at 09:59:50, and not written before the hour is over
            await bus.advance(20)
            await kept.round()
            counted = [point["accepted"] for point in points(bus, StoredRows(bus.store), "route:orders")]
            assert counted[-2:] == [1, 0]
            assert trends.accepted_by_hour(kept, bus.clock.now())["orders"][-2:] == [3, 0]

    asyncio.run(scenario())


def test_a_level_that_falls_to_nothing_is_nothing_and_the_oldest_is_the_worst_of_the_slot(
    start: Any, probe: Any
) -> None:
    async def scenario() -> None:
        async with start(FILES) as bus:
            kept = trends_of(bus)
            probe.script["erp"] = [Rejected("never")]
            await bus.send("orders", {"no": 1})
            await bus.settle()
            kept.look()
            assert points(bus, kept, "route:orders")[-1]["dead"] == 1
            await bus.operations.discard(Filter(states=(), route="orders"), WHO)
            probe.script["mes"] = [asyncio.get_running_loop().create_future()]
            await bus.send("lots", {"no": 1, "value": 5})
            for _ in range(20):
                await asyncio.sleep(0)
            bus.clock.advance(timedelta(seconds=90))
            kept.look()
            point = points(bus, kept, "route:lots")[-1]
            assert (point["open"], point["oldest_seconds"]) == (1, 90.0)
            assert points(bus, kept, "route:orders")[-1]["dead"] == 0
            assert kept.rows("kpi:lots-in-time", bus.clock.now()).popitem()[1] == [[0, 1, 1, 0, 5_000_000]]
            assert kept.rows("kpi:stock", bus.clock.now()).popitem()[1] == [[0, 1, 0, 5_000_000, 0]]

    asyncio.run(scenario())


def test_what_is_too_old_goes_also_of_routes_that_are_gone(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(FILES) as bus:
            kept, now = trends_of(bus), bus.clock.now()
            for series in ("bus", "route:gone", "route:orders"):
                for days in (40, 9, 7):
                    hour = trends.name_of(trends.hour_of(now - timedelta(days=days)))
                    await bus.store.put_state(trends.space_of(series), hour, [[0, 1, 1, 0, 0, 0, 0, []]])
            assert await kept.forget(now) == 5
            assert len(StoredRows(bus.store).rows("bus", now - timedelta(days=50))) == 2
            assert len(StoredRows(bus.store).rows("route:gone", now - timedelta(days=50))) == 1

    asyncio.run(scenario())


def test_a_share_of_the_times_lies_evenly_inside_of_a_step() -> None:
    assert trends.quantile({}, 0.5) is None
    assert trends.quantile({0: 10}, 0.5) == 0.0005
    assert trends.quantile({3: 100}, 0.95) == 0.00975  # 5 to 10 ms
    assert trends.quantile({0: 50, 15: 50}, 0.95) == 60.0  # beyond all bounds
