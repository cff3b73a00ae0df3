"""The timer of a route: rings in time, and at once where the clock was set back, so that a wait does not last longer."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from esb.clock import ManualClock
from esb.runtime.alarm import NAP, Alarm


class SettableClock(ManualClock):
    def set_back(self, by: timedelta) -> None:
        self._now -= by


def test_a_clock_that_is_set_back_rings_at_once_and_says_by_how_much() -> None:
    async def main() -> None:
        clock, rings, moved = SettableClock(), [], []
        alarm = Alarm(clock, lambda: rings.append(clock.monotonic()), moved.append)
        alarm.at(clock.now() + timedelta(seconds=NAP))
        await asyncio.sleep(0)
        clock.set_back(timedelta(hours=2))
        assert rings == []
        clock.advance(NAP)
        await asyncio.sleep(0)
        assert (rings, moved) == ([NAP], [timedelta(hours=2)])
        clock.set_back(timedelta(hours=1))
        alarm.at(clock.now() + timedelta(seconds=1))  # asked for by the new clock before the old nap was over
        assert (rings, moved[1:]) == ([NAP, NAP], [timedelta(hours=1)])

    asyncio.run(main())
