"""The timer: one message per slot, also after a restart, a downtime, a full queue or a clock that jumps."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from esb.endpoints.cron import Cron
from esb.endpoints.timer import CatchUpAll, Timer, TimerSource
from esb.errors import Invalid, StoreBusy
from esb.secret import Secret
from esb.spec import MISSING, options_of

Options = Callable[[type, Any], tuple[Any, list[str]]]


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


class Hand:
    """A timer that is looked at by hand. The bench's clock begins at 10:00."""

    def __init__(self, bench: Any, *, timezone: str = "UTC", **options: Any) -> None:
        self.bench = bench
        self.source = TimerSource(**options)
        self.timezone = timezone
        self.restart()

    def restart(self) -> None:
        self.timer = Timer(self.source, self.bench.context(timezone=self.timezone))

    def at(self, **later: float) -> list[str]:
        """Let time pass, look once; the slots that were sent."""
        self.bench.clock.advance(timedelta(**later))
        before = len(self.bench.intake.accepted)
        asyncio.run(self.timer.poll_once())
        return [incoming.meta["slot"][11:16] for incoming in self.bench.intake.accepted[before:]]


def test_every_sends_at_multiples_and_never_at_the_first_start(bench: Any) -> None:
    hand = Hand(bench, every=minutes(7))
    assert hand.at() == []
    found = [slot for _ in range(30) for slot in hand.at(minutes=1)]
    assert found == ["10:05", "10:12", "10:19", "10:26"]
    hand.restart()
    assert [slot for _ in range(10) for slot in hand.at(minutes=1)] == ["10:33", "10:40"]


def test_a_message_says_its_slot_and_has_the_body_of_the_route(bench: Any) -> None:
    hand = Hand(bench, every=minutes(5), body={"report": "shift", "share": Decimal("1.50")})
    hand.at()
    hand.at(minutes=6)
    (incoming,) = bench.intake.accepted
    assert incoming.payload == b'{"report":"shift","share":1.50}'
    assert incoming.content_type == "application/json"
    assert incoming.meta == {"slot": "2026-11-24T10:05:00Z", "source": {"type": "timer"}}
    assert incoming.source_key == "slot:2026-11-24T10:05:00Z"


def test_the_body_is_an_empty_object_by_default(bench: Any) -> None:
    hand = Hand(bench, every=minutes(5))
    hand.at()
    hand.at(minutes=5)
    assert json.loads(bench.intake.payloads[0]) == {}


def test_cron_runs_in_the_zone_of_the_bus_or_its_own(bench: Any) -> None:
    vienna = Hand(bench, cron=Cron.parse("0 12 * * *"), timezone="Europe/Vienna")
    vienna.at()
    assert vienna.at(hours=1) == ["11:00"]
    bench.state.values.clear()
    tokyo = Hand(bench, cron=Cron.parse("30 20 * * *"), timezone="Europe/Vienna")
    tokyo.source = TimerSource(cron=Cron.parse("30 20 * * *"), timezone="Asia/Tokyo")
    tokyo.restart()
    tokyo.at()
    assert tokyo.at(minutes=30) == ["11:30"]


def test_a_slot_is_sent_once_where_a_kill_falls_between_commit_and_memory(bench: Any) -> None:
    hand = Hand(bench, every=minutes(5))
    hand.at()
    before = dict(bench.state.values)
    assert hand.at(minutes=5) == ["10:05"]
    bench.state.values = before  # the memory of the slot was not written
    hand.restart()
    assert hand.at() == []
    assert hand.at(minutes=5) == ["10:10"]


def test_a_slot_stays_due_where_the_store_takes_nothing(bench: Any) -> None:
    def busy(_: object) -> None:
        raise StoreBusy("full", retry_after=timedelta(seconds=90))

    hand = Hand(bench, every=minutes(5))
    hand.at()
    bench.intake.before = busy
    assert hand.at(minutes=5) == []
    bench.intake.before = lambda incoming: None
    assert hand.at(seconds=60) == []
    assert hand.at(seconds=30) == ["10:05"]


def test_a_slot_that_intake_refuses_for_good_does_not_block_the_next(bench: Any) -> None:
    def refuse(_: object) -> None:
        raise Invalid("no")

    hand = Hand(bench, every=minutes(5))
    hand.at()
    bench.intake.before = refuse
    hand.at(minutes=5)
    bench.intake.before = lambda incoming: None
    assert hand.at(minutes=5) == ["10:10"]
    assert len(bench.events("timer.refused")) == 1


def test_nothing_is_sent_while_intake_is_closed(bench: Any) -> None:
    hand = Hand(bench, every=minutes(5))
    hand.at()
    bench.intake.open = False
    assert hand.at(minutes=12) == []
    bench.intake.open = True
    assert hand.at() == ["10:10"]


@pytest.mark.parametrize(
    ("policy", "sent"),
    [
        ("once", ["13:00"]),
        ("skip", []),
        (CatchUpAll(all=2), ["12:00", "13:00"]),
        (CatchUpAll(all=10), ["11:00", "12:00", "13:00"]),
    ],
)
@pytest.mark.parametrize("plan", [{"every": minutes(60)}, {"cron": Cron.parse("0 * * * *")}])
def test_catch_up_after_a_downtime(bench: Any, policy: Any, sent: list[str], plan: dict[str, Any]) -> None:
    hand = Hand(bench, catch_up=policy, **plan)
    hand.at()
    hand.restart()
    assert hand.at(hours=3, minutes=10) == sent
    assert hand.at() == []
    assert hand.at(minutes=50) == ["14:00"]


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(
    ("plan", "zone"),
    [
        ({"cron": Cron.parse("0 14 * * *")}, "UTC"),
        ({"every": minutes(30)}, "UTC"),
        ({"cron": Cron.parse("0 22 * * *")}, "Asia/Tokyo"),
    ],
)
def test_another_plan_has_missed_nothing(bench: Any, plan: dict[str, Any], zone: str, restarted: bool) -> None:
    """The day's message went out at 11:00; at 15:00 somebody writes another plan: its slots before that were nobody's."""
    hand = Hand(bench, cron=Cron.parse("0 11 * * *"))
    hand.at()
    assert hand.at(hours=1) == ["11:00"]
    if restarted:  # by an earlier version, which did not keep the plan
        bench.state.values.pop("plan", None)
        hand.restart()
        assert hand.at() == []
    bench.clock.advance(timedelta(hours=4, minutes=10))
    hand.source, hand.timezone = TimerSource(**plan), zone
    hand.restart()
    assert hand.at() == []
    hand.restart()
    assert len(hand.at(days=1)) == 1  # and from here on it makes up for what it misses


def test_skip_keeps_a_slot_that_is_on_time(bench: Any) -> None:
    hand = Hand(bench, every=minutes(60), catch_up="skip")
    hand.at()
    assert hand.at(hours=3, seconds=50) == ["13:00"]
    assert hand.at(hours=2, seconds=30) == []
    assert len(bench.events("timer.skipped")) == 1


@pytest.mark.parametrize("plan", [{"every": timedelta(seconds=1)}, {"cron": Cron.parse("* * * * *")}])
def test_years_of_downtime_are_made_up_for_at_once(bench: Any, plan: dict[str, Any]) -> None:
    hand = Hand(bench, catch_up=CatchUpAll(all=3), **plan)
    hand.at()
    assert len(hand.at(days=4000)) == 3


def test_a_rare_cron_is_found_after_a_long_downtime(bench: Any) -> None:
    hand = Hand(bench, cron=Cron.parse("0 0 29 2 *"), catch_up=CatchUpAll(all=5))
    hand.at()
    hand.at(days=365 * 7)
    assert [incoming.meta["slot"][:10] for incoming in bench.intake.accepted] == ["2028-02-29", "2032-02-29"]


def test_all_goes_on_where_it_stopped_when_the_store_gets_busy(bench: Any) -> None:
    def busy_at_twelve(incoming: Any) -> None:
        if "T12:00" in incoming.meta["slot"]:
            raise StoreBusy("full", retry_after=timedelta(seconds=1))

    hand = Hand(bench, every=minutes(60), catch_up=CatchUpAll(all=10))
    hand.at()
    bench.intake.before = busy_at_twelve
    assert hand.at(hours=3) == ["11:00"]
    bench.intake.before = lambda incoming: None
    assert hand.at(seconds=1) == ["12:00", "13:00"]


def test_a_clock_that_was_far_ahead_does_not_silence_the_timer(bench: Any) -> None:
    hand = Hand(bench, every=minutes(5))
    bench.state.values["slot"] = "2031-01-01T00:00:00Z"
    assert hand.at() == []
    assert len(bench.events("timer.clock_set_back")) == 1
    assert hand.at(minutes=5) == ["10:05"]


def test_a_clock_that_steps_back_a_little_repeats_no_slot(bench: Any) -> None:
    hand = Hand(bench, every=minutes(5))
    hand.at()
    assert hand.at(minutes=5) == ["10:05"]
    assert hand.at(minutes=-3) == []
    assert hand.at(minutes=3) == []
    assert hand.at(minutes=5) == ["10:10"]


def test_the_pause_reaches_to_the_next_slot_but_not_too_far(bench: Any) -> None:
    hand = Hand(bench, every=minutes(5))
    assert hand.timer.pause() == 1.0
    hand.at()
    assert hand.timer.pause() == 30.0
    hand.at(minutes=4, seconds=50)
    assert hand.timer.pause() == 10.0
    bench.intake.open = False
    assert hand.timer.pause() == 1.0


def test_a_running_timer_wakes_at_its_slot_and_stops(bench: Any) -> None:
    async def scenario() -> None:
        timer = Hand(bench, every=timedelta(seconds=20)).timer
        await timer.start()
        for _ in range(3):
            await bench.until(lambda: bench.clock._sleepers)
            bench.clock.advance(20)
            await bench.until(lambda: bench.clock._sleepers)
        await timer.stop()

    asyncio.run(scenario())
    assert [incoming.meta["slot"][11:19] for incoming in bench.intake.accepted] == ["10:00:20", "10:00:40", "10:01:00"]


def test_trouble_of_the_store_is_told_and_tried_again(bench: Any) -> None:
    async def broken(name: str, value: Any) -> None:
        raise StoreBusy("disk full")

    async def scenario() -> None:
        put, bench.state.put = bench.state.put, broken
        timer = Hand(bench, every=minutes(1)).timer
        await timer.start()
        await bench.until(lambda: bench.clock._sleepers)
        bench.state.put = put
        bench.clock.advance(5)
        await bench.until(lambda: bench.state.values)
        await timer.stop()

    asyncio.run(scenario())
    assert len(bench.events("timer.trouble")) == 1


# -- options --------------------------------------------------------------------------------------------------------------


def test_the_shorthand_is_every(options: Options) -> None:
    timer, problems = options(TimerSource, "5m")
    assert problems == []
    assert (timer.every, timer.cron, timer.catch_up, timer.body) == (minutes(5), None, "once", {})


def test_every_option_is_read(options: Options) -> None:
    timer, problems = options(
        TimerSource,
        {"cron": "0 6 * * 1-5", "timezone": "Europe/Vienna", "catch_up": {"all": 3}, "body": {"a": [1, {"b": None}]}},
    )
    assert problems == []
    assert timer.catch_up == CatchUpAll(all=3)
    assert timer.body == {"a": [1, {"b": None}]}
    assert options(TimerSource, {"every": "1h", "catch_up": "skip"})[0].catch_up == "skip"


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        ({}, "ESB107", "every: 5m"),
        ({"every": "5m", "cron": "0 6 * * *"}, "ESB107", "exactly one"),
        ({"every": "10ms"}, "ESB106", "100ms"),
        ({"every": "365000d", "catch_up": {"all": 10_000}}, "ESB106", "every: 365d"),
        ({"every": "5"}, "ESB104", "5s"),
        ({"interval": "5m"}, "ESB101", "`every`"),
        ({"cron": "0 6 * * *", "timezone": "Europe/Wien"}, "ESB105", "Europe/Vienna"),
        ({"cron": "0 6 * * *", "timezone": "../../etc/passwd"}, "ESB105", "time zone"),
        ({"every": "5m", "timezone": "UTC"}, "ESB107", "remove it"),
        ({"every": "5m", "catch_up": "all"}, "ESB105", ""),
        ({"every": "5m", "catch_up": {"all": 0}}, "ESB106", "1 to 10000"),
        ({"every": "5m", "misfire": "skip"}, "ESB101", "`catch_up`"),
        ({"every": "5m", "body": {"a": [Secret("x")]}}, "ESB502", "secret"),
    ],
)
def test_a_fault_is_named_with_what_to_write(options: Options, value: Any, code: str, words: str) -> None:
    timer, problems = options(TimerSource, value)
    assert timer is MISSING
    assert any(problem.startswith(code) and words in problem for problem in problems), problems


def test_every_option_is_described() -> None:
    assert all(spec.doc and spec.example for spec in options_of(TimerSource))
