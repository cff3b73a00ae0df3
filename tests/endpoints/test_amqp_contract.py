"""AMQP keeps what every source and every sink promises, against a real broker."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import Any

import amqp
import pytest

from esb.clock import SystemClock
from esb.endpoints.amqp import AmqpConnection, AmqpSink, AmqpSource, Declare
from esb.endpoints.base import ConnectionContext, RunningSource, SourceContext
from esb.language import TextTemplate
from tests.contracts.sink_contract import ProxiedRig, SinkContract, SinkRig
from tests.contracts.source_contract import SourceContract, SourceRig
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import RabbitMq


def fixed(text: str) -> TextTemplate:
    return TextTemplate(text, lambda scope: text, constant=True)


class Source(SourceRig):
    def __init__(self, node: RabbitMq) -> None:
        self.node = node
        self.queue = f"q.{uuid.uuid4().hex[:12]}"
        self.live: Any = None
        with node.channel() as channel:
            Declare(type="classic").declare(channel, self.queue)

    async def offer(self, name: str, body: bytes) -> None:
        with self.node.channel() as channel:
            message = amqp.basic_message.Message(
                body, message_id=name, content_type="application/json", delivery_mode=2
            )
            channel.basic_publish_confirm(message, "", self.queue)

    async def held(self) -> int:
        listed = await asyncio.to_thread(self.node.ctl, "-q", "list_queues", "--no-table-headers", "name", "messages")
        return next(int(line.split()[1]) for line in listed.splitlines() if line.startswith(self.queue))

    async def bind(self, context: SourceContext) -> RunningSource:
        connection = ConnectionContext("broker", SystemClock(), self.workspace, context.log)
        self.live = await AmqpConnection(url=self.node.url).open(connection)
        source = AmqpSource(queue=self.queue).bind(replace(context, connection=self.live))
        return Closing(source, self.live)

    async def crash(self, source: RunningSource) -> None:
        await self.live.close()


class Closing:
    """The source, with the connection that only it uses."""

    def __init__(self, source: Any, live: Any) -> None:
        self.source, self.live = source, live

    async def start(self) -> None:
        await self.source.start()

    async def stop(self) -> None:
        await self.source.stop()
        await self.live.close()


class TestSource(SourceContract):
    @pytest.fixture
    def rig(self, rabbitmq: RabbitMq) -> SourceRig:
        return Source(rabbitmq)


class Sink(ProxiedRig):
    def __init__(self, node: RabbitMq, proxy: Proxy) -> None:
        self.node, self.proxy = node, proxy
        self.queue = f"q.{uuid.uuid4().hex[:12]}"
        self.got: list[tuple[str, bytes]] = []
        with node.channel() as channel:
            Declare().declare(channel, self.queue)

    def connection(self) -> AmqpConnection:
        return AmqpConnection(url=f"amqp://127.0.0.1:{self.proxy.port}/")

    def sink(self) -> AmqpSink:
        return AmqpSink(routing_key=fixed(self.queue))

    def refused_sink(self) -> AmqpSink:
        return AmqpSink(routing_key=fixed(f"{self.queue}.gone"))

    async def received(self) -> list[tuple[str, bytes]]:
        found = await asyncio.to_thread(self.node.take_all, self.queue)
        self.got += [(message.properties["message_id"], _bytes(message.body)) for message in found]
        return self.got


def _bytes(body: Any) -> bytes:
    return body if isinstance(body, bytes) else str(body).encode()


class TestSink(SinkContract):
    @pytest.fixture
    def rig(self, rabbitmq: RabbitMq, proxy: Proxy) -> SinkRig:
        return Sink(rabbitmq, proxy)
