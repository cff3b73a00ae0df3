"""A source that shares a connector's connection follows it: also where only a secret has changed, which no file shows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.runtime.test_promises import run
from tests.servers.lots import Lots

ROUTE = "route: lots\nkey: body.id\nfrom: { poll: { connector: erp, path: /lots, every: 1m } }\nsteps: [ { to: { probe: out } } ]\n"
CONNECTOR = "connector: erp\ntype: http\nbase_url: URL\nauth: { bearer: '${secret:erp-token}' }\n"


@pytest.fixture
def lots() -> Iterator[Lots]:
    system = Lots()
    yield system
    system.close()


def test_a_new_secret_reaches_a_source_that_polls(
    start: Any, probe: Any, lots: Lots, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def got(bus: Any, count: int) -> None:
        async with asyncio.timeout(20):
            while len(probe.got) < count:
                await bus.advance(60)
                await asyncio.sleep(0.01)

    async def scenario() -> None:
        monkeypatch.setenv("ESB_SECRET_ERP_TOKEN", "old-token")
        async with start({"routes/a.yaml": ROUTE, "connectors/erp.yaml": CONNECTOR.replace("URL", lots.url)}) as bus:
            lots.put("L1")
            await got(bus, 1)
            monkeypatch.setenv("ESB_SECRET_ERP_TOKEN", "new-token")
            await bus.reload()
            lots.put("L2")
            await got(bus, 2)
            assert [got.body["id"] for got in probe.got] == ["L1", "L2"]
            tokens = [headers["authorization"] for _, headers in lots.seen]
            assert (tokens[0], tokens[-1]) == ("Bearer old-token", "Bearer new-token")
            source = bus.supervisor.routes["lots"].source
            await bus.reload()
            assert bus.supervisor.routes["lots"].source is source

    run(scenario())
