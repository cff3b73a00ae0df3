"""The turns of ``throttle`` steps: evenly spaced, one after the other, over every lane and version of a route."""

from __future__ import annotations

from dataclasses import dataclass, field

from esb.durations import Rate

#: Seconds that a message may wait for its turn in memory, where it keeps one of the route's places.
SHORT = 1.0
#: Seconds after which a turn that nobody took is forgotten (its message was discarded, or its route was paused).
FORGOTTEN = 60.0


@dataclass(slots=True)
class _Turns:
    next: float = 0.0
    given: dict[str, float] = field(default_factory=dict)


class Throttles:
    """Gives every message its turn at a step of a route with a rate; times are monotonic seconds.

    Outlives reloads, not the process; a step whose rate was changed begins anew.

    A message keeps the turn that it was given while it waits in the store. After a restart nobody has one: who comes is given
    the next, so that the rate holds then, too.
    """

    def __init__(self) -> None:
        self._steps: dict[tuple[str, str, Rate], _Turns] = {}

    def turn(self, step: tuple[str, str, Rate], message: str, now: float) -> float:
        """When it is the message's turn: the same answer until :meth:`take`."""
        turns = self._steps.setdefault(step, _Turns())
        if message in turns.given:
            return turns.given[message]
        for other, at in list(turns.given.items()):
            if at >= now - FORGOTTEN:
                break
            del turns.given[other]
        turns.given[message] = at = max(turns.next, now)
        turns.next = at + 1.0 / step[2].per_second
        return at

    def take(self, step: tuple[str, str, Rate], message: str) -> None:
        """The message goes on; the next time that it comes here it needs another turn."""
        self._steps[step].given.pop(message, None)
