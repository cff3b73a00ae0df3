"""What lanes remember in memory is what the store says, also after people and crashes had a hand in it."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from typing import Any

from esb.clock import ManualClock
from esb.errors import Rejected, Unavailable
from esb.message import State
from esb.operations import Who
from esb.steps.base import Reply
from esb.store.base import Filter
from tests.runtime.test_promises import OVERTAKE, PLAIN, run

WHO = Who("tester", "because")


def test_a_retry_of_an_older_dead_message_leaves_its_key_behind_the_newer_one(start: Any, probe: Any) -> None:
    """A release that died under way blocks nothing, the hold that overtook it does; what is done to the one frees not the other."""

    async def scenario() -> None:
        filtered = OVERTAKE.replace("steps:\n", "steps:\n  - filter: body.kind != 'NOTE'\n")
        async with start({"routes/a.yaml": filtered}) as bus:
            under_way = asyncio.get_running_loop().create_future()
            probe.script["erp"] = [under_way, Rejected("no hold")]
            release = await bus.send("plain", {"lot": "1", "kind": "RELEASE"})
            while not probe.got:
                await asyncio.sleep(0)
            hold = await bus.send("plain", {"lot": "1", "kind": "HOLD"})
            under_way.set_result(Rejected("no release"))
            await bus.settle()
            await bus.send("plain", {"lot": "1", "kind": "NOTE"})
            await bus.settle()
            assert bus.states("plain") == ["dead", "dead", "held"]

            again = asyncio.get_running_loop().create_future()
            probe.script["erp"] = [again]
            (refused,) = await bus.operations.retry(Filter(ids=(release.message_id,)), WHO)
            assert (refused["result"], "overtook" in refused["why"]) == ("skipped", True)
            await bus.operations.retry(Filter(ids=(release.message_id,)), WHO, stale=True)
            while len(probe.got) < 3:  # the older one itself may run
                await asyncio.sleep(0)
            again.set_result(Unavailable("503"))
            await bus.settle()
            await bus.advance(60)
            assert bus.states("plain") == ["done", "dead", "held"]
            await bus.send("plain", {"lot": "1", "kind": "RELEASE"})
            await bus.settle()
            assert bus.states("plain") == ["done", "dead", "held", "held"]

            await bus.operations.retry(Filter(ids=(hold.message_id,)), WHO)
            await bus.settle()
            assert bus.states("plain") == ["done"] * 4
            assert not any(one["event"] == "runner.fault" for one in bus.logs)
            bus.whole()

    run(scenario())


def test_a_release_that_died_while_a_hold_was_being_committed_blocks_nothing(start: Any, probe: Any) -> None:
    """However many steps of the loop lie between the two."""

    async def scenario() -> None:
        async with start({"routes/a.yaml": OVERTAKE}) as bus:
            for steps in range(12):
                under_way = asyncio.get_running_loop().create_future()
                probe.script["erp"] = [under_way]
                before = len(probe.got)
                await bus.send("plain", {"lot": str(steps), "kind": "RELEASE"})
                while len(probe.got) == before:
                    await asyncio.sleep(0)
                hold = asyncio.create_task(bus.send("plain", {"lot": str(steps), "kind": "HOLD"}))
                for _ in range(steps):
                    await asyncio.sleep(0)
                under_way.set_result(Rejected("no release"))
                await hold
                await bus.send("plain", {"lot": str(steps), "kind": "RELEASE"})
                await bus.settle()
            assert bus.states("plain")[1::3] == ["done"] * 12
            assert bus.states("plain")[2::3] == ["done"] * 12
            assert set(bus.states("plain")[::3]) <= {"dead", "superseded"}
            bus.whole()

    run(scenario())


def test_a_suspect_that_lived_through_an_attempt_is_none_any_more(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        async with start({"routes/a.yaml": PLAIN}, clock=clock) as bus:
            probe.script["erp"] = [asyncio.get_running_loop().create_future()]
            await bus.send("plain", {"lot": "1"})
            while not probe.got:
                await asyncio.sleep(0)
            (seq,) = (one.envelope.seq for one in bus.messages())
        with closing(sqlite3.connect(bus.root / ".esb" / "bus.db", isolation_level=None)) as store:
            store.execute("UPDATE pending SET crashes = 2")  # as after two deaths of the process at this message
        probe.script["erp"] = [Unavailable("503"), Unavailable("503")]
        async with start({"routes/a.yaml": PLAIN}, clock=clock) as bus:
            await bus.settle()
            assert bus.store.pending()[0].crashes == 0
            entry = bus.supervisor.routes["plain"].runner.lanes.get(seq)
            assert (bus.states("plain"), entry.crashes) == ([State.WAITING.value], 0)
            bus.whole()

    run(scenario())


def test_a_release_that_was_under_way_when_a_hold_overtook_it_is_not_sent_after_it(start: Any, probe: Any) -> None:
    """Whether its attempt was given back at a stop, or its route made it wait meanwhile."""

    async def scenario() -> None:
        clock = ManualClock()
        files = {"routes/a.yaml": OVERTAKE.replace("steps:\n", "steps:\n  - { to: { probe: mes } }\n  - delay: 1h\n")}
        async with start(files, clock=clock) as bus:
            under_way = asyncio.get_running_loop().create_future()
            probe.script["mes"] = [under_way, asyncio.get_running_loop().create_future()]
            await bus.send("plain", {"lot": "1", "kind": "RELEASE", "n": 1})
            await bus.send("plain", {"lot": "2", "kind": "RELEASE", "n": 2})
            while len(probe.got) < 2:
                await asyncio.sleep(0)
            for lot in ("1", "2"):
                await bus.send("plain", {"lot": lot, "kind": "HOLD", "n": 3})
            under_way.set_result(Reply(200))  # and now the first one waits for an hour, the second is given back
        async with start(files, clock=clock) as bus:
            await bus.advance(7300)
            assert bus.states("plain") == ["superseded", "superseded", "done", "done"]
            assert [body["n"] for body in probe.bodies("erp")] == [3, 3]
            bus.whole()

    run(scenario())


def test_a_release_that_was_under_way_at_a_kill_is_not_sent_after_the_hold_that_overtook_it(
    start: Any, probe: Any
) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        async with start({"routes/a.yaml": OVERTAKE}, clock=clock) as bus:
            probe.script["erp"] = [asyncio.get_running_loop().create_future()]
            await bus.send("plain", {"lot": "1", "kind": "RELEASE"})
            while not probe.got:
                await asyncio.sleep(0)
            await bus.send("plain", {"lot": "1", "kind": "HOLD"})
            shutil.copytree(bus.root / ".esb", bus.root / "killed")  # what a kill leaves here and now
        shutil.rmtree(bus.root / ".esb")
        (bus.root / "killed").rename(bus.root / ".esb")
        async with start({"routes/a.yaml": OVERTAKE}, clock=clock) as bus:
            await bus.advance(60)
            assert bus.states("plain") == ["superseded", "done"]
            assert [body["kind"] for body in probe.bodies("erp")] == ["RELEASE", "HOLD"]
            bus.whole()

    run(scenario())
