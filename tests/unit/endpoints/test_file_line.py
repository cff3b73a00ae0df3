"""Files go to the intake in their order, several at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from esb.endpoints.file_line import GROUP, Line, Place

Play = Callable[[Line, list[Place], list[str]], Awaitable[None]]


def played(count: int, play: Play) -> list[str]:
    """What happened: `n` had its turn, `-n` has left the line."""
    log: list[str] = []

    async def scenario() -> None:
        line = Line(lambda: None)
        places = [line.enter() for _ in range(count)]

        async def file(number: int) -> None:
            await places[number].turn
            log.append(f"{number}")
            await asyncio.sleep(0)
            log.append(f"-{number}")
            line.leave(places[number])

        async with asyncio.timeout(30):
            await asyncio.gather(play(line, places, log), *(file(number) for number in range(len(places))))
        assert line.reading == 0

    asyncio.run(scenario())
    return log


def test_the_order_is_that_of_the_line_whoever_is_read_first() -> None:
    async def play(line: Line, places: list[Place], log: list[str]) -> None:
        for number in (2, 0, 1):
            line.ready(places[number])

    assert played(3, play) == ["0", "1", "2", "-0", "-1", "-2"]


@pytest.mark.parametrize("read", [1, GROUP])
def test_those_that_are_read_do_not_wait_for_one_that_is_not(read: int) -> None:
    async def play(line: Line, places: list[Place], log: list[str]) -> None:
        for place in places[:read]:
            line.ready(place)
        while f"-{read - 1}" not in log:
            await asyncio.sleep(0)
        line.ready(places[read])

    turns = [one for one in played(read + 1, play) if one[0] != "-"]
    assert turns == [str(number) for number in range(read + 1)]


def test_one_that_fails_lets_the_others_go() -> None:
    async def scenario() -> None:
        line = Line(lambda: None)
        first, second = line.enter(), line.enter()
        line.ready(second)
        line.leave(first)
        line.leave(first)
        await second.turn
        assert (first.turn.cancelled(), line.reading) == (True, 0)

    asyncio.run(scenario())
