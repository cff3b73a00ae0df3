"""Direct dispatch: a message that begins at once is stored as begun, and every promise about attempts holds all the same."""

from __future__ import annotations

import asyncio
import shutil
from typing import Any

import pytest

from esb.clock import ManualClock
from esb.errors import StoreBusy, Unavailable
from esb.operations import Who
from esb.steps.base import Reply
from tests.runtime.test_promises import OVERTAKE, PLAIN, run
from tests.runtime.test_unheard import plant

WHO = Who("tester", "because")
ONE = PLAIN.replace("route: plain", "route: plain\nconcurrency: 1").replace("key: body.lot\n", "")


def starts_of(bus: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the messages whose start is told to the store from now on."""
    told: list[int] = []
    start = bus.store.start_then

    def counted(seq: int, *more: Any) -> Any:
        told.append(seq)
        return start(seq, *more)

    monkeypatch.setattr(bus.store, "start_then", counted)
    return told


def test_a_message_that_begins_at_once_is_stored_as_begun(
    start: Any, probe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": PLAIN}) as bus:
            told = starts_of(bus, monkeypatch)
            receipt = await bus.send("plain", {"lot": "1"})
            stored = bus.store.get(receipt.message_id)
            assert (receipt.state, stored.state.value, stored.attempts, probe.got) == ("queued", "running", 1, [])
            await bus.settle()
            stored = bus.store.get(receipt.message_id)
            assert (stored.state.value, stored.attempts, told) == ("done", 1, [])
            assert [(got.attempt, got.again) for got in probe.got] == [(1, False)]
            bus.whole()

    run(scenario())


def test_one_that_has_to_wait_is_stored_as_waiting_and_told_when_it_starts(
    start: Any, probe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        answer = asyncio.get_running_loop().create_future()
        probe.script["erp"] = [answer]
        async with start({"routes/a.yaml": ONE}) as bus:
            told = starts_of(bus, monkeypatch)
            sent = [bus.send("plain", {"n": n}) for n in range(3)]
            receipts = await asyncio.gather(*sent)
            assert bus.states("plain") == ["running", "queued", "queued"]
            answer.set_result(Reply(200))
            await bus.settle()
            assert bus.states("plain") == ["done"] * 3
            assert told == [receipt.seq for receipt in receipts[1:]]
            assert [body["n"] for body in probe.bodies("erp")] == [0, 1, 2]
            bus.whole()

    run(scenario())


def test_a_route_is_behind_while_very_many_wait_for_their_turn(
    start: Any, probe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        answer = asyncio.get_running_loop().create_future()
        probe.script["erp"] = [answer]
        monkeypatch.setattr("esb.runtime.intake.MOST_READY", 1)
        async with start({"routes/a.yaml": ONE}) as bus:
            intake, seen = bus.supervisor.routes["plain"].intake, []
            for n in range(3):
                await bus.send("plain", {"n": n})
                seen.append(intake.behind)
            assert seen == [False, False, True], "one at work, one that waits, and one too many"
            answer.set_result(Reply(200))
            await bus.settle()
            assert not intake.behind

    run(scenario())


def test_where_one_message_may_overtake_another_no_route_is_behind(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        monkeypatch.setattr("esb.runtime.intake.MOST_READY", -1)
        for text, behind in ((ONE, True), (OVERTAKE, False)):
            async with start({"routes/a.yaml": text}) as bus:
                assert bus.supervisor.routes["plain"].intake.behind is behind

    run(scenario())


def test_messages_of_one_key_in_one_commit_go_one_after_the_other(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        answer = asyncio.get_running_loop().create_future()
        probe.script["erp"] = [answer]
        async with start({"routes/a.yaml": PLAIN}) as bus:
            await asyncio.gather(*[bus.send("plain", {"lot": "1", "n": n}) for n in range(3)])
            assert bus.states("plain") == ["running", "queued", "queued"]
            for _ in range(20):
                await asyncio.sleep(0)
            assert [body["n"] for body in probe.bodies("erp")] == [0]
            answer.set_result(Reply(200))
            await bus.settle()
            assert [body["n"] for body in probe.bodies("erp")] == [0, 1, 2]
            bus.whole()

    run(scenario())


def test_a_retry_of_one_that_began_at_once_counts_on(start: Any, probe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Unavailable("503")]
        async with start({"routes/a.yaml": PLAIN}) as bus:
            told = starts_of(bus, monkeypatch)
            receipt = await bus.send("plain", {"lot": "1"})
            await bus.settle()
            await bus.advance(10)
            assert (bus.state(receipt.message_id), told) == ("done", [receipt.seq])
            assert [(got.attempt, got.again) for got in probe.got] == [(1, False), (2, True)]
            bus.whole()

    run(scenario())


def test_what_was_stored_as_begun_and_never_ran_counts_as_one_attempt_after_a_death(start: Any, probe: Any) -> None:
    """Nobody knows how far it came: it is sent again, as something that may have been sent."""

    async def scenario() -> None:
        clock = ManualClock()
        async with start({"routes/a.yaml": PLAIN}, clock=clock) as bus:
            receipt = await bus.send("plain", {"lot": "1"})
            assert (bus.state(receipt.message_id), probe.got) == ("running", [])
            shutil.copytree(bus.root / ".esb", bus.root / "killed")  # what a kill leaves here and now
        probe.got.clear()
        shutil.rmtree(bus.root / ".esb")
        (bus.root / "killed").rename(bus.root / ".esb")
        async with start(clock=clock) as bus:
            await bus.settle()
            stored = bus.store.get(receipt.message_id)
            assert (stored.state.value, stored.attempts) == ("done", 2)
            assert [(got.attempt, got.again) for got in probe.got] == [(2, True)]
            bus.whole()

    run(scenario())


def test_a_place_comes_back_where_the_store_takes_nothing(
    start: Any, probe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": ONE}) as bus:
            plant(monkeypatch, "store.commit_error=error@1")
            with pytest.raises(StoreBusy):
                await bus.send("plain", {"n": 0})
            await bus.settle()
            with pytest.raises(ValueError, match="surrogates"):
                await bus.send("plain", {"n": 1}, meta={"odd": "\ud800"})
            assert bus.supervisor.routes["plain"].runner.places.busy == 0
            await bus.send("plain", {"n": 2})
            await bus.settle()
            assert bus.states("plain") == ["done"]
            bus.whole()

    run(scenario())


def test_one_whose_commit_is_in_doubt_runs_and_its_attempt_counts_once(
    start: Any, probe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": PLAIN}) as bus:
            plant(monkeypatch, "store.after_commit=error@1")
            with pytest.raises(StoreBusy):
                await bus.send("plain", {"lot": "1"})
            await bus.settle()
            (stored,) = bus.messages()
            assert (stored.state.value, stored.attempts, len(probe.got)) == ("done", 1, 1)
            assert bus.supervisor.routes["plain"].runner.places.busy == 0
            bus.whole()

    run(scenario())


def test_at_a_stop_one_that_has_not_run_goes_back_without_an_attempt(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": PLAIN}) as bus:
            runner = bus.supervisor.routes["plain"].runner
            receipt = await bus.send("plain", {"lot": "1"})
            runner.stopping = True
            await bus.settle()
            stored = bus.store.get(receipt.message_id)
            assert (stored.state.value, stored.attempts, probe.got) == ("queued", 0, [])
            bus.whole()
        async with start() as bus:
            await bus.settle()
            assert (bus.states("plain"), [got.attempt for got in probe.got]) == (["done"], [1])
            bus.whole()

    run(scenario())


def test_what_has_begun_runs_where_the_route_is_paused_meanwhile(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": PLAIN}) as bus:
            await bus.send("plain", {"lot": "1"})
            bus.supervisor.pause("plain", paused=True)
            await bus.settle()
            assert bus.states("plain") == ["done"]
            bus.whole()

    run(scenario())


def test_a_hold_supersedes_one_that_has_begun_and_sent_nothing(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": OVERTAKE}) as bus:
            runner = bus.supervisor.routes["plain"].runner
            turn, runner.turn = runner.turn, lambda: False
            await bus.send("plain", {"lot": "1", "kind": "RELEASE"})
            assert bus.states("plain") == ["running"]
            await bus.send("plain", {"lot": "1", "kind": "HOLD"})
            runner.turn = turn
            bus.supervisor.turns.ask(runner)
            await bus.settle()
            assert bus.states("plain") == ["superseded", "done"]
            assert [body["kind"] for body in probe.bodies("erp")] == ["HOLD"]
            bus.whole()

    run(scenario())
