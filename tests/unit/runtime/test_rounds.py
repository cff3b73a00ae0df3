"""What is done again and again goes on, whatever goes wrong in between."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from esb.clock import ManualClock
from esb.errors import StoreBusy
from esb.runtime.rounds import Rounds


class Server:
    """A store that answers when it is let."""

    def __init__(self, *, there: bool = True) -> None:
        self.there = asyncio.Event()
        self.refusal: Exception | None = None
        if there:
            self.there.set()

    async def answering(self) -> None:
        await self.there.wait()
        if self.refusal is not None:
            raise self.refusal


def test_a_round_begins_when_the_store_has_answered() -> None:
    """What it reads then does not hold up the loop for as long as a server hangs."""

    async def scenario() -> None:
        clock, logs, done = ManualClock(), list[str](), list[int]()
        server = Server(there=False)

        async def work() -> None:
            done.append(len(done))

        async def turns() -> None:
            for _ in range(5):
                await asyncio.sleep(0)

        rounds = Rounds(
            "trends", 10.0, work, clock, lambda *words, **fields: logs.append(fields["error"]), store=server
        )
        rounds.start()
        await turns()
        assert not done
        server.there.set()
        await turns()
        assert len(done) == 1
        server.refusal = StoreBusy("the store cannot be read")
        clock.advance(10)
        await turns()
        assert len(done) == 1
        assert logs == ["StoreBusy: the store cannot be read"]
        server.refusal = None
        clock.advance(10)
        await turns()
        assert len(done) == 2
        await rounds.stop()

    asyncio.run(scenario())


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

        rounds = Rounds("alerting", 10.0, work, clock, log, store=Server(), rested=rested)
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
