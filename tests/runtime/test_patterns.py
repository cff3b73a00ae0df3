"""Steps that wait for something: a turn, a row of a table, an answer of the target."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from esb.clock import ManualClock
from esb.errors import Rejected, Timeout
from esb.steps.base import Reply

from .conftest import ProbeTarget, Start

THROTTLED = "route: r\nfrom: {{ route: {{}} }}\nsteps: [ {{ throttle: {} }}, {{ to: {{ probe: t }} }} ]\n"


def test_who_waits_long_for_its_turn_waits_in_the_store(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start({"routes/r.yaml": THROTTLED.format("6/m")}) as bus:
            for number in range(4):
                await bus.send("r", number)
            await bus.settle()
            assert bus.states("r") == ["done", "waiting", "waiting", "waiting"]
            await bus.advance(10)
            assert probe.bodies("t") == [0, 1]
            await bus.reload()
            await bus.advance(10)
            assert probe.bodies("t") == [0, 1, 2]
            clock = bus.clock
        async with start(clock=clock) as bus:
            for number in (4, 5):
                await bus.send("r", number)
            await bus.settle()
            await bus.advance(10)
            assert probe.bodies("t") == [0, 1, 2, 4, 5], "the rate holds after a restart, too"
            await bus.advance(10)
            assert probe.bodies("t") == [0, 1, 2, 4, 5, 3]
            assert [stored.attempts for stored in bus.messages()] == [1] * 6
            bus.whole()

    asyncio.run(go())


def test_who_waits_for_a_moment_keeps_its_place(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start({"routes/r.yaml": THROTTLED.format("2/s")}) as bus:
            for number in range(3):
                await bus.send("r", number)
            await moment()
            assert probe.bodies("t") == [0]
            for seen in ([0, 1], [0, 1, 2]):
                bus.clock.advance(0.5)
                await moment()
                assert probe.bodies("t") == seen
            await bus.settle()
            assert bus.states("r") == ["done"] * 3

    asyncio.run(go())


async def moment() -> None:
    for _ in range(200):
        await asyncio.sleep(0)


ASKED = """
route: r
from: { route: {} }
retry: { max: 5, backoff: 1s, jitter: none }
steps:
  - to: { probe: order }
    on_timeout: { verify: { probe: asked }, done_when: meta.reply.body.id == body.id }
    into: vars.answer
  - to: { probe: later }
"""
HAS_IT, HAS_ANOTHER = Reply(200, body={"id": 7}), Reply(200, body={"id": 8})
NOT_FOUND = Rejected("not found", reply={"status": 404, "headers": {}, "body": None})
FORBIDDEN = Rejected("forbidden", reply={"status": 403, "headers": {}, "body": None})


@pytest.mark.parametrize(
    ("told", "sent"),
    [
        ([HAS_IT], ["order", "asked", "later"]),
        ([HAS_ANOTHER], ["order", "asked", "order", "later"]),
        ([NOT_FOUND], ["order", "asked", "order", "later"]),
        ([Timeout("slow"), HAS_IT], ["order", "asked", "asked", "later"]),
        ([FORBIDDEN, NOT_FOUND], ["order", "asked", "asked", "order", "later"]),
    ],
)
def test_after_a_timeout_the_target_is_asked_before_it_is_sent_to_again(
    start: Start, probe: ProbeTarget, told: list[Any], sent: list[str]
) -> None:
    async def go() -> None:
        probe.script = {"order": [Timeout("no answer")], "asked": list(told)}
        async with start({"routes/r.yaml": ASKED}) as bus:
            await bus.send("r", {"id": 7})
            await bus.settle()
            for _ in range(6):
                await bus.advance(60)
            assert bus.states("r") == ["done"]
            assert [got.to for got in probe.got] == sent
            orders = {got.id for got in probe.got if got.to == "order"}
            assert len(orders) == 1
            assert orders.isdisjoint(got.id for got in probe.got if got.to == "asked")

    asyncio.run(go())


def test_a_delivery_that_a_stop_interrupted_is_asked_about(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        probe.script = {"order": [asyncio.get_running_loop().create_future()], "asked": [HAS_IT]}
        async with start({"routes/r.yaml": ASKED}) as bus:
            await bus.send("r", {"id": 7})
            await moment()
            clock = bus.clock
        async with start(clock=clock) as bus:
            await bus.advance(60)
            assert bus.states("r") == ["done"]
            assert [got.to for got in probe.got] == ["order", "asked", "later"]

    asyncio.run(go())


TABLE = "transforms/tables/plants.csv"
PARKING = """
route: r
key: body.key
from: { route: {} }
steps:
  - lookup: { table: plants, by: body.plant, into: vars.werks, missing: park }
  - to: { probe: t }
"""


def rows(*plants: str) -> dict[str, str]:
    return {TABLE: "plant,werks\n" + "".join(f"{plant},{plant}00\n" for plant in plants)}


def test_a_new_row_releases_the_messages_that_waited_for_it(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start({"routes/r.yaml": PARKING, **rows("A")}) as bus:
            for number, (key, plant) in enumerate([("k", "B"), ("k", "A"), ("l", "C"), ("m", "A")]):
                await bus.send("r", {"key": key, "plant": plant, "n": number})
            await bus.settle()
            assert bus.states("r") == ["waiting", "queued", "waiting", "done"], "its key waits, too, the others do not"
            waiting = bus.messages()[0].as_item()
            assert (waiting["due"], waiting["error"]["class"], waiting["error"]["step"]) == (None, "unmapped", "lookup")
            assert "plants" in waiting["error"]["message"]
            assert "'B'" in waiting["error"]["message"]
            bus.write(rows("A", "B"))
            await bus.reload()
            await bus.settle()
            assert bus.states("r") == ["done", "done", "waiting", "done"]
            assert [body["n"] for body in probe.bodies("t")] == [3, 0, 1]
            assert [stored.attempts for stored in bus.messages()] == [1, 1, 0, 1]
            bus.whole()

    asyncio.run(go())


def test_a_parked_message_survives_restarts_and_finds_the_row_that_came_meanwhile(start: Start) -> None:
    async def go() -> None:
        async with start({"routes/r.yaml": PARKING, **rows("A")}) as bus:
            await bus.send("r", {"key": "k", "plant": "B"})
            await bus.settle()
            clock = bus.clock
        async with start(clock=clock) as bus:
            assert bus.states("r") == ["waiting"]
        async with start(rows("A", "B"), clock=clock) as bus:
            assert bus.states("r") == ["done"]

    asyncio.run(go())


def test_a_parked_message_ends_with_its_time(start: Start) -> None:
    async def go() -> None:
        async with start({"routes/r.yaml": PARKING + "ttl: 1h\n", **rows("A")}) as bus:
            await bus.send("r", {"key": "k", "plant": "B"})
            await bus.settle()
            await bus.advance(3601)
            assert bus.states("r") == ["expired"]

    asyncio.run(go())


def test_who_parks_on_an_old_version_finds_the_row_of_the_new_one(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        probe.script = {"before": [asyncio.get_running_loop().create_future()]}
        gate = probe.script["before"][0]
        route = PARKING.replace("steps:", "steps:\n  - to: { probe: before }")
        async with start({"routes/r.yaml": route, **rows("A")}) as bus:
            await bus.send("r", {"key": "k", "plant": "B"})
            await moment()
            bus.write(rows("A", "B"))
            await bus.reload()
            gate.set_result(Reply(200))
            await bus.settle()
            assert bus.states("r") == ["done"]
            assert [got.to for got in probe.got] == ["before", "t"]

    asyncio.run(go())


CLOSED = """
connector: plant
type: probe
maintenance: [ { cron: "30 10 * * *", for: 2h } ]
operations: { order: { name: t } }
"""


def test_in_a_maintenance_window_messages_wait_without_using_up_attempts(start: Start, probe: ProbeTarget) -> None:
    route = "route: r\nfrom: { route: {} }\nretry: { max: 1 }\nsteps: [ { to: plant.order } ]\n"

    async def go() -> None:
        settings = {"esb.yaml": "timezone: Europe/Vienna\n", "connectors/plant.yaml": CLOSED, "routes/r.yaml": route}
        async with start(settings) as bus:  # it is 09:00 UTC, 10:00 in Vienna
            await bus.send("r", 1)
            await bus.settle()
            assert probe.bodies("t") == [1]
            await bus.advance(31 * 60)
            await bus.send("r", 2)
            for _ in range(3):
                await bus.advance(20 * 60)
                assert bus.states("r") == ["done", "waiting"]
            assert "in maintenance until 2026-01-05T11:30" in bus.messages()[-1].error.message  # type: ignore[union-attr]  # it has one
            for _ in range(4):
                await bus.advance(30 * 60)
            assert probe.bodies("t") == [1, 2]
            assert bus.messages()[-1].attempts == 1

    asyncio.run(go())


CODES = "code,erp,valid_from,valid_to\nDENT,0100,,2026-01-05\nDENT,0200,2026-01-06,\nSCRATCH,0300,2026-02-01,\n"
CODED = """
route: r
from: { route: {} }
steps:
  - lookup: { table: codes, by: body.code, into: vars.erp, missing: park }
  - lookup: { table: codes, by: vars.erp, into: vars.back, reverse: true }
  - map: { erp: vars.erp, back: vars.back, same: "xref('codes', body.code)" }
  - to: { probe: t }
"""


def test_rows_hold_on_the_day_of_acceptance_in_the_time_zone_of_the_bus(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        files = {
            "esb.yaml": "bus: b\ntimezone: Europe/Vienna\n",
            "routes/r.yaml": CODED,
            "transforms/tables/codes.csv": CODES,
        }
        async with start(files, clock=ManualClock("2026-01-05T22:59:00+00:00")) as bus:
            await bus.send("r", {"code": "DENT"})
            await bus.send("r", {"code": "SCRATCH"})
            await bus.advance(120)  # past midnight in Vienna
            await bus.send("r", {"code": "DENT"})
            await bus.settle()
            assert probe.bodies("t") == [
                {"erp": "0100", "back": "DENT", "same": "0100"},
                {"erp": "0200", "back": "DENT", "same": "0200"},
            ]
            assert bus.states("r") == ["done", "waiting", "done"], "a row of next month is none yet"
            bus.write({"transforms/tables/codes.csv": CODES.replace("2026-02-01", "2026-01-05")})
            await bus.reload()
            await bus.settle()
            assert probe.bodies("t")[-1] == {"erp": "0300", "back": "SCRATCH", "same": "0300"}
            bus.whole()

    asyncio.run(go())
