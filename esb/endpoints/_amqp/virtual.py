"""kombu's other transports (``redis://``, ``sqs://``, ``memory://`` …) behind the same two roles as AMQP.

They have no confirms and no flow control: a message is sent when the transport's call returns, and received when it is
deleted there after our commit. Each role has a thread of its own, since these drivers block.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import kombu
from kombu.transport import get_transport_cls

from esb.endpoints._amqp.consume import Subscription
from esb.endpoints._amqp.opened import Opened
from esb.endpoints._amqp.publish import Parcel, resolve
from esb.errors import EsbError, Rejected, Unavailable

_POLL = 0.05
_RECONNECT = 1.0
#: Not `priority`, which counts the other way round on Redis and nothing elsewhere, and not `expiration`, which nobody keeps.
_PASSED = ("message_id", "correlation_id", "timestamp", "type", "reply_to", "app_id")
_REDIS = frozenset({"redis", "rediss"})
#: Seconds that Redis may take for one answer; a network that swallows packets must not stop the thread for ever.
_ANSWER = 15.0


def check_driver(scheme: str) -> None:
    """Raise EsbError where the transport's own library is not installed."""
    try:
        get_transport_cls(scheme)
    except (ImportError, AttributeError) as error:  # some of kombu's modules stumble over a library that they lack
        extra = "plantbus[redis]" if scheme in _REDIS else f"kombu[{scheme}]"
        raise EsbError(f"`{scheme}://` needs a library: {error}", hint=f"pip install '{extra}'") from error


@dataclass(frozen=True, slots=True)
class Place:
    """Where a transport connects, and what we show there. ``tls`` is for Redis, None for plain TCP."""

    url: str = field(repr=False)
    user: str = ""
    password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    patience: float = 300.0  #: until what a consumer holds that is gone comes again, in seconds

    @property
    def is_redis(self) -> bool:
        return self.url.partition(":")[0] in _REDIS

    def connection(self) -> Any:
        """A connection of kombu that is not made yet."""
        options: dict[str, Any] = {"polling_interval": 0.01}
        if self.is_redis:
            options = {"socket_timeout": _ANSWER, "socket_connect_timeout": 5, "socket_keepalive": True}
        elif self.url.startswith("sqs:"):
            options["visibility_timeout"] = int(self.patience)
        tls = {"context": self.tls} if self.tls is not None else False
        made = kombu.Connection(
            self.url,
            userid=self.user or None,
            password=self.password or None,
            ssl=tls,
            transport_options=options,
        )
        if self.is_redis:
            from esb.endpoints._amqp.redis import RedisChannel  # noqa: PLC0415 - its library loads where it is used

            made.ssl = tls  # whatever the URL says of certificates
            made.transport.Channel = RedisChannel
        return made

    def opened(self, channel: Any, subscription: Subscription) -> Opened:
        if self.is_redis:
            from esb.endpoints._amqp.redis import RedisOpened  # noqa: PLC0415 - as above

            return RedisOpened(channel, subscription, self.patience)
        return Opened(channel, subscription)

    def weakness(self, connection: Any) -> str:
        """Why the other side would lose what it has; empty where there is nothing to tell."""
        if not self.is_redis:
            return ""
        from esb.endpoints._amqp.redis import what_may_get_lost  # noqa: PLC0415 - as above

        return what_may_get_lost(connection.default_channel)


class _Worker:
    """A thread with a connection; commands from the loop run in it, in order."""

    def __init__(self, place: Place, log: Callable[..., None], name: str) -> None:
        self.trouble = ""
        self._place, self._log, self._name = place, log, name
        self._loop = asyncio.get_running_loop()
        self._commands: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._bell = threading.Event()
        self._closing = False
        self._ended = asyncio.Event()
        threading.Thread(target=self._run, name=f"amqp {name}", daemon=True).start()

    async def close(self) -> None:
        self._closing = True
        self._bell.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(5.0):
                await self._ended.wait()

    def _command(self, what: Callable[..., None], *arguments: Any) -> None:
        self._commands.append((what, arguments))
        self._bell.set()

    def _tell(self, what: Callable[..., None], *arguments: Any) -> None:
        with suppress(RuntimeError):  # the loop is gone
            self._loop.call_soon_threadsafe(what, *arguments)

    def _run(self) -> None:
        told = False
        while not self._closing:
            connection = self._place.connection()
            try:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=5)
                self.trouble = ""
                if not told:
                    told = True
                    if weakness := self._place.weakness(connection):
                        self._tell(
                            partial(self._log, "warning", "amqp.not_kept", connector=self._name, reason=weakness)
                        )
                while not self._closing:
                    while self._commands:
                        what, arguments = self._commands.popleft()
                        what(connection, *arguments)
                    self._turn(connection)
            except Exception as error:  # noqa: BLE001 - every driver has errors of its own: the connection is made anew
                self.trouble = f"{connection.as_uri()}: {type(error).__name__}: {error}"
                self._tell(self._say, self.trouble)
                self._lost(self.trouble)
                self._bell.wait(_RECONNECT)
            finally:
                self._leaving()
                with suppress(Exception):
                    connection.release()
        self._lost("the connection is closed")
        self._tell(self._ended.set)

    def _say(self, reason: str) -> None:
        self._log("warning", "amqp.lost", connector=self._name, error=reason)

    def _turn(self, connection: Any) -> None:
        """Once through what there is to do; waits a moment where there is nothing."""
        self._bell.wait(_POLL)
        self._bell.clear()

    def _lost(self, reason: str) -> None:
        """The connection is over."""

    def _leaving(self) -> None:
        """Before an orderly end."""


class VirtualPublisher(_Worker):
    """Sends one after the other."""

    async def publish(self, parcel: Parcel, timeout: float) -> None:
        """Return once the transport has taken it. Raises Rejected or Unavailable."""
        if self.trouble:
            raise Unavailable(self.trouble)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        parcel.told = partial(resolve, future)
        self._command(self._send, parcel)
        try:
            async with asyncio.timeout(timeout):
                await future
        except TimeoutError:
            parcel.abandoned = True
            raise Unavailable(f"{self._name}: not taken within {timeout:g}s") from None

    def _send(self, connection: Any, parcel: Parcel) -> None:
        if parcel.abandoned:
            return
        channel = connection.default_channel
        channel.deadletter_queue = None  # kombu would make a queue for what nobody takes
        try:
            if parcel.mandatory and not channel._lookup(parcel.exchange, parcel.routing_key):
                raise Rejected(f"nothing is bound to exchange `{parcel.exchange}` with key `{parcel.routing_key}`")
            given = parcel.message.properties
            properties = {name: given[name] for name in _PASSED if given.get(name) is not None}
            kombu.Producer(channel, auto_declare=False).publish(
                parcel.message.body,
                exchange=parcel.exchange,
                routing_key=parcel.routing_key,
                content_type=given.get("content_type"),
                content_encoding=given.get("content_encoding") or "binary",
                headers=given.get("application_headers"),
                delivery_mode=given.get("delivery_mode"),
                **properties,
            )
        except Rejected as error:
            self._tell(parcel.told, error)
        except Exception as error:
            self._tell(parcel.told, Unavailable(f"{self._name}: {type(error).__name__}: {error}"))
            raise
        else:
            self._tell(parcel.told, None)

    def _lost(self, reason: str) -> None:
        while self._commands:
            _, (parcel,) = self._commands.popleft()
            self._tell(parcel.told, Unavailable(reason))


class VirtualConsumer(_Worker):
    """Receives; what is not acknowledged is put back when a subscription ends."""

    def __init__(self, place: Place, log: Callable[..., None], name: str) -> None:
        self._wanted: list[Subscription] = []
        self._open: dict[Subscription, Opened] = {}
        self._told = False  #: there was something in the last turn, so that there may be more
        super().__init__(place, log, name)

    # -- on the loop --------------------------------------------------------------------------------------------------
    def subscribe(self, subscription: Subscription) -> None:
        self._command(self._add, subscription)

    def acknowledge(self, subscription: Subscription, epoch: int, tags: Sequence[tuple[int, bool]]) -> None:
        self._command(self._acknowledge, subscription, epoch, tags)

    def cancel(self, subscription: Subscription) -> None:
        self._command(self._cancel, subscription)

    def give_back(self, subscription: Subscription) -> None:
        self._command(self._end, subscription)

    async def end(self, subscription: Subscription) -> None:
        subscription.ended = asyncio.Event()
        self._command(self._end, subscription)
        with suppress(TimeoutError):
            async with asyncio.timeout(5.0):
                await subscription.ended.wait()

    # -- in the thread ------------------------------------------------------------------------------------------------
    def _turn(self, connection: Any) -> None:
        for subscription in self._wanted:
            if subscription not in self._open and time.monotonic() >= subscription.not_before:
                self._consume(connection, subscription)
        if any(opened.drained for opened in self._open.values()):
            with suppress(TimeoutError):
                connection.drain_events(timeout=_POLL)
        elif not self._told:
            super()._turn(connection)
        self._told = False
        for subscription, opened in self._open.items():
            if subscription in self._wanted:
                opened.bound()
            opened.pull()  # also while it stops: what is in hand must not come again meanwhile
            if subscription.burst:
                burst, subscription.burst = subscription.burst, []
                self._tell(subscription.arrived, subscription.epoch, burst)
                self._told = True

    def _consume(self, connection: Any, subscription: Subscription) -> None:
        channel = connection.channel()
        opened = self._place.opened(channel, subscription)
        if subscription.topology is not None:
            subscription.topology.declare(channel, subscription.queue)
        else:
            channel.queue_declare(subscription.queue, durable=True, auto_delete=False)
        subscription.epoch += 1
        self._open[subscription] = opened
        self._tell(subscription.over, subscription.epoch, "")
        opened.begin()

    def _add(self, connection: Any, subscription: Subscription) -> None:
        if subscription not in self._wanted:
            self._wanted.append(subscription)

    def _acknowledge(
        self, connection: Any, subscription: Subscription, epoch: int, tags: Sequence[tuple[int, bool]]
    ) -> None:
        opened = self._open.get(subscription)
        if opened is None or epoch != subscription.epoch:
            return
        for tag, multiple in tags:
            opened.acknowledge([one for one in opened.tags if one <= tag] if multiple else [tag])

    def _cancel(self, connection: Any, subscription: Subscription) -> None:
        if subscription in self._wanted:
            self._wanted.remove(subscription)
        if (opened := self._open.get(subscription)) is not None:
            opened.rest()

    def _end(self, connection: Any, subscription: Subscription) -> None:
        self._cancel(connection, subscription)
        if (opened := self._open.pop(subscription, None)) is not None:
            opened.put_back()
            subscription.epoch += 1
            subscription.burst.clear()
            self._tell(subscription.over, subscription.epoch, "")
        if subscription.ended is not None:
            self._tell(subscription.ended.set)

    def _leaving(self) -> None:
        for opened in self._open.values():
            with suppress(Exception):  # the connection may be why we leave: what is in hand comes again by itself
                opened.put_back()
        self._open.clear()

    def _lost(self, reason: str) -> None:
        for subscription in list(self._open):
            subscription.epoch += 1
            subscription.burst.clear()
            self._tell(subscription.over, subscription.epoch, reason)
        for what, arguments in list(self._commands):
            if what == self._end and arguments[0].ended is not None:
                self._tell(arguments[0].ended.set)
