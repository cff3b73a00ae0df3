"""Consuming: one channel for each subscription on a link; a fault of one leaves the others alone."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import amqp
from msgspec import Struct

from esb.endpoints._amqp.frames import Content
from esb.endpoints._amqp.hand import Hand
from esb.endpoints._amqp.link import FIRST_WAIT, LAST_WAIT, Address, Link
from esb.endpoints._amqp.wire import Wire, WireChannel


class Arrival(Struct, frozen=True):
    """One delivery: raw bytes and what the broker says about them."""

    tag: int
    body: bytes
    properties: dict[str, Any]
    exchange: str = ""
    routing_key: str = ""
    redelivered: bool = False
    #: why the properties could not be read
    fault: str = ""


class Topology(Protocol):
    """What a subscription wants to be there."""

    def declare(self, channel: WireChannel, queue: str) -> None: ...


@dataclass(slots=True, eq=False)
class Subscription:
    """A consumer of one queue. ``arrived`` and ``over`` are called on the loop; the rest belongs to the link's thread.

    ``epoch`` counts the channels it has had: a tag means something only on its own channel.
    """

    queue: str
    prefetch: int
    topology: Topology | None
    arrived: Callable[[int, list[Arrival]], None]
    over: Callable[[int, str], None]
    wanted: bool = True
    ended: asyncio.Event | None = None
    epoch: int = 0
    channel: WireChannel | None = None
    burst: list[Arrival] = field(default_factory=list)
    not_before: float = 0.0
    wait: float = FIRST_WAIT
    hand: Hand = field(init=False)
    most: int = 1 << 62  #: bytes in hand
    consumers: int = 0  #: of this channel so far; the last one is the one at work
    refused: int = 0  #: what comes for the consumers up to this one goes back to the queue
    over_full: bool = False

    def __post_init__(self) -> None:
        self.hand = Hand(self.most, self.prefetch)


class Consumer:
    """The subscriptions of one link. Methods without an underscore that take a subscription belong to the loop."""

    def __init__(self, address: Address, log: Callable[..., None], name: str) -> None:
        self._commands: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._subscriptions: list[Subscription] = []
        self._link = Link(address, self, log, f"{name} (in)")

    @property
    def trouble(self) -> str:
        return self._link.trouble

    async def close(self) -> None:
        await self._link.close()

    # -- on the loop --------------------------------------------------------------------------------------------------
    def subscribe(self, subscription: Subscription) -> None:
        """Consume from now on, and again after every loss of the connection."""
        self._command(self._add, subscription)

    def acknowledge(self, subscription: Subscription, epoch: int, tags: Sequence[tuple[int, bool]]) -> None:
        """Acknowledge tags, each alone or with all before it; those of an earlier channel are dropped."""
        self._command(self._acknowledge, subscription, epoch, tags)

    def give_back(self, subscription: Subscription) -> None:
        """Stop consuming; what is not acknowledged goes back to its queue at once."""
        self._command(self._leave, subscription)

    def cancel(self, subscription: Subscription) -> None:
        """Take no further deliveries; those in hand can still be acknowledged."""
        self._command(self._cancel, subscription)

    async def end(self, subscription: Subscription, patience: float = 5.0) -> None:
        """Acknowledgements are out, the channel is closed, and what was not acknowledged is back in its queue."""
        subscription.ended = asyncio.Event()
        self._command(self._end, subscription)
        if self._link.trouble:
            return  # there is no channel to close
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await subscription.ended.wait()

    def _command(self, what: Callable[..., None], *arguments: Any) -> None:
        self._commands.append((what, arguments))
        self._link.wake()

    # -- in the thread ------------------------------------------------------------------------------------------------
    def connected(self, wire: Wire) -> None:
        for subscription in self._subscriptions:
            subscription.not_before, subscription.wait = 0.0, FIRST_WAIT

    def blocked(self, reason: str) -> None:
        """A broker in alarm still delivers and takes acknowledgements."""

    def work(self, wire: Wire) -> None:
        self._obey(wire)
        now = time.monotonic()
        for subscription in list(self._subscriptions):
            if subscription.channel is None and subscription.wanted and now >= subscription.not_before:
                self._open(wire, subscription)
            self._resize(wire, subscription)
            if subscription.burst:
                burst, subscription.burst = subscription.burst, []
                self._link.tell(subscription.arrived, subscription.epoch, burst)

    def lost(self, reason: str) -> None:
        for subscription in self._subscriptions:
            self._closed(subscription, reason, 0.0)
        self._obey(None)

    def _obey(self, wire: Wire | None) -> None:
        while self._commands:
            what, arguments = self._commands.popleft()
            what(wire, *arguments)

    def _open(self, wire: Wire, subscription: Subscription) -> None:
        """Declare, bind, consume. A refusal is this subscription's own; a broken connection is everybody's."""
        try:
            with wire.waiting():
                channel = wire.open_channel()
                if subscription.topology is not None:
                    subscription.topology.declare(channel, subscription.queue)
                subscription.epoch += 1
                subscription.channel = channel
                channel.on_lost = lambda reason: self._closed(subscription, reason)
                self._consume(channel, subscription)
        except amqp.ChannelError as error:
            self._closed(subscription, f"{error.reply_code} {error.reply_text}")
        else:
            subscription.wait = FIRST_WAIT
            self._link.tell(subscription.over, subscription.epoch, "")

    def _consume(self, channel: WireChannel, subscription: Subscription) -> None:
        """A consumer with the prefetch of now; one that was there before takes nothing new."""
        number = subscription.consumers + 1
        channel.basic_qos(0, subscription.hand.prefetch, False)
        if subscription.consumers and not subscription.over_full:
            self._stop_consumer(channel, subscription)
        subscription.consumers, subscription.over_full = number, False
        channel.basic_consume(
            subscription.queue,
            consumer_tag=f"esb{number}",
            callback=partial(self._delivered, subscription, channel, number),
            on_cancel=lambda _: self._cancelled(subscription, channel),
        )

    @staticmethod
    def _stop_consumer(channel: WireChannel, subscription: Subscription) -> None:
        """What the broker has sent until it reads this still comes."""
        tag = f"esb{subscription.consumers}"
        callback = channel.callbacks.get(tag)
        channel.basic_cancel(tag, nowait=True)
        if callback is not None:
            channel.callbacks[tag] = callback

    def _delivered(
        self,
        subscription: Subscription,
        channel: WireChannel,
        number: int,
        content: Content,
        tag: int,
        redelivered: bool,
        exchange: str,
        routing_key: str,
    ) -> None:
        """Take a delivery, or give it back where there are more bytes in hand than may be, with all behind it."""
        body = content.body
        if number > subscription.refused and subscription.hand.take(tag, len(body)):
            arrival = Arrival(tag, body, content.properties, exchange, routing_key, redelivered, content.fault)
            subscription.burst.append(arrival)
            return
        if number > subscription.refused:
            subscription.refused, subscription.over_full = number, True
            self._stop_consumer(channel, subscription)
        subscription.hand.give_back(len(body))
        channel.basic_reject(tag, requeue=True)

    def _resize(self, wire: Wire, subscription: Subscription) -> None:
        """Consume again when there is room again, and with more at a time when the messages have become smaller."""
        channel, hand = subscription.channel, subscription.hand
        if channel is None or not subscription.wanted:
            return
        if subscription.over_full and hand.is_empty:
            hand.narrow()
        elif subscription.over_full or not hand.may_widen():
            return
        try:
            with wire.waiting():
                self._consume(channel, subscription)
        except amqp.ChannelError as error:
            self._closed(subscription, f"{error.reply_code} {error.reply_text}")

    def _cancelled(self, subscription: Subscription, channel: WireChannel) -> None:
        channel.on_lost = None
        channel.leave()
        self._closed(subscription, "the broker ended the subscription: its queue was deleted or has moved")

    def _closed(self, subscription: Subscription, reason: str, wait: float | None = None) -> None:
        """The channel is gone, and every tag of it with it."""
        subscription.channel = None
        subscription.burst.clear()
        subscription.hand.clear()
        subscription.consumers = subscription.refused = 0
        subscription.over_full = False
        subscription.epoch += 1
        subscription.not_before = time.monotonic() + (subscription.wait if wait is None else wait)
        subscription.wait = min(subscription.wait * 2, LAST_WAIT)
        self._link.tell(subscription.over, subscription.epoch, reason)

    # -- commands -----------------------------------------------------------------------------------------------------
    def _add(self, wire: Wire | None, subscription: Subscription) -> None:
        subscription.wanted, subscription.not_before = True, 0.0
        if subscription not in self._subscriptions:
            self._subscriptions.append(subscription)

    def _acknowledge(
        self, wire: Wire | None, subscription: Subscription, epoch: int, tags: Sequence[tuple[int, bool]]
    ) -> None:
        if subscription.channel is not None and epoch == subscription.epoch:
            for tag, multiple in tags:
                subscription.channel.acknowledge(tag, multiple=multiple)
                subscription.hand.free(tag, multiple=multiple)

    def _cancel(self, wire: Wire | None, subscription: Subscription) -> None:
        subscription.wanted = False
        if subscription.channel is not None:
            if not subscription.over_full:
                self._stop_consumer(subscription.channel, subscription)
            # what comes until the broker has read this stays unacknowledged and goes back with the channel
            for tag in list(subscription.channel.callbacks):
                subscription.channel.callbacks[tag] = _leave_alone

    def _leave(self, wire: Wire | None, subscription: Subscription) -> None:
        subscription.wanted = False
        if subscription.channel is not None:
            subscription.channel.on_lost = None
            subscription.channel.leave()
            self._closed(subscription, "", 0.0)

    def _end(self, wire: Wire | None, subscription: Subscription) -> None:
        subscription.wanted = False
        channel, subscription.channel = subscription.channel, None
        subscription.burst.clear()
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
        if channel is not None and wire is not None:
            channel.on_lost = None
            with suppress(amqp.ChannelError), wire.waiting(3.0):
                channel.close()
        if subscription.ended is not None:
            self._link.tell(subscription.ended.set)


def _leave_alone(*_: Any) -> None:
    """What comes for a consumer that has ended."""
