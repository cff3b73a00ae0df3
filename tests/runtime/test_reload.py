"""Hot reload: all or nothing, only what changed, in-flight on the old version."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from esb.beside import SHORT, USUAL
from esb.bus import Bus
from esb.config.loader import load_workspace
from esb.endpoints.base import Incoming
from esb.errors import EsbError, Unavailable
from esb.steps.base import Reply
from tests.runtime.conftest import MOODY, write
from tests.runtime.test_promises import run

ROUTE = """
route: mapped
from: {{ route: {{}} }}
retry: {{ max: 5, backoff: 10s, jitter: none }}
steps:
  - map: {{ version: "'{version}'" }}
  - to: {{ probe: erp }}
"""
PORTS = "http: { port: 0 }\nadmin: { port: 0 }\n"
IDLE = "route: idle\nfrom: { route: {} }\nsteps: [ { log: taken } ]\n"
OTHER = "route: other\nfrom: { route: {} }\nsteps: [ { to: { probe: other } } ]\n"


def test_only_a_changed_route_is_touched(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": ROUTE.format(version=1), "routes/b.yaml": OTHER}) as bus:
            source = bus.supervisor.routes["other"].source
            bus.write({"routes/a.yaml": ROUTE.format(version=2)})
            change = await bus.reload()
            assert (change.added, change.changed, change.removed) == ((), ("mapped",), ())
            assert bus.supervisor.routes["other"].source is source
            await bus.send("mapped", {})
            await bus.settle()
            assert probe.bodies("erp") == [{"version": "2"}]

    run(scenario())


def test_a_message_in_flight_ends_on_the_version_it_started_with(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": ROUTE.format(version=1)}) as bus:
            under_way = asyncio.get_running_loop().create_future()
            probe.script["erp"] = [under_way]
            await bus.send("mapped", {})
            while not probe.got:
                await asyncio.sleep(0)
            bus.write({"routes/a.yaml": ROUTE.format(version=2)})
            await bus.reload()
            under_way.set_result(Unavailable("503"))
            await bus.settle()
            await bus.advance(10)
            assert probe.bodies("erp") == [{"version": "1"}, {"version": "1"}]
            await bus.send("mapped", {})
            await bus.settle()
            assert probe.bodies("erp")[-1] == {"version": "2"}

    run(scenario())


TWO = """
route: mapped
from: {{ route: {{}} }}
retry: {{ max: 5, backoff: 10s, jitter: none }}
steps:
  - map: {{ version: "'{version}'" }}
  - to: {{ probe: erp }}{name}
  - to: {{ probe: mes }}
"""


@pytest.mark.parametrize(("name", "sent"), [("", ["1"]), ("\n    name: stock", ["1", "2"])], ids=["same", "renamed"])
def test_over_a_restart_what_waits_goes_on_with_the_version_on_disk(
    start: Any, probe: Any, name: str, sent: list[str]
) -> None:
    """As docs/guarantees.md says: what was delivered stays delivered where the step is called as it was."""

    async def scenario() -> None:
        async with start({"routes/a.yaml": TWO.format(version=1, name="")}) as bus:
            probe.script["mes"] = [Unavailable("503")]
            await bus.send("mapped", {})
            await bus.settle()
            assert bus.states("mapped") == ["waiting"]
            bus.write({"routes/a.yaml": TWO.format(version=2, name=name)})
            clock = bus.clock
        async with start(clock=clock) as bus:
            await bus.advance(10)
            assert bus.states("mapped") == ["done"]
            assert [body["version"] for body in probe.bodies("erp")] == sent
            assert [body["version"] for body in probe.bodies("mes")] == ["1", "2"]

    run(scenario())


PARTS = {
    "branch": "  - fanout: {{ erp: {{ steps: [ {{ map: {{ version: \"'{version}'\" }} }}, {{ to: {{ probe: erp }} }} ] }} }}\n",
    "item": "  - split: {{ each: body, steps: [ {{ map: {{ version: \"'{version}'\" }} }}, {{ to: {{ probe: erp }} }} ] }}\n",
}


@pytest.mark.parametrize("part", PARTS)
def test_over_a_restart_a_branch_or_item_that_waits_goes_on_with_the_version_on_disk(
    start: Any, probe: Any, part: str
) -> None:
    """A corrected file reaches it as it reaches every other message; it is no group, sequence or saga."""
    route = ROUTE.split("  - map", 1)[0] + PARTS[part]

    async def scenario() -> None:
        async with start({"routes/a.yaml": route.format(version=1)}) as bus:
            probe.script["erp"] = [Unavailable("503")] * 2
            await bus.send("mapped", [1])
            await bus.settle()
            assert bus.states("mapped") == ["done", "waiting"]
            bus.write({"routes/a.yaml": route.format(version=2)})
            await bus.reload()
            await bus.advance(10)
            assert probe.bodies("erp")[-1] == {"version": "1"}, "in one life of the process it stays on its version"
            clock = bus.clock
        async with start(clock=clock) as bus:
            await bus.advance(20)
            assert bus.states("mapped") == ["done", "done"]
            assert probe.bodies("erp")[-1] == {"version": "2"}
            assert bus.logged("version.gone") == []

    run(scenario())


def test_a_removed_route_drains_and_comes_back(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": ROUTE.format(version=1), "routes/b.yaml": OTHER}) as bus:
            probe.script["erp"] = [Unavailable("503")]
            await bus.send("mapped", {})
            await bus.settle()
            (bus.root / "routes" / "a.yaml").unlink()
            change = await bus.reload()
            assert change.removed == ("mapped",)
            assert bus.supervisor.facts("mapped")["state"] == "draining"
            await bus.advance(10)
            assert bus.states("mapped") == ["done"]
            assert bus.supervisor.facts("mapped")["state"] == "removed"
            bus.write({"routes/a.yaml": ROUTE.format(version=1)})
            assert (await bus.reload()).added == ("mapped",)

    run(scenario())


def test_a_route_whose_new_source_cannot_start_goes_on_as_it_was(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        def route(version: int, fault: str) -> str:
            return ROUTE.format(version=version).replace("{ route: {} }", f'{{ moody: "{fault}" }}')

        files = {"routes/a.yaml": route(1, ""), "routes/b.yaml": OTHER, "connectors/moody.py": MOODY}
        async with start(files) as bus:
            version = bus.supervisor.facts("mapped")["digest"]
            bus.write({"routes/a.yaml": route(2, "COM7 is taken"), "routes/b.yaml": OTHER.replace("other }", "new }")})
            change = await bus.reload()
            assert (change.changed, [str(one.position) for one in change.problems]) == (
                ("other",),
                ["routes/a.yaml:3:16"],
            )
            assert bus.supervisor.routes["mapped"].source.up
            facts = bus.supervisor.facts("mapped")
            assert (facts["state"], facts["digest"]) == ("running", version)
            await bus.send("mapped", {})
            await bus.settle()
            assert probe.bodies("erp") == [{"version": "1"}]

            bus.write({"routes/a.yaml": route(3, "")})
            assert (await bus.reload()).changed == ("mapped",)
            await bus.send("mapped", {})
            await bus.settle()
            assert probe.bodies("erp") == [{"version": "1"}, {"version": "3"}]

    run(scenario())


def test_reloading_the_same_files_changes_nothing(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(
            {"routes/a.yaml": ROUTE.format(version=1), "routes/b.yaml": OTHER + "enabled: false\n"}
        ) as bus:
            assert (await bus.reload()).nothing

    run(scenario())


def test_limits_and_site_of_esb_yaml_reach_routes_that_did_not_change(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        route = "route: mapped\nfrom: { route: {} }\nsteps:\n  - map: { plant: site.plant }\n  - to: { probe: erp }\n"
        old, new = (f"bus: t\nsite: {{ plant: {plant} }}\n" for plant in ("P10", "P20"))
        async with start({"routes/a.yaml": route, "esb.yaml": old}) as bus:
            await bus.send("mapped", {})
            await bus.settle()
            bus.write({"esb.yaml": new + "limits: { step: 7s }\n"})
            await bus.reload()
            await bus.send("mapped", {})
            await bus.settle()
            assert probe.bodies("erp") == [{"plant": "P10"}, {"plant": "P20"}]
            assert bus.supervisor.routes["mapped"].runner.bench.step_limit == 7

    run(scenario())


def test_a_new_subscriber_gets_what_is_published_from_then_on(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/p.yaml": "route: pub\nfrom: { route: {} }\nsteps: [ { publish: lots } ]\n"}) as bus:
            await bus.send("pub", {"n": 1})
            await bus.settle()
            bus.write({"routes/s.yaml": "route: sub\nfrom: { topic: lots }\nsteps: [ { to: { probe: sub } } ]\n"})
            await bus.reload()
            await bus.send("pub", {"n": 2})
            await bus.settle()
            assert probe.bodies("sub") == [{"n": 2}]

    run(scenario())


def test_a_file_that_is_saved_while_the_bus_starts_goes_live(tmp_path: Path) -> None:
    """The files were read already, and nobody watches them yet: the store may take its time to be opened."""
    write(tmp_path, {"esb.yaml": PORTS, "routes/a.yaml": IDLE})

    async def scenario() -> None:
        reloaded = asyncio.Event()

        def log(level: str, event: str, **_: object) -> None:
            if event == "reload.done":
                reloaded.set()

        bus = await Bus.open(tmp_path, log=log)  # type: ignore[arg-type]  # a double, or none
        write(tmp_path, {"routes/a.yaml": IDLE + "description: saved meanwhile\n"})
        await bus.start()
        try:
            async with asyncio.timeout(20):
                await reloaded.wait()
            assert bus.workspace.routes["idle"].description == "saved meanwhile"
        finally:
            await bus.stop()

    asyncio.run(scenario())


def test_a_reload_reads_the_workspace_in_a_thread_that_gives_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"esb.yaml": PORTS, "routes/a.yaml": IDLE})
    intervals: list[float] = []

    def load(*args: Any, **options: Any) -> Any:
        intervals.append(sys.getswitchinterval())
        return load_workspace(*args, **options)

    async def scenario() -> None:
        bus = await Bus.open(tmp_path, log=lambda *_a, **_k: None)
        await bus.start()
        try:
            monkeypatch.setattr("esb.bus.load_workspace", load)
            await bus.reload()
        finally:
            await bus.stop()

    run(scenario())
    assert intervals == [pytest.approx(SHORT)]
    assert sys.getswitchinterval() == pytest.approx(USUAL)


def test_what_people_see_of_a_route_that_goes_on_as_it_was_is_what_runs(tmp_path: Path) -> None:
    route = IDLE.replace("{ route: {} }", '{ moody: "" }')
    write(tmp_path, {"esb.yaml": PORTS, "routes/a.yaml": route, "connectors/moody.py": MOODY})

    async def scenario() -> None:
        bus = await Bus.open(tmp_path, log=lambda *_a, **_k: None)
        await bus.start()
        try:
            ran = bus.workspace.routes["idle"].digest
            write(tmp_path, {"routes/a.yaml": route.replace('""', '"COM7 is taken"')})
            told = await bus.reload()
            assert [one["code"] for one in told["problems"]] == ["ESB801"]
            assert bus.workspace.routes["idle"].digest == bus.supervisor.facts("idle")["digest"] == ran
        finally:
            await bus.stop()

    run(scenario())


def test_a_folder_that_nobody_can_list_for_a_while_takes_no_route_away(tmp_path: Path) -> None:
    """A deployment with the wrong owner, a share that answers with an error: the files are not gone."""
    write(tmp_path, {"esb.yaml": PORTS, "routes/a.yaml": IDLE})

    async def scenario() -> None:
        bus = await Bus.open(tmp_path, log=lambda *_, **__: None)
        await bus.start(watch=False)
        try:
            (tmp_path / "routes").rename(tmp_path / "aside")
            (tmp_path / "routes").symlink_to("routes")
            refused = await bus.reload()
            assert (refused["result"], refused["problems"][0]["path"]) == ("refused", "routes")
            assert bus.supervisor.facts("idle")["state"] == "running"
            (tmp_path / "routes").unlink()
            (tmp_path / "aside").rename(tmp_path / "routes")
            assert (await bus.reload())["result"] == "unchanged"
        finally:
            await bus.stop()

    asyncio.run(scenario())


FRESH = "route: fresh\nfrom: { file: { path: 'in/*.json', every: 50ms } }\nsteps: [ { log: taken } ]\n"


@pytest.mark.parametrize("hangs", [False, True])
def test_a_reload_that_is_under_way_when_the_bus_stops_ends_whole_or_is_left(tmp_path: Path, hangs: bool) -> None:
    """It would start sources that nobody stops, on a store that is closed under it; one that never ends holds up no stop."""
    settings = PORTS + ("limits: { drain: 200ms }\n" if hangs else "")
    write(tmp_path, {"esb.yaml": settings, "routes/a.yaml": IDLE})

    async def scenario() -> None:
        bus = await Bus.open(tmp_path, log=lambda *_, **__: None)  # type: ignore[arg-type]  # a double, or none
        await bus.start(watch=False)
        write(tmp_path, {"routes/fresh.yaml": FRESH})
        configure, reached, go_on = bus.supervisor.targets.configure, asyncio.Event(), asyncio.Event()

        async def held_up(*words: Any) -> None:
            reached.set()
            await go_on.wait()
            await configure(*words)

        bus.supervisor.targets.configure = held_up  # type: ignore[method-assign]  # for this test
        reloading = asyncio.create_task(bus.reload("mia", "new files"))
        await reached.wait()
        stopping = asyncio.create_task(bus.stop())
        if hangs:
            await stopping
            go_on.set()
            with pytest.raises(EsbError):
                await reloading
            assert bus.supervisor.routes.keys() == {"idle"}
        else:
            for _ in range(1000):
                await asyncio.sleep(0)
            assert not stopping.done()
            go_on.set()
            assert (await reloading)["added"] == ["fresh"]
            await stopping
        assert {task.get_name() for task in asyncio.all_tasks()} == {asyncio.current_task().get_name()}  # type: ignore[union-attr]  # it is there

    asyncio.run(scenario())


READS = """
route: r
key: meta.file_name
from: { file: { path: "in/*.csv", format: FORMAT } }
retry: { max: 2, backoff: 1s, jitter: none }
steps:
  - to: { probe: t }
"""


def test_what_waits_is_read_by_the_format_of_the_version_that_it_runs_on_at_every_attempt(
    start: Any, probe: Any
) -> None:
    async def scenario() -> None:
        first = asyncio.get_running_loop().create_future()
        probe.script["t"] = [first, Unavailable("503")]
        async with start({"routes/r.yaml": READS.replace("FORMAT", "csv")}) as bus:
            for _ in range(2):
                given = Incoming(b"a;b\n1;2\n", meta={"file_name": "x.csv"})
                await bus.supervisor.routes["r"].intake.accept(given)
            while not probe.got:
                await asyncio.sleep(0)
            bus.write({"routes/r.yaml": READS.replace("FORMAT", "{ csv: { delimiter: ';' } }")})
            report = await bus.reload()
            assert report.changed == ("r",)
            first.set_result(Reply(200))
            await bus.settle()
            await bus.advance(1)
            assert probe.bodies("t") == [[{"a;b": "1;2"}], [{"a": "1", "b": "2"}], [{"a": "1", "b": "2"}]]

    run(scenario())
