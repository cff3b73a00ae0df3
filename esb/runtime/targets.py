"""Where messages go out: one port per connector, with its connection, concurrency, rate and circuit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from esb.clock import Clock
from esb.config.model import Connector, ConnectorSettings
from esb.endpoints.base import ConnectionContext, Delivery, LiveConnection
from esb.endpoints.expiries import Expiries
from esb.errors import MessageError
from esb.message import Message
from esb.registry import Registry
from esb.runtime.ports import Breaker, CircuitOpen, Errand, Gate, Pace, Port
from esb.steps.base import Reply, Target

#: Targets whose port is kept ready.
KNOWN = 10_000


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
        self._crowded = Expiries[Errand](Errand.late)  #: those that wait for a place without a task

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
                await self._place_at(port, target, delivery.timeout)
            try:
                if port.settings.rate is not None:
                    await port.pace.turn(delivery.timeout)
                reply = await self._deliver(port, target, message, delivery)
            finally:
                port.gate.leave()
            port.breaker.succeeded()
            answered = True
            return reply
        except MessageError as error:
            port.judge(error)
            answered = True
            raise
        finally:
            if not answered:
                port.breaker.abandon()
            port.users -= 1
            if port.retired and not port.users:
                await port.close()

    @staticmethod
    async def _place_at(port: Port, target: Target, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await port.gate.wait()
        except TimeoutError as error:
            raise CircuitOpen(f"{target.name}: no free connection within {seconds:g} s") from error

    def ready(self, target: Target) -> Port | None:
        """Where a delivery could begin now without a task, if its sink can do that: nothing stands in its way."""
        if not callable(getattr(type(target.sink), "begin", None)):  # an option may have that name, too
            return None
        port = self._port_of(target)
        settings = port.settings
        waits = settings.rate is not None or settings.maintenance or port.breaker.is_open
        return None if waits or (port.live is None and port.options is not None) else port

    def begin(self, port: Port, errand: Errand) -> Callable[[], None] | None:
        """As :meth:`send`, at a port that is ready; see :meth:`esb.endpoints.base.BeginsSink.begin`."""
        port.users += 1
        if not port.gate.enter():
            errand.wait_at(port, self._crowded)
        elif not errand.set_off(port):
            return None
        return errand.give_up

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


def timeout_for(target: Target, step_timeout: float, connectors: Mapping[str, Connector]) -> float:
    """Seconds one delivery may take: the step's, bounded by the connector's own."""
    connector = connectors.get(target.connector)
    return min(step_timeout, connector.settings.timeout.total_seconds()) if connector is not None else step_timeout


__all__ = ["CircuitOpen", "Port", "Targets", "timeout_for"]
