"""Working ahead: whether a message is worked off before it is stored or after, the store tells the same story of it."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from esb.clock import ManualClock
from esb.store.base import Filter

CONTRACT = '{"type": "object", "required": ["lot"]}'
ROUTE = """
route: inspections
from: { route: {} }
dedupe: body.id
track: { lot: body.lot }
steps:
  - validate: lot.v1
  - map: { lot: body.lot, twice: "mul(body.qty, `2`)" }
  - choose:
      - { when: "body.lot == 'A'", steps: [ { set: { vars.kind: "'first'" } } ] }
      - { otherwise: [ { filter: "body.twice > `10`" } ] }
  - publish: { topic: lots, body: "{ lot: body.lot, kind: vars.kind }" }
"""
READER = """
route: reader
from: { topic: lots }
key: body.lot
steps:
  - set: { body.read: "`true`" }
  - publish: read
"""
SINK = """
route: sink
from: { topic: read }
steps:
  - to: { probe: erp }
"""
KPIS = """
kpi: done
count: { on: done }
of: { on: accepted, scope: "*" }
---
kpi: filtered
count: { on: filtered }
---
kpi: read
start: { route: inspections, on: accepted }
end: { route: reader, on: done, by: body.lot }
by: body.lot
"""
FILES = {
    "kpis/all.yaml": KPIS,
    "schemas/lot.v1.json": CONTRACT,
    "routes/a.yaml": ROUTE,
    "routes/b.yaml": READER,
    "routes/c.yaml": SINK,
}
#: What differs from run to run.
TIMES = ("at", "ms", "delivery_id")
BODIES: list[Any] = [
    {"id": 1, "lot": "A", "qty": 1},
    {"id": 2, "lot": "B", "qty": 1},
    {"id": 3, "lot": "C", "qty": 7},
    {"id": 1, "lot": "A", "qty": 1},
    {"id": 4, "qty": 1},
    {"id": 5, "lot": "D", "qty": "seven"},
    b"{",
]


def test_the_store_tells_the_same_of_both_ways(start: Any, probe: Any, tmp_path: Path) -> None:
    async def story(ahead: bool) -> Any:
        probe.got.clear()
        async with start(FILES) as bus:
            bus.store.works_ahead = ahead
            receipts = [await bus.send("inspections", body) for body in BODIES]
            assert (receipts[0].outcome is not None) is ahead
            await bus.settle()
            stored = {one.envelope.id: bus.store.get(one.envelope.id) for one in bus.messages()}
            bus.whole()
            told = sorted(
                (
                    one.envelope.route,
                    one.state.value,
                    one.attempts,
                    one.reason,
                    str(one.error and (one.error.error_class, one.error.step, one.error.message)),
                    str([{k: v for k, v in step.items() if k not in TIMES} for step in one.trace]),
                    str(dict(one.envelope.track)),
                    one.envelope.parent_id in stored and stored[one.envelope.parent_id].envelope.body,
                    one.envelope.body,
                    one.finished_at,
                )
                for one in stored.values()
            )
            counts = {count.route: dict(count.states) for count in bus.store.counts()}
            per_minute = bus.supervisor.facts("inspections")["throughput_per_minute"]
            numbers = bus.store._search.rows(
                "SELECT text, what, n FROM kpi_hour JOIN word ON word.id = kpi ORDER BY 1, 2"
            )
            assert numbers
            return told, counts, [receipt.state for receipt in receipts], per_minute, numbers, probe.bodies("erp")

    ordinary = asyncio.run(story(False))
    shutil.rmtree(tmp_path / ".esb")
    assert asyncio.run(story(True)) == ordinary


def committed(bus: Any) -> int:
    return int(bus.store._committer.groups)


@pytest.mark.parametrize("ahead", [True, False])
def test_a_message_that_only_computes_is_stored_once_with_what_is_born_of_it(start: Any, ahead: bool) -> None:
    async def scenario() -> None:
        async with start(FILES) as bus:
            bus.store.works_ahead = ahead
            before = committed(bus)
            receipt = await bus.send("inspections", BODIES[0])
            assert (bus.state(receipt.message_id) == "done") is ahead
            if ahead:
                assert committed(bus) == before + 1
                assert receipt.outcome is not None
                assert receipt.outcome.state == "done"
                assert [one.state.value for one in bus.messages(route="reader")] == ["done"]
            await bus.settle()
            assert bus.state(receipt.message_id) == "done"
            assert bus.states("sink") == ["done"]
            bus.whole()

    asyncio.run(scenario())


KEYED = """
route: keyed
from: { route: {} }
key: body.lot
steps:
  - filter: "number(body.n, 'en-US') > `0`"
  - publish: { topic: lots, body: "{ lot: body.lot, n: body.n }" }
"""


def test_a_message_behind_another_one_of_its_key_waits_for_it(start: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": KEYED, "routes/b.yaml": READER}) as bus:
            bus.store.works_ahead = False
            first = asyncio.ensure_future(bus.send("keyed", {"lot": "A", "n": "1"}))
            await asyncio.sleep(0)  # it is on its way into the store, and in no lane yet
            bus.store.works_ahead = True
            second = asyncio.ensure_future(bus.send("keyed", {"lot": "A", "n": "2"}))
            other = asyncio.ensure_future(bus.send("keyed", {"lot": "B", "n": "3"}))
            receipts = [await one for one in (first, second, other)]
            assert [receipt.outcome is not None for receipt in receipts] == [False, False, True]
            await bus.settle()
            read = [bus.store.get(one.envelope.id).envelope.body for one in bus.messages(route="reader")]
            assert [body for body in read if b'"A"' in body] == [b'{"lot":"A","n":"1"}', b'{"lot":"A","n":"2"}']
            assert bus.states("keyed") == ["done"] * 3
            bus.whole()

    asyncio.run(scenario())


def test_a_message_behind_a_dead_one_that_blocks_is_held(start: Any) -> None:
    route = KEYED.replace("steps:", "order: { on_dead: block }\nsteps:")

    async def scenario() -> None:
        async with start({"routes/a.yaml": route, "routes/b.yaml": READER}) as bus:
            dead = await bus.send("keyed", {"lot": "A", "n": "none"})
            await bus.settle()
            assert bus.state(dead.message_id) == "dead"
            held = await bus.send("keyed", {"lot": "A", "n": "2"})
            await bus.settle()
            assert bus.state(held.message_id) == "held"
            assert bus.states("reader") == []
            bus.whole()

    asyncio.run(scenario())


def test_nothing_is_worked_ahead_for_a_reader_that_is_paused(start: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": KEYED, "routes/b.yaml": READER}) as bus:
            bus.supervisor.pause("reader", paused=True)
            await bus.send("keyed", {"lot": "A", "n": "1"})
            await bus.settle()
            assert (bus.states("keyed"), bus.states("reader")) == (["done"], ["queued"])
            bus.supervisor.pause("reader", paused=False)
            await bus.settle()
            assert bus.states("reader") == ["done"]

    asyncio.run(scenario())


def test_routes_that_feed_each_other_are_not_worked_ahead_for_ever(start: Any) -> None:
    loop = """
route: loop
from: { topic: lots }
steps:
  - filter: body.n < `20`
  - set: { body.n: "add(body.n, `1`)" }
  - publish: lots
"""

    async def scenario() -> None:
        async with start({"routes/a.yaml": KEYED.replace("n: body.n }", "n: `0` }"), "routes/b.yaml": loop}) as bus:
            await bus.send("keyed", {"lot": "A", "n": "1"})
            early = len(bus.store.find(Filter(limit=100)))
            assert early < 10
            await bus.settle()
            assert bus.states("loop") == ["done"] * 21
            bus.whole()

    asyncio.run(scenario())


class Hurrying(ManualClock):
    """Each look at it takes a millisecond."""

    def monotonic(self) -> float:
        self._mono += 0.001
        return super().monotonic()


def test_a_message_with_many_readers_does_not_keep_the_loop(start: Any) -> None:
    reader = "route: reader-{}\nfrom: {{ topic: lots }}\nsteps: [ {{ filter: body.lot }} ]\n"
    files = {f"routes/b{number}.yaml": reader.format(number) for number in range(30)}

    async def scenario() -> None:
        async with start({"routes/a.yaml": KEYED, **files}, clock=Hurrying()) as bus:
            await bus.send("keyed", {"lot": "A", "n": "1"})
            at_once = [one.state.value for one in bus.messages()].count("done")
            assert 1 < at_once < 20
            await bus.settle()
            assert [one.state.value for one in bus.messages()] == ["done"] * 31
            bus.whole()

    asyncio.run(scenario())


FORGIVING = """
route: forgiving
from: { route: {} }
steps:
  - map: { n: "number(body.n, 'en-US')" }
    continue_on_error: true
  - set: { body.seen: "`true`" }
    if: body.n == 'seven'
"""


@pytest.mark.parametrize("ahead", [True, False])
def test_a_step_that_may_fail_ends_the_same_both_ways(start: Any, ahead: bool) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": FORGIVING}) as bus:
            bus.store.works_ahead = ahead
            receipt = await bus.send("forgiving", {"n": "seven"})
            await bus.settle()
            stored = bus.store.get(receipt.message_id)
            assert (stored.state.value, stored.attempts) == ("done", 1)
            told = [(step["step"], "error" in step, step.get("note")) for step in stored.trace]
            assert told == [("map", True, None), ("set", False, None)]
            skipped = await bus.send("forgiving", {"n": "7"})
            await bus.settle()
            assert [step.get("note") for step in bus.store.get(skipped.message_id).trace] == [None, "skipped"]
            bus.whole()

    asyncio.run(scenario())


OVERTAKING = """
route: overtaking
from: { route: {} }
key: body.lot
track: { lot: body.lot }
order: { overtake: "number(body.n, 'en-US') > `0`" }
steps:
  - filter: body.lot
"""


def test_a_message_whose_precedence_cannot_be_worked_out_is_found_by_key_and_lot(start: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": OVERTAKING}) as bus:
            receipt = await bus.send("overtaking", {"lot": "A", "n": "seven"})
            envelope = bus.store.get(receipt.message_id).envelope
            assert bus.state(receipt.message_id) == "dead"
            assert (envelope.key, dict(envelope.track)) == ("A", {"lot": "A"})

    asyncio.run(scenario())
