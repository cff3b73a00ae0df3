"""What changes in the store without an answer: commits that reported an error, purges, and edits of the order."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from esb import failpoints
from esb.clock import ManualClock
from esb.errors import Rejected, StoreBusy
from esb.message import State
from esb.operations import Who
from esb.store.base import Filter
from tests.runtime.test_promises import PLAIN, run

WHO = Who("tester", "because")
FANOUT = """
route: orders
key: body.lot
from: {{ route: {{}} }}
steps:
  - fanout:
      {branch}: {{ steps: [ {{ to: {{ probe: mes }} }} ] }}
"""


def plant(monkeypatch: pytest.MonkeyPatch, faults: str) -> None:
    monkeypatch.setattr(failpoints, "_PROCESS", failpoints.Failpoints.read({"ESB_TEST": "1", "ESB_FAILPOINTS": faults}))


def test_a_message_whose_commit_reported_an_error_but_took_effect_runs_at_once(
    start: Any, probe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": PLAIN}) as bus:
            plant(monkeypatch, "store.after_commit=error@1")
            with pytest.raises(StoreBusy):
                await bus.send("plain", {"lot": "1"})
            await bus.settle()
            assert (bus.states("plain"), len(probe.got)) == (["done"], 1)
            bus.whole()

    run(scenario())


def test_children_and_retries_of_a_commit_in_doubt_are_not_left_behind(
    start: Any, probe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        probe.script["mes"] = [Rejected("no")]
        async with start({"routes/a.yaml": FANOUT.format(branch="mes")}) as bus:
            plant(monkeypatch, "store.after_commit=error@2")  # the settlement that makes the branch
            await bus.send("orders", {"lot": "1"})
            runner = bus.supervisor.routes["orders"].runner
            while runner.running or bus.states("orders") != ["done", "dead"]:
                bus.clock.advance(timedelta(seconds=1))
                await asyncio.sleep(0)
            dead = bus.messages(states=(State.DEAD,))[0]
            plant(monkeypatch, "store.after_commit=error@1")
            with pytest.raises(StoreBusy):
                await bus.operations.retry(Filter(ids=(dead.envelope.id,)), WHO)
            await bus.settle()
            assert (bus.states("orders"), len(probe.got)) == (["done", "done"], 2)
            bus.whole()

    run(scenario())


async def _blocked(bus: Any, probe: Any) -> Any:
    """A dead head with a message held behind it."""
    probe.script["erp"] = [Rejected("no")]
    first = await bus.send("plain", {"lot": "1", "n": 1})
    await bus.settle()
    await bus.send("plain", {"lot": "1", "n": 2})
    await bus.settle()
    assert bus.states("plain") == ["dead", "held"]
    return first


def test_what_a_purged_dead_letter_held_goes_on(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": PLAIN}) as bus:
            await _blocked(bus, probe)
            assert await bus.store.purge(bus.clock.now() + timedelta(days=1), [State.DEAD]) == 1
            await bus.settle()
            assert bus.states("plain") == ["done"]
            third = await bus.send("plain", {"lot": "1", "n": 3})
            await bus.settle()
            assert bus.state(third.message_id) == "done"
            bus.whole()

    run(scenario())


SKIP = PLAIN.replace("from:", "order: { on_dead: skip }\nfrom:")


def test_an_edit_from_block_to_skip_lets_the_held_ones_go_on(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": PLAIN}) as bus:
            await _blocked(bus, probe)
            bus.write({"routes/a.yaml": SKIP})
            await bus.reload()
            await bus.settle()
            assert bus.states("plain") == ["dead", "done"]
            await bus.send("plain", {"lot": "1", "n": 3})
            await bus.settle()
            assert bus.states("plain") == ["dead", "done", "done"]
            bus.whole()

    run(scenario())


def test_an_edit_from_block_to_skip_while_the_bus_is_stopped_counts_too(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        async with start({"routes/a.yaml": PLAIN}, clock=clock) as bus:
            await _blocked(bus, probe)
        async with start({"routes/a.yaml": SKIP}, clock=clock) as bus:
            assert bus.states("plain") == ["dead", "done"]
            bus.whole()

    run(scenario())


def test_a_branch_that_is_renamed_while_the_route_rests_still_sends_what_it_took(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": FANOUT.format(branch="mes")}) as bus:
            probe.script["mes"] = [Rejected("no")]
            await bus.send("orders", {"lot": "1", "n": 1})
            await bus.settle()
            await bus.send("orders", {"lot": "1", "n": 2})
            await bus.settle()
            assert bus.states("orders") == ["done", "dead", "done", "held"]
            await bus.operations.pause("orders", WHO, paused=True)
            for branch in ("shop", "floor"):
                bus.write({"routes/a.yaml": FANOUT.format(branch=branch)})
                await bus.reload()
            await bus.operations.retry(Filter(), WHO)
            await bus.operations.pause("orders", WHO, paused=False)
            await bus.settle()
            assert bus.states("orders") == ["done"] * 4
            assert [body["n"] for body in probe.bodies("mes")] == [1, 1, 2]

    run(scenario())


def test_an_item_that_cannot_be_stored_is_the_fate_of_its_message_and_its_lane_goes_on(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        big = "add(body.n, body.n)"
        route = (
            "route: rows\nkey: body.lot\norder: { on_dead: skip }\nfrom: { route: {} }\nsteps:\n"
            f'  - split:\n      each: "[{{ q: {big} }}]"\n      steps: [ {{ to: {{ probe: erp }} }} ]\n'
        )
        async with start({"routes/a.yaml": route}) as bus:
            await bus.send("rows", b'{"lot":"1","n":' + b"9" * 400 + b"}")
            await bus.send("rows", b'{"lot":"1","n":12.10}')
            await bus.settle()
            assert sorted(bus.states("rows")) == ["dead", "done", "done"]
            bus.whole()

    run(scenario())
