"""The real servers of protocol tests, each started once a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.certificates import make_certificates
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import RabbitMq


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMq]:
    folder = tmp_path_factory.mktemp("tls")
    make_certificates(folder)
    node = RabbitMq(folder)
    try:
        node.start()
        yield node
    finally:
        node.close()


@pytest.fixture
def proxy(rabbitmq: RabbitMq) -> Iterator[Proxy]:
    """A way to the broker that a test may cut."""
    made = Proxy(rabbitmq.port)
    yield made
    made.close()
