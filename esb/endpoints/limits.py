"""How often a client may call, and how often it may show wrong credentials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from esb.clock import Clock
from esb.durations import Rate
from esb.endpoints.base import Response
from esb.endpoints.problem import problem
from esb.message import EMPTY

#: Most clients that are told apart; the one that was quiet longest is forgotten first.
MAX_CLIENTS = 10_000
#: A quota that nobody asked for in so long is full again: the longest span is a week.
FORGOTTEN = timedelta(weeks=2)
#: Wrong credentials that one address may show: so many at once, then one each two seconds.
GUESSES = Rate(30, timedelta(minutes=1))


class Buckets:
    """So many requests per span for each client; at most :data:`MAX_CLIENTS` clients are told apart."""

    def __init__(self, rate: Rate, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, client: str) -> timedelta | None:
        """None where one more is allowed, else the time to wait."""
        now, tokens = self._tokens(client)
        allowed = tokens >= 1.0
        self._buckets.pop(client, None)
        self._buckets[client] = (tokens - 1.0 if allowed else tokens, now)
        if len(self._buckets) > MAX_CLIENTS:
            del self._buckets[next(iter(self._buckets))]
        return None if allowed else self._wait(tokens)

    def give_back(self, client: str) -> None:
        """One that was taken did not count after all."""
        if client in self._buckets:
            now, tokens = self._tokens(client)
            self._buckets[client] = (min(tokens + 1.0, float(self._rate.count)), now)

    def wait(self, client: str) -> timedelta | None:
        """What :meth:`take` would say, without taking."""
        if client not in self._buckets:
            return None
        _, tokens = self._tokens(client)
        return None if tokens >= 1.0 else self._wait(tokens)

    def left(self, client: str) -> float:
        """How many are allowed now."""
        return self._tokens(client)[1]

    def put(self, client: str, tokens: float) -> None:
        """Say how many are allowed now."""
        self._buckets[client] = (min(tokens, float(self._rate.count)), self._clock.monotonic())

    def _tokens(self, client: str) -> tuple[float, float]:
        now = self._clock.monotonic()
        tokens, at = self._buckets.get(client, (float(self._rate.count), now))
        return now, min(float(self._rate.count), tokens + (now - at) * self._rate.per_second)

    def _wait(self, tokens: float) -> timedelta:
        return timedelta(seconds=ceil((1.0 - tokens) / self._rate.per_second))


class Quotas:
    """What each named client of the bus may still send, whichever route it calls and whatever is reloaded.

    ``saved`` is what :meth:`levels` gave in an earlier life of the process; ``changed`` hears of each charge.
    """

    def __init__(self, saved: Mapping[str, Any] = EMPTY, changed: Callable[[], None] = lambda: None) -> None:
        self._saved = dict(saved)
        self._changed = changed
        self._buckets: dict[str, Buckets] = {}

    def of(self, rates: Mapping[str, Rate], clock: Clock) -> ClientQuotas:
        """Those of the clients of one route, by name."""
        return ClientQuotas({name: self._bucket(name, rate, clock) for name, rate in rates.items()}, self._changed)

    def levels(self, now: datetime) -> dict[str, Any]:
        """What is left to each, to be saved. What nobody has asked for in this life is kept while it can matter."""
        kept = {
            name: level for name, level in self._saved.items() if datetime.fromisoformat(level["at"]) > now - FORGOTTEN
        }
        at = now.isoformat()
        return kept | {name: {"left": round(bucket.left(""), 6), "at": at} for name, bucket in self._buckets.items()}

    def _bucket(self, client: str, rate: Rate, clock: Clock) -> Buckets:
        name = f"{client} {rate.count}/{rate.span.total_seconds():g}s"
        if name not in self._buckets:
            bucket = self._buckets[name] = Buckets(rate, clock)
            if (level := self._saved.pop(name, None)) is not None:
                passed = (clock.now() - datetime.fromisoformat(level["at"])).total_seconds()
                bucket.put("", float(level["left"]) + max(0.0, passed) * rate.per_second)
        return self._buckets[name]


class ClientQuotas:
    """The quotas of the clients of one route."""

    def __init__(self, buckets: Mapping[str, Buckets], changed: Callable[[], None]) -> None:
        self._buckets, self._changed = buckets, changed

    def __bool__(self) -> bool:
        return bool(self._buckets)

    def refusal(self, client: str) -> Response | None:
        """The 429 for a client that has used up what it may send; charges it otherwise."""
        bucket = self._buckets.get(client)
        if bucket is None:
            return None
        wait = bucket.take("")
        if wait is None:
            self._changed()
            return None
        return problem(429, "quota-used-up", "this client has sent what it may send for now", retry_after=wait)


class Guesses:
    """Slows down who tries credentials: an address with too many wrong ones is refused unheard for a while.

    Right credentials cost nothing. Who shares the address of one that guesses waits with it.
    """

    def __init__(self, clock: Clock, rate: Rate = GUESSES) -> None:
        self._buckets = Buckets(rate, clock)

    def refusal(self, address: str) -> Response | None:
        """The 429 for an address that guessed too often, before its credentials are looked at."""
        wait = self._buckets.wait(address)
        if wait is None:
            return None
        return problem(429, "too-many-failures", "too many wrong credentials came from this address", retry_after=wait)

    def note(self, address: str) -> None:
        """Wrong credentials came from here."""
        self._buckets.take(address)

    def forgive(self, address: str) -> None:
        """What was noted while it was not known yet turned out to be right."""
        self._buckets.give_back(address)
