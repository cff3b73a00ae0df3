"""Where messages go out: one port per connector, with its connection, concurrency, rate and circuit."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from esb.clock import Clock
from esb.config.model import Circuit, Connector, ConnectorSettings
from esb.durations import Rate
from esb.endpoints.base import ConnectionContext, Delivery, LiveConnection
from esb.errors import MessageError, Timeout, Unavailable
from esb.message import Message
from esb.registry import Registry
from esb.steps.base import Reply, Target

#: Targets whose port is kept ready.
KNOWN = 10_000


class CircuitOpen(Unavailable):
    """The target was not asked: it failed too often lately. Uses up no attempt."""


class Breaker:
    """Counts failures in a row; open, it lets one probe through when its time is up (circuit breaker, M. Nygard)."""

    def __init__(self, circuit: Circuit | None, clock: Clock) -> None:
        self._circuit = circuit
        self._clock = clock
        self._failures = 0
        self._open_until = 0.0
        self._probing = False

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
    """Lets at most ``rate`` deliveries start, evenly spaced; the wait is bounded by the caller's deadline."""

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
            raise Unavailable("rate limit of the connector reached", retry_after=timedelta(seconds=at - now))
        self._next = at + self._step
        if at > now:
            await self._clock.sleep(at - now)


class Gate:
    """Lets so many in at a time; the others wait in the order in which they came. A semaphore at a part of its price."""

    __slots__ = ("_free", "_waiting")

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: deque[asyncio.Future[None]] = deque()

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

    def leave(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
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
    zone: ZoneInfo | None = None

    async def close(self) -> None:
        if self.live is not None:
            live, self.live = self.live, None
            await live.close()


class Targets:
    """Sends deliveries. Connections open on first use; a reload replaces only the ports whose connector changed."""

    def __init__(self, clock: Clock, workspace: Path, registry: Registry, log: Callable[..., None]) -> None:
        self._clock = clock
        self._workspace = workspace
        self._registry = registry
        self._log = log
        self._connectors: Mapping[str, Connector] = {}
        self._zone = ZoneInfo("UTC")
        self._ports: dict[str, Port] = {}
        #: the same by the identity of a target, which is kept so that it is not given to another
        self._known: dict[int, tuple[Target, Port]] = {}

    async def configure(self, connectors: Mapping[str, Connector], timezone: str = "UTC") -> None:
        """Take over the connectors and the time zone of a new workspace; ports in use close when their last delivery is done."""
        self._connectors, self._zone = connectors, ZoneInfo(timezone)
        self._known.clear()
        for name, port in list(self._ports.items()):
            connector = connectors.get(name)
            if connector is not None and connector.digest == port.digest:
                continue  # inline endpoints have no connector: theirs are opened anew
            del self._ports[name]
            self._known.clear()  # after the last wait, too
            port.retired = True
            if not port.users:
                await port.close()

    async def connection(self, name: str) -> Any:
        """The live connection of a connector, for a source that shares it."""
        return await self._open(self._port(name, self._connectors.get(name), ""))

    def is_down(self, target: Target) -> bool:
        """Whether the circuit of the target's connector is open and no probe is due."""
        port = self._ports.get(target.connector) if target.connector else None
        return port is not None and port.breaker.refuses

    def troubled(self, targets: Iterable[Target]) -> dict[str, str]:
        """Those that did not answer at the last try, by the name of their connector or the place of the endpoint."""
        found = {}
        for target in targets:
            port = self._ports.get(self._name_of(target))
            if port is not None and port.breaker.failures:
                times = (
                    f"the last {port.breaker.failures} tries failed"
                    if port.breaker.failures > 1
                    else "the last try failed"
                )
                found[port.name] = "circuit open" if port.breaker.is_open else times
        return found

    async def send(self, target: Target, message: Message, delivery: Delivery) -> Reply:
        """One attempt, under the connector's limits. Raises MessageError; CircuitOpen where the target was not asked."""
        port = self._port_of(target)
        self._respect(port)
        port.breaker.admit(target.name)
        port.users += 1
        answered = False
        try:
            if not port.gate.enter():
                async with asyncio.timeout(delivery.timeout):
                    await port.gate.wait()
            try:
                if port.settings.rate is not None:
                    await port.pace.turn(delivery.timeout)
                reply = await self._deliver(port, target, message, delivery)
            finally:
                port.gate.leave()
            port.breaker.succeeded()
            answered = True
            return reply
        except TimeoutError as error:
            raise Unavailable(f"{target.name}: no free connection within {delivery.timeout:g} s") from error
        except (Unavailable, Timeout) as error:
            if _is_there(error):
                port.breaker.succeeded()
            else:
                port.breaker.failed()
            answered = True
            raise
        except MessageError:
            port.breaker.succeeded()  # it answered: the target is there
            answered = True
            raise
        finally:
            if not answered:
                port.breaker.abandon()
            port.users -= 1
            if port.retired and not port.users:
                await port.close()

    async def close(self) -> None:
        for port in self._ports.values():
            await port.close()
        self._ports.clear()
        self._known.clear()

    def _respect(self, port: Port) -> None:
        """Raise CircuitOpen, which uses up no attempt, in a maintenance window of the system."""
        if not port.settings.maintenance:
            return
        now = self._clock.now()
        ends = [
            end for window in port.settings.maintenance if (end := window.end(now, port.zone or self._zone)) is not None
        ]
        if ends:
            end = max(ends)
            raise CircuitOpen(f"{port.name}: in maintenance until {end.isoformat()}", retry_after=end - now)

    # -- inside -------------------------------------------------------------------------------------------------------
    def _port_of(self, target: Target) -> Port:
        """One port for each connector, and one for each inline endpoint, so that a slow one holds up no other."""
        known = self._known.get(id(target))
        if known is not None:
            return known[1]
        connector = self._connectors.get(target.connector) if target.connector else None
        port = self._port(self._name_of(target), connector, target.protocol)
        if len(self._known) < KNOWN:
            self._known[id(target)] = (target, port)
        return port

    @staticmethod
    def _name_of(target: Target) -> str:
        if target.connector:
            return target.connector
        at = f"{target.position} for {target.site}" if target.site else str(target.position)
        return f"{target.protocol} at {at}"

    def _port(self, name: str, connector: Connector | None, protocol: str) -> Port:
        port = self._ports.get(name)
        if port is None:
            port = self._make(name, connector, protocol)
            self._ports[name] = port
        return port

    def _make(self, name: str, connector: Connector | None, protocol: str) -> Port:
        if connector is not None:
            settings, options, digest = connector.settings, connector.connection, connector.digest
        else:
            component = self._registry.get("connection", protocol)
            settings = ConnectorSettings(concurrency=64)
            options, digest = (component.cls() if component is not None else None), ""
        return Port(
            name=name,
            settings=settings,
            options=options,
            digest=digest,
            gate=Gate(settings.concurrency),
            pace=Pace(settings.rate, self._clock),
            breaker=Breaker(settings.circuit, self._clock),
            zone=ZoneInfo(connector.timezone) if connector is not None and connector.timezone else None,
        )

    async def _deliver(self, port: Port, target: Target, message: Message, delivery: Delivery) -> Reply:
        """Hand the message to the sink; all that a route test puts answers in place of."""
        connection = await self._open(port)
        reply: Reply = await target.sink.send(message, delivery, connection)
        return reply

    async def _open(self, port: Port) -> LiveConnection | None:
        if port.live is not None or port.options is None:
            return port.live
        async with port.opening:
            if port.live is None:
                context = ConnectionContext(port.name, self._clock, self._workspace, self._log)
                port.live = await port.options.open(context)
            return port.live


def _is_there(error: MessageError) -> bool:
    """Whether the target answered and merely cannot take this message now (a locked lot, a closed period)."""
    status = error.reply.get("status") if error.reply is not None else None
    return isinstance(status, int) and status < 500 and status not in (408, 423, 425, 429)


def timeout_for(target: Target, step_timeout: float, connectors: Mapping[str, Connector]) -> float:
    """Seconds one delivery may take: the step's, bounded by the connector's own."""
    connector = connectors.get(target.connector)
    return min(step_timeout, connector.settings.timeout.total_seconds()) if connector is not None else step_timeout
