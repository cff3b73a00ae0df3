"""What a service manager hears of the bus: systemd's notify protocol, over the socket that it names in the environment.

The watchdog is fed from the loop of the bus, so that a bus whose loop stands still is started again. Nothing is sent where nobody
listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """Speaks to ``NOTIFY_SOCKET``; silent without it. ``WATCHDOG_USEC`` is how long the manager waits for a sign of life."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", str(os.getpid()))
        meant = usec.isdigit() and pid == str(os.getpid()) and bool(self._address)
        self.interval = int(usec) / 1_000_000 / 3 if meant else 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def heard(self) -> bool:
        """Whether a service manager listens."""
        return bool(self._address)

    def say(self, *lines: str) -> None:
        """``READY=1``, ``STATUS=…``, ``STOPPING=1``; what cannot be sent is let go."""
        if not self._address or not hasattr(socket, "AF_UNIX"):
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
            one.setblocking(False)
            one.sendto("\n".join(lines).encode(), address)

    def begin(self, status: str) -> None:
        """The bus is ready; from now on it gives signs of life."""
        self.say("READY=1", f"STATUS={status}", f"MAINPID={os.getpid()}")
        if self.interval:
            self._task = asyncio.create_task(self._feed())

    def reloading(self) -> None:
        """The files are taken over; ``READY=1`` says that it is done. Without its instant systemd would wait for ever."""
        self.say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reloading")

    def end(self) -> None:
        """The bus stops; while it drains it still lives."""
        self.say("STOPPING=1", "STATUS=draining")

    async def _feed(self) -> None:
        while True:
            self.say("WATCHDOG=1")
            await asyncio.sleep(self.interval)
