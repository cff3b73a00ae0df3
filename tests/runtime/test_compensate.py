"""A saga: what was delivered is undone, the last first, where the message is dead later on; over faults, restarts and reloads."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from esb import failpoints
from esb.config.loader import load_workspace
from esb.errors import Rejected, StoreError, Unavailable
from esb.steps.base import Reply
from esb.store.base import Filter

from .conftest import PLUGIN, WHO, ProbeTarget, Start, TestBus, write

ROUTE = """
route: r
key: body.id
dedupe: body.id
track: { order: body.id }
from: { route: {} }
retry: { max: 2, backoff: 1s, jitter: none }
steps:
  - set: { vars.seen: body.id }
  - to: { probe: reserve }
  - compensate:
      - to: { probe: unreserve }
  - to: { probe: noted }
  - set: { body: "{ id: body.id, late: 'yes' }" }
  - to: { probe: book }
  - compensate:
      - set: { vars.no: meta.reply.body.no }
      - map: { id: vars.seen, no: vars.no, why: meta.compensation.error.class }
      - to: { probe: unbook }
  - to: { probe: start }
"""
NO = Rejected("no machine", reply={"status": 422, "headers": {}, "body": None})


async def send(bus: TestBus, id_: str = "7") -> None:
    await bus.send("r", {"id": id_})
    await bus.settle()


async def pass_time(bus: TestBus) -> None:
    for _ in range(40):
        bus.clock.advance(0.25)
        for _ in range(15):
            await asyncio.sleep(0)


def undone(bus: TestBus) -> list[Any]:
    return [one for one in bus.messages() if one.envelope.scope == "compensate/undo"]


def names(probe: ProbeTarget) -> list[str]:
    return [got.to for got in probe.got]


def test_what_was_delivered_is_undone_the_last_first(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        probe.script = {"start": [NO], "book": [Reply(200, body={"no": 12})], "unbook": [Unavailable("down")]}
        async with start({"routes/r.yaml": ROUTE}) as bus:
            await send(bus)
            assert names(probe) == ["reserve", "noted", "book", "start", "unbook"], "the first one waits for its turn"
            await bus.advance(1)
            assert names(probe)[5:] == ["unbook", "unreserve"]
            assert probe.bodies("unbook")[0] == {"id": "7", "no": 12, "why": "rejected"}
            assert probe.bodies("unreserve") == [{"id": "7"}], "the message as it was then"
            dead = bus.messages()[0]
            told = bus.store.get(dead.envelope.id)
            assert told is not None
            assert (dead.state, told.trace[-1]["undoes"]) == ("dead", ["to:probe#2", "to:probe#3", "to:probe"])
            assert [(one.state, one.envelope.parent_id, one.envelope.track) for one in undone(bus)] == [
                ("done", dead.envelope.id, {"order": "7"})
            ] * 2
            bus.whole()

    asyncio.run(go())


@pytest.mark.parametrize(
    ("script", "seen"),
    [
        ({"start": [Unavailable("x")]}, []),
        ({"reserve": [NO]}, []),
        ({"book": [NO]}, ["unreserve"]),
        ({"book": [Unavailable("x")] * 3}, ["unreserve"]),
    ],
)
def test_only_what_was_confirmed_is_undone(
    start: Start, probe: ProbeTarget, script: dict[str, list[Any]], seen: list[str]
) -> None:
    async def go() -> None:
        probe.script = {name: list(answers) for name, answers in script.items()}
        async with start({"routes/r.yaml": ROUTE}) as bus:
            await send(bus)
            for _ in range(4):
                await bus.advance(5)
            assert [name for name in names(probe) if name.startswith("un")] == seen
            bus.whole()

    asyncio.run(go())


def test_a_compensation_that_fails_is_a_dead_letter_and_the_retry_of_the_first_waits_for_it(
    start: Start, probe: ProbeTarget
) -> None:
    async def go() -> None:
        probe.script = {"start": [NO], "unbook": [NO]}
        async with start({"routes/r.yaml": ROUTE}) as bus:
            await send(bus)
            first, second = undone(bus)
            assert (first.state, second.state) == ("dead", "held"), "the order is kept"
            assert first.envelope.parent_id == bus.messages()[0].envelope.id
            whole = Filter(ids=(bus.messages()[0].envelope.id,))
            (told,) = await bus.operations.retry(whole, WHO)
            assert (told["result"], first.envelope.id in str(told)) == ("skipped", True)
            await bus.operations.retry(Filter(ids=(first.envelope.id,)), WHO)
            await bus.settle()
            assert [one.state for one in undone(bus)] == ["done", "done"]
            await bus.operations.retry(whole, WHO)
            await bus.settle()
            assert bus.messages()[0].state == "done"
            again = [got for got in probe.got if got.to in ("reserve", "book", "noted")]
            assert [got.to for got in again] == ["reserve", "noted", "book", "reserve", "noted", "book"]
            assert len({got.id for got in again}) == 6, "what was undone is sent as something new"
            bus.whole()

    asyncio.run(go())


def test_a_saga_outlives_a_restart_and_ends_on_its_version(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        probe.script = {"start": [Unavailable("down"), NO], "unbook": [Unavailable("down")]}
        async with start({"routes/r.yaml": ROUTE}) as bus:
            await send(bus)
            clock = bus.clock
        async with start(clock=clock) as bus:
            bus.write({"routes/r.yaml": ROUTE.replace("probe: un", "probe: new-un")})
            await bus.reload()
            await bus.advance(1)
            assert names(probe)[-1] == "unbook", "on the version that it started with"
            bus.write({"routes/r.yaml": ROUTE.replace("  - compensate:\n      - to: { probe: unreserve }\n", "")})
            await bus.reload()
            await bus.advance(2)
            assert names(probe)[-2:] == ["unbook", "unreserve"]
            assert [one.state for one in undone(bus)] == ["done", "done"]
            bus.whole()

    asyncio.run(go())


@pytest.mark.parametrize("waits", ["", "  - delay: { for: 1m }\n"])
def test_a_saga_ends_on_its_version_over_a_restart_onto_another_one(
    start: Start, probe: ProbeTarget, waits: str
) -> None:
    """Whether it waits for a retry or in a step, and whether it is about to be compensated or is being so."""

    async def go() -> None:
        probe.script = {"start": [Unavailable("down"), NO, NO], "unbook": [Unavailable("down")] * 2}
        route = ROUTE.replace("  - to: { probe: start }", f"{waits}  - to: {{ probe: start }}")
        async with start({"routes/r.yaml": route}) as bus:
            await send(bus)
            clock = bus.clock
        without = route.replace("  - compensate:\n      - to: { probe: unreserve }\n", "").replace(
            "probe: un", "probe: new-un"
        )
        async with start({"routes/r.yaml": without}, clock=clock) as bus:
            await bus.advance(61)
            await bus.advance(1)
            assert names(probe)[-1] == "unbook", "on the version that it started with"
            clock = bus.clock
        async with start({"routes/r.yaml": route.replace("probe: un", "probe: other-un")}, clock=clock) as bus:
            await bus.advance(2)
            await bus.advance(4)
            assert names(probe)[-2:] == ["unbook", "unreserve"]
            assert [one.state for one in undone(bus)] == ["done", "done"]
            bus.whole()

    asyncio.run(go())


def test_a_compensation_whose_route_is_gone_is_a_dead_letter(start: Start, probe: ProbeTarget) -> None:
    """It runs on its own version, which names the route; that it has nobody to go to must not look like an end."""

    async def go() -> None:
        probe.script = {"start": [Unavailable("down"), NO]}
        route = ROUTE.replace("- to: { probe: unbook }", "- to: { route: undo }")
        undo = "route: undo\nfrom: { route: {} }\nsteps: [ { to: { probe: undone } } ]\n"
        async with start({"routes/r.yaml": route, "routes/undo.yaml": undo}) as bus:
            await send(bus)
            clock = bus.clock
        without = route.replace("- to: { route: undo }", "- to: { probe: unbook }")
        (bus.root / "routes" / "undo.yaml").unlink()
        async with start({"routes/r.yaml": without}, clock=clock) as bus:
            await bus.advance(1)
            first = undone(bus)[0]
            assert (first.state, "undone" in names(probe)) == ("dead", False)
            assert first.error is not None
            assert first.error.message == "there is no route `undo` to hand the message to"
            bus.whole()

    asyncio.run(go())


def test_what_expires_is_undone_and_a_fallback_is_not(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        probe.script = {"start": [Unavailable("down")] * 9}
        async with start({"routes/r.yaml": ROUTE.replace("max: 2", "max: 20") + "ttl: 3s\n"}) as bus:
            await send(bus)
            for _ in range(5):
                await bus.advance(2)
            assert bus.messages()[0].state == "expired"
            assert names(probe)[-2:] == ["unbook", "unreserve"]
        probe.got.clear()
        probe.script = {"start": [NO]}
        fallback = "on_error: [ { for: any, steps: [ { to: { probe: instead } } ] } ]\n"
        async with start({"routes/r.yaml": ROUTE + fallback}) as bus:
            await send(bus, "8")
            assert names(probe)[-1] == "instead"
            assert bus.messages()[-1].state == "done"

    asyncio.run(go())


def test_a_compensation_waits_for_its_target_however_long_and_whatever_the_route_says(
    start: Start, probe: ProbeTarget
) -> None:
    async def go() -> None:
        probe.script = {"start": [NO], "unbook": [Unavailable("down")] * 3}
        route = ROUTE.replace("max: 2, backoff: 1s", "max: 9, backoff: 10s..1m")
        async with start({"routes/r.yaml": route + "ttl: 30s\nwhen_down: { drop_after: 15s }\n"}) as bus:
            await send(bus)
            for _ in range(4):
                await bus.advance(60)
            assert names(probe)[-5:] == ["unbook"] * 4 + ["unreserve"]
            assert [one.state for one in undone(bus)] == ["done", "done"]
            bus.whole()

    asyncio.run(go())


@pytest.mark.parametrize("fault", ["store.commit_error", "store.after_commit"])
@pytest.mark.parametrize("nth", range(3, 9))
def test_a_fault_of_any_commit_undoes_everything_once(
    start: Start, probe: ProbeTarget, monkeypatch: pytest.MonkeyPatch, fault: str, nth: int
) -> None:
    async def go() -> None:
        probe.script = {"start": [NO, NO, NO]}
        async with start({"routes/r.yaml": ROUTE}) as bus:
            points = failpoints.Failpoints.read({"ESB_TEST": "1", "ESB_FAILPOINTS": f"{fault}=error@{nth}"})
            monkeypatch.setattr(failpoints, "_PROCESS", points)
            for _ in range(3):
                try:
                    await bus.send("r", {"id": "7"})
                    break
                except StoreError:
                    await pass_time(bus)
            await pass_time(bus)
            clock = bus.clock
        async with start(clock=clock) as bus:
            await pass_time(bus)
            ids = {name: {got.id for got in probe.got if got.to == name} for name in ("unbook", "unreserve")}
            assert {name: len(found) for name, found in ids.items()} == {"unbook": 1, "unreserve": 1}
            assert [one.state for one in undone(bus)] == ["done", "done"]
            bus.whole()

    asyncio.run(go())


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        ("[ { compensate: [ { log: x } ] }, { to: { probe: a } } ]", "ESB115"),
        ("[ { to: { topic: x } }, { compensate: [ { log: x } ] } ]", "ESB115"),
        ("[ { to: { probe: a } }, { compensate: [ { log: x } ] }, { compensate: [ { log: x } ] } ]", "ESB115"),
        ("[ { to: { probe: a } }, { compensate: [] } ]", "ESB201"),
    ],
)
def test_what_makes_no_sense_is_an_error(tmp_path: Path, probe: ProbeTarget, steps: str, code: str) -> None:

    write(
        tmp_path,
        {"connectors/probe.py": PLUGIN, "routes/r.yaml": f"route: r\nfrom: {{ route: {{}} }}\nsteps: {steps}\n"},
    )
    _, problems = load_workspace(tmp_path)
    assert [problem.code for problem in problems if problem.severity == "error"] == [code]


LATE = """
route: r
from: { route: {} }
retry: { max: 2, backoff: 1s, jitter: none }
steps:
  - to: { probe: reserve }
  - to: { probe: note }
    into: vars.noted
    continue_on_error: true
  - compensate:
      - set: { body: "{ noted: vars.noted.body.no }" }
      - to: { probe: undo }
  - to: { probe: start }
"""


@pytest.mark.parametrize("way", ["retry", "restart"])
def test_what_only_a_later_attempt_has_confirmed_is_undone_too(start: Start, probe: ProbeTarget, way: str) -> None:
    async def go() -> None:
        probe.script = {"note": [Unavailable("x"), Reply(200, body={"no": 3})], "start": [Unavailable("x")]}
        async with start({"routes/r.yaml": LATE}) as bus:
            await send(bus)
            assert names(probe) == ["reserve", "note", "start"]
            clock = bus.clock
            if way == "retry":
                probe.script["start"] = [NO]
                await bus.advance(1)
        async with start(clock=clock) as bus:
            probe.script["start"] = [NO]
            await bus.advance(1)
            assert names(probe)[3:] == ["note", "start", "undo"], "what was confirmed first is not sent again"
            dead = bus.store.get(bus.messages()[0].envelope.id)
            assert dead is not None
            assert dead.trace[-1]["undoes"] == ["to:probe", "to:probe#2"]
            assert probe.bodies("undo") == [{"noted": 3}], "the message as it was when the last of them was confirmed"
            bus.whole()

    asyncio.run(go())


def test_a_step_may_be_named_saga(start: Start, probe: ProbeTarget) -> None:
    steps = "  - to: { probe: first }\n    name: saga\n  - to: { probe: second }\n"
    head = "route: r\nfrom: { route: {} }\nretry: { max: 2, backoff: 1s, jitter: none }\nsteps:\n"

    async def go() -> None:
        probe.script = {"second": [Unavailable("x"), NO]}
        async with start({"routes/r.yaml": head + steps}) as bus:
            await send(bus)
            await bus.advance(1)
            assert names(probe) == ["first", "second", "second"]
            (dead,) = bus.messages()
            assert dead.error is not None
            assert (dead.state, dead.error.error_class) == ("dead", "rejected")

    asyncio.run(go())
