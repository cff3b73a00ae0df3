"""Files in hand, in their order: several are read at a time, and those that have been read go to the intake together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile

#: files that are read before they go to the intake together, so that one commit serves them all, and seconds until fewer go
GROUP, PATIENCE = 16, 0.01


@dataclass(slots=True, eq=False)
class Place:
    """One file's place in the line. ``turn`` is over once everything before it has gone to the intake."""

    turn: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    ready: bool = False


class Line:
    """Who may go to the intake now. ``changed`` is called when a file has been read."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._places: deque[Place] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.reading = 0  #: files that are not read yet

    def enter(self) -> Place:
        """The place of a file, behind all others."""
        place = Place()
        self._places.append(place)
        self.reading += 1
        return place

    def ready(self, place: Place) -> None:
        """The file has been read, or there is nothing to read; its turn will come. A second call does nothing."""
        if place.ready:
            return
        place.ready = True
        self.reading -= 1
        self._changed()
        self._look()

    def leave(self, place: Place) -> None:
        """The file needs no turn any more: those behind it need not wait for it. A second call does nothing."""
        if not place.turn.done():
            place.turn.cancel()  # it ends before its turn has come
        self.ready(place)

    def _look(self) -> None:
        """Let those go whose turn it is: soon, so that the last one of them waits for its turn as those before it do."""
        waiting = sum(1 for _ in takewhile(lambda one: one.ready, self._places))
        if not waiting:
            return
        if waiting >= GROUP or waiting == len(self._places):
            self._in(0.0)
        elif self._timer is None:
            self._in(PATIENCE)

    def _in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._go)

    def _go(self) -> None:
        self._timer = None
        places = self._places
        while places and places[0].ready:
            turn = places.popleft().turn
            if not turn.cancelled():
                turn.set_result(None)


__all__ = ["Line", "Place"]
