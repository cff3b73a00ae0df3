"""What a broker may do to a bus: die, freeze, run out of memory, lose queues, refuse; nothing that was confirmed gets lost."""

from __future__ import annotations

import asyncio
import gc
import gzip
import pickle
import uuid
from pathlib import Path
from typing import Any

import amqp
import pytest

from esb.endpoints._amqp import receive, waiting
from esb.endpoints._amqp.consume import Arrival
from esb.endpoints._amqp.hand import Hand
from esb.endpoints._amqp.publish import Parcel
from esb.runtime.ports import Errand
from esb.runtime.run import MessageRun
from esb.runtime.straight import Flight
from esb.store.base import Filter
from tests.endpoints.bus import LiveBus, running, until
from tests.servers.rabbitmq import RabbitMq

CONNECTOR = """
connector: broker
type: amqp
url: "{url}"
heartbeat: 2s
confirm_timeout: {confirm}
concurrency: 200
timeout: 10s
"""
FORWARD = """
route: forward
from: {{ amqp: {{ connector: broker, queue: "{q}.in", prefetch: 200, declare: {{ type: {kind} }} }} }}
concurrency: 200
steps:
  - to: {{ amqp: {{ connector: broker, routing_key: "{q}.out" }} }}
    timeout: {timeout}
    retry: {{ max: 1000, backoff: 100ms..1s }}
"""
OTHER = """
route: other
from: { route: {} }
steps:
  - filter: body.n >= `0`
"""


class Plant:
    """Names of one test, and the messages that were put in and came out."""

    def __init__(self, node: RabbitMq, root: Path) -> None:
        self.node, self.root = node, root
        self.q = f"t.{uuid.uuid4().hex[:10]}"
        self.out: list[tuple[str, bytes]] = []

    def files(self, *, kind: str = "classic", timeout: str = "5s", confirm: str = "30s") -> dict[str, str]:
        return {
            "connectors/broker.yaml": CONNECTOR.format(url=f"amqp://127.0.0.1:{self.node.port}/", confirm=confirm),
            "routes/forward.yaml": FORWARD.format(q=self.q, kind=kind, timeout=timeout),
            "routes/other.yaml": OTHER,
        }

    def declare(self, kind: str = "classic", **arguments: Any) -> None:
        with self.node.channel() as channel:
            for name, more in (("in", {}), ("out", arguments)):
                channel.queue_declare(
                    f"{self.q}.{name}", durable=True, auto_delete=False, arguments={"x-queue-type": kind, **more}
                )

    def put(self, count: int, start: int = 0) -> None:
        """Confirmed by the broker when it returns."""
        with self.node.channel() as channel:
            channel.confirm_select()
            acked = 0

            def confirmed(tag: int, multiple: bool) -> None:
                nonlocal acked
                acked = max(acked, tag)

            channel.events["basic_ack"].add(confirmed)
            for n in range(start, start + count):
                body = b'{"n":%d}' % n
                message = amqp.basic_message.Message(
                    body, message_id=f"{self.q}-{n}", content_type="application/json", delivery_mode=2
                )
                channel.basic_publish(message, "", f"{self.q}.in")
            while acked < count:
                channel.connection.drain_events(timeout=30)

    def take(self) -> set[bytes]:
        """Everything that came out so far."""
        self.out += [
            (message.properties["message_id"], _bytes(message.body)) for message in self.node.take_all(f"{self.q}.out")
        ]
        return {body for _, body in self.out}


def _bytes(body: Any) -> bytes:
    return body if isinstance(body, bytes) else str(body).encode()


@pytest.fixture
def plant(rabbitmq: RabbitMq, tmp_path: Path) -> Plant:
    return Plant(rabbitmq, tmp_path)


async def apart(what: Any, *arguments: Any) -> Any:
    return await asyncio.to_thread(what, *arguments)


async def other_goes_on(bus: LiveBus) -> None:
    """A route that has nothing to do with the broker does its work meanwhile."""
    receipt = await bus.send("other", {"n": 1})
    await until(lambda: bus.store.get(receipt.message_id).state.value == "done")


@pytest.mark.timeout(600)  # RabbitMQ starts three times
def test_two_thousand_messages_survive_kill_9_a_restart_and_a_cut(plant: Plant) -> None:
    async def scenario() -> None:
        # no quorum queues here: those of a single RabbitMQ 3.10 may stay without a leader after a start, and then take nothing
        plant.declare()
        async with running(plant.root, plant.files()) as bus:
            await apart(plant.put, 1000)
            await until(lambda: bus.counts("forward").get("done", 0) > 200, 120.0)
            await apart(plant.node.kill)
            await other_goes_on(bus)
            await apart(plant.node.start)
            await apart(plant.put, 500, 1000)
            await until(lambda: bus.counts("forward").get("done", 0) > 1100, 120.0)
            await apart(plant.node.ctl, "close_all_connections", "cut by an operator")
            await apart(plant.put, 500, 1500)
            await until(lambda: bus.counts("forward").get("done", 0) > 1600, 120.0)
            await apart(plant.node.stop)
            await other_goes_on(bus)
            await apart(plant.node.start)
            await until(lambda: bus.counts("forward") == {"done": 2000})
        assert await apart(plant.take) == {b'{"n":%d}' % n for n in range(2000)}
        ids: dict[bytes, set[str]] = {}
        for id_, body in plant.out:
            ids.setdefault(body, set()).add(id_)
        assert all(len(known) == 1 for known in ids.values())  # what came twice came under one id

    asyncio.run(scenario())


def test_nothing_of_a_message_waits_for_the_collector(plant: Plant) -> None:
    def kept() -> int:
        return sum(type(one) in (Arrival, Parcel, Errand, Flight, MessageRun) for one in gc.get_objects())

    async def scenario() -> None:
        plant.declare()
        async with running(plant.root, plant.files()) as bus:
            await apart(plant.put, 1)
            await until(lambda: bus.counts("forward") == {"done": 1})
            gc.collect()
            before = kept()  # by errors of other tests
            gc.disable()
            try:
                await apart(plant.put, 50, 1)
                await until(lambda: bus.counts("forward") == {"done": 51})
                await until(lambda: kept() == before, 5.0)
            finally:
                gc.enable()

    asyncio.run(scenario())


LARGE = """
route: forward
key: "'one'"
from: {{ amqp: {{ connector: broker, queue: "{q}.in", prefetch: 100, in_hand: 1MB, format: raw, seen_by: none }} }}
steps: [ {{ filter: "`false`" }} ]
"""


def test_large_messages_in_hand_are_bounded_by_their_bytes(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 60 messages of 300 KB no more than a megabyte is in hand; all come once and in order, and small ones widen it."""
    peak, take = [0], Hand.take

    def watched(hand: Hand, tag: int, size: int) -> bool:
        taken = take(hand, tag, size)
        peak[0] = max(peak[0], hand.bytes)
        return taken

    monkeypatch.setattr(Hand, "take", watched)

    def put(sizes: list[int]) -> None:
        with plant.node.channel() as channel:
            channel.confirm_select()
            for number, size in enumerate(sizes):
                body = b"%06d" % number + b"x" * size
                channel.basic_publish_confirm(amqp.basic_message.Message(body, delivery_mode=2), "", f"{plant.q}.in")

    async def scenario() -> None:
        plant.declare("quorum")
        await apart(put, [10] * 20 + [300_000] * 60)
        files = {**plant.files(), "routes/forward.yaml": LARGE.format(q=plant.q)}
        async with running(plant.root, files) as bus:
            await until(lambda: bus.counts("forward") == {"done": 80}, 120.0)
            assert 600_000 < peak[0] <= 1_000_000
            numbers = [
                int(bus.store.payload(stored.envelope.seq)[0].payload()[:6])
                for stored in bus.store.find(Filter(route="forward", oldest_first=True, limit=1000))
            ]
            assert numbers == list(range(80))
            hand = bus.supervisor.routes["forward"].source._subscription.hand
            assert hand.prefetch < 10
            await apart(put, [10] * 1200)
            await until(lambda: bus.counts("forward") == {"done": 1280}, 120.0)
            assert hand.prefetch > 10

    asyncio.run(scenario())


def test_a_frozen_broker_costs_a_delivery_its_deadline_and_nobody_else_anything(plant: Plant) -> None:
    async def scenario() -> None:
        plant.declare()
        async with running(plant.root, plant.files(timeout="1s")) as bus:
            plant.put(20)
            await until(lambda: bus.counts("forward").get("done", 0) == 20)
            plant.node.freeze()
            try:
                for n in range(20):
                    await bus.send("forward", {"n": 100 + n})
                await until(lambda: bus.counts("forward").get("waiting", 0) > 0)
                await other_goes_on(bus)
            finally:
                plant.node.thaw()
            await until(lambda: bus.counts("forward") == {"done": 40})
        assert len(await apart(plant.take)) == 40

    asyncio.run(scenario())


def test_a_memory_alarm_holds_up_sending_and_loses_nothing(plant: Plant) -> None:
    async def scenario() -> None:
        plant.declare()
        async with running(plant.root, plant.files(timeout="1s")) as bus:
            plant.put(20)
            await until(lambda: bus.counts("forward").get("done", 0) == 20)
            await apart(plant.node.ctl, "set_vm_memory_high_watermark", "absolute", "1")
            try:
                for n in range(20):
                    await bus.send("forward", {"n": 100 + n})
                await until(lambda: bus.counts("forward").get("waiting", 0) > 0)
                await until(lambda: bool(bus.events("amqp.blocked")))
                await other_goes_on(bus)
            finally:
                await apart(plant.node.ctl, "set_vm_memory_high_watermark", "absolute", "1GB")
            await until(lambda: bus.counts("forward") == {"done": 40})
        assert len(await apart(plant.take)) == 40

    asyncio.run(scenario())


def test_a_deleted_target_queue_makes_dead_letters_with_the_reason_and_a_missing_exchange_retries(plant: Plant) -> None:
    async def scenario() -> None:
        plant.declare()
        missing = FORWARD.format(q=plant.q, kind="classic", timeout="2s").replace("route: forward", "route: lost")
        missing = missing.replace(f'routing_key: "{plant.q}.out"', f"exchange: {plant.q}.gone, routing_key: x")
        missing = missing.replace(
            missing[missing.index("from:") : missing.index("concurrency")], "from: { route: {} }\n"
        )
        async with running(plant.root, {**plant.files(), "routes/lost.yaml": missing}) as bus:
            lost = await bus.send("lost", {"n": 0})
            for n in range(50):  # beside a channel that the broker closes again and again
                await bus.send("forward", {"n": n})
            await until(lambda: bus.counts("forward") == {"done": 50})
            await until(lambda: bus.store.get(lost.message_id).state.value == "waiting")
            with plant.node.channel() as channel:
                channel.exchange_declare(f"{plant.q}.gone", "topic", durable=True, auto_delete=False)
                channel.queue_bind(f"{plant.q}.out", f"{plant.q}.gone", "#")
            await until(lambda: bus.store.get(lost.message_id).state.value == "done")
            with plant.node.channel() as channel:
                channel.queue_delete(f"{plant.q}.out")
            dead = await bus.send("forward", {"n": 99})
            await until(lambda: bus.store.get(dead.message_id).state.value == "dead")
            error = bus.store.get(dead.message_id).error
            assert (error.error_class, "NO_ROUTE" in error.message) == ("rejected", True)

    asyncio.run(scenario())


def test_a_source_finds_its_queue_again_after_it_was_deleted(plant: Plant) -> None:
    async def scenario() -> None:
        plant.declare()
        async with running(plant.root, plant.files()) as bus:
            plant.put(1)
            await until(lambda: bus.counts("forward") == {"done": 1})
            with plant.node.channel() as channel:
                channel.queue_delete(f"{plant.q}.in")
            await until(lambda: bool(bus.events("amqp.subscription_lost")))
            plant.declare()
            plant.put(1, 1)
            await until(lambda: bus.counts("forward") == {"done": 2})

    asyncio.run(scenario())


def test_messages_go_in_and_out_where_the_system_has_no_poll(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, which waits for sockets alone, and by `select`."""
    monkeypatch.setattr(waiting, "poller", waiting.Selecting)
    monkeypatch.setattr("os.pipe", None)

    async def scenario() -> None:
        plant.declare()
        async with running(plant.root, plant.files()) as bus:
            plant.put(300)
            await until(lambda: bus.counts("forward") == {"done": 300}, 120.0)
        assert await apart(plant.take) == {b'{"n":%d}' % n for n in range(300)}

    asyncio.run(scenario())


def test_a_full_queue_that_refuses_is_tried_again_until_it_has_room(plant: Plant) -> None:
    async def scenario() -> None:
        plant.declare(**{"x-max-length": 5, "x-overflow": "reject-publish"})
        async with running(plant.root, plant.files()) as bus:
            plant.put(20)
            await until(lambda: bus.counts("forward").get("waiting", 0) > 0)
            async with asyncio.timeout(60):
                while bus.counts("forward") != {"done": 20}:
                    await apart(plant.take)
            assert await apart(plant.take) == {b'{"n":%d}' % n for n in range(20)}

    asyncio.run(scenario())


def test_hostile_messages_become_dead_letters_and_the_next_one_passes(plant: Plant, tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (canary,))

    hostile: list[tuple[bytes, dict[str, Any]]] = [
        (pickle.dumps(Bomb()), {"content_type": "application/x-python-serialize", "content_encoding": "binary"}),
        (pickle.dumps(Bomb()), {"content_type": "application/data", "content_encoding": "binary"}),
        (b"!!python/object/apply:os.system ['true']", {"content_type": "application/x-yaml"}),
        (gzip.compress(b" " * 50_000_000), {"content_type": "application/json", "content_encoding": "gzip"}),
        (gzip.compress(b"{}"), {"content_type": "application/json", "application_headers": {"compression": "gzip"}}),
        (b"{}", {"content_type": "application/json", "content_encoding": "rot13"}),
        (b"\xff\xfe", {"content_type": "application/json"}),
        (b'{"a":1,"a":2}', {"content_type": "application/json"}),
        (b" " * 11_000_000, {"content_type": "text/plain"}),
    ]

    async def scenario() -> None:
        plant.declare()
        async with running(plant.root, plant.files()) as bus:
            with plant.node.channel() as channel:
                for body, properties in hostile:
                    message = amqp.basic_message.Message(body, delivery_mode=2, **properties)
                    channel.basic_publish(message, "", f"{plant.q}.in")
                far = amqp.basic_message.Message(b"{}", application_headers={"ESB-Route": "other", "x": "a\r\nb"})
                channel.basic_publish(far, "", f"{plant.q}.in")
            await until(lambda: sum(bus.counts("forward").values()) == len(hostile) + 1)
            await until(lambda: bus.counts("forward") == {"dead": len(hostile), "done": 1})
        assert not canary.exists()
        with plant.node.channel() as channel:
            assert channel.queue_declare(f"{plant.q}.in", passive=True).message_count == 0

    asyncio.run(scenario())


def test_a_paused_route_gives_its_messages_back_and_a_reload_keeps_the_connection(plant: Plant) -> None:
    async def scenario() -> None:
        plant.declare()
        files = plant.files()
        async with running(plant.root, files) as bus:
            plant.put(1)
            await until(lambda: bus.counts("forward") == {"done": 1})
            connections = len(bus.events("amqp.connected"))
            bus.supervisor.pause("forward", paused=True)
            plant.put(3, 1)
            async with asyncio.timeout(60):
                while await apart(plant.node.depth, f"{plant.q}.in") != 3:
                    await asyncio.sleep(0.05)
            changed = await bus.reload({"routes/forward.yaml": files["routes/forward.yaml"] + "description: changed\n"})
            assert changed.changed == ("forward",)
            bus.supervisor.pause("forward", paused=False)
            await until(lambda: bus.counts("forward") == {"done": 4})
            assert len(bus.events("amqp.connected")) == connections

    asyncio.run(scenario())


def test_tls_trusts_the_named_authority_only(plant: Plant) -> None:
    async def scenario() -> None:
        plant.declare()
        files = plant.files()
        plain, secure = f"amqp://127.0.0.1:{plant.node.port}/", f"amqps://127.0.0.1:{plant.node.tls_port}/"
        broken = files["connectors/broker.yaml"].replace(plain, secure)
        trusting = broken + f"tls: {{ ca: '{plant.node.certificates}/ca.crt' }}\n"
        plant.put(20)
        async with running(plant.root, {**files, "connectors/broker.yaml": broken}) as bus:
            await until(lambda: any("certificate" in entry["error"] for entry in bus.events("amqp.unreachable")))
            assert bus.counts("forward") == {}
            await bus.reload({"connectors/broker.yaml": trusting})
            await bus.send("forward", {"n": 20, "text": "x" * 500_000})  # several frames
            await until(lambda: bus.counts("forward") == {"done": 21})
        bodies = await apart(plant.take)
        assert len(bodies) == 21
        assert max(map(len, bodies)) > 500_000

    asyncio.run(scenario())


def test_what_is_in_hand_when_the_connector_is_edited_does_not_come_twice(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no id by which it would be known: it is acknowledged over the connection that it came by, or not taken."""

    async def scenario() -> None:
        plant.declare()
        files = plant.files()
        took = (
            files["routes/forward.yaml"].partition("steps:")[0] + "steps: [ { log: taken } ]\n"
        )  # nothing uses the way out
        files["routes/forward.yaml"] = took
        with plant.node.channel() as channel:
            for n in range(4):  # large enough to be on their way to the store for a while
                body = b'{"n":%d,"pad":"%s"}' % (n, b"x" * 3_000_000)
                words = {"content_type": "application/json", "delivery_mode": 2}
                channel.basic_publish(amqp.basic_message.Message(body, **words), "", f"{plant.q}.in")
        held = asyncio.Event()
        monkeypatch.setattr(receive, "failpoint", lambda name: held.wait())  # stored, and not acknowledged
        async with running(plant.root, files) as bus:
            source: Any = bus.supervisor.routes["forward"].source
            await until(lambda: bool(bus.counts("forward")))
            edited = files["connectors/broker.yaml"].replace("concurrency: 200", "concurrency: 100")
            reload = asyncio.create_task(bus.reload({"connectors/broker.yaml": edited}))
            await until(lambda: source._stopping)
            held.set()
            assert not (await reload).problems
            await until(lambda: bus.counts("forward").get("done", 0) >= 4)
            listed = ("-q", "list_queues", "name", "messages")  # with those that somebody has in hand
            async with asyncio.timeout(60):
                while f"{plant.q}.in\t0" not in await apart(plant.node.ctl, *listed):
                    await asyncio.sleep(0.05)
            assert bus.counts("forward") == {"done": 4}

    asyncio.run(scenario())
