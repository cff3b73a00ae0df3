"""A change does not go back to the system in which it began."""

from __future__ import annotations

import asyncio
from typing import Any

FILES = {
    "esb.yaml": "bus: graz\nownership: { lot.status: { system: erp, also: [qms] } }\n",
    "connectors/erp.yaml": "connector: erp\ntype: probe\noperations: { hold: erp }\nwrites: { hold: [lot.status] }\n",
    "connectors/qms.yaml": "connector: qms\ntype: probe\noperations: { lot: qms }\nwrites: { lot: [lot.status] }\n",
    "connectors/wms.yaml": "connector: wms\ntype: probe\noperations: { lot: wms }\n",
    "routes/r.yaml": """route: erp-lots
system: erp
from: { route: {} }
steps: [ { to: qms.lot } ]
---
route: qms-lots
system: qms
from: { route: {} }
steps: [ { to: erp.hold }, { publish: lots } ]
---
route: on-lots
from: { topic: lots }
steps: [ { to: wms.lot } ]
""",
}


def test_what_comes_back_as_an_echo_is_not_sent_to_its_origin_and_goes_everywhere_else(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(FILES) as bus:
            first = await bus.send("erp-lots", {"lot": "1"})
            await bus.settle()
            assert bus.store.get(first.message_id).envelope.headers["x-esb-origin"] == "erp", (
                "it goes along to the target"
            )

            echo = await bus.send("qms-lots", {"lot": "1"}, headers={"x-esb-origin": "erp"})
            own = await bus.send("qms-lots", {"lot": "2"})
            await bus.settle()
            assert probe.bodies("erp") == [{"lot": "2"}], "the change of the QMS itself, and not the echo"
            assert probe.bodies("wms") == [{"lot": "1"}, {"lot": "2"}]
            assert [bus.state(one.message_id) for one in (echo, own)] == ["done", "done"]
            step = next(one for one in bus.store.get(echo.message_id).trace if one.get("step") == "to:erp.hold")
            assert step["echo_of"] == "erp"

    asyncio.run(scenario())


def test_a_bus_without_a_matrix_of_owners_leaves_messages_as_they_are(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({**FILES, "esb.yaml": "bus: graz\n"}) as bus:
            sent = await bus.send("erp-lots", {"lot": "1"})
            await bus.send("qms-lots", {"lot": "1"}, headers={"x-esb-origin": "erp"})
            await bus.settle()
            assert "x-esb-origin" not in bus.store.get(sent.message_id).envelope.headers
            assert probe.bodies("erp") == [{"lot": "1"}]

    asyncio.run(scenario())
