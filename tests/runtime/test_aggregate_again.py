"""`aggregate` and what people do with its messages later: retries and replays stay what they are, and the group that is open meanwhile, too."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from esb.errors import Rejected, Unavailable
from esb.steps.base import Reply
from esb.store.base import Filter, State, Stored

from .conftest import WHO, ProbeTarget, Start, TestBus

ROUTE = """
route: r
from: { route: {} }
order: { on_dead: skip }
retry: { max: 5, backoff: 1s, jitter: none }
steps:
  - aggregate: { by: body.g, complete: COMPLETE }
  - set: { body: "body[].n" }
  - to: { probe: out }
"""


def files(complete: str = "{ size: 2 }") -> dict[str, str]:
    return {"routes/r.yaml": ROUTE.replace("COMPLETE", complete)}


async def send(bus: TestBus, *numbers: Any) -> None:
    for number in numbers:
        await bus.send("r", {"g": "a", "n": number})
    await bus.settle()


def parts(bus: TestBus, state: str) -> list[Stored]:
    """Messages of groups; the aggregate is the first part."""
    return [stored for stored in bus.messages(route="r") if stored.envelope.scope and stored.state.value == state]


@pytest.mark.parametrize("again", [[], [Unavailable("503")]], ids=["at once", "after a retry"])
def test_the_replay_of_an_aggregate_is_no_member_of_the_open_group(
    start: Start, probe: ProbeTarget, again: list[Any]
) -> None:
    async def go() -> None:
        async with start(files()) as bus:
            await send(bus, 1, 2, 3)
            probe.script["out"] = list(again)
            await bus.operations.replay(Filter(ids=(parts(bus, "done")[0].envelope.id,)), WHO)
            await bus.settle()
            await send(bus, 4)
            await bus.advance(1)
            assert probe.bodies("out") == [[1, 2]] * (2 + len(again)) + [[3, 4]]
            assert len({got.id for got in probe.got}) == 2, "a replay has the delivery id of the first"
            bus.whole()

    asyncio.run(go())


def test_over_a_restart_a_replay_is_no_member_either(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start(files()) as bus:
            await send(bus, 1, 2, 3)
            await bus.operations.pause("r", WHO, paused=True)
            await bus.operations.replay(Filter(ids=(parts(bus, "done")[0].envelope.id,)), WHO)
            clock = bus.clock
        async with start(clock=clock) as bus:
            await bus.operations.pause("r", WHO, paused=False)
            await bus.settle()
            await send(bus, 4)
            assert probe.bodies("out") == [[1, 2], [3, 4], [1, 2]]
            bus.whole()

    asyncio.run(go())


@pytest.mark.parametrize("chosen", ["by id", "by key"])
def test_a_part_is_not_replayed_by_itself(start: Start, probe: ProbeTarget, chosen: str) -> None:
    async def go() -> None:
        async with start(files()) as bus:
            await send(bus, 1, 2, 3)
            whole, part = parts(bus, "done")
            meant = Filter(ids=(part.envelope.id,)) if chosen == "by id" else Filter(key="a")
            told = {row["id"]: row for row in await bus.operations.replay(meant, WHO)}
            assert told[part.envelope.id]["result"] == "skipped"
            assert whole.envelope.id in told[part.envelope.id]["why"]
            await bus.settle()
            await send(bus, 4)
            assert probe.bodies("out") == [[1, 2]] * (1 if chosen == "by id" else 2) + [[3, 4]]
            bus.whole()

    asyncio.run(go())


def test_a_group_that_became_complete_while_a_retried_aggregate_was_before_it_goes_on(
    start: Start, probe: ProbeTarget
) -> None:
    async def go() -> None:
        probe.script["out"] = [Rejected("no")]
        async with start(files()) as bus:
            await send(bus, 1, 2, 3)
            under_way = asyncio.get_running_loop().create_future()
            probe.script["out"] = [under_way]
            await bus.operations.retry(Filter(route="r", states=(State.DEAD,)), WHO)
            while len(probe.got) < 2:
                await asyncio.sleep(0)
            await bus.send("r", {"g": "a", "n": 4})
            under_way.set_result(Reply(200))
            await bus.settle()
            assert probe.bodies("out") == [[1, 2], [1, 2], [3, 4]]
            bus.whole()

    asyncio.run(go())


def test_a_dead_part_that_is_corrected_gathers_those_that_wait_already(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start(files("{ size: 3, when: 'sum(body[].n) > `100`' }")) as bus:
            await send(bus, "text", 2, 3)
            (dead,) = parts(bus, "dead")
            await bus.operations.edit(dead.envelope.id, b'{"g": "a", "n": 1}', WHO)
            await bus.operations.retry(Filter(ids=(dead.envelope.id,)), WHO, stale=True)
            await asyncio.wait_for(bus.settle(), 20)
            assert probe.bodies("out") == [[1, 2, 3]]
            bus.whole()

    asyncio.run(go())
