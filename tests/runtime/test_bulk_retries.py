"""Bulk retries: in the order of acceptance, one at a turn, until stopped; over a restart they go on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from esb.admin.jobs import MOST_RUNNING, Jobs
from esb.cli import cli
from esb.durations import Rate
from esb.errors import Rejected
from esb.operations import NotAllowed
from esb.store.base import Filter
from tests.runtime.conftest import WHO

ROUTE = "route: hold\nkey: body.lot\nfrom: { route: {} }\nsteps:\n  - to: { probe: erp }\n"
HOURLY = Rate(1, timedelta(hours=1))
ALL = Filter(route="hold", limit=100)
BULK = {"bulk.start", "bulk.stop", "bulk.resume", "bulk.end", "dlq.retry"}


@asynccontextmanager
async def with_dead(start: Any, probe: Any, lots: str) -> AsyncIterator[Any]:
    """A bus in which a message of each of the ``lots`` is dead."""
    probe.script["erp"] = [Rejected("no")] * len(lots)
    async with start({"routes/a.yaml": ROUTE}) as bus:
        for lot in lots:
            await bus.send("hold", {"lot": lot})
        await bus.settle()
        assert bus.states("hold") == ["dead"] * len(lots)
        yield bus


def test_a_bulk_retry_goes_in_order_at_its_rate_and_ends(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with with_dead(start, probe, "123") as bus:
            jobs = Jobs(bus.store, bus.operations, bus.clock, print)
            started = await jobs.start(ALL, WHO, stale=False, rate=HOURLY)
            await bus.settle()
            assert (started["result"], started["total"], started["rate"]) == ("started", 3, "1/h")
            assert bus.states("hold") == ["done", "dead", "dead"]
            assert jobs.get(started["job"])["done"] == 1
            await bus.advance(3599)
            assert bus.states("hold") == ["done", "dead", "dead"]
            await bus.advance(1)
            assert bus.states("hold") == ["done", "done", "dead"]
            await bus.advance(3600)
            await ended(jobs, started["job"])
            await bus.settle()
            assert probe.bodies("erp")[3:] == [{"lot": lot} for lot in "123"]
            after = jobs.get(started["job"])
            assert (after["state"], after["done"], after["results"]) == ("done", 3, {"queued": 3})
            assert [item["result"] for item in jobs.results(started["job"])] == ["queued"] * 3
            bus.whole()

    asyncio.run(scenario())


def test_a_dry_run_does_not_wait_for_the_rate(start: Any, probe: Any) -> None:
    """It does nothing that could be too much: ten thousand messages at 20/s would be eight minutes of waiting for a list."""

    async def scenario() -> None:
        async with with_dead(start, probe, "123") as bus:
            began = bus.clock.monotonic()
            retries = await bus.operations.retry(ALL, WHO, dry_run=True, rate=HOURLY)
            assert [item["result"] for item in retries] == ["would retry"] * 3
            every = Filter(ids=tuple(item["id"] for item in retries))
            assert len(await bus.operations.replay(every, WHO, dry_run=True, rate=HOURLY)) == 3
            assert bus.clock.monotonic() == began

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_stop_leaves_the_rest_dead_and_a_restart_goes_on(start: Any, probe: Any, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with with_dead(start, probe, "1234") as bus:
            jobs = Jobs(bus.store, bus.operations, bus.clock, print)
            first = await jobs.start(ALL, WHO, stale=False, rate=HOURLY)
            await bus.settle()
            stopped = await jobs.stop(first["job"], WHO)
            assert (stopped["state"], stopped["stopped_by"], stopped["done"]) == ("stopped", "tester", 1)
            assert (await jobs.stop(first["job"], WHO))["result"] == "skipped"
            await bus.advance(1)
            second = await jobs.start(ALL, WHO, stale=False, rate=HOURLY)
            await bus.settle()
            assert bus.states("hold") == ["done", "done", "dead", "dead"]
            await jobs.close()
            assert jobs.get(second["job"])["state"] == "waiting"
            await bus.advance(7200)
            assert bus.states("hold") == ["done", "done", "dead", "dead"], "nothing goes on after the bus has stopped"
            again = Jobs(bus.store, bus.operations, bus.clock, lambda *_, **__: None)
            assert [item["state"] for item in again.items()] == ["waiting", "stopped"]
            await again.resume()
            await bus.settle()
            assert bus.states("hold") == ["done", "done", "dead", "dead"], "the rate holds over a restart"
            await bus.advance(3600)
            assert bus.states("hold") == ["done", "done", "done", "dead"]
            await again.close()

    asyncio.run(scenario())
    (second, first) = listed(tmp_path)
    assert [(item["state"], item["done"], item["total"]) for item in (second, first)] == [
        ("waiting", 2, 3),
        ("stopped", 1, 4),
    ]
    done = CliRunner().invoke(cli, ["dlq", "bulk", second["job"], "--stop", "-C", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output  # a bus that does not run: it will not go on
    assert [item["state"] for item in listed(tmp_path)] == ["stopped", "stopped"]


def test_a_job_that_ran_when_the_bus_was_killed_retries_each_message_once(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with with_dead(start, probe, "123") as bus:
            probe.script["erp"] = [Rejected("no")] * 2
            jobs = Jobs(bus.store, bus.operations, bus.clock, print)
            started = await jobs.start(ALL, WHO, stale=False, rate=HOURLY)
            await bus.settle()
            await bus.advance(3600)
            assert bus.states("hold") == ["dead"] * 3, "two were retried, and died again"
            killed = Jobs(bus.store, bus.operations, bus.clock, lambda *_, **__: None)  # all it knows is in the store
            (item,) = killed.items()
            assert (item["state"], item["done"], item["results"]) == ("waiting", 2, {"queued": 2})
            await jobs.close()
            await killed.resume()
            await bus.settle()
            await bus.advance(3600)
            await ended(killed, started["job"])
            await bus.settle()
            assert bus.states("hold") == ["dead", "dead", "done"]
            after = killed.get(started["job"])
            assert (after["state"], after["done"], after["results"]) == ("done", 3, {"queued": 3})
            assert [one["result"] for one in killed.results(started["job"])] == ["reached", "reached", "queued"]
            entries = [one for one in bus.store.audit_entries() if one["action"] in BULK]
            assert [one["action"] for one in entries] == ["bulk.start", *["dlq.retry"] * 2, "bulk.resume", "dlq.retry", "bulk.end"]  # fmt: skip
            assert {one["detail"]["bulk"] for one in entries if one["action"] == "dlq.retry"} == {started["job"]}
            assert entries[-1]["detail"] == {"state": "done", "done": 3, "total": 3, "results": {"queued": 3}}
            assert bus.store.verify_audit() == []
            bus.whole()

    asyncio.run(scenario())


def test_a_stop_that_was_noted_counts_after_a_kill(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with with_dead(start, probe, "12") as bus:
            jobs = Jobs(bus.store, bus.operations, bus.clock, print)
            started = await jobs.start(ALL, WHO, stale=False, rate=HOURLY)
            await bus.settle()
            stopping = asyncio.ensure_future(jobs.stop(started["job"], WHO))
            while not bus.store.get_state("bulk-job", started["job"])["stopped_by"]:
                await asyncio.sleep(0)
            killed = Jobs(bus.store, bus.operations, bus.clock, lambda *_, **__: None)
            await killed.resume()
            assert killed.get(started["job"])["state"] == "stopped"
            await bus.advance(3600)
            assert bus.states("hold") == ["done", "dead"]
            await stopping

    asyncio.run(scenario())


def test_only_so_many_run_at_once_and_what_another_did_is_skipped(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with with_dead(start, probe, "abcdefghijkl") as bus:
            jobs = Jobs(bus.store, bus.operations, bus.clock, print)
            started = [await jobs.start(ALL, WHO, stale=False, rate=HOURLY) for _ in range(MOST_RUNNING)]
            with pytest.raises(NotAllowed, match="run already"):
                await jobs.start(ALL, WHO, stale=False, rate=HOURLY)
            for _ in range(12):
                await bus.settle()
                await bus.advance(3600)
            for one in started:
                await ended(jobs, one["job"])
            await bus.settle()
            assert bus.states("hold") == ["done"] * 12
            found = [jobs.get(one["job"])["results"] for one in started]
            assert sum(results.get("queued", 0) for results in found) == 12
            assert sum(results.get("skipped", 0) for results in found) > 0, "another one was first"
            bus.whole()

    asyncio.run(scenario())


async def ended(jobs: Jobs, id_: str) -> None:
    while jobs.get(id_)["state"] == "running":
        await asyncio.sleep(0)


def listed(root: Path) -> list[dict[str, Any]]:
    """The bulk retries, as the command line gives them."""
    done = CliRunner().invoke(cli, ["dlq", "bulk", "-C", str(root), "--json"])
    assert done.exit_code == 0, done.output
    return list(json.loads(done.stdout)["items"])
