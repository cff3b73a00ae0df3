"""Many messages become one: every member once, whatever happens between."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from esb import failpoints
from esb.errors import Rejected, StoreError, Unavailable
from esb.store.base import Filter

from .conftest import WHO, ProbeTarget, Start, TestBus, Wall

ROUTE = """
route: r
key: body.g
from: { route: {} }
retry: { max: 3, backoff: 1s, jitter: none }
steps:
  - set: { vars.early: body.n }
  - aggregate: { by: body.g, complete: { COMPLETE } }
  - to: { probe: t }
  - set: { body: "body[].n" }
  - to: { probe: u }
"""


def files(complete: str) -> dict[str, str]:
    return {"routes/r.yaml": ROUTE.replace("COMPLETE", complete)}


async def send(bus: TestBus, *members: str) -> None:
    for member in members:
        await bus.send("r", {"g": member[0], "n": member[1:]})
    await bus.settle()


async def pass_time(bus: TestBus) -> None:
    """Some seconds: what the store could not take is tried again."""
    for _ in range(40):
        bus.clock.advance(0.25)
        for _ in range(15):
            await asyncio.sleep(0)


def ends(bus: TestBus) -> list[tuple[str, str]]:
    return [(stored.state.value, stored.reason.partition(" ")[0]) for stored in bus.messages(route="r")]


def test_groups_are_complete_by_size_each_member_once(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start(files("size: 3")) as bus:
            await send(bus, "a1", "b1", "a2", "a3", "b2", "a4")
            assert probe.bodies("u") == [["1", "2", "3"]]
            await send(bus, "b3", "a5", "a6")
            assert probe.bodies("u") == [["1", "2", "3"], ["1", "2", "3"], ["4", "5", "6"]]
            members = [end for end in ends(bus) if end == ("done", "aggregated")]
            assert len(members) == 9 + 6, "nine members, and six parts that went into the other three"
            parts = [stored for stored in bus.messages(route="r") if stored.envelope.scope]
            into = {part.reason.removeprefix("aggregated into ") for part in parts if part.reason}
            assert into == {part.envelope.id for part in parts if not part.reason}, "linked to their aggregate"
            bus.whole()

    asyncio.run(go())


def test_a_group_is_complete_by_time_or_by_what_it_has(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start(files("timeout: 1m, when: \"body[-1].n == 'end'\"")) as bus:
            await send(bus, "a1", "b1", "aend", "a2")
            assert probe.bodies("u") == [["1", "end"]]
            await bus.advance(59)
            assert len(probe.bodies("u")) == 1
            await bus.advance(2)
            assert sorted(probe.bodies("u")) == [["1"], ["1", "end"], ["2"]]
            bus.whole()

    asyncio.run(go())


def test_a_clock_that_is_set_back_does_not_hold_a_group_beyond_its_time(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        clock = Wall()
        async with start(files("timeout: 1m"), clock=clock) as bus:
            await send(bus, "a1")
            clock.set(timedelta(days=-400))
            for _ in range(24):
                await bus.advance(5)
            assert probe.bodies("u") == [["1"]]
            bus.whole()

    asyncio.run(go())


@pytest.mark.parametrize("complete", ["size: 3", "size: 3, timeout: 1h", "when: length(body) == `3`"])
def test_a_group_survives_restarts(start: Start, probe: ProbeTarget, complete: str) -> None:
    async def go() -> None:
        async with start(files(complete)) as bus:
            await send(bus, "a1")
            clock = bus.clock
        async with start(clock=clock) as bus:
            await send(bus, "a2")
        async with start(clock=clock) as bus:
            assert probe.got == []
            await send(bus, "a3")
            assert probe.bodies("u") == [["1", "2", "3"]]
            bus.whole()

    asyncio.run(go())


def test_a_group_ends_by_the_rule_that_it_was_opened_under(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start(files("size: 3")) as bus:
            await send(bus, "a1", "a2", "b1")
            bus.write({"routes/r.yaml": ROUTE.replace("COMPLETE", "size: 2").replace("probe: u", "probe: w")})
            await bus.reload()
            await send(bus, "c1", "c2")
            assert (probe.bodies("u"), probe.bodies("w")) == ([], [["1", "2"]]), "a group of the new version"
            await send(bus, "a3", "a4", "b2")
            assert probe.bodies("u") == [["1", "2", "3"]], "the old one ends by its size and its steps"
            await send(bus, "a5")
            assert probe.bodies("w")[1:] == [["4", "5"]], "the next group of the key is one of the new version"
            bus.write({"routes/r.yaml": ROUTE.replace("COMPLETE", "size: 9")})
            await bus.reload()
            clock = bus.clock
        async with start(clock=clock) as bus:
            await send(bus, "b3", "d1", "d2", "d3")
            assert probe.bodies("u")[1:] == [["1", "2", "3"]], "also after a restart"
            assert bus.logged("version.gone") == []
            bus.whole()

    asyncio.run(go())


def test_the_time_of_a_group_is_that_of_its_version(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start(files("timeout: 1m")) as bus:
            await send(bus, "a1")
            bus.write({"routes/r.yaml": "route: r\nfrom: { route: {} }\nsteps: [ { to: { probe: gone } } ]\n"})
            await bus.reload()
            clock = bus.clock
        async with start(clock=clock) as bus:
            await bus.advance(59)
            assert probe.got == []
            await bus.advance(2)
            assert probe.bodies("u") == [["1"]], "although the route collects nothing any more"
            bus.whole()

    asyncio.run(go())


def test_a_version_that_cannot_be_made_again_gives_way_to_the_newest_and_it_is_said(
    start: Start, probe: ProbeTarget
) -> None:
    async def go() -> None:
        code = "def double(body):\n    return len(body)\n"
        old = ROUTE.replace("COMPLETE", "size: 5") + "  - python: own.double\n    into: vars.x\n"
        async with start({"connectors/own.py": code, "routes/r.yaml": old}) as bus:
            await send(bus, "a1", "a2")
            clock = bus.clock
        async with start({"connectors/own.py": code + "# another\n", **files("size: 3")}, clock=clock) as bus:
            (gone,) = bus.logged("version.gone")
            assert "connectors/own.py" in gone["why"]
            await send(bus, "a3")
            assert probe.bodies("u") == [["1", "2", "3"]]
            bus.whole()

    asyncio.run(go())


def test_a_version_is_made_again_under_the_settings_and_secrets_that_it_had(
    start: Start, probe: ProbeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A route with a secret is another version in every process; what esb.yaml says of it may have changed as well."""

    async def go() -> None:
        monkeypatch.setenv("ESB_SECRET_TOKEN", "old")
        settings = "bus: b\nsite: { plant: %s }\n"
        never = "{ http: { url: 'http://127.0.0.1:9/', auth: { bearer: '${secret:TOKEN}' } } }"
        secret = ROUTE.replace("COMPLETE", "size: 3") + f"  - to: {never}\n    if: site.plant != 'P10'\n"
        async with start({"esb.yaml": settings % "P10", "routes/r.yaml": secret}) as bus:
            await send(bus, "a1")
            clock = bus.clock
        for _ in range(2):
            async with start(clock=clock) as bus:
                assert (bus.logged("version.gone"), bus.logged("version.recalled")) == ([], []), "it is what is live"
        monkeypatch.setenv("ESB_SECRET_TOKEN", "new")
        newer = secret.replace("size: 3", "size: 2")
        async with start({"esb.yaml": settings % "P20", "routes/r.yaml": newer}, clock=clock) as bus:
            await send(bus, "a2")
            assert probe.bodies("u") == []
            await send(bus, "a3", "b1", "b2")
            assert [len(body) for body in probe.bodies("u")] == [3, 2]
            assert set(bus.states("r")) == {"done", "waiting"}, "`site` is that of the version: only P20 sends on"
            assert (len(bus.logged("version.recalled")), bus.logged("version.gone")) == (1, [])
            bus.whole()

    asyncio.run(go())


def test_an_aggregate_that_waits_for_a_row_finds_that_of_a_newer_version(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        route = ROUTE.replace("COMPLETE", "size: 2").replace(
            "  - to: { probe: t }", '  - lookup: { table: plants, by: "body[0].g", into: vars.plant, missing: park }'
        )
        rows = "transforms/tables/plants.csv"
        async with start({"routes/r.yaml": route, rows: "key,value\nx,1\n"}) as bus:
            await send(bus, "a1", "a2", "b1")
            clock = bus.clock
        async with start(clock=clock) as bus:
            assert probe.got == []
            bus.write({rows: "key,value\nx,1\na,2\n"})
            await bus.reload()
            await bus.settle()
            assert probe.bodies("u") == [["1", "2"]]
            bus.whole()

    asyncio.run(go())


def test_who_retries_a_dead_aggregate_has_the_newest_version(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        probe.script = {"t": [Rejected("no")]}
        async with start(files("size: 2")) as bus:
            await send(bus, "a1", "a2")
            bus.write({"routes/r.yaml": ROUTE.replace("COMPLETE", "size: 2").replace("probe: t", "probe: mended")})
            await bus.reload()
            await bus.operations.retry(Filter(route="r"), WHO)
            await bus.settle()
            assert len(probe.bodies("mended")) == 1
            bus.whole()

    asyncio.run(go())


def test_an_aggregate_that_is_tried_again_and_replayed_stays_what_it_is(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        probe.script = {"t": [Unavailable("down")]}
        async with start(files("size: 2")) as bus:
            await send(bus, "a1", "a2", "a3", "a4")
            assert probe.bodies("u") == [], "the next group waits for its turn"
            clock = bus.clock
        async with start(clock=clock) as bus:
            await bus.advance(5)
            assert probe.bodies("u") == [["1", "2"], ["3", "4"]]
            assert len({got.id for got in probe.got if got.to == "t"}) == 2
            done = next(s for s in bus.messages(route="r") if s.envelope.scope and not s.reason)
            await bus.operations.replay(Filter(ids=(done.envelope.id,)), WHO)
            await bus.settle()
            assert probe.bodies("u")[-1] == ["1", "2"]
            bus.whole()

    asyncio.run(go())


def test_a_part_that_was_discarded_is_left_out(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start(files("size: 3")) as bus:
            await send(bus, "a1", "a2")
            part: Any = bus.messages(route="r")[-1]
            await bus.operations.discard(Filter(ids=(part.envelope.id,)), WHO)
            await send(bus, "a3", "a4")
            assert probe.bodies("u") == [["1", "3", "4"]]
            bus.whole()

    asyncio.run(go())


@pytest.mark.parametrize("fault", ["store.commit_error", "store.after_commit"])
@pytest.mark.parametrize("nth", range(4, 10))
def test_a_fault_of_any_commit_loses_and_doubles_nothing(
    start: Start, probe: ProbeTarget, monkeypatch: pytest.MonkeyPatch, fault: str, nth: int
) -> None:
    async def go() -> None:
        async with start(
            {"routes/r.yaml": ROUTE.replace("COMPLETE", "size: 3") + "dedupe: join('', [body.g, body.n])\n"}
        ) as bus:
            points = failpoints.Failpoints.read({"ESB_TEST": "1", "ESB_FAILPOINTS": f"{fault}=error@{nth}"})
            monkeypatch.setattr(failpoints, "_PROCESS", points)
            for member in ("1", "2", "3"):
                for _ in range(3):
                    try:
                        await bus.send("r", {"g": "a", "n": member})
                        break
                    except StoreError:
                        await pass_time(bus)
                await pass_time(bus)
            clock = bus.clock
        async with start(clock=clock) as bus:
            await pass_time(bus)
            assert list({got.id: sorted(got.body) for got in probe.got if got.to == "u"}.values()) == [["1", "2", "3"]]
            bus.whole()

    asyncio.run(go())


@pytest.mark.parametrize("into", ["vars.all", "body.all", "vars.a.b"])
@pytest.mark.parametrize("way", ["retry", "restart", "person", "replay"])
def test_the_list_is_there_at_every_attempt_wherever_it_goes(
    start: Start, probe: ProbeTarget, into: str, way: str
) -> None:
    """It is kept with the message: another attempt, another life of the process or a replay have nothing else."""
    route = ROUTE.replace("{ COMPLETE } }", f"{{ size: 2 }}, into: {into} }}").replace("body[].n", f"{into}[].n")

    async def go() -> None:
        probe.script["t"] = [] if way == "replay" else [Rejected("no") if way == "person" else Unavailable("503")]
        async with start({"routes/r.yaml": route}) as bus:
            await send(bus, "a1", "a2")
            (aggregate,) = [one for one in bus.messages(route="r") if one.envelope.scope and not one.reason]
            if way in ("person", "replay"):
                act = bus.operations.retry if way == "person" else bus.operations.replay
                await act(Filter(ids=(aggregate.envelope.id,)), WHO)
                await bus.settle()
            elif way == "retry":
                await bus.advance(2)
            clock = bus.clock
        async with start(clock=clock) as bus:
            await bus.advance(2)
            assert probe.bodies("u") == [["1", "2"]] * (2 if way == "replay" else 1)
            bus.whole()

    asyncio.run(go())
