"""A message that is held behind a dead letter ends with the `ttl` of its route, as one that waits does."""

from __future__ import annotations

from typing import Any

import pytest

from esb.errors import Rejected
from esb.message import State
from esb.operations import Who
from esb.store.base import Filter
from tests.runtime.test_promises import OVERTAKE, PLAIN, run

WHO = Who("tester", "because")
OLD = PLAIN + "ttl: 1m\n"


async def _one_dead_one_held(bus: Any, probe: Any) -> tuple[str, str]:
    probe.script["erp"] = [Rejected("no")]
    dead = await bus.send("plain", {"lot": "1", "kind": "RELEASE", "n": 1})
    held = await bus.send("plain", {"lot": "1", "kind": "RELEASE", "n": 2})
    await bus.settle()
    assert bus.states("plain") == ["dead", "held"]
    return dead.message_id, held.message_id


def test_what_is_held_expires_when_it_is_too_old_and_frees_nobody(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": OLD}) as bus:
            dead, _ = await _one_dead_one_held(bus, probe)
            await bus.advance(50)
            await bus.send("plain", {"lot": "1", "n": 3})
            await bus.settle()
            assert bus.states("plain") == ["dead", "held", "held"]
            await bus.advance(11)
            assert bus.states("plain") == ["dead", "expired", "held"], "a younger one stays"
            assert len(probe.got) == 1, "and none of them is sent"
            await bus.operations.retry(Filter(ids=(dead,)), WHO)
            await bus.settle()
            assert bus.states("plain") == ["done", "expired", "done"]
            assert [one["n"] for one in probe.bodies("erp")] == [1, 1, 3]
            bus.whole()

    run(scenario())


def test_who_waits_for_the_end_of_a_held_message_hears_that_it_is_too_old(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": OLD}) as bus:
            _, held = await _one_dead_one_held(bus, probe)
            told: list[Any] = []
            bus.supervisor.routes["plain"].intake.outcome_then(held, 600.0, 0, told.append)
            await bus.advance(61)
            assert [outcome.state for outcome in told] == ["expired"]

    run(scenario())


def test_what_is_held_expires_over_a_restart(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": OLD}) as bus:
            await _one_dead_one_held(bus, probe)
            clock = bus.clock
        async with start(clock=clock) as bus:
            assert bus.states("plain") == ["dead", "held"]
            await bus.advance(61)
            assert bus.states("plain") == ["dead", "expired"]
            bus.whole()

    run(scenario())


@pytest.mark.parametrize(
    ("before", "after", "state"),
    [
        (PLAIN, OLD, "expired"),
        (OLD, PLAIN, "held"),
        (OLD, PLAIN + "ttl: 10m\n", "held"),
        (PLAIN + "ttl: 10m\n", OLD, "expired"),
    ],
)
def test_what_is_held_keeps_to_the_ttl_of_the_newest_version(
    before: str, after: str, state: str, start: Any, probe: Any
) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": before}) as bus:
            await _one_dead_one_held(bus, probe)
            bus.write({"routes/a.yaml": after})
            await bus.reload()
            await bus.advance(61)
            assert bus.states("plain") == ["dead", state]
            bus.whole()

    run(scenario())


def test_a_hold_that_overtakes_expires_only_by_its_own_age(start: Any, probe: Any) -> None:
    """It goes at once, whatever it leaves behind."""

    async def scenario() -> None:
        async with start({"routes/a.yaml": OVERTAKE + "ttl: 1m\n"}) as bus:
            _, held = await _one_dead_one_held(bus, probe)
            await bus.advance(30)
            await bus.send("plain", {"lot": "1", "kind": "HOLD", "n": 3})
            await bus.settle()
            await bus.advance(61)
            assert bus.states("plain") == ["superseded", "superseded", "done"]
            assert bus.state(held) == State.SUPERSEDED.value
            bus.whole()

    run(scenario())
