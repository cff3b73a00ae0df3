"""The thread of one connection: it owns the socket, hands over to the loop once per burst, and connects again for ever."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from esb.endpoints._amqp import waiting
from esb.endpoints._amqp.wire import SOCKET_SETTINGS, WIRE_ERRORS, Wire

Log = Callable[..., None]

#: Seconds between two attempts to connect: doubled from the first to the last, and shortened at random.
FIRST_WAIT, LAST_WAIT = 0.2, 5.0
#: Seconds to get a connection, from name look-up to the broker's welcome.
CONNECT = 5.0
#: Bytes that may wait for the kernel before nothing more is written.
MOST_UNSENT = 1 << 20


@dataclass(frozen=True, slots=True)
class Address:
    """Where the broker is and what we show to it. ``tls`` is a context, None for plain TCP."""

    host: str
    port: int
    virtual_host: str
    user: str
    password: str = field(repr=False)
    tls: Any = None
    heartbeat: float = 10.0
    name: str = "esb"

    @property
    def where(self) -> str:
        return f"{self.host}:{self.port}"

    def connect(self, on_blocked: Callable[[str], None], on_unblocked: Callable[[], None]) -> Wire:
        """A connection that is ready. Raises one of :data:`WIRE_ERRORS` within :data:`CONNECT` seconds."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        wire = Wire(
            self.tls,
            self.host,
            host=f"{host}:{self.port}",
            userid=self.user,
            password=self.password,
            login_method="PLAIN",
            virtual_host=self.virtual_host,
            heartbeat=self.heartbeat,
            connect_timeout=CONNECT,
            client_properties={"product": "esb", "connection_name": self.name},
            socket_settings=SOCKET_SETTINGS,
            on_blocked=on_blocked,
            on_unblocked=on_unblocked,
        )
        try:
            wire.connect()
        except BaseException:
            wire.drop()
            raise
        return wire


class Role(Protocol):
    """What a connection is for; every method runs in its thread."""

    def connected(self, wire: Wire) -> None: ...

    def work(self, wire: Wire) -> None:
        """Write what is waiting to be written."""

    def blocked(self, reason: str) -> None:
        """The broker takes nothing more, empty: it does again."""

    def lost(self, reason: str) -> None:
        """The connection is over, or could not be made: what was in flight is over, too."""


class Link:
    """One connection for one role. ``tell`` is how the role speaks to the loop; ``wake`` how the loop wakes the thread."""

    def __init__(self, address: Address, role: Role, log: Log, name: str) -> None:
        self.address = address
        self.up = False
        self.trouble = ""  #: why the last attempt to connect failed, empty while connected or not yet tried
        self._role = role
        self._log = log
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._outbox: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._ear, self._bell = socket.socketpair()  # no pipe: Windows waits for sockets alone
        self._ear.setblocking(False)
        self._bell.setblocking(False)
        self._rung = False
        self._about_to = False  #: ring, when this turn of the loop is over
        self._chance = random.Random()  # noqa: S311 - spreads clients, guards nothing; the module's own is not this thread's
        self._closing = threading.Event()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=f"amqp {name}", daemon=True)
        self._thread.start()

    # -- from the loop ------------------------------------------------------------------------------------------------
    def wake(self) -> None:
        if not self._rung:
            self._rung = True
            with suppress(OSError):
                self._bell.send(b"!")

    def wake_soon(self) -> None:
        """The same when the loop has done what it is at: what comes until then goes over with one call."""
        if not (self._rung or self._about_to):
            self._about_to = True
            self._loop.call_soon(self._ring)

    def _ring(self) -> None:
        self._about_to = False
        self.wake()

    async def close(self, patience: float = 5.0) -> None:
        """End the connection and its thread; what is still in flight is lost to us, not to the broker. Once is enough."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._rung = False
        self.wake()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._ended.wait()
        if self._ended.is_set():  # nobody listens: whoever rings later must not ring at a file that has got the number
            self._rung = True
            for end in (self._ear, self._bell):
                end.close()

    # -- from the thread ----------------------------------------------------------------------------------------------
    def tell(self, what: Callable[..., None], *arguments: Any) -> None:
        """Have the loop call ``what``; all that one burst tells goes over in one call."""
        self._outbox.append((what, arguments))

    def _hand_over(self) -> None:
        if self._outbox:
            batch, self._outbox = self._outbox, []
            with suppress(RuntimeError):  # the loop is gone, and with it everybody who wanted to know
                self._loop.call_soon_threadsafe(_call_all, batch)

    def _run(self) -> None:
        wait, told = FIRST_WAIT, ""
        try:
            while not self._closing.is_set():
                reason, worked = self._session()
                wait = FIRST_WAIT if worked else wait
                if self._closing.is_set():
                    break
                self.trouble = reason
                self._role.lost(reason)
                if reason != told or worked:
                    told = reason
                    self.tell(self._say, "warning", "amqp.lost" if worked else "amqp.unreachable", {"error": reason})
                self._hand_over()
                self._pause(wait * self._chance.uniform(0.5, 1.0))
                wait = min(wait * 2, LAST_WAIT)
        finally:
            self._role.lost("the connection is closed")
            self.tell(self._ended.set)
            self._hand_over()

    def _session(self) -> tuple[str, bool]:
        """Connect and serve until it ends; why it ended, and whether it ever worked."""
        wire = None
        try:
            wire = self.address.connect(self._blocked, self._unblocked)
            self.trouble, self.up = "", True
            self._role.connected(wire)
            self.tell(self._say, "info", "amqp.connected", {})
            self._serve(wire)
            wire.goodbye()
        except WIRE_ERRORS as error:
            return self._words(error), wire is not None
        finally:
            self.up = False
            if wire is not None:
                wire.drop()
        return "closed", True

    def _serve(self, wire: Wire) -> None:
        transport = wire.transport
        poller, ear = waiting.poller(), self._ear.fileno()
        poller.register(ear, waiting.READ)
        beat = time.monotonic()
        while not self._closing.is_set():
            if len(transport.out) < MOST_UNSENT:
                self._role.work(wire)
            wire.work_off()
            flushed = transport.flush()
            self._hand_over()
            poller.register(transport.sock, waiting.READ | (0 if flushed else waiting.WRITE))
            events = poller.poll(0 if transport.unread or transport.frames else 500)
            for handle, _ in events:
                if handle == ear:
                    self._hear()
                    break
            if transport.unread or any(handle != ear for handle, _ in events):
                wire.pump()
            if (now := time.monotonic()) >= beat:
                wire.heartbeat_tick()
                beat = now + 1.0
        transport.flush()

    def _hear(self) -> None:
        self._rung = False
        with suppress(BlockingIOError):
            self._ear.recv(4096)

    def _pause(self, seconds: float) -> None:
        self._closing.wait(seconds)

    def _blocked(self, reason: str) -> None:
        self._role.blocked(reason)
        self.tell(
            self._say, "warning", "amqp.blocked", {"error": "the broker takes no messages (memory or disk alarm)"}
        )

    def _unblocked(self) -> None:
        self._role.blocked("")
        self.tell(self._say, "info", "amqp.unblocked", {})

    def _words(self, error: BaseException) -> str:
        text = str(error) or type(error).__name__
        reply = getattr(error, "reply_text", "")
        code = getattr(error, "reply_code", 0)
        if reply and code:
            text = f"{code} {reply}"
        elif isinstance(error, (KeyError, IndexError, TypeError, AttributeError)):
            text = f"the broker sent what is no AMQP ({type(error).__name__}: {error})"
        return f"{self.address.where}: {text}"

    def _say(self, level: str, event: str, fields: dict[str, Any]) -> None:
        self._log(level, event, connector=self._name, broker=self.address.where, **fields)


def _call_all(batch: list[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
    for what, arguments in batch:
        what(*arguments)


Commands = deque[tuple[Callable[..., None], tuple[Any, ...]]]
