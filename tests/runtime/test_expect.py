"""Arrival windows: one alert where nothing came, one notice when it did after all; over restarts, pauses and reloads."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from esb.clock import ManualClock
from esb.config.loader import load_workspace
from esb.errors import StoreBusy
from esb.observe.metrics import render
from esb.runtime.expectations import Expectations
from esb.views import status

from .conftest import WHO, ProbeTarget, Start, TestBus, Wall, write

ROUTE = """
route: r
dedupe: body
from: { route: {} }
alert: desk
expect: { EXPECT }
steps: [ { split: { each: "[body]", steps: [ { log: x } ] } } ]
"""
SETTINGS = "bus: b\ntimezone: Europe/Vienna\nalerts: { desk: { probe: desk, window: 0s } }\n"


def files(expect: str) -> dict[str, str]:
    return {"esb.yaml": SETTINGS, "routes/r.yaml": ROUTE.replace("EXPECT", expect)}


class Watch:
    """The windows of one life of the bus, looked at whenever time passes."""

    def __init__(self, bus: TestBus, probe: ProbeTarget) -> None:
        self.bus, self.probe = bus, probe
        self.windows = Expectations(bus.store, bus.clock, bus.supervisor, lambda *_, **__: None)

    async def look(self, minutes: float = 0) -> list[str]:
        """The states of the notices so far."""
        while minutes > 0:
            await self.bus.advance(min(minutes, 5) * 60)
            minutes -= 5
            await self.windows.round()
        await self.windows.round()
        await self.bus.settle()
        await self.bus.settle()
        return [body["state"] for body in self.probe.bodies("desk")]

    @property
    def shown(self) -> dict[str, Any]:
        (item,) = [
            item for item in status(self.bus.store, self.bus.clock.now(), self.bus.supervisor) if item["route"] == "r"
        ]
        return dict(item["expect"])


def test_a_silence_is_one_alert_and_ends_with_what_comes(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start(files("every: 1h")) as bus:
            watch = Watch(bus, probe)
            assert await watch.look(30) == []
            await bus.send("r", 1)
            assert await watch.look(55) == []
            assert await watch.look(10) == ["firing"]
            (notice,) = probe.bodies("desk")
            assert (notice["route"], notice["class"], notice["alert"]) == ("r", "missed", "desk")
            assert "no message since 2026-01-05T09:3" in notice["text"]
            assert watch.shown["state"] == "missed"
            assert [(one["alert"], one["rule"]) for one in watch.windows.firing] == [("desk", "expect/r")]
            page = render(status(bus.store, bus.clock.now()), bus="b", uptime=1, ready=True, now=bus.clock.now())
            assert 'esb_expect_missed{route="r"} 1' in page
            assert 'esb_expect_missed_total{route="r"} 1' in page
            assert await watch.look(300) == ["firing"], "one silence is one alert"
            await bus.send("r", 1)
            assert await watch.look(1) == ["firing"], "a duplicate is nothing new"
            await bus.send("r", 2)
            assert await watch.look(1) == ["firing", "resolved"]
            assert (watch.shown["state"], watch.shown["missed"]) == ("waiting", 1)
            assert await watch.look(70) == ["firing", "resolved", "firing"]

    asyncio.run(go())


def test_a_day_has_its_time_and_a_weekend_has_none(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        # a Monday, 04:00 in Vienna
        async with start(files("by: '06:00', days: mon-fri"), clock=ManualClock("2026-01-05T03:00:00+00:00")) as bus:
            watch = Watch(bus, probe)
            await watch.look()
            assert watch.shown["due"] == "2026-01-05T05:00:00+00:00"
            await bus.advance(1)
            await bus.send("r", "mon")
            assert await watch.look(24 * 60) == []
            assert await watch.look(60) == []
            assert await watch.look(70) == ["firing"], "Tuesday, after six"
            await bus.send("r", "tue, late")
            assert await watch.look(5) == ["firing", "resolved"]
            assert await watch.look(24 * 60) == ["firing", "resolved", "firing"], "what came late is not Wednesday's"
            for day in ("wed", "thu", "fri"):
                await bus.send("r", day)
                await watch.look(24 * 60)
            told = len(probe.bodies("desk"))
            await watch.look(46 * 60)
            assert len(probe.bodies("desk")) == told, "nobody expects anything on Saturday and Sunday"

    asyncio.run(go())


def test_each_missed_window_of_a_day_is_an_alert_of_its_own(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start(files("by: ['06:00', '14:00'], at_least: 2, timezone: UTC")) as bus:
            watch = Watch(bus, probe)
            await watch.look()
            await bus.advance(1)
            await bus.send("r", 1)
            assert await watch.look(5 * 60 + 5) == ["firing"]
            assert probe.bodies("desk")[0]["text"].startswith("1 of 2 messages")
            assert await watch.look(16 * 60) == ["firing", "firing"]

    asyncio.run(go())


def test_a_restart_neither_repeats_an_alert_nor_makes_one_up(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start(files("every: 1h")) as bus:
            watch = Watch(bus, probe)
            await watch.look(30)
            clock = bus.clock
        clock.advance(3 * 3600)  # down
        async with start(clock=clock) as bus:
            watch = Watch(bus, probe)
            assert await watch.look(55) == [], "nobody could have been heard"
            assert await watch.look(10) == ["firing"]
        async with start(clock=clock) as bus:
            watch = Watch(bus, probe)
            assert await watch.look(120) == ["firing"]
            await bus.send("r", 1)
            assert await watch.look(1) == ["firing", "resolved"]

    asyncio.run(go())


def test_a_time_that_passed_while_the_bus_was_down_is_judged_after_the_start(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        expect = files("by: '10:00', timezone: UTC")
        async with start(expect) as bus:  # 09:00
            await Watch(bus, probe).look()
            clock = bus.clock
        clock.advance(2 * 3600)
        async with start(expect, clock=clock) as bus:
            watch = Watch(bus, probe)
            assert await watch.look() == []
            await bus.send("r", "it lay in the folder")
            assert await watch.look(2) == []
            clock = bus.clock
        clock.advance(3 * 24 * 3600)
        async with start(expect, clock=clock) as bus:
            watch = Watch(bus, probe)
            assert await watch.look() == []
            assert await watch.look(2) == ["firing"], "three days down are one alert"

    asyncio.run(go())


def test_a_notice_that_cannot_be_taken_is_told_later_and_a_crash_before_its_note_tells_it_once(
    start: Start, probe: ProbeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        async with start(files("every: 1h")) as bus:
            watch = Watch(bus, probe)
            await watch.look()
            bus.supervisor.pause("alert-desk", paused=True)
            assert await watch.look(70) == []
            assert watch.shown["state"] == "waiting"
            bus.supervisor.pause("alert-desk", paused=False)

            async def lost(*_: Any) -> None:
                raise StoreBusy("the process dies here")

            with monkeypatch.context() as patch:
                patch.setattr(type(watch.windows), "_keep", lost)
                with pytest.raises(StoreBusy):
                    await watch.windows.round()
            clock = bus.clock
        async with start(clock=clock) as bus:
            windows = Watch(bus, probe)
            windows.windows._began = clock.now().replace(year=2025)  # as if it had not been down
            windows.windows._seen = {"r"}
            assert await windows.look() == ["firing"]
            assert windows.shown["state"] == "missed"

    asyncio.run(go())


def test_a_pause_and_a_new_rule_begin_anew(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        async with start(files("every: 1h")) as bus:
            watch = Watch(bus, probe)
            await watch.look(30)
            await bus.operations.pause("r", WHO, paused=True)
            assert await watch.look(120) == []
            await bus.operations.pause("r", WHO, paused=False)
            assert await watch.look(55) == []
            bus.write(files("every: 2h"))
            await bus.reload()
            assert await watch.look(110) == []
            assert await watch.look(20) == ["firing"]
            bus.write({"routes/r.yaml": ROUTE.replace("expect: { EXPECT }\n", "")})
            await bus.reload()
            await watch.look(1)
            assert [item["expect"] for item in status(bus.store, bus.clock.now(), bus.supervisor)] == [None] * 2

    asyncio.run(go())


@pytest.mark.parametrize(
    ("expect", "code"),
    [
        ("{ at_least: 1 }", "ESB107"),
        ("{ every: 1h, by: '06:00' }", "ESB107"),
        ("{ every: 1h, days: mon-fri }", "ESB107"),
        ("{ every: 10s }", "ESB106"),
        ("{ by: '25:00' }", "ESB104"),
        ("{ by: '06:00', days: monday }", "ESB105"),
        ("{ by: '06:00', timezone: Mars/Olympus }", "ESB105"),
        ("{ every: 1h, alert: nobody }", "ESB310"),
        ("{ every: 1h, at_least: 0 }", "ESB106"),
    ],
)
def test_what_makes_no_sense_is_an_error(tmp_path: Path, expect: str, code: str) -> None:
    write(
        tmp_path, {"routes/r.yaml": f"route: r\nfrom: {{ route: {{}} }}\nexpect: {expect}\nsteps: [ {{ log: x }} ]\n"}
    )
    _, problems = load_workspace(tmp_path)
    assert [problem.code for problem in problems] == [code]


@pytest.mark.parametrize("restart", [False, True])
def test_a_clock_that_is_set_back_does_not_make_it_deaf(start: Start, probe: ProbeTarget, restart: bool) -> None:
    async def go() -> None:
        clock = Wall()
        async with start(files("every: 1h"), clock=clock) as bus:
            watch = Watch(bus, probe)
            await bus.send("r", 1)
            assert await watch.look(10) == []
            clock.set(timedelta(days=-400))
            if not restart:
                assert await watch.look(55) == []
                assert await watch.look(10) == ["firing"]
        if restart:
            async with start(clock=clock) as bus:
                watch = Watch(bus, probe)
                assert await watch.look(55) == []
                assert await watch.look(10) == ["firing"]

    asyncio.run(go())


def test_what_was_missed_before_the_clock_was_set_back_comes_late_all_the_same(
    start: Start, probe: ProbeTarget
) -> None:
    async def go() -> None:
        clock = Wall()
        async with start(files("every: 1h"), clock=clock) as bus:
            watch = Watch(bus, probe)
            assert await watch.look(70) == ["firing"]
            clock.set(timedelta(days=-400))
            assert await watch.look(1) == ["firing"]
            await bus.advance(1)
            await bus.send("r", 1)
            assert await watch.look(1) == ["firing", "resolved"]

    asyncio.run(go())


def test_a_time_of_the_day_that_was_judged_is_not_judged_again_where_the_clock_goes_back_behind_it(
    start: Start, probe: ProbeTarget
) -> None:
    async def go() -> None:
        clock = Wall("2026-01-05T03:00:00+00:00")
        async with start(files("by: '06:00', timezone: UTC"), clock=clock) as bus:
            watch = Watch(bus, probe)
            await watch.look()
            await bus.advance(1)
            await bus.send("r", 1)
            assert await watch.look(185) == []
            clock.set(timedelta(minutes=-30))
            assert await watch.look(60) == []
            clock.set(timedelta(days=-400))
            await watch.look(1)
            assert watch.shown["due"] < clock.now().isoformat()[:4] + "-12-05"

    asyncio.run(go())


def test_a_clock_that_jumps_ahead_makes_up_no_silence(start: Start, probe: ProbeTarget) -> None:
    async def go() -> None:
        clock = Wall()
        async with start(files("every: 1h"), clock=clock) as bus:
            watch = Watch(bus, probe)
            assert await watch.look(10) == []
            clock.set(timedelta(hours=3))
            assert await watch.look(55) == [], "the machine slept: nobody could have been heard"
            assert await watch.look(10) == ["firing"]

    asyncio.run(go())
