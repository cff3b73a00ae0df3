"""What the deliveries to one connector share: its circuit, its rate, its places, and its connection."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from esb.clock import Clock
from esb.config.model import Circuit, ConnectorSettings
from esb.durations import Rate
from esb.endpoints.base import Delivery, LiveConnection
from esb.endpoints.expiries import Expiries
from esb.errors import MessageError, Timeout, Unavailable
from esb.message import Message
from esb.steps.base import Reply, Target


class CircuitOpen(Unavailable):
    """The target was not asked: it failed too often lately, is in maintenance, or has no turn or place for it. Uses up no attempt."""


class Breaker:
    """Counts failures in a row; open, it lets one probe through when its time is up (circuit breaker, M. Nygard)."""

    def __init__(self, circuit: Circuit | None, clock: Clock) -> None:
        self._circuit = circuit
        self._clock = clock
        self._failures = 0
        self._open_until = 0.0
        self._probing = False

    def now(self) -> float:
        return self._clock.monotonic()

    @property
    def is_open(self) -> bool:
        return self._circuit is not None and self._failures >= self._circuit.failures

    @property
    def failures(self) -> int:
        """How often in a row it failed."""
        return self._failures

    @property
    def refuses(self) -> bool:
        """Open, and the time for a probe has not come: from then on one message must be let in to be the probe."""
        return self.is_open and self._clock.monotonic() < self._open_until

    def admit(self, name: str) -> None:
        """Raise CircuitOpen while the target must not be asked."""
        if not self.is_open:
            return
        left = self._open_until - self._clock.monotonic()
        if left > 0 or self._probing:
            wait = timedelta(seconds=max(left, 0.05))
            raise CircuitOpen(f"{name}: circuit open after {self._failures} failures in a row", retry_after=wait)
        self._probing = True

    def succeeded(self) -> None:
        self._failures = 0
        self._probing = False

    def failed(self) -> None:
        self._failures += 1
        self._probing = False
        if self._circuit is not None and self.is_open:
            self._open_until = self._clock.monotonic() + self._circuit.open_for.total_seconds()

    def abandon(self) -> None:
        """A probe that ended without an answer about the target's health."""
        self._probing = False


class Pace:
    """Lets at most ``rate`` deliveries start, evenly spaced; raises CircuitOpen where the wait is beyond the caller's deadline."""

    def __init__(self, rate: Rate | None, clock: Clock) -> None:
        self._step = 1.0 / rate.per_second if rate is not None else 0.0
        self._clock = clock
        self._next = 0.0

    async def turn(self, budget: float) -> None:
        if not self._step:
            return
        now = self._clock.monotonic()
        at = max(self._next, now)
        if at - now > budget:
            raise CircuitOpen("rate limit of the connector reached", retry_after=timedelta(seconds=at - now))
        self._next = at + self._step
        if at > now:
            await self._clock.sleep(at - now)


class Gate:
    """Lets so many in at a time; the others wait in the order in which they came. A semaphore at a part of its price."""

    __slots__ = ("_free", "_waiting")

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: deque[asyncio.Future[None] | Callable[[], None]] = deque()

    def enter(self) -> bool:
        """Take a place where one is free."""
        if self._free <= 0:
            return False
        self._free -= 1
        return True

    async def wait(self) -> None:
        """Take a place when one is free; those who wait go before those who come."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.leave()  # the place came together with the end of the wait
            raise

    def queue(self, turn: Callable[[], None]) -> None:
        """The same without a future: ``turn`` is called when the place is taken for it."""
        self._waiting.append(turn)

    def forget(self, turn: Callable[[], None]) -> bool:
        """It waits no longer; false where it has its place."""
        if turn not in self._waiting:
            return False
        self._waiting.remove(turn)
        return True

    def leave(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not isinstance(turn, asyncio.Future):
                turn()
                return
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


@dataclass(slots=True)
class Port:
    """What the deliveries to one connector (or to one inline endpoint) share."""

    name: str
    settings: ConnectorSettings
    options: Any
    digest: str
    gate: Gate
    pace: Pace
    breaker: Breaker
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    live: LiveConnection | None = None
    users: int = 0
    retired: bool = False
    closing: asyncio.Future[None] | None = None
    zone: ZoneInfo | None = None

    async def close(self) -> None:
        if self.live is not None:
            live, self.live = self.live, None
            await live.close()

    def judge(self, error: BaseException) -> None:
        """What a failed delivery says about the target."""
        if not isinstance(error, MessageError) or isinstance(error, CircuitOpen):
            self.breaker.abandon()
        elif isinstance(error, (Unavailable, Timeout)) and not _is_there(error):
            self.breaker.failed()
        else:
            self.breaker.succeeded()  # it answered: the target is there

    def part(self) -> None:
        """One of its users is done."""
        self.users -= 1
        if self.retired and not self.users:
            self.closing = asyncio.ensure_future(self.close())  # kept, as the loop does not keep it


#: Hears the reply to an errand, or what stands for it; None: it has not begun, and needs a task.
Told = Callable[[Reply | Exception | None], None]


class Errand:
    """A delivery that no task waits for. ``wall``: the seconds that it may take at the most, with its wait for a place."""

    __slots__ = (
        "_crowded",
        "_delivery",
        "_end",
        "_given_up",
        "_message",
        "_port",
        "_since",
        "_target",
        "_told",
        "_wall",
    )

    def __init__(self, target: Target, message: Message, delivery: Delivery, wall: float, told: Told) -> None:
        self._target, self._message, self._delivery, self._wall = target, message, delivery, wall
        self._told = told
        self._port: Port | None = None
        self._end: Callable[[], None] | None = None  #: ends what the sink has begun
        self._crowded: Expiries[Errand] | None = None  #: watches over the wait for a place
        self._given_up = False

    def set_off(self, port: Port) -> bool:
        """With a place at the port; false where the sink needs a task. Raises what the sink raises."""
        self._port = port
        try:
            self._end = self._target.sink.begin(self._message, self._delivery, port.live, self._over)
        except BaseException as error:
            port.judge(error)
            self._leave(port)
            raise
        if self._end is None:
            self._leave(port)
        return self._end is not None

    def wait_at(self, port: Port, crowded: Expiries[Errand]) -> None:
        """Set off when there is a place."""
        self._port, self._crowded, self._since = port, crowded, port.breaker.now()
        port.gate.queue(self._turn)
        crowded.begin(self, self._delivery.timeout)

    def _turn(self) -> None:
        """It has its place; what it does there is not done within the end of another."""
        assert self._crowded is not None
        self._crowded.end(self)
        asyncio.get_running_loop().call_soon(self._enter)

    def _enter(self) -> None:
        port = self._port
        assert port is not None
        if self._given_up:
            self._leave(port)
            return
        left = self._wall - (port.breaker.now() - self._since)
        if left < self._delivery.timeout:
            self._delivery = replace(self._delivery, timeout=max(left, 0.0))
        try:
            begun = self.set_off(port)
        except Exception as error:  # noqa: BLE001 - whoever waits hears of it
            self._told(error)
            return
        if not begun:
            self._told(None)

    def late(self) -> None:
        """There was no place in time."""
        port = self._port
        assert port is not None
        port.gate.forget(self._turn)
        port.breaker.abandon()
        port.part()
        self._told(CircuitOpen(f"{self._target.name}: no free connection within {self._delivery.timeout:g} s"))

    def _over(self, answer: Reply | Exception) -> None:
        """The sink has the answer."""
        port = self._port
        assert port is not None
        if isinstance(answer, Reply):
            port.breaker.succeeded()
        else:
            port.judge(answer)
        self._leave(port)
        self._end = None  # which knows this errand: what it took is free at its end, and not when the collector comes
        self._told(answer)

    def give_up(self) -> None:
        """Nobody waits for the answer any more."""
        port = self._port
        assert port is not None
        self._given_up = True
        port.breaker.abandon()
        if self._end is not None:
            self._end()
            self._leave(port)
        elif port.gate.forget(self._turn):
            assert self._crowded is not None
            self._crowded.end(self)
            port.part()

    @staticmethod
    def _leave(port: Port) -> None:
        port.gate.leave()
        port.part()


def _is_there(error: MessageError) -> bool:
    """Whether the target answered and merely cannot take this message now (a locked lot, a closed period)."""
    status = error.reply.get("status") if error.reply is not None else None
    return isinstance(status, int) and status < 500 and status not in (408, 423, 425, 429)


__all__ = ["Breaker", "CircuitOpen", "Errand", "Gate", "Pace", "Port", "Told"]
