"""Ports: circuit, pace, concurrency, connections."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from esb.clock import ManualClock
from esb.config.model import Circuit, Connector, ConnectorSettings
from esb.durations import parse_rate
from esb.endpoints.base import Delivery
from esb.errors import Position, Rejected, Unavailable
from esb.message import Message
from esb.registry import Registry
from esb.runtime.targets import Breaker, CircuitOpen, Pace, Targets
from esb.steps.base import Reply, Target


@dataclass
class Live:
    closed: bool = False

    async def close(self) -> None:
        self.closed = True


@dataclass
class Options:
    opened: list[Live] = field(default_factory=list)

    async def open(self, context: Any) -> Live:
        self.opened.append(Live())
        return self.opened[-1]


@dataclass
class Sink:
    answers: list[Any] = field(default_factory=list)
    at_once: int = 0
    most: int = 0

    async def send(self, message: Message, delivery: Delivery, connection: Any) -> Reply:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        answer = self.answers.pop(0) if self.answers else Reply(200)
        if isinstance(answer, Exception):
            raise answer
        return answer


def connector(options: Options, digest: str = "1", **settings: Any) -> Connector:
    return Connector("erp", "http", Position("connectors/erp.yaml"), ConnectorSettings(**settings), options, {}, digest)


def target(sink: Sink) -> Target:
    return Target("erp.post", "http", "erp", sink, Position("routes/x.yaml"))


def delivery(clock: ManualClock, timeout: float = 5.0) -> Delivery:
    return Delivery("d1", 1, timeout, {}, clock, Path())


def targets(clock: ManualClock) -> Targets:
    return Targets(clock, Path(), Registry(()), lambda *_a, **_k: None)


async def run_with(settings: dict[str, Any], sink: Sink, clock: ManualClock) -> tuple[Targets, Options]:
    options, ports = Options(), targets(clock)
    await ports.configure({"erp": connector(options, **settings)})
    return ports, options


def test_one_connection_serves_all_deliveries_and_closes_with_the_bus() -> None:
    async def scenario() -> None:
        clock, sink = ManualClock(), Sink()
        ports, options = await run_with({}, sink, clock)
        await asyncio.gather(*(ports.send(target(sink), Message(None), delivery(clock)) for _ in range(5)))
        assert len(options.opened) == 1
        await ports.close()
        assert options.opened[0].closed

    asyncio.run(scenario())


def test_concurrency_is_bounded_per_connector() -> None:
    async def scenario() -> None:
        clock, sink = ManualClock(), Sink()
        ports, _ = await run_with({"concurrency": 2}, sink, clock)
        await asyncio.gather(*(ports.send(target(sink), Message(None), delivery(clock)) for _ in range(9)))
        assert sink.most == 2

    asyncio.run(scenario())


def test_the_circuit_opens_after_failures_in_a_row_and_lets_one_probe_through() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        sink = Sink([Unavailable("503"), Unavailable("503")])
        ports, _ = await run_with({"circuit": Circuit(failures=2, open_for=timedelta(seconds=30))}, sink, clock)
        for _ in range(2):
            with pytest.raises(Unavailable):
                await ports.send(target(sink), Message(None), delivery(clock))
        assert ports.is_down(target(sink))
        with pytest.raises(CircuitOpen) as refused:
            await ports.send(target(sink), Message(None), delivery(clock))
        assert refused.value.retry_after == timedelta(seconds=30)
        clock.advance(30)
        assert (await ports.send(target(sink), Message(None), delivery(clock))).status == 200
        assert not ports.is_down(target(sink))

    asyncio.run(scenario())


def test_only_one_probe_at_a_time() -> None:
    clock = ManualClock()
    breaker = Breaker(Circuit(failures=1, open_for=timedelta(seconds=1)), clock)
    breaker.failed()
    clock.advance(2)
    breaker.admit("erp")
    with pytest.raises(CircuitOpen):
        breaker.admit("erp")
    breaker.abandon()
    breaker.admit("erp")


def test_a_target_that_says_no_is_there_and_closes_the_circuit() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        sink = Sink([Unavailable("503"), Rejected("422"), Unavailable("503")])
        ports, _ = await run_with({"circuit": Circuit(failures=2)}, sink, clock)
        for _ in range(3):
            with pytest.raises((Unavailable, Rejected)):
                await ports.send(target(sink), Message(None), delivery(clock))
        assert not ports.is_down(target(sink))

    asyncio.run(scenario())


def test_a_reload_replaces_only_a_connector_that_changed_and_closes_the_old_one() -> None:
    async def scenario() -> None:
        clock, sink, options = ManualClock(), Sink(), Options()
        ports = targets(clock)
        await ports.configure({"erp": connector(options, "1")})
        await ports.send(target(sink), Message(None), delivery(clock))
        await ports.configure({"erp": connector(options, "1")})
        assert not options.opened[0].closed
        await ports.configure({"erp": connector(options, "2")})
        assert options.opened[0].closed
        await ports.send(target(sink), Message(None), delivery(clock))
        assert len(options.opened) == 2

    asyncio.run(scenario())


def test_the_pace_spaces_deliveries_and_refuses_a_wait_beyond_the_deadline() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        pace = Pace(parse_rate("2/s"), clock)
        await pace.turn(1.0)
        second = asyncio.create_task(pace.turn(1.0))
        await asyncio.sleep(0)
        assert not second.done()
        clock.advance(0.5)
        await second
        with pytest.raises(Unavailable):
            await pace.turn(0.1)

    asyncio.run(scenario())
