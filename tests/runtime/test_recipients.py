"""Receivers that the data names: each on its own, none that nobody declared, none twice."""

from __future__ import annotations

import asyncio

from esb.config.loader import load_workspace
from esb.errors import Unavailable
from esb.store.base import Filter

from .conftest import WHO, ProbeTarget, Start

FANOUT = """
route: r
key: body.id
from: { route: {} }
retry: { max: 2, backoff: 1s, jitter: none }
steps:
  - set: { vars.to: "body.systems" }
  - fanout:
      by: vars.to
      branches:
        mes: [ { to: { probe: mes } } ]
        qms: [ { to: { probe: qms } } ]
        erp: [ { to: { probe: erp } } ]
"""
CONNECTOR = """
connector: erp
type: http
base_url: http://127.0.0.1:9
operations: { order: { path: /o, method: POST } }
"""


def test_each_named_receiver_has_a_queue_of_its_own(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        probe.script = {"qms": [Unavailable("down")]}
        async with start({"routes/r.yaml": FANOUT}) as bus:
            await bus.send("r", {"id": 1, "systems": ["qms", "mes"]})
            await bus.send("r", {"id": 2, "systems": "erp"})
            await bus.send("r", {"id": 3, "systems": ["mes", "sap"]})
            await bus.settle()
            assert [got.to for got in probe.got] == ["mes", "qms", "erp"]
            dead = next(one for one in bus.messages() if one.state == "dead")
            assert (dead.error.error_class, "`sap`" in dead.error.message) == ("unmapped", True)
            clock = bus.clock
        async with start(clock=clock) as bus:
            await bus.advance(1)
            assert [got.to for got in probe.got] == ["mes", "qms", "erp", "qms"]
            await bus.operations.edit(dead.envelope.id, b'{"id": 3, "systems": ["mes", "erp"]}', WHO)
            await bus.operations.retry(Filter(ids=(dead.envelope.id,)), WHO)
            await bus.settle()
            assert sorted(got.to for got in probe.got[4:]) == ["erp", "mes"]
            bus.whole()

    asyncio.run(go())


def test_lint_checks_every_possible_receiver(tmp_path) -> None:
    route = "route: r\nfrom: { route: {} }\nsteps: [ { to: { any_of: [erp.order, erp.oder, mes.x], by: body.s } } ]\n"
    for name, text in {"connectors/erp.yaml": CONNECTOR, "routes/r.yaml": route}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    _, problems = load_workspace(tmp_path)
    assert [(problem.code, problem.position.column) for problem in problems] == [("ESB301", 38), ("ESB301", 48)]
    (tmp_path / "routes/r.yaml").write_text(route.replace("erp.oder, mes.x", "erp.order"))
    workspace, _ = load_workspace(tmp_path)
    assert workspace is not None
    assert workspace.routes["r"].targets == ("erp.order",)
