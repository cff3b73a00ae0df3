"""Shares the event loop between the routes of a bus: a turn starts messages of one route after the other, then lets go."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from esb.clock import Clock

#: Seconds that a turn takes at least while there is work, and at most, so that sockets and timers are never left waiting.
SHORTEST, LONGEST = 0.005, 0.05


class TakesTurns(Protocol):
    def turn(self) -> bool:
        """Start a few messages; true where more could be started at once."""
        ...


class Turns:
    """Working off gets as much of the loop as everything else together got since the last turn (intake above all).

    So the backlog of a busy bus does not grow without need, and messages that are stored soon run while they are decoded.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asking: deque[TakesTurns] = deque()
        self._scheduled = False
        self._ended = 0.0

    def ask(self, who: TakesTurns) -> None:
        """``who.turn()`` is called soon, and again as long as it answers true."""
        self._asking.append(who)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        asking, now = self._asking, self._clock.monotonic
        began = now()
        until = began + min(max(began - self._ended, SHORTEST), LONGEST)
        while asking:
            who = asking.popleft()
            if who.turn():
                asking.append(who)
            if now() >= until:
                break
        self._ended = now()
        self._scheduled = bool(asking)
        if asking:
            asyncio.get_running_loop().call_soon(self._turn)
