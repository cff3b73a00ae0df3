"""What a test needs from the machine: missing means skipped on a desk, failed in continuous integration."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest


def program(name: str, *places: str, package: str) -> Path:
    """The path of a server program: on the PATH, or the last match of the patterns ``places`` (relative to ``/``)."""
    found = shutil.which(name)
    if found is not None:
        return Path(found)
    for place in places:
        if hits := sorted(Path("/").glob(place)):
            return hits[-1]
    return missing(f"{name} is not installed; apt-get install {package}")


def missing(reason: str) -> Path:
    """Skip the test with ``reason``; in continuous integration, fail it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    """A loopback port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
