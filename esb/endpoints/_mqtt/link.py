"""One session at a broker: connected again for ever, each time with a new client, so that no library repeats what we gave up.

The library's network thread hands everything over to the loop; nothing of a link is shared between the two.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

Log = Callable[..., None]

#: Seconds between two attempts to connect: doubled from the first to the last, and shortened at random.
FIRST_WAIT, LAST_WAIT = 0.2, 5.0
#: Seconds to get a connection, and to end one.
CONNECT, LEAVE = 5.0, 5.0
#: How often an arrival waits for room before it looks whether the link is closing, in seconds.
_LOOK = 0.25
#: A topic that nobody subscribes to.
_NOWHERE = "esb/nowhere"


@dataclass(frozen=True, slots=True)
class Address:
    """Where the broker is and what we show to it. ``tls`` is a context, None for plain TCP."""

    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)
    tls: Any = None
    version: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5
    keepalive: int = 15

    @property
    def where(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Session:
    """What the broker knows us by. ``expiry`` is in seconds; 0 is a session that ends with its connection."""

    client_id: str
    expiry: int = 0
    receive_maximum: int = 0


class Room:
    """Bounds the arrivals that are not dealt with yet, by number and bytes; one is always let in, whatever its size.

    ``enter`` belongs to the network thread, ``leave`` to the loop.
    """

    def __init__(self, number: int, most: int) -> None:
        self._left, self._most = number, most
        self._bytes = self._inside = 0
        self._changed = threading.Condition()

    def enter(self, size: int, timeout: float) -> bool:
        """Whether there is room within ``timeout`` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_room(size), timeout):
                return False
            self._left -= 1
            self._inside += 1
            self._bytes += size
            return True

    def _has_room(self, size: int) -> bool:
        return self._left > 0 and (not self._inside or self._bytes + size <= self._most)

    def leave(self, size: int) -> None:
        with self._changed:
            self._left += 1
            self._inside -= 1
            self._bytes -= size
            self._changed.notify()


class Listener(Protocol):
    """What a link tells, in the loop. ``client`` is the connection that it is about."""

    def connected(self, client: Any, *, session_present: bool) -> None: ...

    def lost(self, reason: str) -> None: ...

    def arrived(self, client: Any, message: Any) -> None: ...

    def subscribed(self, codes: list[Any]) -> None: ...

    def published(self, client: Any, mid: int, code: Any) -> None: ...


class Link:
    """Keeps one session connected, from :meth:`start` to :meth:`close`. ``room`` bounds the arrivals not yet dealt with."""

    def __init__(
        self,
        address: Address,
        session: Session,
        listener: Listener,
        log: Log,
        name: str,
        room: Room | None = None,
    ) -> None:
        self.address, self.session = address, session
        self.room = room or Room(1, 0)
        self.trouble = ""  #: why there is no connection; empty while there is one, and before the first attempt
        self._listener, self._log, self._name = listener, log, name
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        self._asked: int | None = None
        self._answered = asyncio.Event()
        self._chance = random.Random()  # noqa: S311 - spreads clients, guards nothing
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._task is None and not self._closing.is_set():
            self._task = asyncio.create_task(self._run(), name=f"mqtt {self._name}")

    async def settle(self, client: Any) -> None:
        """Wait, not for long, until the broker has read all that was sent to it.

        A connection that is closed while something of the broker's is unread takes along what the broker has not read, too. What is
        asked for has no meaning but that its answer comes behind everything before it.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE):
                self._asked = client.unsubscribe(_NOWHERE)[1]
                await self._answered.wait()

    async def close(self) -> None:
        """Disconnect in good order; the broker keeps the session and what is not acknowledged."""
        self._closing.set()
        if self._task is not None:
            await self._task
        self.trouble = "the connection is closed"

    # -- the connection -----------------------------------------------------------------------------------------------
    async def _run(self) -> None:
        wait = FIRST_WAIT
        while not self._closing.is_set():
            reason, lived = await self._one_life()
            if self._closing.is_set():
                break
            self._listener.lost(reason)
            if reason != self.trouble:
                self._log("warning", "mqtt.lost", connector=self._name, broker=self.address.where, error=reason)
            self.trouble = reason
            wait = FIRST_WAIT if lived else min(wait * 2, LAST_WAIT)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), wait * self._chance.uniform(0.5, 1.0))
        self._listener.lost("the connection is closed")

    async def _one_life(self) -> tuple[str, bool]:
        """Connect, and stay until the connection ends: why it did, and whether it ever stood."""
        over: asyncio.Future[str] = self._loop.create_future()
        stood: list[bool] = []
        client = self._client(over, stood)
        closing: asyncio.Task[Any] = asyncio.create_task(self._closing.wait())
        ends: set[asyncio.Future[Any]] = {over, closing}
        try:
            await asyncio.to_thread(self._connect, client)
            client.loop_start()
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            return (over.result() if over.done() else "the connection is closed"), bool(stood)
        except (OSError, ValueError) as error:  # ValueError: a host that is no name
            return f"{self.address.where}: {error}", False
        finally:
            closing.cancel()
            await self._end(client)

    def _client(self, over: asyncio.Future[str], stood: list[bool]) -> Any:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.session.client_id,
            protocol=self.address.version,
            clean_session=None if self.address.version is MQTTProtocolVersion.MQTTv5 else self.session.expiry == 0,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = CONNECT
        if self.address.user:
            client.username_pw_set(self.address.user, self.address.password)
        if self.address.tls is not None:
            client.tls_set_context(self.address.tls)
        client.max_inflight_messages_set(0)  # the broker's own limit holds; nothing is queued in the library

        def on_connect(_c: Any, _u: Any, flags: Any, code: Any, _p: Any) -> None:
            if code.is_failure:
                self._tell(_settle, over, f"{self.address.where}: the broker refuses: {code}")
            else:
                self._tell(self._stands, client, stood, flags.session_present)

        def on_disconnect(_c: Any, _u: Any, _flags: Any, code: Any, _p: Any) -> None:
            self._tell(_settle, over, f"{self.address.where}: the connection is lost: {code}")

        def on_message(_c: Any, _u: Any, message: Any) -> None:
            while not self.room.enter(len(message.payload), _LOOK):
                if self._closing.is_set():
                    return  # not acknowledged: it comes again
            self._tell(self._listener.arrived, client, message)

        def on_subscribe(_c: Any, _u: Any, _mid: int, codes: list[Any], _p: Any) -> None:
            self._tell(self._listener.subscribed, codes)

        def on_publish(_c: Any, _u: Any, mid: int, code: Any, _p: Any) -> None:
            self._tell(self._listener.published, client, mid, code)

        client.on_connect, client.on_disconnect, client.on_message = on_connect, on_disconnect, on_message
        client.on_subscribe, client.on_publish = on_subscribe, on_publish
        client.on_unsubscribe = lambda _c, _u, mid, _codes, _p: self._tell(self._unsubscribed, mid)
        return client

    def _connect(self, client: Any) -> None:
        more: dict[str, Any] = {}
        if self.address.version is MQTTProtocolVersion.MQTTv5:
            given = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # the library's
            given.SessionExpiryInterval = self.session.expiry
            if self.session.receive_maximum:
                given.ReceiveMaximum = self.session.receive_maximum
            more = {"clean_start": self.session.expiry == 0, "properties": given}
        client.connect(self.address.host, self.address.port, self.address.keepalive, **more)

    def _unsubscribed(self, mid: int) -> None:
        if mid == self._asked:
            self._answered.set()

    def _stands(self, client: Any, stood: list[bool], session_present: bool) -> None:
        stood.append(True)
        self.trouble = ""
        self._listener.connected(client, session_present=session_present)

    async def _end(self, client: Any) -> None:
        with suppress(Exception):  # whatever a broken connection raises: it is given up
            client.disconnect()
        with suppress(Exception):
            await asyncio.wait_for(asyncio.to_thread(client.loop_stop), LEAVE)

    def _tell(self, what: Callable[..., None], *arguments: Any) -> None:
        with suppress(RuntimeError):  # the loop is gone
            self._loop.call_soon_threadsafe(what, *arguments)


def _settle(future: asyncio.Future[str], reason: str) -> None:
    if not future.done():
        future.set_result(reason)


def user_properties(message: Any) -> Mapping[str, str]:
    """The user properties of a message under lower-case names; of a name that stands twice, the last."""
    pairs = getattr(getattr(message, "properties", None), "UserProperty", None) or ()
    return {str(name).lower(): str(value) for name, value in pairs}
