"""Bytes inside of a body or an answer are bytes at every attempt, as at the first one."""

from __future__ import annotations

import asyncio

import pytest

from esb.endpoints.base import Incoming
from esb.errors import Rejected, Unavailable
from esb.formats.text import Raw
from esb.steps.base import Reply
from esb.store.base import Filter

from .conftest import WHO, ProbeTarget, Start, TestBus

DRAWING = b"\x00\xff!" * 9
ROUTE = """
route: r
from: { route: {} }
retry: { max: 2, backoff: 1s, jitter: none }
steps:
  - set: { vars.drawing: body }
  - set: { body: "{ drawing: vars.drawing, look: { \\"$bytes\\": 'QUJD' } }" }
"""
KINDS = {
    "fanout": """  - fanout:
      x:
        - set: { body: "[body.drawing, body.look]" }
        - to: { probe: t }
""",
    "split": """  - split:
      each: "[body]"
      steps:
        - set: { body: "[body.drawing, body.look]" }
        - to: { probe: t }
""",
    "aggregate": """  - aggregate: { by: "'g'", complete: { size: 2 } }
  - set: { body: "[body[0].drawing, body[1].look]" }
  - to: { probe: t }
""",
    "publish": "  - publish: drawings\n",
}
READER = """
route: s
from: { topic: drawings }
retry: { max: 2, backoff: 1s, jitter: none }
steps:
  - set: { body: "[body.drawing, body.look]" }
  - to: { probe: t }
"""


async def give(bus: TestBus) -> None:
    incoming = Incoming(DRAWING, codec=Raw(), content_type="application/octet-stream")
    await bus.supervisor.routes["r"].intake.accept(incoming)
    await bus.settle()


@pytest.mark.parametrize("limits", ["", "limits: { blob: 1B }\n"], ids=["in the row", "in a file"])
@pytest.mark.parametrize("way", ["retry", "restart", "person", "replay"])
@pytest.mark.parametrize("kind", KINDS)
def test_bytes_in_a_body_are_bytes_at_every_attempt(
    start: Start, probe: ProbeTarget, kind: str, way: str, limits: str
) -> None:
    files = {"routes/r.yaml": ROUTE + KINDS[kind], "routes/s.yaml": READER, "esb.yaml": limits}

    async def sent(bus: TestBus, times: int) -> None:
        """A payload that lies in a file is read elsewhere: nothing here says when."""
        async with asyncio.timeout(30):
            while len(probe.got) < times:
                await bus.advance(1)
                await asyncio.sleep(0.005)

    async def go() -> None:
        probe.script["t"] = [] if way == "replay" else [Rejected("no") if way == "person" else Unavailable("503")]
        async with start(files) as bus:
            for _ in range(2 if kind == "aggregate" else 1):
                await give(bus)
            await sent(bus, 1)
            await bus.settle()
            if way in ("person", "replay"):
                act = bus.operations.retry if way == "person" else bus.operations.replay
                (one,) = [m for m in bus.messages() if m.envelope.content == "packed" and not m.reason]
                await act(Filter(ids=(one.envelope.id,)), WHO)
            if way != "restart":
                await sent(bus, 2)
            clock = bus.clock
        async with start(clock=clock) as bus:
            await sent(bus, 2)
            assert probe.bodies("t") == [[DRAWING, {"$bytes": "QUJD"}]] * 2, "what only looks like bytes stays, too"
            bus.whole()

    asyncio.run(go())


UNDO = """
route: r
from: { route: {} }
retry: { max: 2, backoff: 1s, jitter: none }
steps:
  - to: { probe: book }
  - compensate:
      - set: { body: meta.compensation.reply.body }
      - to: { probe: undo }
  - to: { probe: start }
"""


def test_the_answer_that_a_compensation_knows_is_bytes_at_every_attempt(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        probe.script = {"book": [Reply(200, body=DRAWING)], "start": [Rejected("no")], "undo": [Unavailable("x")]}
        async with start({"routes/r.yaml": UNDO}) as bus:
            await bus.send("r", {"id": 1})
            await bus.settle()
            clock = bus.clock
        async with start(clock=clock) as bus:
            await bus.advance(1)
            assert probe.bodies("undo") == [DRAWING] * 2
            bus.whole()

    asyncio.run(go())


CLAIM = """
route: r
from: { route: {} }
steps:
  - set: { vars.drawing: body }
  - set: { body: "{ part: { drawing: vars.drawing } }" }
  - claim: body.part
  - fetch: body.part
  - set: { body: body.part.drawing }
  - to: { probe: t }
"""


def test_bytes_in_a_part_that_is_put_aside_come_back_as_bytes(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start({"routes/r.yaml": CLAIM}) as bus:
            await give(bus)
            async with asyncio.timeout(30):
                while not probe.got:
                    await asyncio.sleep(0.005)
            assert probe.bodies("t") == [DRAWING]

    asyncio.run(go())
