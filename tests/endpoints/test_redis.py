"""`type: amqp` with `redis://` keeps what every source and every sink promises, against a real Redis and beside other programs with kombu."""

from __future__ import annotations

import asyncio
import json
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kombu
import pytest

from esb.clock import SystemClock
from esb.endpoints.amqp import AmqpConnection, AmqpSink, AmqpSource, Binding, Declare
from esb.endpoints.base import ConnectionContext, Delivery, RunningSource, SourceContext
from esb.endpoints.http import HttpTls
from esb.errors import Rejected, Unavailable
from esb.language import TextTemplate
from esb.message import Message
from esb.secret import Secret
from tests.contracts.sink_contract import ProxiedRig, SinkContract, SinkRig
from tests.contracts.source_contract import DurableIntake, SourceContract, SourceRig
from tests.endpoints.test_amqp_contract import Closing, fixed
from tests.servers.certificates import make_authority, make_certificates
from tests.servers.proxy import Proxy
from tests.servers.redis import PASSWORD, Redis


def options(port: int, **more: Any) -> AmqpConnection:
    given = {"password": Secret(PASSWORD), "visibility_timeout": timedelta(seconds=1), **more}
    return AmqpConnection(url=f"redis://127.0.0.1:{port}/0", **given)


@asynccontextmanager
async def opened(settings: AmqpConnection, log: Any = lambda *_, **__: None) -> AsyncIterator[Any]:
    live = await settings.open(ConnectionContext("broker", SystemClock(), Path(), log))
    try:
        yield live
    finally:
        await live.close()


def foreign(server: Redis) -> kombu.Connection:
    """Another program that uses kombu as it is."""
    return kombu.Connection(f"redis://:{PASSWORD}@127.0.0.1:{server.port}/0")


def put(server: Redis, queue: str, name: str, body: bytes, **more: Any) -> None:
    with foreign(server) as connection:
        words = {"message_id": name, "content_type": "application/json", "content_encoding": "binary", **more}
        kombu.Producer(connection.channel()).publish(body, routing_key=queue, **words)


def held(server: Redis, queue: str) -> int:
    """In the queue, or noted as taken and not acknowledged."""
    with server.client() as client, client.pipeline() as pipe:  # all counted at one instant
        for name in (queue, *(f"{queue}\x06\x16{step}" for step in (3, 6, 9))):
            pipe.llen(name)
        pipe.hlen(f"esb.unacked.{queue}")
        return sum(pipe.execute())


class Source(SourceRig):
    def __init__(self, server: Redis, proxy: Any) -> None:
        self.server, self.proxy = server, proxy
        self.queue = f"q.{uuid.uuid4().hex[:12]}"
        self.live: Any = None
        self.source = AmqpSource(queue=self.queue)

    async def offer(self, name: str, body: bytes) -> None:
        await asyncio.to_thread(put, self.server, self.queue, name, body)

    async def held(self) -> int:
        return held(self.server, self.queue)

    async def bind(self, context: SourceContext) -> RunningSource:
        connection = ConnectionContext("broker", SystemClock(), self.workspace, context.log)
        self.live = await options(self.proxy.port).open(connection)
        return Closing(self.source.bind(replace(context, connection=self.live)), self.live)

    async def crash(self, source: RunningSource) -> None:
        self.proxy.down()  # so that nothing can be given back
        await self.live.close()
        self.proxy.up()


class TestSource(SourceContract):
    @pytest.fixture
    def rig(self, redis_server: Redis, redis_proxy: Proxy) -> SourceRig:
        return Source(redis_server, redis_proxy)

    def test_what_redis_gave_and_nobody_heard_comes_again(self, rig: Source) -> None:
        """The moment in which a pop and a note that follows it would lose a message."""

        async def scenario() -> None:
            rig.source = AmqpSource(queue=rig.queue, in_hand=61_111_111)
            intake = DurableIntake()
            await rig.offer("a", b"1")
            source = await rig.start(intake)  # and Redis knows the script now
            await rig.until_held(0)
            await source.stop()
            await rig.offer("b", b"2")
            rig.proxy.swallow(b"61111111", b'"body"')
            source = await rig.start(intake)
            await rig.until(lambda: not rig.proxy._passes)
            await rig.until_held(0)
            await source.stop()
            assert intake.payloads == [b"1", b"2"]

        asyncio.run(scenario())

    def test_what_comes_again_keeps_its_order(self, rig: Source) -> None:
        async def scenario() -> None:
            intake = DurableIntake()
            intake.before.clear()
            for number in range(12):
                await rig.offer(f"{number}", b"%d" % number)
            source = await rig.start(intake)
            await rig.until(lambda: intake.asked >= 12)
            await rig.crash(source)
            assert await rig.held() == 12
            again = DurableIntake()
            source = await rig.start(again)
            await rig.until_held(0)
            await source.stop()
            assert again.payloads == [b"%d" % number for number in range(12)]

        asyncio.run(scenario())

    def test_what_a_living_bus_has_in_hand_stays_there(self, rig: Source) -> None:
        async def scenario() -> None:
            intake = DurableIntake()
            intake.before.clear()
            for name in ("a", "b"):
                await rig.offer(name, b"1")
            source = await rig.start(intake)
            await rig.until(lambda: intake.asked == 2)
            index = f"esb.unacked_index.{rig.queue}"
            with rig.server.client() as client:
                [(first, begun), (second, _)] = client.zrange(index, 0, -1, withscores=True)
                await rig.until(lambda: (client.zscore(index, first) or 0) > begun + 2)  # of a patience of 1
                assert client.zrange(index, 0, -1) == [first, second]
            assert intake.asked == 2
            intake.before.set()
            await rig.until_held(0)
            await source.stop()

        asyncio.run(scenario())

    def test_what_is_in_hand_stays_there_while_the_source_stops(self, rig: Source) -> None:
        async def scenario() -> None:
            intake = DurableIntake()
            intake.before.clear()
            await rig.offer("a", b"1")
            source = await rig.start(intake)
            await rig.until(lambda: intake.asked == 1)
            index = f"esb.unacked_index.{rig.queue}"
            stopping = asyncio.create_task(source.stop())
            with rig.server.client() as client:
                [(tag, begun)] = client.zrange(index, 0, -1, withscores=True)
                await rig.until(lambda: stopping.done() or client.zscore(index, tag) > begun + 2)  # of a patience of 1
            assert not stopping.done()
            intake.before.set()
            await stopping
            assert (intake.payloads, await rig.held()) == ([b"1"], 0)

        asyncio.run(scenario())

    def test_what_cannot_be_noted_is_not_taken(self, rig: Source) -> None:
        async def scenario() -> None:
            intake, trouble = DurableIntake(), lambda: rig.live.consumer.trouble
            await rig.offer("a", b"1")
            with rig.server.client() as client:
                client.set(f"esb.unacked.{rig.queue}", "no hash")
                source = await rig.start(intake)
                await rig.until(lambda: "WRONGTYPE" in trouble())
                assert client.llen(rig.queue) == 1
                client.delete(f"esb.unacked.{rig.queue}")
            await rig.until_held(0)
            await source.stop()
            assert intake.payloads == [b"1"]

        asyncio.run(scenario())

    def test_a_queue_that_is_empty_is_there(self, rig: Source) -> None:
        """Redis has no empty lists, and what is `passive` need not have a message."""

        async def scenario() -> None:
            rig.source = AmqpSource(queue=rig.queue, declare=Declare(passive=True))
            intake = DurableIntake()
            source = await rig.start(intake)
            await rig.until(lambda: rig.live.consumer._open or rig.live.consumer.trouble)
            assert not rig.live.consumer.trouble
            await rig.offer("a", b"1")
            await rig.until_held(0)
            await source.stop()
            assert intake.payloads == [b"1"]

        asyncio.run(scenario())

    def test_a_fanout_takes_every_key_whatever_its_bindings_say(self, rig: Source) -> None:
        async def scenario() -> None:
            exchange = f"{rig.queue}.x"
            binding = Binding(exchange=exchange, routing_key="lots", type="fanout")
            rig.source = AmqpSource(queue=rig.queue, declare=Declare(bind=(binding,)))
            intake = DurableIntake()
            source = await rig.start(intake)
            async with opened(options(rig.server.port)) as live:
                await bound(rig.server, exchange, 1)
                await send(live, AmqpSink(exchange=fixed(exchange), routing_key=fixed("a.b")))
            await rig.until(lambda: len(intake.committed) == 1)
            await source.stop()

        asyncio.run(scenario())

    def test_what_is_not_wrapped_as_kombu_does_it_is_a_body(self, rig: Source) -> None:
        async def scenario() -> None:
            intake = DurableIntake()
            bodies = [b'{"lot":"0012","qty":12.10}', b'{"properties":{}}']
            bodies += [b'{"__type__":"decimal","__value__":"12,5"}', b"[" * 5_000, b"\xff\x00"]
            with rig.server.client() as client:
                client.lpush(rig.queue, *bodies)
            source = await rig.start(intake)
            await rig.until_held(0)
            await source.stop()
            assert intake.payloads == bodies[:3]
            assert [incoming.payload for incoming in intake.dead] == bodies[3:]

        asyncio.run(scenario())

    def test_priorities_of_other_programs_are_those_of_kombu(self, rig: Source) -> None:
        async def scenario() -> None:
            intake = DurableIntake()
            for priority in (9, 0, 6):
                await asyncio.to_thread(put, rig.server, rig.queue, f"p{priority}", b"%d" % priority, priority=priority)
            source = await rig.start(intake)
            await rig.until_held(0)
            await source.stop()
            assert intake.payloads == [b"0", b"6", b"9"]

        asyncio.run(scenario())

    def test_what_other_programs_have_in_hand_is_left_to_them(self, rig: Source) -> None:
        async def scenario() -> None:
            await rig.offer("a", b"1")
            with foreign(rig.server) as connection:
                message = connection.channel().basic_get(rig.queue)
                assert message is not None
                intake = DurableIntake()
                source = await rig.start(intake)
                await rig.offer("b", b"2")
                await rig.until(lambda: len(intake.committed) == 1)
                message.ack()
                await source.stop()
            assert intake.payloads == [b"2"]

        asyncio.run(scenario())

    @pytest.mark.parametrize("type_", ["topic", "fanout", "direct"])
    def test_exchanges_reach_each_of_their_queues(self, rig: Source, type_: Any) -> None:
        async def scenario() -> None:
            exchange, key = f"{rig.queue}.x", "a.b" if type_ == "direct" else "#"
            rig.source = AmqpSource(
                queue=rig.queue, declare=Declare(bind=(Binding(exchange=exchange, routing_key=key, type=type_),))
            )
            intake, other = DurableIntake(), Source(rig.server, rig.proxy)
            other.source = AmqpSource(
                queue=other.queue, declare=Declare(bind=(Binding(exchange=exchange, routing_key=key, type=type_),))
            )
            sources = [await rig.start(intake), await other.start(intake)]
            async with opened(options(rig.server.port)) as live:  # another process: it has declared nothing
                await bound(rig.server, exchange, 2)
                await send(live, AmqpSink(exchange=fixed(exchange), routing_key=fixed("a.b")))
                if type_ == "direct":
                    with pytest.raises(Rejected, match="nothing is bound"):
                        await send(live, AmqpSink(exchange=fixed(exchange), routing_key=fixed("a.c")))
            await rig.until(lambda: len(intake.committed) == 2)
            for source in sources:
                await source.stop()
            assert {incoming.meta["amqp"]["queue"] for incoming in intake.committed} == {rig.queue, other.queue}

        asyncio.run(scenario())

    def test_what_is_given_back_goes_to_its_own_queue_only(self, rig: Source) -> None:
        async def scenario() -> None:
            exchange, other = f"{rig.queue}.x", f"{rig.queue}.other"
            with foreign(rig.server) as connection:
                channel = connection.channel()
                for queue in (rig.queue, other):
                    kombu.Queue(queue, kombu.Exchange(exchange, "direct"), routing_key="k")(channel).declare()
                kombu.Producer(channel).publish(b"1", exchange=exchange, routing_key="k", content_encoding="binary")
            intake = DurableIntake()
            intake.before.clear()
            source = await rig.start(intake)
            await rig.until(lambda: intake.asked >= 1)
            intake.open = False
            intake.refuses = True
            intake.before.set()
            await source.stop()
            assert (held(rig.server, rig.queue), held(rig.server, other)) == (1, 1)

        asyncio.run(scenario())


def test_what_redis_has_confirmed_and_what_was_in_hand_outlives_its_kill(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    server = Redis(tmp_path)
    server.start()
    rig, count = Source(server, SimpleNamespace(port=server.port)), 20

    async def scenario() -> None:
        async with opened(options(server.port)) as live:
            for number in range(count):
                await send(live, AmqpSink(routing_key=fixed(rig.queue)), number)
        intake = DurableIntake()
        intake.before.clear()
        source = await rig.start(intake)
        await rig.until(lambda: intake.asked >= count)
        server.stop(signal.SIGKILL)
        intake.before.set()  # all are stored, and cannot be acknowledged
        await rig.until(lambda: len(intake.committed) == count)
        server.start()
        await rig.until_held(0)
        await source.stop()
        assert intake.payloads == [b"%d" % number for number in range(count)]

    try:
        asyncio.run(scenario())
    finally:
        server.close()


async def bound(server: Redis, exchange: str, queues: int) -> None:
    with server.client() as client:
        async with asyncio.timeout(40):
            while client.scard(f"_kombu.binding.{exchange}") < queues:
                await asyncio.sleep(0.01)


async def send(live: Any, sink: AmqpSink, body: Any = 1, **more: Any) -> Any:
    message = Message(body)
    words = {
        "id": str(uuid.uuid4()),
        "attempt": 1,
        "timeout": 10.0,
        "scope": message.scope(),
        "message_id": "m",
        **more,
    }
    return await sink.send(message, Delivery(**words, clock=SystemClock(), workspace=Path()), live)


class Sink(ProxiedRig):
    def __init__(self, server: Redis, proxy: Proxy) -> None:
        self.server, self.proxy = server, proxy
        self.queue = f"q.{uuid.uuid4().hex[:12]}"
        self.got: list[tuple[str, bytes]] = []

    def connection(self) -> AmqpConnection:
        return options(self.proxy.port)

    def sink(self) -> AmqpSink:
        return AmqpSink(routing_key=fixed(self.queue))

    def refused_sink(self) -> AmqpSink:
        return AmqpSink(exchange=fixed(f"{self.queue}.unbound"), routing_key=fixed("k"))

    async def received(self) -> list[tuple[str, bytes]]:
        with foreign(self.server) as connection:
            channel = connection.channel()
            while (message := channel.basic_get(self.queue, no_ack=True)) is not None:
                body = message.body if isinstance(message.body, bytes) else message.body.encode()
                self.got.append((message.properties["message_id"], body))
        return self.got


class TestSink(SinkContract):
    @pytest.fixture
    def rig(self, redis_server: Redis, redis_proxy: Proxy) -> SinkRig:
        return Sink(redis_server, redis_proxy)

    def test_headers_and_properties_arrive_and_no_priority(self, rig: Sink) -> None:
        async def scenario() -> None:
            plant = TextTemplate("P10", lambda scope: "P10", constant=True)
            sink = AmqpSink(routing_key=fixed(rig.queue), headers={"plant": plant}, priority=9, type=fixed("lot.held"))
            async with opened(options(rig.server.port)) as live:
                await send(live, sink, id="d-1")
            with rig.server.client() as client:
                # and not in the list of priority 9, which is the last one here
                [item] = client.lrange(rig.queue, 0, -1)
            sent = json.loads(item)
            assert sent["headers"]["plant"] == "P10"
            assert (sent["properties"]["message_id"], sent["properties"]["type"]) == ("d-1", "lot.held")

        asyncio.run(scenario())


def test_tls_trusts_only_who_it_should(redis_server: Redis) -> None:
    async def scenario() -> None:
        url, queue = f"rediss://127.0.0.1:{redis_server.tls_port}/0", f"q.{uuid.uuid4().hex}"
        sink = AmqpSink(routing_key=fixed(queue))
        password = Secret(PASSWORD)
        async with opened(AmqpConnection(url=url, password=password)) as live:
            await until_trouble(live)
            with pytest.raises(Unavailable, match=r"CERTIFICATE_VERIFY_FAILED"):
                await send(live, sink)
        tls = HttpTls(ca=str(redis_server.folder / "ca.crt"))
        async with opened(AmqpConnection(url=url, password=password, tls=tls)) as live:
            await send(live, sink)
        assert held(redis_server, queue) == 1

    asyncio.run(scenario())


def test_an_authority_that_is_given_stands_instead_of_those_of_the_system(
    redis_server: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_authority(tmp_path, "own")
    monkeypatch.setenv("SSL_CERT_FILE", str(redis_server.folder / "ca.crt"))  # the system trusts the server

    async def scenario() -> None:
        url = f"rediss://127.0.0.1:{redis_server.tls_port}/0"
        sink = AmqpSink(routing_key=fixed(f"q.{uuid.uuid4().hex}"))
        async with opened(AmqpConnection(url=url, password=Secret(PASSWORD))) as live:
            await send(live, sink)
        tls = HttpTls(ca=str(tmp_path / "own.crt"))
        for more in ("", "?ssl_cert_reqs=none"):
            async with opened(AmqpConnection(url=url + more, password=Secret(PASSWORD), tls=tls)) as live:
                with pytest.raises(Unavailable, match=r"CERTIFICATE_VERIFY_FAILED"):
                    await send(live, sink)

    asyncio.run(scenario())


def test_who_may_not_ask_redis_about_itself_is_served(redis_server: Redis) -> None:
    async def scenario() -> None:
        logs: list[Any] = []
        settings = options(redis_server.port, user="plain")
        async with opened(settings, lambda level, *event, **fields: logs.append((event, fields))) as live:
            await send(live, AmqpSink(routing_key=fixed(f"q.{uuid.uuid4().hex}")))
        assert not logs

    with redis_server.client() as client:
        allowed = {"enabled": True, "passwords": [f"+{PASSWORD}"], "keys": ["*"], "channels": ["*"]}
        client.acl_setuser("plain", commands=["+@all", "-info"], **allowed)
        try:
            asyncio.run(scenario())
        finally:
            client.acl_deluser("plain")


async def until_trouble(live: Any) -> None:
    async with asyncio.timeout(40):
        while not live.publisher.trouble:  # which begins to connect here
            await asyncio.sleep(0.01)


def test_a_wrong_password_is_told_and_not_shown(redis_server: Redis) -> None:
    async def scenario() -> None:
        logs: list[Any] = []
        wrong = options(redis_server.port, password=Secret("not-the-one"))
        async with opened(wrong, lambda *event, **fields: logs.append((event, fields))) as live:
            await until_trouble(live)
            with pytest.raises(Unavailable, match=r"(?i)password"):
                await send(live, AmqpSink(routing_key=fixed("q")))
        assert "not-the-one" not in str(logs)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("setting", "value", "usual", "reason"),
    [("appendonly", "no", "yes", "appendonly yes"), ("maxmemory-policy", "allkeys-lru", "noeviction", "noeviction")],
)
def test_a_redis_that_may_lose_messages_is_warned_about(
    redis_server: Redis, setting: str, value: str, usual: str, reason: str
) -> None:
    async def scenario() -> None:
        logs: list[Any] = []
        async with opened(
            options(redis_server.port), lambda level, *event, **fields: logs.append((event, fields))
        ) as live:
            await send(live, AmqpSink(routing_key=fixed(f"q.{uuid.uuid4().hex}")))
        assert [
            fields["reason"] for event, fields in logs if event == ("amqp.not_kept",) and reason in fields["reason"]
        ]

    with redis_server.client() as client:
        client.config_set("maxmemory", "1gb")
        client.config_set(setting, value)
        try:
            asyncio.run(scenario())
        finally:
            client.config_set(setting, usual)
            client.config_set("maxmemory", "0")
