"""Indicators are kept in the transactions of messages: no retry, restart, kill, duplicate, replay or purge changes a number."""

from __future__ import annotations

import asyncio
import random
import shutil
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from esb.errors import Rejected, Unavailable
from esb.message import State
from esb.observe import kpis
from esb.operations import Who
from esb.steps.base import Reply
from esb.store.base import AuditEntry, Filter

WHO = Who("tester", "because")

ROUTES = """
route: holds
key: body.lot
dedupe: body.id
track: { hold: body.id, lot: body.lot }
from: { route: {} }
retry: { max: 2, backoff: 10s, jitter: none }
steps:
  - to: { probe: erp }
  - to: { probe: mes }
    name: tell-mes
kpis:
  hold-in-erp: { start: accepted, end: { step: "to:probe" }, by: hold, within: 5s, weigh: "mul(body.qty, `0.37`)" }
---
route: effects
dedupe: "join('/', [body.hold, body.system])"
from: { topic: effects }
steps: [ { set: { vars.seen: body.hold } } ]
---
route: tells
from: { route: {} }
steps: [ { publish: effects } ]
"""
KPIS = """
kpi: hold-everywhere
unit: EUR
start: { route: holds }
end: { route: effects, on: accepted, by: body.hold, part: body.system }
parts: [ERP, MES]
by: hold
within: 1m
weigh: body.qty
per: body.plant
---
kpi: blocked
gauge:
  - { route: holds, add: body.qty, weigh: "mul(body.qty, `2`)" }
  - { route: effects, on: done, if: body.freed, add: "sub(`0`, body.freed)", weigh: "mul(body.freed, `-2`)", by: body.lot }
by: lot
---
kpi: exceptions
count: { on: dead }
of: { on: accepted, scope: "*" }
---
kpi: replays
count: { on: replayed }
---
kpi: repeats
count: { on: duplicate, route: holds }
"""
FILES = {"routes/a.yaml": ROUTES, "kpis/all.yaml": KPIS}


def hold(n: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": f"H{n}", "lot": f"L{n}", "qty": 100, "plant": "P10", **more}


def numbers(bus: Any, name: str, hours: int = 24) -> dict[str, Any]:
    kpi, now = bus.supervisor.workspace.kpis[name], bus.clock.now()
    return kpis.item(kpi, bus.store.indicators, now, now - timedelta(hours=hours))


def test_a_pair_is_open_until_the_delivery_and_late_where_it_took_too_long(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Reply(200), *[Unavailable("503")] * 3]
        async with start(FILES) as bus:
            await bus.send("holds", hold(1))
            await bus.send("holds", hold(1))  # the same hold again
            await bus.send("holds", hold(2, qty=50))
            await bus.settle()
            found = numbers(bus, "hold-in-erp")
            assert (found["started"], found["closed"], found["open"], found["late"]) == (2, 1, 1, 0)
            assert found["open_weight"] == Decimal("18.50")
            await bus.advance(7)
            assert numbers(bus, "hold-in-erp")["overdue"] == 1
        async with start(clock=bus.clock) as bus:  # a restart forgets nothing
            assert numbers(bus, "hold-in-erp")["overdue"] == 1
            await bus.advance(11)
            await bus.advance(20)
            assert bus.states("holds") == ["done", "duplicate", "dead"]
            found = numbers(bus, "hold-in-erp")
            assert (found["closed"], found["open"], found["on_time_percent"]) == (1, 1, 50.0)
            await bus.operations.retry(Filter(route="holds"), WHO)
            await bus.settle()
            found = numbers(bus, "hold-in-erp")
            assert (found["started"], found["closed"], found["open"], found["late"], found["overdue"]) == (
                2,
                2,
                0,
                1,
                0,
            )
            assert 38 <= found["max_seconds"] < 43  # it took 38 s
            assert numbers(bus, "repeats")["count"] == 1

    asyncio.run(scenario())


def test_a_pair_with_parts_ends_with_the_last_and_each_has_its_times(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(FILES) as bus:
            await bus.send("holds", hold(1))
            await bus.settle()
            await bus.send("tells", {"hold": "H1", "system": "MES"})
            await bus.settle()
            await bus.send("tells", {"hold": "H1", "system": "PORTAL"})  # not asked for
            await bus.advance(120)
            kpi, now = bus.supervisor.workspace.kpis["hold-everywhere"], bus.clock.now()
            (one,) = kpis.open_items(kpi, bus.store.indicators, now, 10)
            assert (one["key"], one["missing"], one["overdue"], one["weight"]) == ("H1", ["ERP"], True, 100)
            await bus.send("tells", {"hold": "H1", "system": "ERP"})
            await bus.send("tells", {"hold": "H9", "system": "ERP"})  # nobody asked for it
            await bus.settle()
            found = numbers(bus, "hold-everywhere")
            assert (found["open"], found["closed"], found["late"], found["unmatched"]) == (0, 1, 1, 3 - 2)
            assert [(part["part"], part["ended"], part["late"]) for part in found["parts"]] == [
                ("ERP", 1, 1),
                ("MES", 1, 0),
            ]
            assert [one["label"] for one in found["labels"]] == ["P10"]

    asyncio.run(scenario())


def test_a_gauge_follows_what_adds_and_what_takes_away(start: Any) -> None:
    async def scenario() -> None:
        async with start(FILES) as bus:
            await bus.send("holds", hold(1))
            await bus.send("holds", b'{"id": "H2", "lot": "L2", "qty": 0.5, "plant": "P10"}')
            await bus.send("tells", {"hold": "H1", "system": "ERP", "lot": "L1", "freed": 40})
            await bus.settle()
            found = numbers(bus, "blocked")
            assert (found["keys"], found["level"], found["level_weight"]) == (2, Decimal("60.5"), Decimal(121))
            await bus.send("tells", {"hold": "H1", "system": "MES", "lot": "L1", "freed": 60})
            await bus.advance(3 * 86_400)
            found = numbers(bus, "blocked")
            assert (found["keys"], found["level"], found["level_weight"]) == (1, Decimal("0.5"), Decimal(1))
            assert [age["count"] for age in found["ages"]] == [0, 1, 0, 0]

    asyncio.run(scenario())


def test_a_rule_that_fails_leaves_the_message_alone_and_says_so(start: Any) -> None:
    async def scenario() -> None:
        async with start(FILES) as bus:
            receipt = await bus.send("holds", hold(1, qty="many"))
            await bus.settle()
            assert bus.state(receipt.message_id) == "done"
            assert {record["kpi"] for record in bus.logs if record["event"] == "kpi.fault"} == {"hold-in-erp", "hold-everywhere", "blocked"}  # fmt: skip
            assert numbers(bus, "hold-in-erp")["closed"] == 1  # it counts, with no weight
            assert numbers(bus, "blocked")["keys"] == 0

    asyncio.run(scenario())


def test_a_person_closes_a_pair_that_no_message_will_end(start: Any) -> None:
    async def scenario() -> None:
        async with start(FILES) as bus:
            await bus.send("holds", hold(1))
            await bus.settle()
            entry = AuditEntry("mia", "kpi.close", "hold-everywhere", "the lot was scrapped", {"key": "H1"})
            book = bus.store.indicators
            assert await book.close("hold-everywhere", "H1", entry, bus.clock.now())
            assert not await book.close("hold-everywhere", "H1", entry, bus.clock.now())
            found = numbers(bus, "hold-everywhere")
            assert (found["open"], found["closed"], found["closed_by_hand"]) == (0, 0, 1)
            assert [line["action"] for line in bus.store.audit_entries()][-1] == "kpi.close"

    asyncio.run(scenario())


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_the_numbers_are_those_of_the_messages(start: Any, probe: Any, seed: int) -> None:
    """Random traffic with outages, retries, replays, duplicates, kills and restarts, then a recount by hand."""
    chance = random.Random(seed)
    replayed = 0

    async def act(bus: Any) -> None:
        nonlocal replayed
        what = chance.choice(["send", "send", "send", "again", "down", "no", "wait", "retry", "replay"])
        if what in ("send", "again"):
            await bus.send("holds", hold(chance.randint(1, 12)))
        elif what == "down":
            probe.script[chance.choice(["erp", "mes"])] = [Unavailable("503")] * chance.randint(1, 3)
        elif what == "no":
            probe.script["mes"] = [Rejected("never")]
        elif what == "wait":
            await bus.advance(11)
        elif what == "retry":
            await bus.operations.retry(Filter(route="holds"), WHO)
        else:
            done = await bus.operations.replay(Filter(route="holds", states=(State.DONE,), limit=1), WHO)
            replayed += sum("new_id" in one for one in done)
        await bus.settle()

    async def scenario() -> None:
        clock, root = None, None
        for life in range(4):
            if root is not None:  # what a kill leaves: the files as they were, in the middle of the traffic
                shutil.rmtree(root / ".esb")
                (root / "killed").rename(root / ".esb")
            async with start(FILES if life == 0 else None, clock=clock) as bus:
                clock, root = bus.clock, bus.root
                for _ in range(25):
                    await act(bus)
                if life < 3:
                    shutil.copytree(root / ".esb", root / "killed")
                    continue
                for _ in range(5):
                    await bus.advance(60)
                firsts = [one for one in bus.messages(route="holds") if one.envelope.replay_of is None]
                accepted = [one for one in firsts if one.state is not State.DUPLICATE]
                sent = {got.id for got in probe.got if got.to == "erp"}
                for _ in range(2):  # before and after everything that ended is gone
                    assert numbers(bus, "repeats", 100)["count"] == len(firsts) - len(accepted)
                    assert numbers(bus, "replays", 100)["count"] == replayed
                    assert numbers(bus, "exceptions", 100)["of"] == len(accepted)
                    pair = numbers(bus, "hold-in-erp", 100)
                    assert pair["started"] == len(accepted) == pair["open"] + pair["closed"]
                    assert pair["closed"] <= len(sent)
                    await bus.store.purge(bus.clock.now() + timedelta(days=1), [State.DONE, State.DEAD, State.DUPLICATE], 10_000)  # fmt: skip

    asyncio.run(scenario())
