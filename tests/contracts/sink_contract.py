"""What every sink promises, as a suite: a protocol's test class inherits :class:`SinkContract` and brings a rig."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from esb.clock import Clock, SystemClock
from esb.endpoints.base import ConnectionContext, Delivery
from esb.errors import Rejected, Timeout, Unavailable
from esb.message import Message
from esb.steps.base import Reply
from tests.servers.proxy import Proxy

#: seconds until a test gives up
PATIENCE = 40.0
#: seconds that a send may take beyond its deadline before it counts as hung
GRACE = 5.0
ID = "0d3b7a52-0000-8000-8000-00000000c0de"


class SinkRig(ABC):
    """The target of a sink under test, and what may befall it."""

    clock: Clock = SystemClock()
    workspace = Path()

    @abstractmethod
    def connection(self) -> Any:
        """The options of the connection (``@connection``), None where the sink needs none."""

    @abstractmethod
    def sink(self) -> Any:
        """The sink."""

    @abstractmethod
    def refused_sink(self) -> Any:
        """A sink whose deliveries the target refuses for good."""

    @abstractmethod
    async def received(self) -> list[tuple[str, bytes]]:
        """Delivery id (empty where the protocol cannot carry it) and content of everything that the target has."""

    @abstractmethod
    async def down(self) -> None:
        """The target is gone: nobody listens."""

    @abstractmethod
    async def up(self) -> None:
        """It is back."""

    @abstractmethod
    async def freeze(self) -> None:
        """It listens and never answers."""

    @abstractmethod
    async def thaw(self) -> None:
        """It answers again."""

    def context(self) -> ConnectionContext:
        return ConnectionContext("contract", self.clock, self.workspace, lambda level, event, **fields: None)

    def delivery(self, message: Message, **changes: Any) -> Delivery:
        given: dict[str, Any] = {"id": ID, "attempt": 1, "timeout": 10.0, "scope": message.scope()}
        return Delivery(**{**given, **changes}, clock=self.clock, workspace=self.workspace, message_id="m1")


class ProxiedRig(SinkRig):
    """A target behind a way that can be cut."""

    proxy: Proxy

    async def down(self) -> None:
        await asyncio.to_thread(self.proxy.down)

    async def up(self) -> None:
        self.proxy.up()

    async def freeze(self) -> None:
        self.proxy.freeze()

    async def thaw(self) -> None:
        self.proxy.thaw()


class Sending:
    """One open connection with the sink on it."""

    def __init__(self, rig: SinkRig, live: Any) -> None:
        self.rig, self.live = rig, live

    async def __call__(self, body: Any, sink: Any = None, **changes: Any) -> Reply:
        message = Message(body)
        delivery = self.rig.delivery(message, **changes)
        async with asyncio.timeout(delivery.timeout + GRACE):  # a hung send fails the test with another error
            return await (sink or self.rig.sink()).send(message, delivery, self.live)

    async def until_sent(self, body: Any) -> Reply:
        """Try again until the target takes it."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    return await self(body, again=True, timeout=2.0)
                except (Unavailable, Timeout):
                    await asyncio.sleep(0.05)


def run(rig: SinkRig, scenario: Callable[[Sending], Awaitable[None]]) -> None:
    async def whole() -> None:
        options = rig.connection()
        live = await options.open(rig.context()) if options is not None else None
        try:
            await scenario(Sending(rig, live))
        finally:
            if live is not None:
                await live.close()

    asyncio.run(whole())


class SinkContract:
    """Inherit it, and give a fixture ``rig``."""

    def test_a_delivery_arrives_whole(self, rig: SinkRig) -> None:
        async def scenario(send: Sending) -> None:
            await send({"n": 1})
            assert [body for _, body in await rig.received()] == [b'{"n":1}']

        run(rig, scenario)

    def test_a_repeat_comes_under_the_same_delivery_id_or_changes_nothing(self, rig: SinkRig) -> None:
        async def scenario(send: Sending) -> None:
            await send({"n": 1})
            await send({"n": 1}, attempt=2, again=True)
            assert set(await rig.received()) in ({(ID, b'{"n":1}')}, {("", b'{"n":1}')})

        run(rig, scenario)

    def test_an_unreachable_target_is_unavailable_in_time_and_is_found_again(self, rig: SinkRig) -> None:
        async def scenario(send: Sending) -> None:
            await rig.down()
            with pytest.raises((Unavailable, Timeout)):
                await send({"n": 1}, timeout=2.0)
            await rig.up()
            await send.until_sent({"n": 1})
            assert {body for _, body in await rig.received()} == {b'{"n":1}'}

        run(rig, scenario)

    def test_a_target_that_goes_away_under_an_open_connection_is_found_again(self, rig: SinkRig) -> None:
        async def scenario(send: Sending) -> None:
            await send({"n": 1})
            await rig.down()
            with pytest.raises((Unavailable, Timeout)):
                await send({"n": 2}, timeout=2.0)
            await rig.up()
            await send.until_sent({"n": 2})
            assert {body for _, body in await rig.received()} == {b'{"n":1}', b'{"n":2}'}

        run(rig, scenario)

    def test_a_frozen_target_costs_no_more_than_the_deadline(self, rig: SinkRig) -> None:
        async def scenario(send: Sending) -> None:
            await send({"n": 1})
            await rig.freeze()
            try:
                with pytest.raises((Unavailable, Timeout)):
                    await send({"n": 2}, timeout=2.0)
            finally:
                await rig.thaw()
            await send.until_sent({"n": 2})
            assert {body for _, body in await rig.received()} == {b'{"n":1}', b'{"n":2}'}

        run(rig, scenario)

    def test_a_no_for_good_is_rejected_with_a_reason_and_harms_no_other_delivery(self, rig: SinkRig) -> None:
        async def scenario(send: Sending) -> None:
            with pytest.raises(Rejected) as refused:
                await send({"n": 1}, sink=rig.refused_sink())
            assert refused.value.message
            await send({"n": 2})
            assert [body for _, body in await rig.received()] == [b'{"n":2}']

        run(rig, scenario)
