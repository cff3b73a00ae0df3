"""kombu's other transports (``redis://``, ``sqs://``, ``memory://`` …) behind the same two roles as AMQP.

They have no confirms and no flow control: a message is sent when the transport's call returns, and received when it is
deleted there after our commit. Each role has a thread of its own, since these drivers block.
"""

from __future__ import annotations

import asyncio
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
from kombu.transport.virtual import base as virtual

from esb.endpoints._amqp.consume import Arrival, Subscription
from esb.endpoints._amqp.publish import Parcel, resolve
from esb.errors import EsbError, Rejected, Unavailable

_POLL = 0.05
_RECONNECT = 1.0
_PASSED = ("message_id", "correlation_id", "timestamp", "type", "priority", "expiration", "reply_to", "app_id")


def check_driver(scheme: str) -> None:
    """Raise EsbError where the transport's own library is not installed."""
    try:
        get_transport_cls(scheme)
    except (ImportError, AttributeError) as error:  # some of kombu's modules stumble over a library that they lack
        raise EsbError(f"`{scheme}://` needs a library: {error}", hint=f"pip install 'kombu[{scheme}]'") from error


class RawMessage(virtual.Message):  # type: ignore[misc]  # kombu has no types
    """A message whose body is not inflated, whatever its headers ask for."""

    def __init__(self, payload: dict[str, Any], channel: Any = None, **more: Any) -> None:
        self.asked = dict(payload.get("headers") or {})
        headers = {name: value for name, value in self.asked.items() if name != "compression"}
        super().__init__({**payload, "headers": headers}, channel=channel, **more)


class _Worker:
    """A thread with a connection; commands from the loop run in it, in order."""

    def __init__(self, url: str, log: Callable[..., None], name: str) -> None:
        self.trouble = ""
        self._url, self._log, self._name = url, log, name
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
        while not self._closing:
            connection = kombu.Connection(self._url, transport_options={"polling_interval": 0.01})
            try:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=5)
                self.trouble = ""
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
                with suppress(Exception):
                    self._leaving()
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


@dataclass(slots=True, eq=False)
class _Open:
    """A subscription at work: its channel, and the transport's tag of each delivery by our number."""

    channel: Any
    consume: Callable[[], None]
    tags: dict[int, str] = field(default_factory=dict)
    count: int = 0
    sizes: dict[int, int] = field(default_factory=dict)
    bytes: int = 0  #: in hand
    full: bool = False  #: nothing is consumed until there is room again

    def take(self, message: Any) -> Arrival:
        self.count += 1
        arrival = _arrival(self.count, message)
        self.tags[self.count] = message.delivery_tag
        self.sizes[self.count] = len(arrival.body)
        self.bytes += len(arrival.body)
        return arrival

    def free(self, number: int) -> str:
        """The transport's tag of a delivery that is in hand no more."""
        self.bytes -= self.sizes.pop(number)
        return self.tags.pop(number)

    def bound(self, most: int) -> None:
        """Consume nothing while there are more than ``most`` bytes in hand, and again when half of them are gone."""
        if not self.full and self.bytes > most:
            self.full = True
            self.channel.basic_cancel("esb")
        elif self.full and self.bytes <= most // 2:
            self.full = False
            self.consume()


class VirtualConsumer(_Worker):
    """Receives; what is not acknowledged is put back when a subscription ends."""

    def __init__(self, url: str, log: Callable[..., None], name: str) -> None:
        self._wanted: list[Subscription] = []
        self._open: dict[Subscription, _Open] = {}
        super().__init__(url, log, name)

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
        if not self._open:
            super()._turn(connection)
            return
        with suppress(TimeoutError):
            connection.drain_events(timeout=_POLL)
        for subscription, opened in self._open.items():
            if subscription in self._wanted:
                opened.bound(subscription.most)
            if subscription.burst:
                burst, subscription.burst = subscription.burst, []
                self._tell(subscription.arrived, subscription.epoch, burst)

    def _consume(self, connection: Any, subscription: Subscription) -> None:
        channel = connection.channel()
        channel.Message = RawMessage
        opened = _Open(channel, lambda: channel.basic_consume(subscription.queue, False, arrived, "esb"))
        if subscription.topology is not None:
            subscription.topology.declare(channel, subscription.queue)
        else:
            channel.queue_declare(subscription.queue, durable=True, auto_delete=False)
        channel.basic_qos(0, subscription.prefetch, False)
        subscription.epoch += 1
        self._open[subscription] = opened
        self._tell(subscription.over, subscription.epoch, "")

        def arrived(message: Any) -> None:
            subscription.burst.append(opened.take(message))

        opened.consume()

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
            for known in [one for one in opened.tags if one <= tag] if multiple else [tag]:
                opened.channel.basic_ack(opened.free(known))

    def _cancel(self, connection: Any, subscription: Subscription) -> None:
        if subscription in self._wanted:
            self._wanted.remove(subscription)
        if (opened := self._open.get(subscription)) is not None:
            opened.channel.basic_cancel("esb")

    def _end(self, connection: Any, subscription: Subscription) -> None:
        self._cancel(connection, subscription)
        if (opened := self._open.pop(subscription, None)) is not None:
            self._put_back(opened)
            subscription.epoch += 1
            subscription.burst.clear()
            self._tell(subscription.over, subscription.epoch, "")
        if subscription.ended is not None:
            self._tell(subscription.ended.set)

    def _put_back(self, opened: _Open) -> None:
        for tag in reversed(opened.tags.values()):  # each goes to the front, so the first comes last
            opened.channel.basic_reject(tag, requeue=True)
        opened.channel.close()

    def _leaving(self) -> None:
        for opened in self._open.values():
            self._put_back(opened)
        self._open.clear()

    def _lost(self, reason: str) -> None:
        for subscription in list(self._open):
            subscription.epoch += 1
            subscription.burst.clear()
            self._tell(subscription.over, subscription.epoch, reason)
        for what, arguments in list(self._commands):
            if what == self._end and arguments[0].ended is not None:
                self._tell(arguments[0].ended.set)


def _arrival(number: int, message: Any) -> Arrival:
    info, properties = message.delivery_info or {}, dict(message.properties)
    properties |= {
        "content_type": message.content_type,
        "content_encoding": message.content_encoding,
        "application_headers": message.asked,
    }
    body = (
        message.body if isinstance(message.body, bytes) else str(message.body or "").encode("utf-8", "surrogateescape")
    )
    return Arrival(
        tag=number,
        body=body,
        properties=properties,
        exchange=str(info.get("exchange") or ""),
        routing_key=str(info.get("routing_key") or ""),
        redelivered=bool(info.get("redelivered")),
        fault="; ".join(str(error[1]) for error in message.errors or ()),
    )
