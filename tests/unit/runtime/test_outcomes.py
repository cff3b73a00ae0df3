"""Who waits for the end of a message is told once, or is told that it did not come."""

from __future__ import annotations

import asyncio
from typing import Any

from esb.endpoints.base import Outcome
from esb.runtime.outcomes import KEPT, Outcomes

DONE = Outcome("done", response=(200, {}, None))


def test_everybody_who_waits_is_told_and_nothing_is_kept_behind() -> None:
    async def story() -> None:
        outcomes, told = Outcomes(), []
        for name in ("a", "b"):
            outcomes.expect("m", 60, lambda end, name=name: told.append((name, end)))  # type: ignore[misc]  # a default binds the name
        outcomes.tell("m", DONE)
        outcomes.tell("m", Outcome("dead"))
        assert told == [("a", DONE), ("b", DONE)]
        assert outcomes._waiting == {}
        assert outcomes.recent("m") is None  # somebody has had the answer

    asyncio.run(story())


def test_a_bus_that_stops_tells_everybody_who_still_waits() -> None:
    async def story() -> None:
        outcomes, told = Outcomes(), []
        for name in ("a", "b"):
            outcomes.expect(name, 60, told.append)
        outcomes.leave()
        assert told == [None, None]
        assert outcomes._waiting == {}

    asyncio.run(story())


def test_an_end_that_does_not_come_in_time_is_told_as_none_and_only_once() -> None:
    async def story() -> None:
        outcomes = Outcomes()
        late: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        outcomes.expect("m", 0.0, late.set_result)
        assert await late is None
        outcomes.tell("m", DONE)  # a future that were told twice would raise
        assert outcomes._waiting == {}
        assert outcomes.recent("m") is DONE

    asyncio.run(story())


def test_who_gives_up_is_not_told_and_the_others_are() -> None:
    async def story() -> None:
        outcomes, told = Outcomes(), []
        gone = outcomes.expect("m", 60, lambda end: told.append("gone"))
        outcomes.expect("m", 60, lambda end: told.append("there"))
        gone.give_up()
        outcomes.tell("m", DONE)
        gone.give_up()
        assert told == ["there"]

    asyncio.run(story())


def test_answers_that_nobody_asked_for_yet_are_kept_for_a_while() -> None:
    outcomes = Outcomes()
    for number in range(KEPT + 10):
        outcomes.tell(f"m-{number}", DONE)
    outcomes.tell("filtered", Outcome("done"))
    assert outcomes.recent("m-9") is None
    assert outcomes.recent(f"m-{KEPT + 9}") is DONE
    assert outcomes.recent("filtered") is None
