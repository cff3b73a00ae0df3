"""`when_down: { fallback: … }` and steps of `on_error`: a message goes to its target or to the fallback, whatever comes later, and each
delivery counts once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from esb.errors import Rejected, Unavailable
from esb.store.base import Filter, State

from .conftest import WHO, ProbeTarget, Start

HEAD = """
route: r
from: { route: {} }
retry: { max: 4, backoff: 1s, jitter: none }
"""
OWN = f"""{HEAD}
steps:
  - to: {{ probe: erp }}
    when_down: {{ fallback: [ {{ to: {{ probe: spare }} }} ] }}
  - to: {{ probe: later }}
"""
SHARED = f"""{HEAD}
when_down:
  fallback:
    - choose:
        - when: body == 'never'
          steps: [ {{ log: never }} ]
        - otherwise: [ {{ to: {{ probe: spare }}, name: keep }} ]
steps:
  - to: {{ probe: erp }}
  - set: {{ body: "'second'" }}
  - to: {{ probe: later }}
    when_down: queue
"""
DOWN = Unavailable("503")


def both_ways(test: Any) -> Any:
    """With a target that tells its answer by a call, and one that is a task."""
    return pytest.mark.parametrize("probe", ["call", "task"], indirect=True)(test)


@both_ways
@pytest.mark.parametrize("way", ["retry", "restart"])
@pytest.mark.parametrize("route", [OWN, SHARED], ids=["own", "shared"])
def test_what_went_to_the_fallback_does_not_go_to_its_target_as_well(
    start: Start, probe: ProbeTarget, route: str, way: str
) -> None:
    async def go() -> None:
        probe.script = {"erp": [DOWN], "later": [DOWN]}
        async with start({"routes/r.yaml": route}) as bus:
            await bus.send("r", {})
            await bus.settle()
            if way == "retry":
                await bus.advance(1)
            clock = bus.clock
        async with start(clock=clock) as bus:
            await bus.advance(1)
            assert [got.to for got in probe.got] == ["erp", "spare", "later", "later"]
            assert bus.states("r") == ["done"]
            bus.whole()

    asyncio.run(go())


def test_a_fallback_that_waits_does_not_try_its_target_again(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        route = OWN.replace("spare } }", "spare } }, { delay: { for: 1h } }, { to: { probe: much-later } }")
        probe.script = {"erp": [DOWN]}
        async with start({"routes/r.yaml": route}) as bus:
            await bus.send("r", {})
            await bus.settle()
            await bus.advance(3601)
            assert [got.to for got in probe.got] == ["erp", "spare", "much-later", "later"]
            bus.whole()

    asyncio.run(go())


@both_ways
@pytest.mark.parametrize("route", [OWN, SHARED], ids=["own", "shared"])
def test_where_the_fallback_is_down_too_the_target_is_tried_again(start: Start, probe: ProbeTarget, route: str) -> None:
    async def go() -> None:
        probe.script = {"erp": [DOWN, DOWN], "spare": [DOWN, DOWN]}
        async with start({"routes/r.yaml": route}) as bus:
            await bus.send("r", {})
            await bus.settle()
            assert [got.to for got in probe.got] == ["erp", "spare"]
            assert bus.messages()[0].error.error_class == "unavailable"
            await bus.advance(1)
            await bus.advance(2)
            assert [got.to for got in probe.got] == ["erp", "spare"] * 2 + ["erp", "later"]
            assert bus.states("r") == ["done"]
            bus.whole()

    asyncio.run(go())


@pytest.mark.parametrize("later", [[], [DOWN]], ids=["at once", "with a retry"])
def test_every_step_has_a_delivery_of_its_own_in_the_fallback_of_the_route(
    start: Start, probe: ProbeTarget, later: list[Any]
) -> None:
    async def go() -> None:
        last = "\n  - to: { probe: last }\n    when_down: queue\n"
        route = SHARED.replace("\n    when_down: queue", "") + last
        probe.script = {"erp": [DOWN], "later": [DOWN], "last": list(later)}
        async with start({"routes/r.yaml": route}) as bus:
            await bus.send("r", "first")
            await bus.settle()
            await bus.advance(1)
            assert probe.bodies("spare") == ["first", "second"]
            assert len({got.id for got in probe.got if got.to == "spare"}) == 2
            assert (len(probe.bodies("erp")), len(probe.bodies("later"))) == (1, 1)
            assert bus.states("r") == ["done"]
            bus.whole()

    asyncio.run(go())


def test_items_of_a_fallback_have_none_themselves(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        split = "{ split: { each: body, steps: [ { to: { probe: spare } } ] } }"
        route = f"{HEAD}\nwhen_down: {{ fallback: [ {split} ] }}\nsteps: [ {{ to: {{ probe: erp }} }} ]\n"
        probe.script = {"erp": [DOWN], "spare": [DOWN]}
        async with start({"routes/r.yaml": route}) as bus:
            await bus.send("r", [[1]])
            await bus.settle()
            assert bus.states("r") == ["done", "waiting"]
            await bus.advance(1)
            assert [got.to for got in probe.got] == ["erp", "spare", "spare"]
            assert bus.states("r") == ["done", "done"]
            bus.whole()

    asyncio.run(go())


def test_what_a_shared_fallback_has_delivered_can_be_undone(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        undo = "{ compensate: [ { to: { probe: undo } } ] }"
        route = (
            f"{HEAD}\nwhen_down: {{ fallback: [ {{ to: {{ probe: spare }} }}, {undo} ] }}\n"
            "steps: [ { to: { probe: erp } }, { to: { probe: no } } ]\n"
        )
        probe.script = {"erp": [DOWN, DOWN], "no": [Rejected("no")] * 2}
        async with start({"routes/r.yaml": route}) as bus:
            await bus.send("r", {})
            await bus.settle()
            assert [got.to for got in probe.got] == ["erp", "spare", "no", "undo"]
            assert bus.states("r") == ["dead", "done"]
            await bus.operations.retry(Filter(states=(State.DEAD,)), WHO)
            await bus.settle()
            assert [got.to for got in probe.got][4:] == ["erp", "spare", "no", "undo"]
            assert len({got.id for got in probe.got if got.to == "spare"}) == 2, "what was undone is another delivery"
            bus.whole()

    asyncio.run(go())


def test_a_fallback_whose_target_is_down_too_may_go_to_that_of_the_route(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        own = "{ fallback: [ { to: { probe: spare } }, { delay: 1m } ] }"
        route = (
            f"{HEAD}\nwhen_down: {{ fallback: [ {{ to: {{ probe: paper }} }} ] }}\n"
            f"steps: [ {{ to: {{ probe: erp }}, when_down: {own} }} ]\n"
        )
        probe.script = {"erp": [DOWN], "spare": [DOWN]}
        async with start({"routes/r.yaml": route}) as bus:
            await bus.send("r", {})
            await bus.settle()
            await bus.advance(61)
            assert [got.to for got in probe.got] == ["erp", "spare", "paper"]
            assert bus.states("r") == ["done"]
            bus.whole()

    asyncio.run(go())


LAST = """
route: r
from: { route: {} }
retry: { max: 0 }
steps: [ { set: { vars.n: "`1`" } }, { to: { probe: erp } } ]
on_error: [ { for: [exhausted, rejected], steps: [ { to: { probe: spare } }, { to: { probe: desk } } ] } ]
"""


@both_ways
@pytest.mark.parametrize("edited", [False, True], ids=["as it was", "edited"])
def test_what_on_error_has_sent_instead_does_not_go_to_its_target_after_a_restart(
    start: Start, probe: ProbeTarget, edited: bool
) -> None:
    async def go() -> None:
        probe.script = {"erp": [Rejected("no")], "desk": [asyncio.get_running_loop().create_future()]}
        async with start({"routes/r.yaml": LAST}) as bus:
            await bus.send("r", {})
            while not probe.bodies("desk"):
                await asyncio.sleep(0)
        async with start({"routes/r.yaml": LAST.replace("{ set", "{ log: begin }, { set")} if edited else None) as bus:
            await bus.settle()
            assert [got.to for got in probe.got] == ["erp", "spare", "desk", "desk"]
            assert len({got.id for got in probe.got}) == 3
            assert bus.states("r") == ["done"]
            bus.whole()

    asyncio.run(go())


@pytest.mark.parametrize("sent", [False, True], ids=["nothing was sent instead", "something was sent instead"])
def test_a_persons_retry_is_for_the_target_unless_something_was_sent_instead(
    start: Start, probe: ProbeTarget, sent: bool
) -> None:
    async def go() -> None:
        no = Rejected("no")
        probe.script = {"erp": [no], "spare": [] if sent else [no], "desk": [no] if sent else []}
        async with start({"routes/r.yaml": LAST}) as bus:
            await bus.send("r", {})
            await bus.settle()
            assert bus.states("r") == ["dead"]
            clock = bus.clock
        async with start(clock=clock) as bus:
            await bus.operations.retry(Filter(states=(State.DEAD,)), WHO)
            await bus.settle()
            again = ["spare", "desk", "desk"] if sent else ["spare", "erp"]
            assert [got.to for got in probe.got] == ["erp", *again]
            assert bus.states("r") == ["done"]
            bus.whole()

    asyncio.run(go())


def test_a_retry_that_is_given_up_again_stays_given_up_over_a_restart(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        no = Rejected("no")
        probe.script = {"erp": [no, no], "spare": [no, asyncio.get_running_loop().create_future()]}
        async with start({"routes/r.yaml": LAST}) as bus:
            await bus.send("r", {})
            await bus.settle()
            await bus.operations.retry(Filter(states=(State.DEAD,)), WHO)
            while len(probe.bodies("spare")) < 2:
                await asyncio.sleep(0)
        async with start() as bus:
            await bus.settle()
            assert [got.to for got in probe.got] == ["erp", "spare"] * 2 + ["spare", "desk"]
            assert bus.states("r") == ["done"]
            bus.whole()

    asyncio.run(go())


def test_where_the_message_is_a_dead_letter_all_the_same_its_target_is_tried_again(
    start: Start, probe: ProbeTarget
) -> None:
    async def go() -> None:
        route = LAST.replace("{ for: [", "{ dead_letter: erp, for: [")
        probe.script = {"erp": [Rejected("no")]}
        async with start({"routes/r.yaml": route}) as bus:
            await bus.send("r", {})
            await bus.settle()
            assert bus.states("r") == ["dead"]
            await bus.operations.retry(Filter(states=(State.DEAD,)), WHO)
            await bus.settle()
            assert [got.to for got in probe.got] == ["erp", "spare", "desk", "erp"]
            assert bus.states("r") == ["done"]

    asyncio.run(go())
