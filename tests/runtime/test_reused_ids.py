"""A sender that gives one id to two messages: neither is lost, and both keep their place in the order."""

from __future__ import annotations

import asyncio
from typing import Any

from esb.endpoints.base import Incoming, Receipt
from esb.formats.json import Json
from tests.runtime.test_promises import PLAIN, run


def test_a_message_with_the_id_of_another_keeps_its_place_among_those_of_its_key(start: Any, probe: Any) -> None:
    """It went behind what had been handed over after it."""

    async def scenario() -> None:
        ids = ["m-1", "m-1", "m-2", "m-1", "m-1"]
        bodies = [
            b'{"lot":"1","n":0}',
            b'{"lot":"1","n":1}',
            b'{"lot":"1","n":2}',
            b'{"lot":"1","n":1}',
            b'{"lot":"1","n":3}',
        ]
        async with start({"routes/a.yaml": PLAIN}) as bus:
            intake, told = bus.supervisor.routes["plain"].intake, asyncio.Queue[Receipt | Exception]()
            for id_, body in zip(ids, bodies, strict=True):
                delivery = Incoming(
                    body, Json(), source_key=id_, fingerprint=body.hex(), in_order=True, on_reused="store"
                )
                assert intake.accept_soon(delivery, told.put_nowait)
            receipts: list[Any] = [await told.get() for _ in ids]
            await bus.settle()
            first = receipts[0].message_id
            assert [one.reused for one in receipts] == ["", first, "", "", first]
            assert [one.state for one in receipts] == ["queued", "queued", "queued", "known", "queued"]
            assert receipts[3].message_id == receipts[1].message_id
            assert [body["n"] for body in probe.bodies("erp")] == [0, 1, 2, 3]
            bus.whole()

    run(scenario())
