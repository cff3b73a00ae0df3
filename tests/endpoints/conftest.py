"""The real servers of protocol tests, each started once a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.certificates import with_certificates
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import RabbitMq
from tests.servers.redis import Redis


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMq]:
    with with_certificates(RabbitMq, tmp_path_factory.mktemp("tls")) as node:
        yield node


@pytest.fixture
def proxy(rabbitmq: RabbitMq) -> Iterator[Proxy]:
    """A way to the broker that a test may cut."""
    made = Proxy(rabbitmq.port)
    yield made
    made.close()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with with_certificates(Redis, tmp_path_factory.mktemp("redis-tls")) as server:
        yield server


@pytest.fixture
def redis_proxy(redis_server: Redis) -> Iterator[Proxy]:
    """A way to Redis that a test may cut."""
    made = Proxy(redis_server.port)
    yield made
    made.close()
