"""Large EDIFACT and X12 interchanges: message by message, and an answer that names every one of them."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

from esb.endpoints.base import Incoming

SETTINGS = "limits: { blob: 1KB }\n"
EDIFACT = """
route: orders
concurrency: 4
from: { file: { path: "in/*.edi", format: FORMAT } }
steps:
  - remove: [ body.messages ]
    into: vars.about
  - split:
      each: body.messages
      key: body.segments[0].e1
      steps:
        - map: { to: vars.about.interchange.sender, type: body.type, lot: "body.segments[0].e1", n: body.reference }
        - to: { probe: order }
    if: "!vars.about.faults"
  - remove: [ "body.messages[].segments" ]
  - map:
      wrong: body.faults
      known: "body.messages[?!faults].reference"
      refused: "body.messages[?faults].reference"
      left: "body.messages[?segments]"
      sender: body.interchange.sender
  - to: { probe: answer }
"""
X12 = """
route: orders
from: { file: { path: "in/*.x12", format: { x12: { envelope: true } } } }
steps:
  - split:
      each: body.interchanges[].groups[].transactions[]
      steps:
        - map: { n: body.control_number, from: body.interchange.sender, group: body.group.control_number }
        - to: { probe: order }
"""
QUARANTINE = """
route: orders
from: { file: { path: "in/*.edi", format: edifact } }
steps:
  - split:
      each: body.messages
      on_item_error: quarantine
      max_bad: 10%
      steps:
        - to: { probe: order }
"""


def interchange(count: int, wrong: tuple[int, ...] = (), said: int | None = None) -> bytes:
    messages = [
        f"UNH+{n}+ORDERS:D:96A:UN'LIN+L{n % 7}++it?'s here:VP'QTY+12:{n}'UNT+{5 if n in wrong else 4}+{n}'"
        for n in range(count)
    ]
    return f"UNB+UNOC:3+PLANT+B+260101:1200+7'{''.join(messages)}UNZ+{said or count}+7'".encode()


def x12_file(count: int) -> bytes:
    made = []
    for file, groups in enumerate((3, 1), 1):
        made.append(
            f"ISA*00*          *00*          *ZZ*PLANT{file:<10}*ZZ*B              *260101*1200*U*00401*{file:09d}*0*P*>~"
        )
        for group in range(groups):
            made.append(f"GS*SH*A*B*20260101*1200*{group}*X*004010~")
            made.extend(f"ST*856*{n:04d}~BSN*00*{n}~SE*3*{n:04d}~" for n in range(count))
            made.append(f"GE*{count}*{group}~")
        made.append(f"IEA*{groups}*{file:09d}~")
    return "\n".join(made).encode()


async def give(bus: Any, data: bytes) -> None:
    spool = bus.store.blobs
    blob = await asyncio.to_thread(spool.put, [data], len(data))
    await bus.supervisor.routes["orders"].intake.accept(
        Incoming(b"", blob=blob, meta={"file_name": "a"}, source_key=blob.sha256)
    )
    spool.release(blob)


async def until(condition: Any, bus: Any, step: float = 0.1) -> None:
    async with asyncio.timeout(60):
        while not condition():
            bus.clock.advance(timedelta(seconds=step))
            for _ in range(20):
                await asyncio.sleep(0)
            await asyncio.sleep(0.002)


def files(route: str, format_: str = "edifact") -> dict[str, str]:
    return {"routes/r.yaml": route.replace("FORMAT", format_), "esb.yaml": SETTINGS}


def test_an_interchange_goes_message_by_message_over_a_stop_and_is_answered(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(files(EDIFACT)) as bus:
            await give(bus, interchange(420))
            await until(lambda: len(bus.messages()) > 60, bus)
            assert probe.bodies("answer") == []
            clock = bus.clock
        async with start(clock=clock) as bus:
            await until(lambda: bus.states("orders") == ["done"] * 421, bus)
            lots: dict[str, list[int]] = {}
            for got in probe.bodies("order"):
                assert (got["to"], got["type"]) == ("PLANT", "ORDERS")
                lots.setdefault(got["lot"], []).append(int(got["n"]))
            assert {lot: sorted(set(numbers)) for lot, numbers in lots.items()} == {
                f"L{lot}": list(range(lot, 420, 7)) for lot in range(7)
            }
            assert all(numbers == sorted(numbers) for numbers in lots.values())
            answer = probe.bodies("answer")[-1]
            assert (answer["sender"], answer["wrong"], answer["refused"], answer["left"]) == ("PLANT", None, [], [])
            assert answer["known"] == [str(n) for n in range(420)]
            steps = bus.store.get(bus.messages()[0].envelope.id).trace
            assert [step["step"] for step in steps if step.get("streamed")][-3:] == ["remove", "split", "remove#2"]
            bus.whole()

    asyncio.run(scenario())


def test_what_is_wrong_with_an_interchange_is_answered_and_nothing_of_it_goes_out(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(files(EDIFACT, "{ edifact: { faults: report } }")) as bus:
            await give(bus, interchange(200, wrong=(3, 150)))
            await until(lambda: bus.states("orders") == ["done"], bus)
            answer = probe.bodies("answer")[0]
            assert answer["refused"] == ["3", "150"]
            assert answer["wrong"] == [f"message '{n}' has 4 segments, its trailer says 5" for n in (3, 150)]
            await give(bus, interchange(200, said=201))
            await until(lambda: bus.states("orders") == ["done", "done"], bus)
            assert probe.bodies("answer")[1]["wrong"] == ["the interchange has 200 messages, its trailer says 201"]
            assert probe.bodies("order") == []
            bus.whole()

    asyncio.run(scenario())


def test_a_count_that_is_wrong_at_the_end_leaves_nothing_behind(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(files(EDIFACT)) as bus:
            await give(bus, interchange(200, said=199))
            await until(lambda: bus.states("orders") == ["dead"], bus)
            error = bus.messages()[0].error
            assert (error.error_class, error.step) == ("invalid", "remove")
            assert "the interchange has 200 messages, its trailer says 199" in error.message
            assert probe.got == []
            bus.whole()

    asyncio.run(scenario())


def test_transactions_of_several_interchanges_and_groups_are_one_list(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(files(X12)) as bus:
            await give(bus, x12_file(60))
            await until(lambda: bus.states("orders") == ["done"] * 241, bus)
            found = {(got["from"], got["group"], got["n"]) for got in probe.bodies("order")}
            expected = {("PLANT1", str(group), f"{n:04d}") for group in range(3) for n in range(60)}
            assert found == expected | {("PLANT2", "0", f"{n:04d}") for n in range(60)}
            bus.whole()

    asyncio.run(scenario())


def test_a_message_that_is_wrong_for_itself_is_set_aside(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(files(QUARANTINE)) as bus:
            await give(bus, interchange(200, wrong=(3, 150)))
            await until(lambda: bus.states("orders") == ["done"] * 200, bus)
            assert {got["reference"] for got in probe.bodies("order")} == {str(n) for n in range(200)} - {"3", "150"}
            (report,) = [one for one in bus.messages() if one.envelope.scope == "split/report"]
            rows = json.loads(bus.store.payload(report.envelope.seq)[0].payload())["rows"]
            assert [(row["row"], row["code"], row["message"]) for row in rows] == [
                (n + 1, "invalid", f"message '{n}' has 4 segments, its trailer says 5") for n in (3, 150)
            ]
            await give(bus, interchange(200, wrong=tuple(range(30))))
            await until(lambda: "dead" in bus.states("orders"), bus)
            assert "30 of 200 items are bad" in next(one for one in bus.messages() if one.error).error.message
            await give(bus, interchange(200, said=201))
            await until(lambda: bus.states("orders").count("dead") == 2, bus)
            assert len(probe.got) == 198
            bus.whole()

    asyncio.run(scenario())


def test_a_small_interchange_is_worked_off_the_same(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(files(EDIFACT, "{ edifact: { faults: report } }") | {"esb.yaml": "bus: b\n"}) as bus:
            for data in (interchange(3), interchange(3, wrong=(1,))):
                await bus.supervisor.routes["orders"].intake.accept(Incoming(data))
                await bus.settle()
            assert [got["n"] for got in probe.bodies("order")] == ["0", "1", "2"]
            assert [answer["refused"] for answer in probe.bodies("answer")] == [[], ["1"]]
            bus.whole()

    asyncio.run(scenario())
