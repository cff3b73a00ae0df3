"""Claim checks over routes, restarts, retention and the world outside, on the real bus."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from esb.endpoints.base import Incoming
from esb.formats.text import Raw
from esb.message import State

SENDER = """
route: sender
from: { http: { path: /s, method: POST } }
steps:
  - claim: { part: body.doc, above: 100B }
  - to: { probe: out }
  - publish: docs
"""
READER = """
route: reader
from: { topic: docs }
steps:
  - delay: 1h
  - fetch: body.doc
  - to: { probe: in }
"""
DOC = {"pages": ["ä" * 300, 12.5], "n": None}


def test_a_part_is_fetched_in_another_route_after_a_restart_and_retention(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/s.yaml": SENDER, "routes/r.yaml": READER}) as bus:
            await bus.send("sender", {"no": 1, "doc": DOC})
            await bus.settle()
            ticket = probe.bodies("out")[0]["doc"]
            assert (ticket["content"], len(str(ticket)) < 200) == ("json", True)
            assert bus.states("reader") == ["waiting"]
            clock = bus.clock
        async with start(clock=clock) as bus:
            # the route that put it aside is done and purged; the message that waits keeps the part
            assert await bus.store.purge(clock.now() + timedelta(days=1), [State.DONE]) == 1
            assert bus.store.sweep() == 0
            await bus.advance(3601)
            assert probe.bodies("in")[0] == {"no": 1, "doc": {"pages": ["ä" * 300, 12.5], "n": None}}
            assert bus.states("reader") == ["done"]
            assert bus.store.verify_blobs() == []
            await bus.store.purge(clock.now() + timedelta(days=1), [State.DONE])
            assert bus.store.sweep() == 1, "nobody holds the claim check any more"
            bus.whole()

    asyncio.run(scenario())


def test_a_claim_check_comes_back_from_outside_while_a_message_holds_it(start: Any, probe: Any) -> None:
    back = READER.replace("topic: docs", "http: { path: /b, method: POST }").replace("  - delay: 1h\n", "")

    async def scenario() -> None:
        async with start({"routes/s.yaml": SENDER, "routes/r.yaml": back}) as bus:
            await bus.send("sender", {"no": 1, "doc": DOC})
            await bus.settle()
            light = probe.bodies("out")[0]
            await bus.send("reader", light)
            await bus.settle()
            assert probe.bodies("in") == [{"no": 1, "doc": DOC}]
            made_up = {"doc": {**light["doc"], "claim": "claim:sha256:" + "e" * 64}}
            await bus.send("reader", made_up)
            await bus.settle()
            assert bus.states("reader") == ["done", "dead"]
            (dead,) = bus.messages(route="reader", states=(State.DEAD,))
            assert dead.error.error_class == "invalid"
            assert "nothing was put aside" in dead.error.message

    asyncio.run(scenario())


RAW = """
route: raw
from: { file: { path: "in/*.bin", format: raw } }
steps:
  - claim: body
  - set: { vars.size: body.bytes }
  - fanout:
      keep: { steps: [ { fetch: body }, { to: { file: "out/{{ vars.size }}.bin" } } ] }
      read: { steps: [ { fetch: body }, { to: { probe: read } } ] }
"""


def test_a_large_payload_is_claimed_as_it_lies_and_written_or_read_later(start: Any, probe: Any) -> None:
    data = bytes(range(256)) * 8000

    async def scenario() -> None:
        async with start({"routes/r.yaml": RAW}) as bus:
            spool = bus.store.blobs
            blob = await asyncio.to_thread(spool.put, [data], len(data))
            incoming = Incoming(b"", codec=Raw(), blob=blob, meta={"file_name": "a.bin"})
            await bus.supervisor.routes["raw"].intake.accept(incoming)
            spool.release(blob)
            while set(bus.states("raw")) - {"done"} or len(bus.states("raw")) < 3:
                await asyncio.sleep(0.01)
            assert (bus.root / f"out/{len(data)}.bin").read_bytes() == data
            assert probe.bodies("read") == [data]
            assert bus.store.sweep() == 0
            assert len([*bus.store.blobs.names()]) == 1, "one file for all of them"
            bus.whole()

    asyncio.run(scenario())


def test_what_is_handed_on_lies_once_for_all_who_get_it(start: Any, probe: Any) -> None:
    route = """
route: wide
from: { http: { path: /w, method: POST } }
steps:
  - fanout:
      one: { steps: [ { to: { probe: one } } ] }
      two: { steps: [ { to: { probe: two } } ] }
  - publish: wide
"""
    reader = "route: reader\nfrom: { topic: wide }\nsteps: [ { to: { probe: three } } ]\n"

    async def scenario() -> None:
        files = {"routes/w.yaml": route, "routes/r.yaml": reader, "esb.yaml": "limits: { blob: 1KB }\n"}
        async with start(files) as bus:
            body = {"text": "x" * 5000}
            await bus.send("wide", body)
            await bus.settle()
            assert [probe.bodies(name) for name in ("one", "two", "three")] == [[body]] * 3
            stored = [bus.store.payload(one.envelope.seq)[0] for one in bus.messages()]
            # as it came, and as it was handed on: the bus writes JSON in its own way
            assert [envelope.body for envelope in stored] == [b""] * 4
            assert len({envelope.blob for envelope in stored}) == len([*bus.store.blobs.names()]) == 2
            assert bus.store.sweep() == 0
            await bus.store.purge(bus.clock.now() + timedelta(days=1), [State.DONE])
            assert bus.store.sweep() == 2, "nothing is pinned any more"
            bus.whole()

    asyncio.run(scenario())
