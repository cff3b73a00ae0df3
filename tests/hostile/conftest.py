"""Every attack is followed by a look at the process and by a normal message."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.hostile.tools import Listener, listening  # noqa: E402 - the path must be there first


@pytest.fixture(scope="module")
def sink() -> Iterator[Listener]:
    """The system that routes send to."""
    with listening() as listener:
        yield listener


@pytest.fixture(scope="module")
def canary() -> Iterator[Listener]:
    """A listener that nobody has any business to call."""
    with listening() as listener:
        yield listener


@pytest.fixture(autouse=True)
def alive_afterwards(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test that attacks a `target`: it lives, and a normal message passes."""
    yield
    if "target" in request.fixturenames:
        request.getfixturevalue("target").alive()
