"""Who waits for the end of a message, and how many ended."""

from __future__ import annotations

import asyncio

from esb.endpoints.base import Outcome

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


class Outcomes:
    """Callers that wait for the end of a message (``reply: delivered``, ``esb send --wait``)."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[asyncio.Future[Outcome | None]]] = {}
        self._recent: dict[str, Outcome] = {}

    def recent(self, message_id: str) -> Outcome | None:
        """The outcome of a message that ended a moment before somebody asked."""
        return self._recent.get(message_id)

    def expect(self, message_id: str) -> asyncio.Future[Outcome | None]:
        """A future that resolves when the message ends (done, dead, expired …), or with None where the caller gives up."""
        future: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(message_id, []).append(future)
        return future

    def forget(self, message_id: str, future: asyncio.Future[Outcome | None]) -> None:
        """The caller waits no longer."""
        waiting = self._waiting.get(message_id, [])
        if future in waiting:
            waiting.remove(future)
        if not waiting:
            self._waiting.pop(message_id, None)

    def tell(self, message_id: str, outcome: Outcome) -> None:
        if outcome.response is not None and message_id not in self._waiting:
            self._recent[message_id] = outcome
            if len(self._recent) > KEPT:
                del self._recent[next(iter(self._recent))]
        for future in self._waiting.pop(message_id, ()):
            if not future.done():
                future.set_result(outcome)
