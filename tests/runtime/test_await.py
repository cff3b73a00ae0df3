"""A send that waits for its functional acknowledgement, on the real bus: EDIFACT CONTRL and X12 997 by control number."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from esb.endpoints.base import Incoming
from esb.message import State

ROOT = Path(__file__).resolve().parents[2]
EDIFACT = ROOT / "examples/data/edifact"
X12 = ROOT / "examples/data/x12"

SENDER = """
route: sender
from: { http: { path: /s, method: POST } }
on_error: [ { for: expired, dead_letter: overdue } ]
steps:
  - to: { probe: partner }
  - await:
      track: { acknowledged: body.reference }
      route: acknowledgements
      within: 4h
      accepted_when: "meta.reply.body.state == 'ACCEPTED'"
      reason: "{{ meta.reply.body.kind }} says {{ meta.reply.body.state }}"
    into: vars.said
  - map: { kind: vars.said.body.kind, by: vars.said.body.by, mine: body.reference }
  - to: { probe: booked }
"""
ACKNOWLEDGEMENTS = """
route: acknowledgements
track: { acknowledged: "body.state && (body.interchange || body.group)" }
from: { http: { path: /a, method: POST, format: FORMAT } }
steps:
  - transform: transforms/TRANSFORM
  - split: { each: body, steps: [ { validate: acknowledgement.v1 } ] }
"""


def files(edi: str) -> dict[str, str]:
    format_, transform = {
        "edifact": ("{ edifact: { loop: UCM } }", "edifact_contrl.jmes"),
        "x12": ("{ x12: { loop: AK2 } }", "x12_acknowledgement.j2"),
    }[edi]
    return {
        "routes/s.yaml": SENDER,
        "routes/a.yaml": ACKNOWLEDGEMENTS.replace("FORMAT", format_).replace("TRANSFORM", transform),
        f"transforms/{transform}": (ROOT / "transforms" / transform).read_text(),
        "schemas/acknowledgement.v1.json": (ROOT / "schemas" / "acknowledgement.v1.json").read_text(),
    }


async def arrives(bus: Any, file: Path) -> None:
    live = bus.supervisor.routes["acknowledgements"]
    codec = live.runner.spec.source.options.format
    await live.intake.accept(Incoming(file.read_bytes(), codec=codec))
    await bus.settle()
    assert "dead" not in bus.states("acknowledgements"), [one.error for one in bus.messages(route="acknowledgements")]


def test_a_contrl_by_its_control_number_ends_the_wait_also_over_a_restart(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(files("edifact")) as bus:
            await bus.send("sender", {"reference": "000801"})
            await bus.send("sender", {"reference": "another"})
            await bus.settle()
            assert bus.states("sender") == ["waiting", "waiting"]
            await bus.advance(3600)
            clock = bus.clock
        async with start(clock=clock) as bus:
            await arrives(bus, EDIFACT / "CONTRL_ack_mockedi.edi")
            await bus.advance(301)
            assert bus.states("sender") == ["done", "waiting"]
            assert probe.bodies("booked") == [{"kind": "CONTRL", "by": "MOCKEDI", "mine": "000801"}]
            await bus.advance(4 * 3600)
            assert bus.states("sender") == ["done", "dead"]
            (dead,) = [one for one in bus.messages(route="sender") if one.error is not None]
            assert (dead.error.error_class, dead.error.dead_letter) == ("expired", "overdue")
            assert "acknowledged = another has not come within 4h" in dead.error.message
            assert len(probe.bodies("partner")) == 2, "nothing was sent twice, however often it looked"
            assert dead.attempts <= 1
            bus.whole()

    asyncio.run(scenario())


def test_a_997_that_refuses_makes_a_dead_letter_and_one_that_was_there_before_does_not_count(
    start: Any, probe: Any
) -> None:
    async def scenario() -> None:
        async with start(files("x12")) as bus:
            await arrives(bus, X12 / "997_rejected_ak3_ak4_mockedi.edi")
            group = bus.messages(route="acknowledgements")[-1].envelope.track["acknowledged"]
            await bus.send("sender", {"reference": group})
            await bus.settle()
            assert bus.states("sender") == ["waiting"]
            await arrives(bus, X12 / "997_rejected_ak3_ak4_mockedi.edi")
            await bus.advance(6)
            (dead,) = bus.messages(route="sender")
            assert (dead.state.value, dead.error.error_class) == ("dead", "rejected")
            assert "997 says" in dead.error.message
            bus.whole()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "around",
    [
        "fanout: { one: { steps: [ AWAIT, { to: { probe: booked } } ] } }",
        'split: { each: "[body]", steps: [ AWAIT, { to: { probe: booked } } ] }',
        "aggregate: { by: body.reference, complete: { size: 1 }, into: vars.all }\n  - AWAIT\n  - to: { probe: booked }",
        'resequence: { by: "`1`", first: 1 }\n  - AWAIT\n  - to: { probe: booked }',
    ],
    ids=["fanout", "split", "aggregate", "resequence"],
)
def test_an_answer_may_be_there_before_the_part_that_waits_for_it(start: Any, probe: Any, around: str) -> None:
    """The partner answers what was sent while the message is still on its way to its parts."""
    wait = "{ await: { track: { acknowledged: body.reference }, route: acknowledgements, within: 1m } }"
    sender = f"route: sender\nfrom: {{ route: {{}} }}\nsteps:\n  - publish: sent\n  - {around.replace('AWAIT', wait)}\n"
    answers = "route: acknowledgements\ntrack: { acknowledged: body.reference }\nfrom: { topic: sent }\nsteps: [ { log: taken } ]\n"

    async def scenario() -> None:
        async with start({"routes/s.yaml": sender, "routes/a.yaml": answers}) as bus:
            await bus.send("sender", {"reference": "R-1"})
            await bus.settle()
            await bus.advance(6)
            assert bus.states("acknowledgements") == ["done"]
            assert len(probe.bodies("booked")) == 1, bus.states("sender")
            bus.whole()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "around",
    [
        "fanout: { one: { steps: [ AWAIT ] }, two: { steps: [ AWAIT ] } }",
        'split: { each: "[body, body]", steps: [ AWAIT ] }',
    ],
    ids=["fanout", "split"],
)
def test_a_part_that_waits_is_no_answer_to_itself_or_to_another_part(start: Any, around: str) -> None:
    """They have what their whole tracks; the answer may come from any route."""
    wait = "{ await: { track: { order: body.reference }, within: 1m } }"
    sender = f"route: sender\nfrom: {{ route: {{}} }}\ntrack: {{ order: body.reference }}\nsteps: [ {{ {around.replace('AWAIT', wait)} }} ]\n"
    answers = "route: answers\ntrack: { order: body.reference }\nfrom: { route: {} }\nsteps: [ { log: taken } ]\n"

    async def scenario() -> None:
        async with start({"routes/s.yaml": sender, "routes/a.yaml": answers}) as bus:
            await bus.send("sender", {"reference": "R-1"})
            await bus.settle()
            await bus.advance(6)
            assert sorted(bus.states("sender")) == ["done", "waiting", "waiting"]
            await bus.send("answers", {"reference": "R-1"})
            await bus.settle()
            await bus.advance(6)
            assert set(bus.states("sender")) == {"done"}
            bus.whole()

    asyncio.run(scenario())


def test_what_was_said_is_read_as_its_own_route_reads_it(start: Any, probe: Any) -> None:
    """By the `format` of its source with every option, not by what its content looks like."""

    async def scenario() -> None:
        said = ACKNOWLEDGEMENTS.split("steps:", 1)[0].replace("FORMAT", "{ csv: { delimiter: ';', encoding: cp1252 } }")
        said = (
            said.replace('"body.state && (body.interchange || body.group)"', '"body[0].Lot"')
            + "steps: [ { log: taken } ]\n"
        )
        sender = SENDER.replace("meta.reply.body.state == 'ACCEPTED'", "meta.reply.body[0].Lot")
        sender = sender.replace(
            "{ kind: vars.said.body.kind, by: vars.said.body.by, mine: body.reference }", "{ said: vars.said.body }"
        )
        async with start({"routes/s.yaml": sender, "routes/a.yaml": said}) as bus:
            await bus.send("sender", {"reference": "L-1"})
            await bus.settle()
            live = bus.supervisor.routes["acknowledgements"]
            codec = live.runner.spec.source.options.format
            await live.intake.accept(Incoming("Lot;Prüfer\nL-1;Jürgen\n".encode("cp1252"), codec=codec))
            await bus.settle()
            await bus.advance(6)
            assert bus.states("sender") == ["done"], [one.error for one in bus.messages(route="sender")]
            assert probe.bodies("booked") == [{"said": [{"Lot": "L-1", "Prüfer": "Jürgen"}]}]

    asyncio.run(scenario())


def test_what_retention_has_removed_says_nothing(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(files("edifact")) as bus:
            await bus.send("sender", {"reference": "000801"})
            await bus.settle()
            await arrives(bus, EDIFACT / "CONTRL_ack_mockedi.edi")
            await bus.store.purge(bus.clock.now() + timedelta(days=1), [State.DONE])
            await bus.advance(6)
            assert bus.states("sender") == ["waiting"]

    asyncio.run(scenario())
