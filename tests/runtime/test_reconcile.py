"""Differences between two systems: opened once, aged over restarts, closed when the systems agree or a person accepts them."""

from __future__ import annotations

import asyncio
from typing import Any

from esb.store.base import AuditEntry

ROUTE = """
route: compare
from: { route: {} }
steps:
  - reconcile:
      left: { name: ERP, items: body.erp, key: body.lot }
      right: { name: QMS, items: body.qms, key: body.lot }
      differs: (body.left.qty || `0`) != (body.right.qty || `0`)
      value: mul(sub(body.left.qty || `0`, body.right.qty || `0`), `0.5`)
      unit: EUR
      owner: quality-it
      repair: "look at {{ body.key }}"
  - to: { probe: told }
"""


def records(**lots: int) -> list[dict[str, Any]]:
    return [{"lot": lot, "qty": qty} for lot, qty in lots.items()]


def listed(bus: Any, **words: Any) -> list[tuple[str, float, Any]]:
    items = [one.as_item(bus.clock.now()) for one in bus.store.differences.tracked(**words)]
    return [(item["key"], item["value"], item["how"]) for item in items]


def test_a_difference_is_opened_once_ages_and_closes_when_both_agree(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": ROUTE}) as bus:
            await bus.send("compare", {"erp": records(A=5, B=1), "qms": records(A=5, B=2, C=7)})
            await bus.settle()
            assert listed(bus) == [("B", -0.5, None), ("C", -3.5, None)]
            assert probe.bodies("told") == [{"compared": 3, "found": 2, "opened": ["B", "C"], "closed": [], "open": 2}]
            await bus.advance(3600)
        async with start(clock=bus.clock) as bus:  # a restart forgets none, and opens none again
            await bus.send("compare", {"erp": records(A=5, B=1, C=7), "qms": records(A=5, B=2, C=7)})
            await bus.settle()
            (one,) = [one.as_item(bus.clock.now()) for one in bus.store.differences.tracked()]
            assert (one["key"], one["age_seconds"], one["owner"], one["repair"]) == (
                "B",
                3600,
                "quality-it",
                "look at B",
            )
            assert one["sides"] == {"left": {"lot": "B", "qty": 1}, "right": {"lot": "B", "qty": 2}}
            assert probe.bodies("told")[1] == {"compared": 3, "found": 1, "opened": [], "closed": ["C"], "open": 1}
            assert bus.store.differences.counts()[0][1] == 1
            assert sorted(listed(bus, closed=True)) == [("B", -0.5, None), ("C", -3.5, "agrees")]

    asyncio.run(scenario())


def test_what_a_person_accepts_stays_closed_until_it_changes_or_comes_again(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": ROUTE}) as bus:

            async def compare(erp: int, qms: int) -> list[str]:
                await bus.advance(60)
                await bus.send("compare", {"erp": records(A=erp), "qms": records(A=qms)})
                await bus.settle()
                return list(probe.bodies("told")[-1]["opened"])

            assert await compare(1, 2) == ["A"]
            entry = AuditEntry("mia", "reconcile.close", "compare", "counted by hand", {"key": "A"})
            assert await bus.store.differences.close("compare", "A", entry, bus.clock.now())
            assert not await bus.store.differences.close("compare", "A", entry, bus.clock.now())
            assert (await compare(1, 2), listed(bus)) == ([], [])
            assert await compare(1, 3) == ["A"]  # another difference
            assert await compare(3, 3) == []
            assert await compare(1, 2) == ["A"]  # over, and back
            assert bus.store.audit_entries()[-1]["reason"] == "counted by hand"

    asyncio.run(scenario())


def test_a_list_that_is_none_or_names_a_record_twice_is_no_comparison(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": ROUTE}) as bus:
            await bus.send("compare", {"erp": records(A=1), "qms": records(B=1)})
            await bus.settle()
            for body in (
                {"erp": None, "qms": []},
                {"erp": [{"qty": 1}], "qms": []},
                {"erp": records(A=1) * 2, "qms": []},
            ):
                await bus.send("compare", body)
            await bus.settle()
            assert bus.states("compare") == ["done", "dead", "dead", "dead"]
            assert [key for key, _, _ in listed(bus)] == ["A", "B"]  # the list is as the last whole comparison left it

    asyncio.run(scenario())
