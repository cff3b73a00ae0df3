"""The `rate` of a connector: who cannot have a turn within the timeout waits in the store, and nothing is held against anybody."""

from __future__ import annotations

import asyncio

from .conftest import ProbeTarget, Start

FILES = {
    "connectors/erp.yaml": (
        "connector: erp\ntype: probe\nrate: 1/m\ntimeout: 5s\ncircuit: { failures: 2, open_for: 24h }\n"
        "operations: { note: erp }\n"
    ),
    "routes/r.yaml": (
        "route: r\nfrom: { route: {} }\nretry: { max: 2, backoff: 1s, jitter: none }\nsteps: [ { to: erp.note } ]\n"
    ),
}


def test_a_burst_above_the_rate_neither_kills_messages_nor_opens_the_circuit(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start(FILES) as bus:
            for number in range(8):
                await bus.send("r", number)
            for _ in range(12 * 60):
                await bus.advance(1)
            assert bus.states("r") == ["done"] * 8
            assert {stored.attempts for stored in bus.messages(route="r")} == {1}
            assert sorted(probe.bodies("erp")) == list(range(8))

    asyncio.run(go())
