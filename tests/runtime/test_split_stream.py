"""`split` over a payload that is read piece by piece: bounded, in order per key, once each, whatever happens in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest

from esb.endpoints.base import Incoming
from esb.errors import Rejected, Unavailable
from esb.formats.csv import Csv
from esb.steps import split, split_stream
from esb.store.base import Filter, State
from tests.runtime.conftest import WHO

ROUTE = """
route: rows
concurrency: 4
from: { file: { path: "in/*.csv", format: csv } }
retry: { max: 100, backoff: 1s..1s, jitter: none }
steps:
  - set: { vars.file: meta.file_name }
  - split:
      each: body
      MORE
      steps:
        - set: { vars.of: meta.split.count }
        - to: { probe: row }
  - log: "split {{ vars.file }}"
"""
SETTINGS = "limits: { blob: 1KB }\n"


def files(more: str = "") -> dict[str, str]:
    return {"routes/r.yaml": ROUTE.replace("      MORE\n", f"      {more}\n" if more else ""), "esb.yaml": SETTINGS}


async def give(bus: Any, rows: Iterable[str]) -> None:
    data = ("lot,n\n" + "\n".join(rows) + "\n").encode()
    spool = bus.store.blobs
    blob = await asyncio.to_thread(spool.put, [data], len(data))
    await bus.supervisor.routes["rows"].intake.accept(
        Incoming(b"", codec=Csv(), blob=blob, meta={"file_name": "a.csv"}, source_key=blob.sha256)
    )
    spool.release(blob)


async def until(condition: Any, bus: Any, step: float = 1.0) -> None:
    """Let time pass until it is so."""
    async with asyncio.timeout(60):
        while not condition():
            await passes(bus, step)


async def passes(bus: Any, seconds: float) -> None:
    """Time goes by; the payload that is worked through is always running, so nothing comes to rest."""
    bus.clock.advance(timedelta(seconds=seconds))
    for _ in range(20):
        await asyncio.sleep(0)
    await asyncio.sleep(0.002)


def test_while_its_target_is_down_a_large_payload_rests_and_then_goes_on(start: Any, probe: Any) -> None:
    down = [True]

    class Script(list[Any]):
        def __bool__(self) -> bool:
            return down[0]

        def pop(self, index: Any = -1) -> Any:
            return Unavailable("down")

    probe.script["row"] = Script()

    async def scenario() -> None:
        async with start(files()) as bus:
            await give(bus, (f"L{n % 7},{n}" for n in range(750)))
            lanes = bus.supervisor.routes["rows"].runner.lanes
            await until(lambda: len(lanes) > 500, bus)
            for _ in range(30):
                await passes(bus, 1)
                assert len(lanes) <= 551
            assert bus.messages()[0].state.value == "running"
            down[0] = False
            await until(lambda: bus.states("rows") == ["done"] * 751, bus)
            taken = [(got.id, got.body["n"]) for got in probe.got]
            assert {n for _, n in taken} == {str(n) for n in range(750)}
            assert len({id_ for id_, _ in taken}) == 750, "under one id each"
            bus.whole()

    asyncio.run(scenario())


def test_a_stop_in_the_middle_goes_on_behind_the_last_batch_and_keys_keep_their_order(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(files("key: body.lot")) as bus:
            await give(bus, (f"L{n % 7},{n}" for n in range(420)))
            await until(lambda: len(bus.messages()) > 60, bus, 0.1)
            clock = bus.clock
        async with start(clock=clock) as bus:
            assert 60 < len(bus.messages()) <= 421
            await until(lambda: bus.states("rows") == ["done"] * 421, bus)
            lots: dict[str, list[int]] = {}
            for got in probe.got:
                lots.setdefault(got.body["lot"], []).append(int(got.body["n"]))
            assert {lot: sorted(set(numbers)) for lot, numbers in lots.items()} == {
                f"L{lot}": list(range(lot, 420, 7)) for lot in range(7)
            }
            assert all(numbers == sorted(numbers) for numbers in lots.values())
            bus.whole()

    asyncio.run(scenario())


def test_what_is_wrong_anywhere_leaves_nothing_behind(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(files("max_items: 100")) as bus:
            await give(bus, (f"L,{n}" for n in range(101)))
            await until(lambda: bus.states("rows") == ["dead"], bus)
            assert "more than 100 items" in bus.messages()[0].error.message
            await give(bus, [*(f"L,{n}" for n in range(90)), "L"])
            await until(lambda: bus.states("rows") == ["dead", "dead"], bus)
            error = bus.messages()[1].error
            assert (error.error_class, error.step) == ("invalid", "split")
            assert "line 92: only 1 cell" in error.message
            assert probe.got == []
            bus.whole()

    asyncio.run(scenario())


def test_a_repeat_of_an_item_is_a_duplicate_and_a_bad_key_refuses_the_whole(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(files("dedupe: body.n")) as bus:
            await give(bus, (f"L,{n % 150}" for n in range(300)))
            await until(lambda: len(bus.messages()) == 301 and "queued" not in bus.states("rows"), bus)
            assert bus.states("rows").count("duplicate") == 150
            bus.write(files("key: body"))
            await bus.reload()
            await give(bus, (f"M,{n}" for n in range(300)))
            await until(lambda: bus.states("rows")[-1] == "dead", bus)
            assert "item 0" in bus.messages()[-1].error.message
            bus.whole()

    asyncio.run(scenario())


BAD = """on_item_error: quarantine
      max_bad: 50%"""


def with_quarantine() -> dict[str, str]:
    found = files(BAD)
    route = found["routes/r.yaml"]
    found["routes/r.yaml"] = route.replace(
        "        - set: { vars.of",
        "        - reject: no number\n          if: body.n == 'bad'\n        - set: { vars.of",
    )
    return found


def test_bad_items_are_set_aside_and_reported_also_over_a_stop(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(with_quarantine()) as bus:
            await give(bus, (f"L,{'bad' if n % 10 == 3 else n}" for n in range(400)))
            await until(lambda: len(bus.messages()) > 60, bus, 0.1)
            clock = bus.clock
        async with start(clock=clock) as bus:
            await until(lambda: bus.states("rows") == ["done"] * 362, bus)
            assert {got.body["n"] for got in probe.got} == {str(n) for n in range(400) if n % 10 != 3}
            (report,) = [one for one in bus.messages() if one.envelope.scope == "split/report"]
            rows = json.loads(bus.store.payload(report.envelope.seq)[0].payload())["rows"]
            assert [row["row"] for row in rows] == list(range(4, 401, 10))
            bus.whole()

    asyncio.run(scenario())


def test_the_bad_items_that_memory_holds_are_bounded(start: Any, probe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split, "MOST_BAD", 5)
    monkeypatch.setattr(split_stream, "MOST_BAD", 5)

    async def scenario() -> None:
        async with start(with_quarantine()) as bus:
            await give(bus, (f"L,{'bad' if n % 10 == 3 else n}" for n in range(400)))
            await until(lambda: len(bus.messages()) == 2 and bus.states("rows")[1] == "done", bus)
            (whole, report) = bus.messages()
            assert (whole.state.value, whole.error.error_class) == ("dead", "invalid")
            assert whole.error.message.startswith("6 of 54 items are bad, more than `max_bad: 5` allows")
            assert probe.got == []
            assert report.envelope.scope == "split/report"
            bus.whole()

    asyncio.run(scenario())


def test_a_payload_of_which_items_are_born_is_not_edited(start: Any, probe: Any) -> None:
    """Nobody would see which of the corrected rows go out: it is said instead."""
    probe.script["end"] = [Rejected("no")]

    async def scenario() -> None:
        route = files()["routes/r.yaml"].replace('log: "split {{ vars.file }}"', "to: { probe: end }")
        async with start({**files(), "routes/r.yaml": route}) as bus:
            await give(bus, (f"L{n},{n}" for n in range(300)))
            await until(lambda: bus.states("rows").count("done") == 300, bus)
            (dead,) = bus.messages(route="rows", states=(State.DEAD,))
            edited = await bus.operations.edit(dead.envelope.id, b"lot,n\nX,1\n", WHO)
            assert edited["result"] == "skipped"
            assert edited["why"].startswith("300 of its items are messages of their own already")
            await bus.operations.retry(Filter(ids=(dead.envelope.id,)), WHO)
            await until(lambda: bus.state(dead.envelope.id) == "done", bus)
            assert len(probe.bodies("row")) == 300
            bus.whole()

    asyncio.run(scenario())
