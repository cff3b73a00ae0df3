"""An indicator that comes late has, after its backfill, the numbers of a twin that was there from the beginning: row by row."""

from __future__ import annotations

import asyncio
import random
import re
import shutil
from datetime import timedelta
from typing import Any

import pytest

from esb.errors import Rejected, Unavailable
from esb.message import State
from esb.operations import Who
from esb.runtime import backfill
from esb.runtime.backfill import SPACE, Backfills, CannotFill
from esb.store.base import AuditEntry, Filter

WHO = Who("tester", "because")
ROUTES = """
route: holds
key: body.lot
dedupe: body.id
track: { hold: body.id, lot: body.lot }
from: { route: {} }
retry: { max: 1, backoff: 10s, jitter: none }
steps:
  - filter: body.qty != `7`
  - to: { probe: erp }
---
route: effects
from: { topic: effects }
steps: [ { set: { vars.seen: body.hold } } ]
---
route: tells
from: { route: {} }
steps: [ { publish: effects } ]
"""
KPIS = """
kpi: open-holds
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
  - { route: holds, on: done, add: body.qty, weigh: "mul(body.qty, `2`)" }
  - { route: effects, on: done, if: body.freed, add: "sub(`0`, body.freed)", weigh: "mul(body.freed, `-2`)", by: body.lot }
by: lot
per: body.plant
---
kpi: exceptions
count: { on: dead, weigh: body.qty }
of: { on: accepted, scope: "*" }
---
kpi: replays
count: { on: replayed }
---
kpi: repeats
count: [ { on: duplicate, route: holds }, { on: filtered, route: holds }, { on: expired, route: holds } ]
"""
NAMES = ("open-holds", "blocked", "exceptions", "replays", "repeats")
LATE = re.sub(r"^kpi: (\S+)$", r"kpi: late-\1", KPIS, flags=re.MULTILINE)
ENTRY = AuditEntry("tester", "kpi.backfill", "x", "because")


def rows(bus: Any, name: str) -> dict[str, list[Any]]:
    """All that the store has of an indicator."""
    found = {}
    reader, number = bus.store._search, bus.store._words.number(f"kpi:{name}")
    for table, order in (("kpi_hour", "hour, label, what"), ("kpi_pair", "key"), ("kpi_level", "key")):
        columns = {
            "kpi_hour": "hour, label, what, n, weight",
            "kpi_pair": "key, label, start, due, weight, seen",
            "kpi_level": "key, label, n, weight, since",
        }[table]
        found[table] = [
            row for row in reader.rows(f"SELECT {columns} FROM {table} WHERE kpi = ? ORDER BY {order}", (number,))
            if table != "kpi_hour" or (row[3], row[4]) != (0, 0)
        ]  # fmt: skip
    return found


def filling(bus: Any) -> Backfills:
    return Backfills(
        bus.store,
        lambda: bus.supervisor.observer,
        lambda: bus.supervisor.workspace.kpis,
        bus.clock,
        lambda *_, **__: None,
    )


async def begun(bus: Any, name: str, since: Any = None) -> Backfills:
    found = filling(bus)
    await found.start(name, since, "tester", ENTRY)
    return found


class Traffic:
    """Random messages, outages, retries, replays, edits and closings by hand."""

    def __init__(self, seed: int, probe: Any) -> None:
        self.chance, self.probe, self.n = random.Random(seed), probe, 0

    async def act(self, bus: Any) -> None:
        chance = self.chance
        bus.clock.advance(timedelta(milliseconds=1))
        what = chance.choice(["hold"] * 5 + ["tell"] * 3 + ["down", "no", "wait", "retry", "replay", "edit", "close"])
        lot = chance.randint(1, 20)
        if what == "hold":
            body = {"id": f"H{lot}-{chance.randint(1, 3)}", "lot": f"L{lot}", "qty": chance.choice([1, 5, 7, 12]), "plant": f"P{lot % 3}"}  # fmt: skip
            await bus.send("holds", body)
        elif what == "tell":
            await bus.send("tells", {"hold": f"H{lot}-1", "system": chance.choice(["ERP", "MES"]), "lot": f"L{lot}", "freed": chance.choice([0, 5]), "plant": f"P{lot % 3}"})  # fmt: skip
        elif what == "down":
            self.probe.script["erp"] = [Unavailable("503")] * chance.randint(1, 4)
        elif what == "no":
            self.probe.script["erp"] = [Rejected("never")] * chance.randint(1, 2)
        elif what == "wait":
            await bus.advance(chance.choice([1, 11, 4000]))
        elif what == "retry":
            await bus.operations.retry(Filter(route="holds", limit=2), WHO)
        elif what == "replay":
            await bus.operations.replay(Filter(route="holds", states=(State.DONE,), limit=1), WHO)
        elif what == "edit":
            for one in bus.store.find(Filter(route="holds", states=(State.DEAD,), limit=1)):
                body = b'{"id": "E", "lot": "L1", "qty": 3, "plant": "P9"}'
                await bus.operations.edit(one.envelope.id, body, WHO)
        else:
            entry = AuditEntry("mia", "kpi.close", "open-holds", "scrapped", {"key": f"H{lot}-1"})
            await bus.store.indicators.close("open-holds", f"H{lot}-1", entry, bus.clock.now())
        await bus.settle()


@pytest.mark.parametrize("seed", range(6))
def test_numbers_worked_out_again_are_the_same_while_traffic_goes_on(
    start: Any, probe: Any, seed: int, monkeypatch: Any
) -> None:
    monkeypatch.setattr(backfill, "BATCH", 7)
    monkeypatch.setattr(backfill, "LAST", 20)

    async def scenario() -> None:
        traffic, files = Traffic(seed, probe), {"routes/a.yaml": ROUTES, "kpis/all.yaml": KPIS}
        async with start(files) as bus:
            for _ in range(120):
                await traffic.act(bus)
            jobs, left, copied = {name: await begun(bus, name) for name in NAMES}, set(NAMES), False
            while left:
                name = traffic.chance.choice(sorted(left))
                before = rows(bus, name)
                if await jobs[name]._step(name):
                    left.discard(name)
                    assert rows(bus, name) == before, name
                    assert bus.store.get_state(SPACE, name) is None
                if traffic.chance.random() < 0.3:
                    await traffic.act(bus)
                if not copied and len(left) == 3:
                    copied = bool(shutil.copytree(bus.root / ".esb", bus.root / "killed"))
            assert [one["object"] for one in bus.store.audit_entries() if one["action"] == "kpi.backfilled"] != []
        shutil.rmtree(bus.root / ".esb")  # what a kill in the middle leaves: the next process goes on
        (bus.root / "killed").rename(bus.root / ".esb")
        async with start(clock=bus.clock) as bus:
            again, waiting = (
                filling(bus),
                [name for space, name, _ in bus.store.states(SPACE, ("", ""), 100) if space == SPACE],
            )
            assert len(waiting) == 3
            for name in waiting:
                before = rows(bus, name)
                await again.run(name)
                assert rows(bus, name) == before, name

    asyncio.run(scenario())


def test_a_new_indicator_has_the_numbers_of_its_twin(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        traffic, files = Traffic(99, probe), {"routes/a.yaml": ROUTES, "kpis/all.yaml": KPIS}
        async with start(files) as bus:
            for _ in range(100):
                await traffic.act(bus)
            bus.write({"kpis/late.yaml": LATE})
            await bus.reload()
            for name in NAMES[1:]:
                job = await begun(bus, f"late-{name}")
                job.begin(f"late-{name}")
                assert (job.progress(f"late-{name}") or {})["state"] == "running"
                while job.progress(f"late-{name}") is not None:
                    await bus.advance(1)
                assert rows(bus, f"late-{name}") == rows(bus, name) != {"kpi_hour": [], "kpi_pair": [], "kpi_level": []}

    asyncio.run(scenario())


def test_only_what_came_since_then_counts_and_a_restart_goes_on(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": ROUTES, "kpis/all.yaml": KPIS}) as bus:
            for lot in range(3):
                await bus.send("holds", {"id": f"a{lot}", "lot": f"L{lot}", "qty": 1, "plant": "P1"})
            await bus.advance(7200)
            since = bus.clock.now()
            for lot in range(4):
                await bus.send("holds", {"id": f"b{lot}", "lot": f"L{lot}", "qty": 1, "plant": "P1"})
            await bus.settle()
            await begun(bus, "open-holds", since)
        async with start(clock=bus.clock) as bus:
            again = filling(bus)
            assert (again.progress("open-holds") or {})["state"] == "waiting"
            again.resume()
            while again.progress("open-holds") is not None:
                await bus.advance(1)
            assert [row[0] for row in rows(bus, "open-holds")["kpi_pair"]] == ["b0", "b1", "b2", "b3"]

    asyncio.run(scenario())


def test_what_cannot_be_worked_out_is_refused_and_a_change_ends_it(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        sent = "kpi: sent\ncount: { route: holds, step: 'to:probe' }\n"
        async with start({"routes/a.yaml": ROUTES, "kpis/all.yaml": KPIS, "kpis/sent.yaml": sent}) as bus:
            await bus.send("holds", {"id": "a", "lot": "L1", "qty": 1, "plant": "P1"})
            await bus.settle()
            with pytest.raises(CannotFill, match="deliveries"):
                await begun(bus, "sent")
            job = await begun(bus, "exceptions")
            with pytest.raises(CannotFill, match="already"):
                await job.start("exceptions", None, "tester", ENTRY)
            before = rows(bus, "exceptions")
            bus.write({"kpis/all.yaml": KPIS.replace("{ on: dead, weigh: body.qty }", "{ on: dead }")})
            await bus.reload()
            job.begin("exceptions")
            await bus.settle()
            assert "changed" in (job.progress("exceptions") or {})["error"]
            assert rows(bus, "exceptions") == before

    asyncio.run(scenario())
