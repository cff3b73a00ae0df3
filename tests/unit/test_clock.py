"""Waits with a bound."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from esb.clock import LENGTHS, Deadlines


def test_a_wait_that_takes_too_long_is_ended_and_others_of_its_length_go_on() -> None:
    async def scenario() -> None:
        deadlines, release = Deadlines(), asyncio.Event()

        async def waits() -> str:
            with deadlines.within(30.0):
                await release.wait()
            return "in time"

        others = [asyncio.create_task(waits()) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError), deadlines.within(0.0):
            await release.wait()
        release.set()
        assert await asyncio.gather(*others) == ["in time"] * 2

    asyncio.run(scenario())


def test_waits_of_one_length_end_in_the_order_in_which_they_began() -> None:
    async def scenario() -> None:
        deadlines, ended, never = Deadlines(), [], asyncio.Event()

        async def waits(number: int) -> None:
            with contextlib.suppress(TimeoutError), deadlines.within(0.001):
                await never.wait()
            ended.append(number)

        await asyncio.gather(*(waits(number) for number in range(5)))
        await waits(5)  # the timer of the others has rung
        assert ended == [0, 1, 2, 3, 4, 5]

    asyncio.run(scenario())


def test_a_cancellation_from_outside_is_no_timeout() -> None:
    async def scenario() -> None:
        deadlines = Deadlines()

        async def waits() -> None:
            with deadlines.within(30.0):
                await asyncio.Event().wait()

        task = asyncio.create_task(waits())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())


def test_lengths_that_nobody_waits_for_are_forgotten() -> None:
    async def scenario() -> None:
        deadlines = Deadlines()
        for number in range(LENGTHS + 10):
            with contextlib.suppress(TimeoutError), deadlines.within(number * 1e-9):
                await asyncio.Event().wait()
        assert len(deadlines._lengths) <= LENGTHS

    asyncio.run(scenario())
