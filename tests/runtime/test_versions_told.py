"""A message says on which version of its route it ran, also where that is not the one that it was accepted under."""

from __future__ import annotations

from typing import Any

import pytest

from esb.errors import Unavailable
from esb.message import short_version
from tests.runtime.test_promises import run

ROUTE = """
route: mapped
key: body.key
from: {{ route: {{}} }}
retry: {{ max: 5, backoff: 10s, jitter: none }}
steps:
  - map: {{ version: "'{version}'", says: meta.version }}
  - to: {{ probe: erp }}
"""


def digest(bus: Any) -> str:
    return str(bus.supervisor.workspace.routes["mapped"].digest)


def ran_on(bus: Any) -> list[str]:
    """The version of each message, oldest first."""
    found = sorted(bus.messages(route="mapped"), key=lambda stored: stored.envelope.seq)
    return [stored.envelope.version for stored in found]


def test_what_waits_behind_its_key_says_the_version_that_it_began_on(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": ROUTE.format(version=1)}) as bus:
            old = digest(bus)
            probe.script["erp"] = [Unavailable("503")]
            await bus.send("mapped", {"key": "L-1"})
            behind = await bus.send("mapped", {"key": "L-1"})
            await bus.settle()
            bus.write({"routes/a.yaml": ROUTE.format(version=2)})
            await bus.reload()
            assert ran_on(bus) == [old, old], "as they were accepted: the second has not begun"
            await bus.advance(10)
            assert bus.states("mapped") == ["done", "done"]
            assert [body["version"] for body in probe.bodies("erp")] == ["1", "1", "2"]
            assert ran_on(bus) == [old, digest(bus)]
            assert probe.bodies("erp")[-1]["says"] == digest(bus), "so do the expressions of its steps"
            first, *_ = bus.store.get(behind.message_id).trace
            assert first["version_before"] == short_version(old)

    run(scenario())


@pytest.mark.parametrize("fails", [False, True])
def test_what_goes_on_after_a_restart_says_the_version_on_disk(start: Any, probe: Any, fails: bool) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": ROUTE.format(version=1)}) as bus:
            old = digest(bus)
            probe.script["erp"] = [Unavailable("503"), *([Unavailable("503")] if fails else [])]
            sent = await bus.send("mapped", {"key": "L-1"})
            await bus.settle()
            bus.write({"routes/a.yaml": ROUTE.format(version=2)})
            clock = bus.clock
        async with start(clock=clock) as bus:
            await bus.advance(10)
            assert bus.states("mapped") == ["waiting" if fails else "done"]
            assert ran_on(bus) == [digest(bus)] != [old]
            trace = bus.store.get(sent.message_id).trace
            told = [(entry["attempt"], entry["version_before"]) for entry in trace if "version_before" in entry]
            assert told == [(2, short_version(old))], "the first attempt ran on the version before"

    run(scenario())


def test_a_message_that_runs_where_it_was_accepted_says_nothing_of_it(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": ROUTE.format(version=1)}) as bus:
            sent = await bus.send("mapped", {"key": "L-1"})
            await bus.settle()
            assert ran_on(bus) == [digest(bus)]
            assert not [entry for entry in bus.store.get(sent.message_id).trace if "version_before" in entry]

    run(scenario())
