"""Rules of alerts: one notice when they begin to hold, one when they end, whatever joins, lasts or restarts in between."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from esb.config.loader import load_workspace
from esb.errors import Rejected
from esb.message import Message
from esb.operations import Who
from esb.runtime.alerting import Alerting
from esb.steps.base import Reply
from esb.store.base import Filter
from tests.runtime.conftest import Wall, write

WHO = Who("tester", "because")
ROUTES = """
route: orders
key: body.no
from: { route: {} }
steps: [ { to: { probe: erp } } ]
---
route: lots
from: { route: {} }
steps: [ { to: { probe: mes } } ]
kpis:
  lots-in-time: { start: accepted, end: { step: "to:probe" }, by: body.no, within: 1m, weigh: body.value }
"""
SETTINGS = """
bus: plant
timezone: Europe/Vienna
alerts:
  desk:
    probe: desk
    window: 5m
    repeat: 2h
    when:
      - { name: dead letters, dead: 1 }
      - { name: receipts have stopped, silence: 30m, route: orders }
      - { lane_age: 10m, route: lots }
      - { overdue: lots-in-time }
      - { kpi: lots-in-time, below: 90, for: 1m, hours: "00:00-23:59" }
"""
FILES = {"esb.yaml": SETTINGS, "routes/a.yaml": ROUTES}


def alerting(bus: Any) -> Alerting:
    return Alerting(bus.store, bus.clock, bus.supervisor, lambda *_, **__: None)


async def look(bus: Any, *, seconds: float = 0) -> None:
    if seconds:
        await bus.advance(seconds)
    await alerting(bus).round()
    await bus.settle()


def told(probe: Any) -> list[tuple[str, str]]:
    return [(body["state"], body["text"]) for body in probe.bodies("desk")]


def test_a_storm_of_dead_letters_is_one_alert_with_what_joins_it_and_one_end(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Rejected("never")] * 50
        probe.script["mes"] = [Rejected("never")]
        async with start(FILES) as bus:
            for no in range(40):
                await bus.send("orders", {"no": no})
            await bus.settle()
            for _ in range(5):
                await look(bus, seconds=10)
            assert told(probe) == [("firing", "dead letters: orders: 40 dead letters")]
            await bus.send("lots", {"no": 1, "value": 1})
            await look(bus, seconds=10)
            assert len(told(probe)) == 1  # it joins, and waits for the window
        async with start(clock=bus.clock) as bus:
            await look(bus)
            assert len(told(probe)) == 1  # a restart tells nothing twice
            await look(bus, seconds=300)
            assert told(probe)[1][1] == "dead letters: lots: 1 dead letter; orders: 40 dead letters"
            await bus.operations.discard(Filter(states=(), route="orders"), WHO)
            await bus.operations.discard(Filter(states=(), route="lots"), WHO)
            await look(bus)
            assert [state for state, text in told(probe) if text.startswith("dead")] == ["firing", "firing", "resolved"]
            await look(bus, seconds=600)
            assert [state for state, text in told(probe) if text.startswith("dead")][3:] == []

    asyncio.run(scenario())


def test_a_notice_that_was_told_before_a_kill_is_not_told_again(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Rejected("never")]
        async with start(FILES) as bus:
            await bus.send("orders", {"no": 1})
            await look(bus, seconds=10)
            assert len(told(probe)) == 1
            # the note of it was lost with the process
            await bus.store.put_state("alert", "desk/dead/dead letters", None)
            state = {"since": probe.bodies("desk")[0]["since"], "told": "", "members": [], "notices": 0}
            await bus.store.put_state("alert", "desk/dead/dead letters", state)
            await look(bus, seconds=10)
            assert len(told(probe)) == 1
            assert bus.store.get_state("alert", "desk/dead/dead letters")["told"]

    asyncio.run(scenario())


def test_silence_age_and_overdue_pairs_are_told_and_their_end_too(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(FILES) as bus:
            await look(bus)
            probe.script["mes"] = [hang := asyncio.get_running_loop().create_future()]
            await bus.send("lots", {"no": 7, "value": 250})
            await some()
            await look_now(bus, 61)
            assert ("firing", "overdue: lots-in-time: 1 overdue, 250") in told(probe)
            await look_now(bus, 61)
            assert ("firing", "kpi: lots-in-time: 0.0 is below 90") in told(probe)
            await look_now(bus, 600)
            assert ("firing", "lane_age: lots: the oldest open message is 12m2s old") in told(probe)
            await look_now(bus, 1200)
            assert ("firing", "receipts have stopped: orders: nothing accepted for 32m2s") in told(probe)
            await bus.send("orders", {"no": 1})
            hang.set_result(Reply(200))
            await bus.settle()
            await look(bus)
            over = [text.split(":")[0] for state, text in told(probe) if state == "resolved"]
            assert sorted(over) == ["lane_age", "overdue", "receipts have stopped"]
            assert bus.store.get_state("alert", "desk/kpi/lots-in-time")["told"]  # 0 % in time stays so for the day

    async def some() -> None:
        for _ in range(200):
            await asyncio.sleep(0)

    async def look_now(bus: Any, seconds: float) -> None:
        bus.clock.advance(timedelta(seconds=seconds))
        await alerting(bus).round()
        await some()

    asyncio.run(scenario())


def test_a_condition_that_goes_on_is_told_again_after_repeat(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Rejected("never")]
        async with start(FILES) as bus:
            await bus.send("orders", {"no": 1})
            await look(bus, seconds=1)
            await look(bus, seconds=3600)
            assert sum(text.startswith("dead") for _, text in told(probe)) == 1
            await look(bus, seconds=3600)
            assert sum(text.startswith("dead") for _, text in told(probe)) == 2

    asyncio.run(scenario())


def test_a_clock_that_is_set_back_neither_hides_a_silence_nor_holds_what_repeats(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        clock = Wall()
        async with start(FILES, clock=clock) as bus:
            await look(bus)
            clock.set(timedelta(days=-400))
            await look(bus)
            await look(bus, seconds=1860)
            assert told(probe) == [("firing", "receipts have stopped: orders: nothing accepted for 31m")]
            clock.set(timedelta(days=-400))
            await look(bus)
            await look(bus, seconds=1860)
            assert [state for state, _ in told(probe)] == ["firing", "resolved", "firing"]
            clock.set(timedelta(minutes=-5))
            await look(bus)
            assert len(told(probe)) == 4, "told again, as nobody knows how long ago that was"
            await look(bus)
            assert len(told(probe)) == 4

    asyncio.run(scenario())


WRONG = {
    "when: [ { dead: 1, silence: 5m, route: orders } ]": "ESB107",
    "when: [ { silence: 5m } ]": "ESB102",
    "when: [ { kpi: lots-in-time } ]": "ESB102",
    "when: [ { overdue: nothing } ]": "ESB306",
    "when: [ { dead: 1, route: ordres } ]": "ESB306",
    "when: [ { dead: 1, hours: early } ]": "ESB104",
    "when: [ { deadd: 1 } ]": "ESB101",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_fault_in_a_rule_is_reported_in_esb_yaml(start: Any, tmp_path: Any, text: str) -> None:
    write(
        tmp_path, {"routes/a.yaml": ROUTES.replace("probe: erp", "route: lots").replace("probe: mes", "route: orders")}
    )
    write(tmp_path, {"esb.yaml": f"alerts:\n  desk: {{ http: {{ url: 'http://127.0.0.1:9' }}, {text} }}\n"})
    _, problems = load_workspace(tmp_path)
    errors = [(problem.code, problem.position.path) for problem in problems if problem.severity == "error"]
    assert errors == [(WRONG[text], "esb.yaml")]


def test_a_webhook_gets_one_line_of_text(tmp_path: Any) -> None:
    alerts = """alerts:
  chat: { webhook: "http://127.0.0.1:9/hook" }
  own: { webhook: { url: "http://127.0.0.1:9/hook", text: "{{ body.alert }} says {{ body.text }}" } }
"""
    write(tmp_path, {"esb.yaml": alerts})
    workspace, problems = load_workspace(tmp_path)
    assert workspace is not None, problems
    body = {"alert": "chat", "state": "firing", "route": "orders", "text": 'a "quoted" word'}
    context: Any = SimpleNamespace(scope=lambda message: message.scope({}), note=lambda **_: None)
    for name, text in (("chat", '[firing] chat, orders: a "quoted" word'), ("own", 'chat says a "quoted" word')):
        first, second = workspace.routes[f"alert-{name}"].steps.nodes
        made = first.step.apply(Message(body), context)  # type: ignore[attr-defined]  # of this kind
        assert (made.body, second.kind) == ({"text": text}, "to")


HANDED = """
route: gives
from: { route: {} }
steps: [ { publish: lots }, { to: { route: takes } } ]
---
route: reads
from: { topic: lots }
key: body.no
on_error: [ { for: any, dead_letter: numbers, alert: team } ]
steps: [ { log: never } ]
---
route: takes
from: { route: { contract: lot.v1 } }
on_error: [ { for: invalid, dead_letter: contracts, alert: team } ]
steps: [ { log: never } ]
"""


def test_what_is_handed_over_and_refused_at_the_door_is_told(start: Any, probe: Any) -> None:
    """In the transaction that makes it a dead letter: nobody waits for its receipt, who could tell."""
    files = {
        "routes/r.yaml": HANDED,
        "schemas/lot.v1.json": json.dumps({"type": "object", "required": ["lot"]}),
        "esb.yaml": "alerts: { team: { probe: mails } }\n",
    }

    async def scenario() -> None:
        async with start(files) as bus:
            await bus.send("gives", {"no": {"not": "a number"}})
            await bus.settle()
            assert bus.states("reads") == bus.states("takes") == ["dead"]
            told = {body["route"]: body for body in probe.bodies("mails")}
            assert {route: body["dead_letter"] for route, body in told.items()} == {
                "reads": "numbers",
                "takes": "contracts",
            }
            dead = {
                stored.envelope.route: stored.envelope.id for stored in bus.messages() if stored.state.value == "dead"
            }
            assert {route: body["message_id"] for route, body in told.items()} == dead
            bus.whole()

    asyncio.run(scenario())
