"""What is done again and again goes on, whatever goes wrong in between."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from esb.clock import ManualClock
from esb.runtime.rounds import Rounds


@pytest.mark.parametrize("rested", [False, True])
def test_a_fault_of_any_kind_is_logged_and_the_next_round_comes(rested: bool) -> None:
    async def scenario() -> None:
        clock, logs, done = ManualClock(), list[tuple[str, str, str]](), list[int]()

        async def work() -> None:
            done.append(len(done))
            if len(done) == 1:
                raise KeyError("P10")

        def log(level: str, event: str, **fields: Any) -> None:
            logs.append((level, event, fields["error"]))

        rounds = Rounds("alerting", 10.0, work, clock, log, rested=rested)
        rounds.start()
        for number in range(3):
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(done) == number + (not rested)
            clock.advance(10)
        await rounds.stop()
        for _ in range(5):
            await asyncio.sleep(0)
        clock.advance(100)
        assert len(done) == 3 - rested
        assert logs == [("warning", "alerting.failed", "KeyError: 'P10'")]

    asyncio.run(scenario())
