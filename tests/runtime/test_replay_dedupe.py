"""`dedupe` and what a person does: a replay has its effects again, also those of its items and readers; what is discarded has none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from esb.errors import Rejected
from esb.store.base import Filter, State
from tests.servers.postgres import empty_store

from .conftest import WHO, ProbeTarget, Start

ITEMS = """
route: r
from: { route: {} }
steps: [ { split: { each: body, dedupe: body.id, steps: [ { to: { probe: out } } ] } } ]
"""
STEP = """
route: r
from: { route: {} }
steps: [ { split: { each: body, steps: [ { dedupe: body.id }, { to: { probe: out } } ] } } ]
"""
HANDED = """
route: r
from: { route: {} }
steps: [ { split: { each: body, steps: [ { publish: lots } ] } } ]
---
route: q
from: { topic: lots }
dedupe: body.id
steps: [ { to: { probe: out } } ]
"""


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
@pytest.mark.parametrize("route", [ITEMS, STEP, HANDED], ids=["items", "step", "handed on"])
def test_a_replay_sends_its_items_again_and_a_repeat_does_not(
    start: Start, probe: ProbeTarget, route: str, store: str, request: Any
) -> None:
    files = {"routes/r.yaml": route}
    if store == "postgres":
        files["esb.yaml"] = f"store: {empty_store(request.getfixturevalue('postgres'), 'replay')}\n"

    async def go() -> None:
        async with start(files) as bus:

            async def until(count: int) -> None:
                async with asyncio.timeout(30):
                    while sum(stored.finished_at is not None for stored in bus.messages()) < count:
                        await asyncio.sleep(0.001)
                await bus.settle()

            first = await bus.send("r", [{"id": "1"}, {"id": "2"}])
            each = 5 if route is HANDED else 3
            await until(each)
            await bus.send("r", [{"id": "1"}, {"id": "2"}])
            await until(2 * each)
            assert probe.bodies("out") == [{"id": "1"}, {"id": "2"}]
            for times in (2, 3):
                await bus.operations.replay(Filter(ids=(first.message_id,)), WHO)
                await until((times + 1) * each)
                assert sorted(body["id"] for body in probe.bodies("out")) == sorted(["1", "2"] * times)
            assert len({got.id for got in probe.got}) == 2, "under the delivery ids of the first"
            bus.whole()

    asyncio.run(go())


@pytest.mark.parametrize(
    "dedupe", ["steps: [ { dedupe: body.id }, TO ]", "dedupe: body.id\nsteps: [ TO ]"], ids=["step", "route"]
)
def test_the_corrected_repeat_of_what_was_discarded_is_sent(start: Start, probe: ProbeTarget, dedupe: str) -> None:
    route = "route: r\nfrom: { route: {} }\n" + dedupe.replace("TO", "{ to: { probe: out } }") + "\n"

    async def go() -> None:
        probe.script = {"out": [Rejected("wrong")]}
        async with start({"routes/r.yaml": route}) as bus:
            await bus.send("r", {"id": "1", "lot": "wrong"})
            await bus.send("r", {"id": "1", "lot": "right"})
            await bus.settle()
            assert len(probe.got) == 1, "a dead one may still be retried"
            await bus.operations.discard(Filter(states=(State.DEAD,)), WHO)
            await bus.send("r", {"id": "1", "lot": "right"})
            await bus.settle()
            assert [body["lot"] for body in probe.bodies("out")] == ["wrong", "right"]
            bus.whole()

    asyncio.run(go())


UNDONE = """
route: r
from: { route: {} }
steps:
  - to: { probe: reserve }
  - compensate: [ { to: { probe: undo } } ]
  - to: { probe: may }
  - split: { each: body, dedupe: body.id, steps: [ { dedupe: body.id }, { to: { probe: out } } ] }
"""


def test_the_replay_of_what_was_undone_once_sends_its_items_too(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        probe.script = {"may": [Rejected("no")]}
        async with start({"routes/r.yaml": UNDONE}) as bus:
            first = await bus.send("r", [{"id": "1"}])
            await bus.settle()
            await bus.operations.retry(Filter(states=(State.DEAD,)), WHO)
            await bus.settle()
            assert [got.to for got in probe.got] == ["reserve", "may", "undo", "reserve", "may", "out"]
            await bus.operations.replay(Filter(ids=(first.message_id,)), WHO)
            await bus.settle()
            assert [got.to for got in probe.got][6:] == ["reserve", "may", "out"]
            bus.whole()

    asyncio.run(go())
