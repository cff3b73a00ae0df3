"""C4, C5: the bus dies between the commit of what a broker gave it and the acknowledgements. Nothing is lost or comes twice."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import amqp
import kombu
import pytest

from esb.endpoints.amqp import Declare
from examples.demo.harness import until
from tests.servers.certificates import make_certificates
from tests.servers.mosquitto import Mosquitto
from tests.servers.rabbitmq import RabbitMq
from tests.servers.redis import PASSWORD, Redis
from tests.torture.crash_site import site_of

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")

COUNT = 6
AMQP = """
route: taken
from: {{ amqp: {{ connector: broker, queue: "{queue}", prefetch: 10, declare: {{ type: classic }} }} }}
steps: [ {{ to: {{ file: {{ path: "out/{{{{ body.n }}}}.json", exists: unique }} }} }} ]
"""
MQTT = """
route: taken
dedupe: to_string(body.n)
from: {{ mqtt: {{ connector: broker, topics: ["plant/{name}"], client_id: "{name}" }} }}
steps: [ {{ to: {{ file: {{ path: "out/{{{{ body.n }}}}.json", exists: unique }} }} }} ]
"""


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    (tmp_path / "tls").mkdir()
    make_certificates(tmp_path / "tls")
    broker = Mosquitto(tmp_path / "tls")
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


def struck(
    root: Path,
    connector: str,
    route: str,
    failpoint: str,
    put: Callable[[], None],
    acknowledged: Callable[[], bool] = lambda: True,
) -> None:
    """``put`` makes the queue, or the session, and fills it before there is a bus; that dies at the failpoint, and starts again.

    What it knows already may come after all else, so that its acknowledgement is waited for before it stops.
    """
    with site_of(root, (), "") as site:
        (root / "connectors").mkdir()
        (root / "connectors" / "broker.yaml").write_text(connector, encoding="utf-8")
        (root / "routes" / "taken.yaml").write_text(route, encoding="utf-8")
        put()
        site.start_to_die(failpoint)
        site.died()
        site.start()
        until(lambda: site.states("taken").get("done") == COUNT, within=60, what="every message", alive=lambda: None)
        names = sorted(path.name.partition(".")[0] for path in (root / "out").glob("*.json"))
        assert names == [str(n) for n in range(COUNT)]
        until(acknowledged, within=60, what="everything acknowledged", alive=lambda: None)
        site.whole()


@pytest.mark.parametrize("nth", [1, 4])
def test_what_was_stored_and_not_acknowledged_is_known_when_amqp_gives_it_again(
    rabbitmq: RabbitMq, tmp_path: Path, nth: int
) -> None:
    queue = f"k.{uuid.uuid4().hex[:10]}"

    def put() -> None:
        with rabbitmq.channel() as channel:
            Declare(type="classic").declare(channel, queue)
            for n in range(COUNT):
                words = {"message_id": f"{queue}-{n}", "content_type": "application/json", "delivery_mode": 2}
                channel.basic_publish(amqp.basic_message.Message(b'{"n":%d}' % n, **words), "", queue)

    connector = f'connector: broker\ntype: amqp\nurl: "amqp://127.0.0.1:{rabbitmq.port}/"\n'
    struck(tmp_path / "site", connector, AMQP.format(queue=queue), f"amqp.accepted=kill@{nth}", put)
    until(lambda: rabbitmq.depth(queue) == 0, within=30, what="an empty queue")


@pytest.mark.parametrize("nth", [1, 4])
def test_what_was_stored_and_not_acknowledged_is_known_when_mqtt_gives_it_again(
    mosquitto: Mosquitto, tmp_path: Path, nth: int
) -> None:
    name = f"k-{uuid.uuid4().hex[:10]}"

    def put() -> None:
        mosquitto.subscribe(name, f"plant/{name}")
        for n in range(COUNT):
            mosquitto.publish(f"plant/{name}", b'{"n":%d}' % n)

    connector = f'connector: broker\ntype: mqtt\nurl: "{mosquitto.url}"\n'
    struck(tmp_path / "site", connector, MQTT.format(name=name), f"mqtt.accepted=kill@{nth}", put)


@pytest.mark.parametrize("failpoint", ["store.before_commit=kill@1", "amqp.accepted=kill@4"])
def test_what_was_taken_from_redis_and_not_acknowledged_comes_again(
    redis_server: Redis, tmp_path: Path, failpoint: str
) -> None:
    queue = f"k.{uuid.uuid4().hex[:10]}"

    def put() -> None:
        with kombu.Connection(f"redis://:{PASSWORD}@127.0.0.1:{redis_server.port}/0") as connection:
            producer = kombu.Producer(connection.channel())
            for n in range(COUNT):
                words = {"message_id": f"{queue}-{n}", "content_type": "application/json"}
                producer.publish(b'{"n":%d}' % n, routing_key=queue, content_encoding="binary", **words)

    address = f'url: "redis://127.0.0.1:{redis_server.port}/0"\npassword: "${{secret:redis}}"\nvisibility_timeout: 1s\n'
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ESB_SECRET_REDIS", PASSWORD)
        route = AMQP.format(queue=queue).replace(", declare: { type: classic }", "")
        with redis_server.client() as client:
            struck(
                tmp_path / "site",
                f"connector: broker\ntype: amqp\n{address}",
                route,
                failpoint,
                put,
                lambda: not client.llen(queue) and not client.hlen(f"esb.unacked.{queue}"),
            )
