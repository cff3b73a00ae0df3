"""Sites in the running bus: an edit touches its own plant, and nobody else's connector, circuit or values."""

from __future__ import annotations

import asyncio
from typing import Any

from esb.errors import Unavailable
from esb.message import State
from tests.runtime.test_kpis import numbers
from tests.runtime.test_promises import run

FILES = {
    "connectors/erp.yaml": "connector: erp\ntype: probe\nparams: { n: { type: string } }\n"
    "circuit: { failures: 1, open_for: 1h }\noperations: { post: { name: 'erp {{ params.n }}' } }\n",
    "routes/t.yaml": """
template: t
params: { word: { type: string } }
routes:
  - route: mapped
    key: join('-', [site.id, body.lot])
    from: { route: {} }
    retry: { max: 5, backoff: 10s, jitter: none }
    steps:
      - map: { word: "'{{ params.word }}'", place: site.plant, qty: number(body.qty) }
      - to: erp.post
      - to: { route: next }
  - route: next
    key: "join('+', [site.id, body.word])"
    from: { route: {} }
    steps: [ { to: { probe: inline } } ]
""",
}


def site(name: str, word: str = "a", more: str = "") -> dict[str, str]:
    text = f"site: {name}\nuse: [ {{ template: t, params: {{ word: {word} }} }} ]\n"
    return {f"routes/sites/{name}.yaml": text + f"connectors: {{ erp: {{ n: {name} }} }}\n{more}"}


def test_an_edit_of_one_plant_leaves_the_other_alone(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({**FILES, **site("P10", more="locale: de-DE\n"), **site("P20")}) as bus:
            sources = {name: live.source for name, live in bus.supervisor.routes.items()}
            under_way = asyncio.get_running_loop().create_future()
            probe.script["erp P20"] = [under_way]
            await bus.send("mapped-p20", {"lot": "1", "qty": "1.5"})
            while not probe.got:
                await asyncio.sleep(0)
            bus.write(site("P20", "b", "values: { plant: MOULD }\n"))
            change = await bus.reload()
            assert (change.added, change.changed, change.removed) == ((), ("mapped-p20", "next-p20"), ())
            assert all(bus.supervisor.routes[f"{n}-p10"].source is sources[f"{n}-p10"] for n in ("mapped", "next"))
            under_way.set_result(Unavailable("503", retry_after=None))  # it ends as it began
            await bus.settle()
            await bus.send("mapped-p10", {"lot": "1", "qty": "1,5"})
            await bus.settle()
            await bus.advance(3600)
            assert [str(body["place"]) for body in probe.bodies("erp P20")] == ["P20", "P20"]
            await bus.send("mapped-p20", {"lot": "2", "qty": "2.5"})
            await bus.settle()
            assert probe.bodies("erp P20")[-1] == {"word": "b", "place": "MOULD", "qty": 2.5}
            assert [(body["place"], float(body["qty"])) for body in probe.bodies("erp P10")] == [("P10", 1.5)]
            bus.whole()

    run(scenario())


def test_an_outage_of_one_plant_opens_its_own_circuit(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({**FILES, **site("P10"), **site("P20")}) as bus:
            probe.script["erp P20"] = [Unavailable("down")]
            for lot in ("1", "2"):
                await bus.send("mapped-p20", {"lot": lot, "qty": "1"})
                await bus.send("mapped-p10", {"lot": lot, "qty": "1"})
                await bus.settle()
            assert bus.states("mapped-p20") == ["waiting", "waiting"]
            assert bus.states("mapped-p10") == ["done", "done"]
            assert len(probe.bodies("erp P20")) == 1  # the second one was not asked
            keys = [stored.envelope.key for stored in bus.messages(route="next-p10")]
            assert keys == ["P10+a", "P10+a"]  # the receiver's own site

    run(scenario())


def test_a_plant_comes_and_goes_while_the_other_works(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({**FILES, **site("P10")}) as bus:
            bus.write(site("P20"))
            assert (await bus.reload()).added == ("mapped-p20", "next-p20")
            receipt = await bus.send("mapped-p20", {"lot": "1", "qty": "1"})
            await bus.settle()
            assert bus.state(receipt.message_id) == State.DONE.value
            bus.write(site("P20", more="enabled: false\n"))
            assert (await bus.reload()).changed == ("mapped-p20", "next-p20")
            assert bus.supervisor.facts("mapped-p20")["state"] == "disabled"
            assert bus.supervisor.facts("mapped-p20")["site"] == "P20"
            (bus.root / "routes/sites/P20.yaml").unlink()
            assert (await bus.reload()).removed == ("mapped-p20", "next-p20")
            assert set(bus.supervisor.names()) == {"mapped-p10", "next-p10"}

    run(scenario())


KPI = """
template: k
routes:
  - route: seen
    from: { route: {} }
    kpis: { lots: { count: { on: done, if: site.counted } } }
    steps: [ { log: x } ]
"""


def test_an_indicator_of_a_template_is_each_plants_own(start: Any) -> None:
    sites = {
        f"routes/sites/{name}.yaml": f"site: {name}\nuse: [k]\nvalues: {{ counted: {word} }}\n"
        for name, word in (("P10", "true"), ("P20", "false"))
    }

    async def scenario() -> None:
        async with start({"routes/t.yaml": KPI, **sites}) as bus:
            for name in ("seen-p10", "seen-p20"):
                await bus.send(name, {})
            await bus.settle()
            assert {name: numbers(bus, name)["count"] for name in ("lots-p10", "lots-p20")} == {
                "lots-p10": 1,
                "lots-p20": 0,
            }

    run(scenario())
