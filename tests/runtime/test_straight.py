"""Attempts without a task: a delivery that is answered by a call, and every promise about attempts holds all the same."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from esb.endpoints.base import Incoming
from esb.errors import Rejected, Timeout, Unavailable
from esb.formats.json import Json
from esb.runtime.ports import Errand
from esb.runtime.run import MessageRun
from esb.runtime.straight import Flight
from esb.steps.base import Reply
from tests.runtime.conftest import load, write
from tests.runtime.test_promises import PLAIN, run

#: Steps before, behind and around two deliveries.
LONG = """
route: long
from: { route: {} }
retry: { max: 3, backoff: 10s, jitter: none }
steps:
  - set: { body.n: "add(body.n, `1`)" }
  - choose:
      - when: body.n > `1`
        steps:
          - to: { probe: first }
          - set: { vars.said: meta.reply.status }
  - to: { probe: second }
    if: body.n != `3`
    into: vars.second
  - to: { probe: third }
"""
NARROW = PLAIN.replace("key: body.lot\n", "").replace("{ probe: erp }", "{ probe: { connector: erp, name: erp } }")
ONE_PLACE = "connector: erp\ntype: probe\nconcurrency: 1\n"
both = pytest.mark.parametrize("probe", ["call", "task"], indirect=True)


def tasks_of_attempts() -> int:
    """Those of messages: `esb:<route>:<number>`. What the bus does every so often has a task, too."""
    return sum(task.get_name().rpartition(":")[2].isdigit() for task in asyncio.all_tasks())


async def warm(bus: Any, route: str, body: Any) -> None:
    """The first delivery opens the connection, which needs a task."""
    await bus.send(route, body)
    await bus.settle()


def test_a_delivery_that_is_answered_by_a_call_needs_no_task(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": PLAIN}) as bus:
            await warm(bus, "plain", {"lot": "0"})
            answer = asyncio.get_running_loop().create_future()
            probe.script["erp"] = [answer]
            receipt = await bus.send("plain", {"lot": "1"})
            while len(probe.got) < 2:
                await asyncio.sleep(0)
            assert (tasks_of_attempts(), bus.supervisor.routes["plain"].runner.running) == (0, 1)
            answer.set_result(Reply(201))
            await bus.settle()
            step = next(entry for entry in bus.store.get(receipt.message_id).trace if entry["step"] == "to:probe")
            assert (step["status"], step["delivery_id"], probe.begun) == (201, probe.got[1].id, 1)
            bus.whole()

    run(scenario())


@both
def test_both_ways_run_the_same_steps(start: Any, probe: Any) -> None:
    async def scenario() -> list[Any]:
        async with start({"routes/a.yaml": LONG}) as bus:
            await warm(bus, "long", {"n": 5})
            del probe.got[:]
            probe.script["third"] = [Unavailable("503")]
            for n in range(3):
                await bus.send("long", {"n": n})
            await bus.settle()
            assert sorted(bus.states("long")) == ["done", "done", "done", "waiting"]
            await bus.advance(10)
            assert bus.states("long") == ["done"] * 4
            bus.whole()
            return sorted((got.to, got.body["n"], got.attempt) for got in probe.got)

    got = asyncio.run(scenario())
    assert [one[:2] for one in got] == [
        ("first", 2), ("first", 3), ("second", 1), ("second", 2), ("third", 1), ("third", 1), ("third", 2), ("third", 3),
    ]  # fmt: skip  # what was confirmed is not sent again with the second attempt, and `if` is asked


@both
def test_those_that_find_no_place_wait_for_it_in_their_order(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": NARROW, "connectors/erp.yaml": ONE_PLACE}) as bus:
            await warm(bus, "plain", {"n": -1})
            answers = [asyncio.get_running_loop().create_future() for _ in range(4)]
            probe.script["erp"] = list(answers)
            await asyncio.gather(*[bus.send("plain", {"n": n}) for n in range(4)])
            for n, answer in enumerate(answers):
                for _ in range(20):
                    await asyncio.sleep(0)
                assert probe.bodies("erp")[1:] == [{"n": one} for one in range(n + 1)]
                answer.set_result(Reply(200))
            await bus.settle()
            assert bus.states("plain") == ["done"] * 5
            bus.whole()

    run(scenario())


@both
def test_one_that_finds_no_place_in_time_is_tried_again(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        slow = NARROW.replace("erp } }", "erp } }\n    timeout: 1s")
        async with start({"routes/a.yaml": slow, "connectors/erp.yaml": ONE_PLACE}) as bus:
            await warm(bus, "plain", {"n": -1})
            answer = asyncio.get_running_loop().create_future()
            probe.script["erp"] = [answer]
            await asyncio.gather(*[bus.send("plain", {"n": n}) for n in range(2)])
            while "waiting" not in bus.states("plain"):
                await asyncio.sleep(0.01)
            answer.set_result(Reply(200))
            await bus.settle()
            waiting = bus.messages(route="plain")[2]
            assert waiting.error.error_class == "unavailable"
            assert "no free connection" in waiting.error.message
            assert waiting.attempts == 0, "the target was not asked"
            await bus.advance(10)
            assert (bus.states("plain"), probe.bodies("erp")[1:]) == (["done"] * 3, [{"n": 0}, {"n": 1}])

    run(scenario())


@both
def test_a_stop_gives_up_what_is_on_its_way_and_the_next_start_sends_it_again(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Reply(200), asyncio.get_running_loop().create_future()]
        async with start({"routes/a.yaml": PLAIN}) as bus:
            await warm(bus, "plain", {"lot": "0"})
            await bus.send("plain", {"lot": "1"})
            while len(probe.got) < 2:
                await asyncio.sleep(0)
        async with start() as bus:
            assert bus.states("plain") == ["done", "done"]
            assert [(got.body["lot"], got.attempt) for got in probe.got] == [("0", 1), ("1", 1), ("1", 1)]
            assert probe.got[1].id == probe.got[2].id
            bus.whole()

    run(scenario())


@both
@pytest.mark.parametrize(
    ("error", "state", "error_class"),
    [(Timeout("late"), "waiting", "timeout"), (ZeroDivisionError("a bug"), "dead", "internal")],
)
def test_what_a_sink_raises_is_judged(start: Any, probe: Any, error: Any, state: str, error_class: str) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": PLAIN}) as bus:
            await warm(bus, "plain", {"lot": "0"})
            broken = asyncio.get_running_loop().create_future()
            broken.set_exception(error)
            probe.script["erp"] = [broken]
            receipt = await bus.send("plain", {"lot": "1"})
            await bus.settle()
            stored = bus.store.get(receipt.message_id)
            assert (stored.state.value, stored.error.error_class) == (state, error_class)
            assert stored.error.step == "to:probe"
            bus.whole()

    run(scenario())


@both
def test_one_that_must_wait_for_a_place_at_work_is_begun_in_the_store_before_it_is_sent(
    start: Any, probe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = PLAIN.replace("route: plain", "route: plain\nconcurrency: 1").replace("key: body.lot\n", "")

    async def scenario() -> None:
        async with start({"routes/a.yaml": one}) as bus:
            await warm(bus, "plain", {"n": -1})
            states: list[str] = []
            take = probe.take

            async def seen(name: str, message: Any, delivery: Any) -> Reply:
                states.append(bus.state(delivery.message_id))
                reply: Reply = await take(name, message, delivery)
                return reply

            monkeypatch.setattr(probe, "take", seen)
            intake = bus.supervisor.routes["plain"].intake
            bodies = [b'{"n": %d}' % n for n in range(5)]
            await asyncio.gather(*[intake.accept(Incoming(body, codec=Json())) for body in bodies])
            await bus.settle()
            assert (states, bus.states("plain")) == (["running"] * 5, ["done"] * 6)

    run(scenario())


def of_attempts() -> list[Any]:
    return [one for one in gc.get_objects() if type(one) in (Flight, Errand, MessageRun)]


@contextmanager
def no_collector() -> Iterator[Callable[[], int]]:
    """What it gives tells how many objects of attempts are there that were not before (errors of other tests keep some)."""
    gc.collect()
    before = of_attempts()
    gc.disable()
    try:
        yield lambda: len(of_attempts()) - len(before)
    finally:
        gc.enable()


def test_nothing_of_an_attempt_waits_for_the_collector(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": NARROW, "connectors/erp.yaml": ONE_PLACE}) as bus:
            await warm(bus, "plain", {"n": 0})
            with no_collector() as left:
                await asyncio.gather(*[bus.send("plain", {"n": n}) for n in range(3)])  # two of them wait for a place
                await bus.settle()
                assert left() == 0
            assert (bus.states("plain"), probe.begun) == (["done"] * 4, 3)

    run(scenario())


@both
def test_nothing_of_an_attempt_that_failed_waits_for_the_collector(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": NARROW, "connectors/erp.yaml": ONE_PLACE}) as bus:
            await warm(bus, "plain", {"n": 0})
            with no_collector() as left:
                probe.script["erp"] = [Unavailable("503"), Rejected("404")]
                await bus.send("plain", {"n": 1})
                await bus.settle()
                assert (bus.states("plain"), left()) == (["done", "waiting"], 0)
                await bus.advance(10)
                assert (bus.states("plain"), left()) == (["done", "dead"], 0)

    run(scenario())


OWN = """
from dataclasses import dataclass
from esb.registry import sink
from esb.spec import option
from esb.steps.base import Reply

@sink("own")
@dataclass(frozen=True, slots=True)
class Own:
    \"\"\"A sink of the workspace.\"\"\"

    begin: str = option(doc="From when on.", shorthand=True)

    async def send(self, message, delivery, connection):
        return Reply(207)
"""


def test_a_sink_may_have_an_option_of_that_name(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        route = PLAIN.replace("{ probe: erp }", "{ own: today }")
        async with start({"routes/a.yaml": route, "connectors/own.py": OWN}) as bus:
            for n in range(2):
                await bus.send("plain", {"lot": str(n)})
            await bus.settle()
            assert bus.states("plain") == ["done", "done"]
            assert bus.messages(route="plain")[1].attempts == 1

    run(scenario())


def test_a_retired_connector_closes_when_its_last_delivery_is_answered(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": NARROW, "connectors/erp.yaml": ONE_PLACE}) as bus:
            await warm(bus, "plain", {"n": 0})
            port = bus.supervisor.targets._ports["erp"]
            answer = asyncio.get_running_loop().create_future()
            probe.script["erp"] = [answer]
            await bus.send("plain", {"n": 1})
            while len(probe.got) < 2:
                await asyncio.sleep(0)
            write(bus.root, {"connectors/erp.yaml": ONE_PLACE + "timeout: 7s\n"})
            await bus.supervisor.apply(load(bus.root))
            assert (port.retired, port.live is not None) == (True, True)
            answer.set_result(Reply(200))
            await bus.settle()
            assert (port.live, bus.states("plain")) == (None, ["done"] * 2)

    run(scenario())


def test_a_fault_of_the_bus_itself_ends_the_message_and_not_the_route(
    start: Any, probe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("a bug")

    async def scenario() -> None:
        async with start({"routes/a.yaml": PLAIN.replace("key: body.lot\n", "")}) as bus:
            await warm(bus, "plain", {"lot": "1"})
            with monkeypatch.context() as fault:
                fault.setattr("esb.runtime.straight.block_of", broken)
                await bus.send("plain", {"lot": "1"})
                await bus.settle()
            await bus.send("plain", {"lot": "1"})
            await bus.settle()
            assert bus.states("plain") == ["done", "dead", "done"]
            bus.whole()

    run(scenario())
