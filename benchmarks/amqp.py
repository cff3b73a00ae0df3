"""AMQP: the whole durable route against a naive and a pipelined client, and confirmed publishing against the C client.

Needs a RabbitMQ server on this machine; the C line also needs a compiler and librabbitmq.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.core import ROUTE, SCHEMA, cpu, keep_loaded, payload, run, steps_called, worked_off
from benchmarks.figures import Figure, Rate, Skipped, alternate, median, ratio

ROUNDS, MESSAGES, NAIVE, WINDOW = 3, 6_000, 800, 200

CONNECTOR = "connector: broker\ntype: amqp\nurl: {url}\nconcurrency: 400\n"
ARRIVE = "from: { amqp: { connector: broker, queue: bench.in, prefetch: 400 } }\nconcurrency: 400"
LEAVE = "- to: { amqp: { connector: broker, routing_key: bench.out } }"

C_CLIENT = r"""
#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec / 1e9; }
int main(int argc, char **argv) {
  int port = atoi(argv[1]), count = atoi(argv[2]), window = atoi(argv[3]), size = atoi(argv[4]);
  amqp_connection_state_t c = amqp_new_connection();
  amqp_socket_t *s = amqp_tcp_socket_new(c);
  if (amqp_socket_open(s, "127.0.0.1", port)) return 1;
  amqp_login(c, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest");
  amqp_channel_open(c, 1);
  amqp_confirm_select(c, 1);
  char *body = malloc(size); memset(body, 'x', size);
  amqp_bytes_t bytes = {size, body};
  amqp_basic_properties_t p; memset(&p, 0, sizeof p);
  p._flags = AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_CONTENT_TYPE_FLAG; p.delivery_mode = 2;
  p.content_type = amqp_cstring_bytes("application/json");
  unsigned long long sent = 0, acked = 0;
  double began = now();
  while (acked < (unsigned long long)count) {
    while (sent < (unsigned long long)count && sent - acked < (unsigned long long)window) {
      if (amqp_basic_publish(c, 1, amqp_empty_bytes, amqp_cstring_bytes(argv[5]), 1, 0, &p, bytes)) return 2;
      sent++;
    }
    amqp_frame_t f;
    if (amqp_simple_wait_frame(c, &f)) return 3;
    if (f.frame_type == AMQP_FRAME_METHOD && f.payload.method.id == AMQP_BASIC_ACK_METHOD)
      acked = ((amqp_basic_ack_t *)f.payload.method.decoded)->delivery_tag > acked
                  ? ((amqp_basic_ack_t *)f.payload.method.decoded)->delivery_tag : acked;
    amqp_maybe_release_buffers(c);
  }
  printf("%f\n", count / (now() - began));
  return 0;
}
"""


class Broker:
    """The queues of the benchmark on a private node."""

    def __init__(self, node: Any) -> None:
        self.node = node

    def clean(self) -> None:
        with self.node.channel() as channel:
            for name in ("bench.in", "bench.out"):
                channel.queue_delete(name)
                channel.queue_declare(name, durable=True, auto_delete=False)

    def fill(self, count: int) -> None:
        import amqp

        with self.node.channel() as channel:
            channel.confirm_select()
            for n in range(count):
                message = amqp.basic_message.Message(
                    payload(n), content_type="application/json", delivery_mode=2, message_id=f"m{time.monotonic()}-{n}"
                )
                channel.basic_publish(message, "", "bench.in")
        while self.node.depth("bench.in") < count:
            time.sleep(0.05)

    def check(self, count: int) -> None:
        found = self.node.depth("bench.out")
        assert found == count, f"{found} of {count} arrived"


def naive(broker: Broker) -> Rate:
    """Messages a second of a loop over two kombu connections that validates, maps and waits for the confirm of each message.

    It calls the same parser, contract and mapping directly, and stores nothing.
    """
    import kombu

    broker.clean()
    broker.fill(NAIVE)
    got = 0
    with (
        steps_called() as convert,
        kombu.Connection(broker.node.url) as incoming,
        kombu.Connection(broker.node.url, transport_options={"confirm_publish": True}) as outgoing,
    ):
        producer = outgoing.Producer(auto_declare=False)

        def forward(message: Any) -> None:
            nonlocal got
            producer.publish(
                convert(message.body),
                exchange="",
                routing_key="bench.out",
                content_type=message.content_type,
                content_encoding="utf-8",
                delivery_mode=2,
            )
            message.ack()
            got += 1

        channel = incoming.default_channel
        channel.basic_qos(0, WINDOW, False)
        consumer = kombu.Consumer(
            channel, [kombu.Queue("bench.in", no_declare=True)], on_message=forward, auto_declare=False
        )
        began = Rate.now()
        with consumer:
            while got < NAIVE:
                incoming.drain_events(timeout=10)
        rate = Rate.since(began, NAIVE)
    broker.check(NAIVE)
    return rate


def link(broker: Broker) -> Rate:
    """Messages a second of a bare kombu link: one thread, one connection, 200 confirms in flight, acks of what is confirmed."""
    import kombu

    broker.clean()
    broker.fill(MESSAGES)
    flying: dict[int, int] = {}
    waiting: deque[Any] = deque()
    state = {"sent": 0, "done": 0}
    with kombu.Connection(broker.node.url) as connection:
        incoming, outgoing = connection.channel(), connection.channel()
        outgoing.confirm_select()
        producer = kombu.Producer(outgoing, auto_declare=False)

        def confirmed(tag: int, multiple: bool) -> None:
            for known in [one for one in flying if one <= tag] if multiple else [tag]:
                incoming.basic_ack(flying.pop(known))
                state["done"] += 1

        outgoing.events["basic_ack"].add(confirmed)
        incoming.basic_qos(0, WINDOW, False)
        incoming.basic_consume("bench.in", callback=waiting.append)
        began = Rate.now()
        while state["done"] < MESSAGES:
            while waiting:
                message = waiting.popleft()
                state["sent"] += 1
                flying[state["sent"]] = message.delivery_info["delivery_tag"]
                producer.publish(
                    message.body,
                    exchange="",
                    routing_key="bench.out",
                    content_type="application/json",
                    content_encoding="utf-8",
                    delivery_mode=2,
                )
            try:
                connection.drain_events(timeout=10)
                while True:
                    connection.drain_events(timeout=0)
            except TimeoutError:
                pass
        rate = Rate.since(began, MESSAGES)
    broker.check(MESSAGES)
    return rate


def route(broker: Broker) -> Rate:
    """Messages a second from queue through the store and its validate and map to queue."""
    broker.clean()
    broker.fill(MESSAGES)
    rate = run(_route(broker.node))
    broker.check(MESSAGES)
    return rate


async def _route(node: Any) -> Rate:
    from esb.config.loader import load_workspace

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        text = ROUTE.replace("from: { route: {} }", ARRIVE).replace("- publish: inspections", LEAVE)
        for path, content in {
            "routes/bench.yaml": text,
            "schemas/inspection.v1.json": SCHEMA,
            "connectors/broker.yaml": CONNECTOR.format(url=f"amqp://127.0.0.1:{node.port}/"),
        }.items():
            (root / path).parent.mkdir(exist_ok=True)
            (root / path).write_text(content)
        loaded, problems = load_workspace(root)
        assert loaded is not None, problems
        return await worked_off(root, loaded, MESSAGES)


def publish(broker: Broker) -> Rate:
    """Confirmed messages a second of the sink, 200 deliveries at once."""
    broker.clean()
    rate = run(_publish(broker.node))
    broker.check(MESSAGES)
    return rate


async def _publish(node: Any) -> Rate:
    from esb.clock import SystemClock
    from esb.endpoints.amqp import AmqpConnection, AmqpSink
    from esb.endpoints.base import ConnectionContext, Delivery
    from esb.language import TextTemplate
    from esb.message import Message

    clock, here = SystemClock(), Path()
    keep_loaded()
    live = await AmqpConnection(url=f"amqp://127.0.0.1:{node.port}/").open(
        ConnectionContext("bench", clock, here, lambda *_a, **_k: None)
    )
    sink = AmqpSink(routing_key=TextTemplate("bench.out", lambda scope: "bench.out", constant=True))
    message = Message(payload(1))
    scope = message.scope()
    numbers = iter(range(MESSAGES))

    async def client() -> None:
        for number in numbers:
            await sink.send(message, Delivery(f"d-{number}", 1, 30.0, scope, clock, here), live)

    began = Rate.now()
    await asyncio.gather(*(client() for _ in range(WINDOW)))
    rate = Rate.since(began, MESSAGES)
    await live.close()
    return rate


def c_client(broker: Broker, program: Path) -> float:
    """Confirmed messages a second of the C client, 200 in flight."""
    broker.clean()
    words = [program, str(broker.node.port), str(MESSAGES), str(WINDOW), str(len(payload(1))), "bench.out"]
    return float(subprocess.run(words, capture_output=True, text=True, check=True, timeout=120).stdout)


def compiled(folder: Path) -> Path | None:
    """The C client, None where it cannot be built here."""
    if shutil.which("cc") is None:
        return None
    (folder / "publish.c").write_text(C_CLIENT)
    built = subprocess.run(
        ["cc", "-O2", "-o", folder / "publish", folder / "publish.c", "-lrabbitmq"], capture_output=True, check=False
    )
    return folder / "publish" if built.returncode == 0 else None


def report(*, full: bool) -> Iterator[Figure]:
    if not Path("/usr/lib/rabbitmq/bin/rabbitmq-server").exists():
        raise Skipped("no RabbitMQ on this machine")
    from tests.servers.rabbitmq import RabbitMq

    rounds, node = 5 if full else 3, RabbitMq()
    try:
        node.start()
        broker = Broker(node)
        ours, naives, floors = alternate(rounds, lambda: route(broker), lambda: naive(broker), lambda: link(broker))
        said = f"{median(ours):.0f}/s; kombu, two connections, same validate and map, a confirm for each {median(naives):.0f}/s"
        yield Figure("AMQP in, validate, map, AMQP out, durable / naive loop", ratio(ours, naives), 5.0, said=said)
        said = f"{median(ours):.0f}/s; kombu, 200 confirms in flight, no route, no store {median(floors):.0f}/s{cpu(ours, floors)}"
        yield Figure("the same / bare pipelined link", ratio(ours, floors), 0.5, said=said)
        with tempfile.TemporaryDirectory() as name:
            if (program := compiled(Path(name))) is not None:
                sent, c = alternate(rounds, lambda: publish(broker), lambda: c_client(broker, program))
                said = f"{median(sent):.0f}/s; rabbitmq-c {median(c):.0f}/s"
                yield Figure("AMQP sink, confirmed, 200 in flight / C client", ratio(sent, c), 0.5, said=said)
    finally:
        node.close()
