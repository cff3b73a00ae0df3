"""What a target has answered is there for the steps behind it at every attempt, however large it is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from esb.endpoints._http.replies import ended_answer
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


SYNC = """
route: sync
from: { route: {} }
steps: [ { respond: { status: 202, body: "'early'" } }, { respond: { status: 201 } } ]
"""


@pytest.mark.parametrize(("length", "told"), [(255_000, 201), (300_000, 410)])
def test_the_repeat_of_a_call_gets_the_whole_answer_or_is_told_that_it_is_not_kept(
    start: Start, length: int, told: int
) -> None:
    async def go() -> None:
        async with start({"routes/r.yaml": SYNC}) as bus:
            first = await bus.send("sync", "x" * length, source_key="client:k")
            assert first.state == "queued"
            clock = bus.clock
        async with start(clock=clock) as bus:
            again = await bus.send("sync", "x" * length, source_key="client:k")
            assert (again.state, again.message_id) == ("known", first.message_id)
            answer = ended_answer(again, await bus.supervisor.routes["sync"].intake.outcome(again.message_id, 1.0))
            assert answer.status == told
            assert (answer.body == b"x" * length) is (told == 201)
            assert told == 201 or first.message_id.encode() in answer.body
            bus.whole()

    asyncio.run(go())
