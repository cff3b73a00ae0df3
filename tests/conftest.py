"""What holds for every test, and the server that several kinds of them share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.servers.postgres import Postgres

# how fast the machine is proves nothing
settings.register_profile("esb", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("esb")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One private PostgreSQL; who kills or freezes it brings it back."""
    from tests.servers.postgres import Postgres  # most tests need neither it nor its driver

    server = Postgres()
    server.start()
    yield server
    server.close()
