"""What a test needs from the machine: missing means skipped on a desk, failed in continuous integration."""

from __future__ import annotations

import os
import random
import shutil
import socket
from contextlib import suppress
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


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on, below those that the system gives to whoever asks for any: it stays free until it is used."""
    chance = random.SystemRandom()  # a test may have seeded the common one
    while True:
        port = chance.randrange(15_000, 30_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((host, port))
            return port
