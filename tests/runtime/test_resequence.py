"""Numbers in any order go on in theirs: each once, over gaps, faults, restarts and reloads."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from esb import failpoints
from esb.errors import Rejected, StoreError, Unavailable
from esb.runtime.sequences import forget_old
from esb.store.base import Filter

from .conftest import WHO, ProbeTarget, Start, TestBus

ROUTE = """
route: r
key: body.k
from: { route: {} }
retry: { max: 2, backoff: 1s, jitter: none }
steps:
  - set: { vars.early: body.n }
  - resequence: { by: body.n, gap_timeout: 1m, first: 1 }
  - to: { probe: t }
"""


def files(old: str = "", new: str = "") -> dict[str, str]:
    return {"routes/r.yaml": ROUTE.replace(old, new) if old else ROUTE}


async def send(bus: TestBus, *numbers: Any, key: str = "a") -> None:
    for number in numbers:
        await bus.send("r", {"k": key, "n": number})
    await bus.settle()


async def pass_time(bus: TestBus) -> None:
    for _ in range(40):
        bus.clock.advance(0.25)
        for _ in range(15):
            await asyncio.sleep(0)


def seen(probe: ProbeTarget, key: str = "a") -> list[int]:
    return [int(got.body["n"]) for got in probe.got if got.body["k"] == key]


def parts(bus: TestBus) -> list[Any]:
    return [one for one in bus.messages(route="r") if one.envelope.scope]


def test_numbers_go_on_in_their_order_each_key_for_itself(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start(files()) as bus:
            await send(bus, 3, "2")
            await send(bus, 1, key="b")
            assert (seen(probe), seen(probe, "b")) == ([], [1])
            await send(bus, 1, 5, 4)
            assert seen(probe) == [1, 2, 3, 4, 5]
            order = list(range(6, 60))
            random.Random(7).shuffle(order)
            await send(bus, *order)
            assert seen(probe) == list(range(1, 60))
            assert bus.states("r").count("done") == len(bus.messages(route="r"))
            bus.whole()

    asyncio.run(go())


def test_a_gap_is_waited_for_and_then_given_up(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start(files()) as bus:
            await send(bus, 1, 4)
            await bus.advance(40)
            await send(bus, 3)
            await bus.advance(19)
            assert seen(probe) == [1]
            await bus.advance(2)
            assert seen(probe) == [1, 3, 4], "a minute after 4 came"
            await send(bus, 4, 2, 2)
            fates = [(one.state.value, one.reason or one.error.message) for one in parts(bus)[-3:]]
            assert fates == [
                ("done", "duplicate of number 4"),
                ("dead", "number 2 came after it was given up"),
                ("done", "duplicate of number 2"),
            ]
            await send(bus, 5)
            assert seen(probe)[-1] == 5, "what comes late holds up nobody"
            bus.whole()

    asyncio.run(go())


@pytest.mark.parametrize(("late", "got", "end"), [("pass", [2, 1], "done"), ("drop", [2], "done")])
def test_a_late_number_has_the_fate_that_the_route_says(
    start: Start, probe: ProbeTarget, late: str, got: list[int], end: str
) -> None:
    async def go() -> None:
        async with start(files("first: 1", f"first: 1, late: {late}")) as bus:
            await send(bus, 2)
            await bus.advance(61)
            await send(bus, 1, 1)
            assert seen(probe) == got
            assert [one.state.value for one in parts(bus)] == [end] * 3
            bus.whole()

    asyncio.run(go())


def test_a_sequence_without_a_first_number_begins_with_the_lowest_that_came(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start(files(", first: 1", "")) as bus:
            await send(bus, 12, 10)
            assert seen(probe) == []
            await bus.advance(61)
            assert seen(probe) == [10, 12], "12 has waited long enough for 11, too"
            await send(bus, 14, 13)
            assert seen(probe) == [10, 12, 13, 14]

    asyncio.run(go())


def test_who_is_tried_again_or_dead_holds_up_those_behind_it(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        probe.script = {"t": [Unavailable("down"), Rejected("no")]}
        async with start(files()) as bus:
            await send(bus, 3, 2, 1)
            assert seen(probe) == [1]
            await bus.advance(1)
            assert seen(probe) == [1, 1]
            assert sorted(one.state.value for one in parts(bus)) == ["dead", "waiting", "waiting"]
            clock = bus.clock
        async with start(clock=clock) as bus:
            await bus.advance(100)
            assert seen(probe) == [1, 1]
            dead = next(one for one in parts(bus) if one.state == "dead")
            await bus.operations.retry(Filter(ids=(dead.envelope.id,)), WHO)
            await bus.settle()
            assert seen(probe) == [1, 1, 1, 2, 3]
            bus.whole()

    asyncio.run(go())


def test_a_sequence_outlives_restarts_and_reloads(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start(files()) as bus:
            await send(bus, 1, 3)
            clock = bus.clock
        async with start(clock=clock) as bus:
            await send(bus, 5, 4)
            bus.write(files("probe: t", "probe: u"))
            await bus.reload()
            await bus.settle()
            assert seen(probe) == [1]
            await send(bus, 2)
            assert seen(probe) == [1, 2, 3, 4, 5]
            assert [got.to for got in probe.got] == ["t", "u", "t", "t", "t"], "each on the version that it came under"
            await send(bus, 7)
            clock = bus.clock
        async with start(clock=clock) as bus:
            await bus.advance(61)
            assert seen(probe)[-1] == 7
            bus.whole()

    asyncio.run(go())


def test_who_waits_in_a_sequence_does_so_by_the_rule_of_its_version(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start(files()) as bus:
            await send(bus, 1, 3)
            bus.write(files("gap_timeout: 1m", "gap_timeout: 1h"))
            await bus.reload()
            clock = bus.clock
        async with start(clock=clock) as bus:
            await bus.advance(61)
            assert seen(probe) == [1, 3], "after a minute, as when it came; also over a restart"
            await send(bus, 5)
            await bus.advance(61)
            assert seen(probe) == [1, 3]
            await bus.advance(3600)
            assert seen(probe) == [1, 3, 5]
            bus.whole()

    asyncio.run(go())


def test_a_replay_goes_on_whatever_has_passed(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start(files()) as bus:
            await send(bus, 2, 1, 5)
            for one in (bus.messages(route="r")[0], parts(bus)[1]):
                await bus.operations.replay(Filter(ids=(one.envelope.id,)), WHO)
                await bus.settle()
            assert seen(probe) == [1, 2, 2, 1]
            await send(bus, 3)
            assert seen(probe)[-1] == 3
            bus.whole()

    asyncio.run(go())


def test_a_sequence_that_nothing_came_for_is_forgotten(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start(files()) as bus:
            for number in range(205):
                await send(bus, 1, key=f"old{number}")
            await bus.advance(29 * 86400)
            await send(bus, 1, 2, key="new")
            await bus.advance(2 * 86400)
            assert await forget_old(bus.store, bus.clock.now()) == 205
            await send(bus, 3, key="new")
            await send(bus, 1, key="old7")
            assert seen(probe, "new") == [1, 2, 3]
            assert seen(probe, "old7") == [1, 1]

    asyncio.run(go())


def test_what_is_no_number_is_refused(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start(files()) as bus:
            await send(bus, "x", 1.5, None)
            assert [one.error.error_class for one in bus.messages(route="r") if one.error] == ["invalid"]
            assert bus.states("r") == ["dead", "held", "held"]

    asyncio.run(go())


@pytest.mark.parametrize("fault", ["store.commit_error", "store.after_commit"])
@pytest.mark.parametrize("nth", range(3, 13))
def test_a_fault_of_any_commit_breaks_no_order(
    start: Start, probe: ProbeTarget, monkeypatch: pytest.MonkeyPatch, fault: str, nth: int
) -> None:
    async def go() -> None:
        async with start({"routes/r.yaml": ROUTE + "dedupe: body.n\n"}) as bus:
            points = failpoints.Failpoints.read({"ESB_TEST": "1", "ESB_FAILPOINTS": f"{fault}=error@{nth}"})
            monkeypatch.setattr(failpoints, "_PROCESS", points)
            for number in (3, 1, 2):
                for _ in range(3):
                    try:
                        await bus.send("r", {"k": "a", "n": number})
                        break
                    except StoreError:
                        await pass_time(bus)
                await pass_time(bus)
            clock = bus.clock
        async with start(clock=clock) as bus:
            await pass_time(bus)
            assert list(dict.fromkeys(seen(probe))) == [1, 2, 3]
            assert len({got.id for got in probe.got}) == 3
            bus.whole()

    asyncio.run(go())
