"""What a target has answered is there for the steps behind it at every attempt, however large it is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from esb.errors import Unavailable
from esb.steps.base import Reply

from .conftest import ProbeTarget, Start

ROUTE = """
route: r
from: { route: {} }
retry: { max: 2, backoff: 1s, jitter: none }
steps:
  - to: { probe: ask }
    into: vars.answer
  - set: { body: vars.answer.body }
  - to: { probe: t }
"""


@pytest.mark.parametrize("way", ["retry", "restart"])
@pytest.mark.parametrize("body", ["x" * 300_000, b"\xff" * 300_000, {"lines": [{"no": n} for n in range(30_000)]}])
def test_a_large_answer_is_there_at_every_attempt(start: Start, probe: ProbeTarget, way: str, body: Any) -> None:
    async def go() -> None:
        probe.script = {"ask": [Reply(200, body=body)], "t": [Unavailable("503")]}
        async with start({"routes/r.yaml": ROUTE}) as bus:
            await bus.send("r", {})
            await bus.settle()
            if way == "retry":
                await bus.advance(1)
            clock = bus.clock
        async with start(clock=clock) as bus:
            await bus.advance(1)
            assert [got.to for got in probe.got] == ["ask", "t", "t"]
            assert probe.bodies("t") == [body, body]
            bus.whole()

    asyncio.run(go())
