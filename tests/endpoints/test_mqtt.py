"""MQTT keeps what every source and every sink promises, against a real broker."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from esb.clock import SystemClock
from esb.endpoints.base import ConnectionContext, RunningSource, SourceContext
from esb.endpoints.mqtt import MqttConnection, MqttSink, MqttSource
from esb.errors import Invalid, Rejected
from esb.language import TextTemplate
from tests.contracts.sink_contract import ProxiedRig, SinkContract, SinkRig, run
from tests.contracts.source_contract import DurableIntake, SourceContract, SourceRig
from tests.servers.certificates import with_certificates
from tests.servers.mosquitto import Mosquitto
from tests.servers.proxy import Proxy

PUBACK = 4


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with with_certificates(Mosquitto, tmp_path_factory.mktemp("tls")) as broker:
        yield broker


@pytest.fixture
def proxy(mosquitto: Mosquitto) -> Iterator[Proxy]:
    made = Proxy(mosquitto.port)
    yield made
    made.close()


def fixed(text: str) -> TextTemplate:
    return TextTemplate(text, lambda scope: text, constant=True)


class State:
    """What a source keeps, over its restarts."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    async def get(self, name: str) -> Any:
        return self.kept.get(name)

    async def put(self, name: str, value: Any) -> None:
        self.kept[name] = value

    async def forget(self, name: str) -> None:
        self.kept.pop(name, None)


class Source(SourceRig):
    """``held`` asks the broker: a session of the same name takes over and counts what it still gets."""

    def __init__(self, broker: Mosquitto, proxy: Proxy) -> None:
        self.broker, self.proxy = broker, proxy
        self.session = f"rig-{uuid.uuid4().hex[:12]}"
        self.topic = f"plant/{self.session}"
        self.offered = 0
        self.acknowledged = 0
        self.state = State()
        self.source: Any = None
        broker.subscribe(self.session, self.topic)

    async def offer(self, name: str, body: bytes) -> None:
        self.offered += 1
        await asyncio.to_thread(self.broker.publish, self.topic, body, name=name)

    async def held(self) -> int:
        return self.offered - self.acknowledged

    async def bind(self, context: SourceContext) -> RunningSource:
        connection = ConnectionContext("broker", SystemClock(), self.workspace, context.log)
        live = await MqttConnection(url=f"mqtt://127.0.0.1:{self.proxy.port}").open(connection)
        options = MqttSource(topics=(self.topic,), client_id=self.session)
        self.source = options.bind(replace(context, connection=live, state=self.state))
        self._count(self.source)
        return self.source

    def _count(self, source: Any) -> None:
        """Count what goes out to the broker as an acknowledgement."""
        connected = source.connected

        def counting(client: Any, *, session_present: bool) -> None:
            acknowledge = client.ack

            def ack(mid: int, qos: int) -> Any:
                self.acknowledged += 1
                return acknowledge(mid, qos)

            client.ack = ack
            connected(client, session_present=session_present)

        source.connected = counting

    async def crash(self, source: RunningSource) -> None:
        await asyncio.to_thread(self.proxy.down)
        await self.until(lambda: self.source._client is None)
        self.source._stopping = True
        self.source._worker.cancel()
        await self.source._link.close()
        self.proxy.up()


class TestSource(SourceContract):
    @pytest.fixture
    def rig(self, mosquitto: Mosquitto, proxy: Proxy) -> SourceRig:
        return Source(mosquitto, proxy)

    def test_what_came_while_it_was_away_comes_in_order(self, rig: Source) -> None:
        async def scenario() -> None:
            intake = DurableIntake()
            source = await rig.start(intake)
            await rig.offer("a", rig.good)
            await rig.until_held(0)
            await source.stop()
            for number in range(5):
                await rig.offer(f"away-{number}", b'{"n": %d}' % number)
            source = await rig.start(intake)
            await rig.until_held(0)
            await source.stop()
            assert intake.payloads[1:] == [b'{"n": %d}' % number for number in range(5)]

        asyncio.run(scenario())

    def test_what_was_acknowledged_before_a_stop_does_not_come_again(self, mosquitto: Mosquitto) -> None:
        """The broker sends on while the source stops; it must have read the acknowledgements before the connection ends."""
        rig: Any = Source(mosquitto, mosquitto)  # no proxy, which reads for both

        async def scenario() -> None:
            intake = DurableIntake()

            def put() -> None:
                with mosquitto.client() as client:
                    for number in range(600):
                        client.publish(rig.topic, b'{"n": %d}' % number, 1).wait_for_publish(60)

            await asyncio.to_thread(put)
            for enough in (60, 120, 180, 240, 600):
                source = await rig.start(intake)
                await rig.until(lambda enough=enough: len(set(intake.payloads)) >= enough)
                await source.stop()
            assert intake.payloads == [b'{"n": %d}' % number for number in range(600)]

        asyncio.run(scenario())

    def test_a_restart_of_the_broker_loses_and_doubles_nothing(self, rig: Source) -> None:
        async def scenario() -> None:
            intake = DurableIntake()
            intake.after.clear()
            source = await rig.start(intake)
            await rig.until(lambda: rig.source._client is not None)
            for number in range(10):
                await rig.offer(f"{number}", b'{"n": %d}' % number)
            await rig.until(lambda: len(intake.committed) > 0)
            await asyncio.to_thread(rig.broker.stop)
            await rig.until(lambda: rig.source._client is None)
            await asyncio.to_thread(rig.broker.start)
            intake.after.set()
            await rig.until(lambda: len(intake.committed) == 10 and rig.source._client is not None)
            await rig.offer("last", rig.good)
            await rig.until(lambda: len(intake.committed) == 11)
            await source.stop()
            assert intake.payloads == [b'{"n": %d}' % number for number in range(10)] + [rig.good]

        asyncio.run(scenario())

    def test_a_topic_that_the_route_no_longer_names_is_left(self, rig: Source) -> None:
        async def scenario() -> None:
            intake = DurableIntake()
            source = await rig.start(intake)
            await rig.offer("a", rig.good)
            await rig.until_held(0)
            await source.stop()
            old, rig.topic = rig.topic, f"{rig.topic}/new"
            source = await rig.start(intake)
            await rig.until(lambda: rig.source._client is not None)
            await asyncio.to_thread(rig.broker.publish, old, b'{"old": true}')
            await rig.offer("b", b'{"new": true}')
            await rig.until(lambda: len(intake.committed) == 2)
            await source.stop()
            assert intake.payloads == [rig.good, b'{"new": true}']

        asyncio.run(scenario())

    def test_what_a_message_brings_along(self, rig: Source) -> None:
        async def scenario() -> None:
            intake = DurableIntake()
            source = await rig.start(intake)
            await rig.offer("id-7", rig.good)
            await rig.until_held(0)
            await asyncio.to_thread(rig.broker.publish, rig.topic, b"free text", content_type="text/plain", name="x")
            await asyncio.to_thread(rig.broker.publish, rig.topic, b"\x00\x01", content_type="image/png", name="y")
            await rig.until(lambda: len(intake.committed) == 2 and len(intake.dead) == 1)
            await source.stop()
            first = intake.committed[0]
            assert first.source_key == f"mqtt:{rig.topic}:id-7"
            assert first.headers["message-id"] == "id-7"
            assert first.meta["mqtt"] == {"topic": rig.topic, "qos": 1, "retained": False, "again": False}
            assert intake.dead[0].payload == b"\x00\x01"

        asyncio.run(scenario())


class Sink(ProxiedRig):
    def __init__(self, broker: Mosquitto, proxy: Proxy) -> None:
        self.broker, self.proxy = broker, proxy
        self.topic = f"t/{uuid.uuid4().hex[:12]}"
        self.got: list[Any] = []

    def listen(self, stack: ExitStack) -> None:
        client = stack.enter_context(self.broker.client(listener=lambda _c, _u, message: self.got.append(message)))
        client.subscribe(f"{self.topic}/#", 1)

    def connection(self) -> MqttConnection:
        return MqttConnection(url=f"mqtt://127.0.0.1:{self.proxy.port}")

    def sink(self) -> MqttSink:
        return MqttSink(topic=fixed(self.topic))

    def refused_sink(self) -> MqttSink:
        return MqttSink(topic=fixed("closed/door"))

    async def received(self) -> list[tuple[str, bytes]]:
        """A message of our own behind all others says that they are through."""
        mark = uuid.uuid4().hex.encode()
        await asyncio.to_thread(self.broker.publish, self.topic, mark)
        async with asyncio.timeout(20):
            while not any(message.payload == mark for message in self.got):
                await asyncio.sleep(0.01)
        self.got = [message for message in self.got if message.payload != mark]
        return [(dict(message.properties.UserProperty).get("message-id", ""), message.payload) for message in self.got]


class TestSink(SinkContract):
    @pytest.fixture
    def rig(self, mosquitto: Mosquitto, proxy: Proxy) -> Iterator[SinkRig]:
        made = Sink(mosquitto, proxy)
        with ExitStack() as stack:
            made.listen(stack)
            yield made

    def test_a_topic_that_the_message_makes_is_never_a_wildcard(self, rig: Sink) -> None:
        async def scenario(send: Any) -> None:
            with pytest.raises(Invalid, match="wildcard"):
                await send({"n": 1}, sink=MqttSink(topic=fixed("plant/#")))
            with pytest.raises(Invalid, match="is empty"):
                await send({"n": 1}, sink=MqttSink(topic=fixed("")))

        run(rig, scenario)

    def test_nobody_listening_is_rejected_where_it_matters(self, rig: Sink) -> None:
        async def scenario(send: Any) -> None:
            nobody = fixed(f"plant/nobody/{uuid.uuid4().hex}")
            await send({"n": 1}, sink=MqttSink(topic=nobody))
            with pytest.raises(Rejected, match="nobody"):
                await send({"n": 1}, sink=MqttSink(topic=nobody, heard=True))

        run(rig, scenario)
