"""Who waits for the end of a message, and how many ended."""

from __future__ import annotations

from collections.abc import Callable

from esb.endpoints.base import Outcome
from esb.endpoints.expiries import Expiries

#: Hears the end of a message, or None where it did not come in time.
Told = Callable[[Outcome | None], None]

#: Answers of ``respond`` kept for callers that ask a moment after the end.
KEPT = 256


class Meter:
    """Messages ended per minute, over the last whole minute; ten buckets of six seconds."""

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}

    def count(self, now: float) -> None:
        bucket = int(now // 6)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        if len(self._buckets) > 12:
            self._buckets = {slot: n for slot, n in self._buckets.items() if slot > bucket - 11}

    def per_minute(self, now: float) -> int:
        bucket = int(now // 6)
        return sum(n for slot, n in self._buckets.items() if slot > bucket - 10)


class Waiting:
    """One caller that waits for the end of a message. It is told once, and must not fail."""

    __slots__ = ("_outcomes", "message_id", "told")

    def __init__(self, outcomes: Outcomes, message_id: str, told: Told) -> None:
        self.message_id = message_id
        self._outcomes, self.told = outcomes, told

    def give_up(self) -> None:
        """The caller waits no longer."""
        self._outcomes.forget(self)


class Outcomes:
    """Callers that wait for the end of a message (``reply: delivered``, ``esb send --wait``)."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Waiting]] = {}
        self._recent: dict[str, Outcome] = {}
        self._ends: Expiries[Waiting] = Expiries(self._too_late)

    def recent(self, message_id: str) -> Outcome | None:
        """The outcome of a message that ended a moment before somebody asked."""
        return self._recent.get(message_id)

    def expect(self, message_id: str, timeout: float, told: Told) -> Waiting:
        """``told`` hears when the message ends (done, dead, expired …), or None after ``timeout`` seconds."""
        waiting = Waiting(self, message_id, told)
        self._ends.begin(waiting, timeout)
        self._waiting.setdefault(message_id, []).append(waiting)
        return waiting

    def forget(self, waiting: Waiting) -> None:
        self._ends.end(waiting)
        others = self._waiting.get(waiting.message_id, [])
        if waiting in others:
            others.remove(waiting)
        if not others:
            self._waiting.pop(waiting.message_id, None)

    def leave(self) -> None:
        """Everybody who still waits is told that the end did not come: here it will not any more."""
        for message_id in list(self._waiting):
            for waiting in self._waiting.pop(message_id, ()):
                self._tell(waiting, None)

    def tell(self, message_id: str, outcome: Outcome) -> None:
        if outcome.response is not None and message_id not in self._waiting:
            self._recent[message_id] = outcome
            if len(self._recent) > KEPT:
                del self._recent[next(iter(self._recent))]
        for waiting in self._waiting.pop(message_id, ()):
            self._tell(waiting, outcome)

    def _tell(self, waiting: Waiting, outcome: Outcome | None) -> None:
        self._ends.end(waiting)
        waiting.told(outcome)

    def _too_late(self, waiting: Waiting) -> None:
        if waiting in self._waiting.get(waiting.message_id, ()):
            self.forget(waiting)
            waiting.told(None)
