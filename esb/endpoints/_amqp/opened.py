"""A subscription at work on one of kombu's other transports: what it has in hand, and how that is acknowledged or put back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kombu.transport.virtual import base as virtual

from esb.endpoints._amqp.consume import Arrival, Subscription


class RawMessage(virtual.Message):  # type: ignore[misc]  # kombu has no types
    """A message whose body is not inflated, whatever its headers ask for."""

    def __init__(self, payload: dict[str, Any], channel: Any = None, **more: Any) -> None:
        self.asked = dict(payload.get("headers") or {})
        headers = {name: value for name, value in self.asked.items() if name != "compression"}
        super().__init__({**payload, "headers": headers}, channel=channel, **more)


class Opened:
    """What was taken from the queue of a subscription, by our own numbers; everything here belongs to the consumer's thread."""

    #: whether its messages come while the connection is drained, or :meth:`pull` asks for them
    drained = True

    def __init__(self, channel: Any, subscription: Subscription) -> None:
        self.channel = channel
        self.tags: dict[int, str] = {}
        self.count = 0
        self.bytes = 0  #: in hand
        self.full = False  #: nothing is consumed until there is room again
        self._subscription = subscription
        self._sizes: dict[int, int] = {}

    def begin(self) -> None:
        """Consume from now on."""
        self.channel.Message = RawMessage
        self.channel.basic_qos(0, self._subscription.prefetch, False)
        self._consume()

    def pull(self) -> None:
        """Ask for messages."""

    def rest(self) -> None:
        """Consume nothing more."""
        self.channel.basic_cancel("esb")

    def bound(self) -> None:
        """Consume nothing while there are more than the bytes that may be in hand, and again when half of them are gone."""
        most = self._subscription.most
        if not self.full and self.bytes > most:
            self.full = True
            self.rest()
        elif self.full and self.bytes <= most // 2:
            self.full = False
            self._consume()

    def acknowledge(self, numbers: Sequence[int]) -> None:
        for tag in self._free(numbers):
            self.channel.basic_ack(tag)

    def put_back(self) -> None:
        """Everything that is in hand goes to the front of the queue, as far as the transport has one; then it is over."""
        for tag in reversed(self.tags.values()):  # each goes to the front, so the first comes last
            self.channel.basic_reject(tag, requeue=True)
        self.channel.close()

    def take(self, arrival: Arrival, tag: str) -> None:
        """It is in hand now, and goes with the next burst."""
        self.tags[arrival.tag] = tag
        self._sizes[arrival.tag] = len(arrival.body)
        self.bytes += len(arrival.body)
        self._subscription.burst.append(arrival)

    def next_number(self) -> int:
        self.count += 1
        return self.count

    def _consume(self) -> None:
        self.channel.basic_consume(self._subscription.queue, False, self._arrived, "esb")

    def _arrived(self, message: Any) -> None:
        self.take(arrival_of(self.next_number(), message), message.delivery_tag)

    def _free(self, numbers: Sequence[int]) -> list[str]:
        """The transport's tags of deliveries that are in hand no more."""
        self.bytes -= sum(self._sizes.pop(number) for number in numbers)
        return [self.tags.pop(number) for number in numbers]


def arrival_of(number: int, message: Any) -> Arrival:
    """A message of kombu as the source takes it."""
    info, properties = message.delivery_info or {}, dict(message.properties)
    properties |= {
        "content_type": message.content_type,
        "content_encoding": message.content_encoding,
        "application_headers": message.asked,
    }
    body = message.body
    return Arrival(
        tag=number,
        body=body if isinstance(body, bytes) else str(body or "").encode("utf-8", "surrogateescape"),
        properties=properties,
        exchange=str(info.get("exchange") or ""),
        routing_key=str(info.get("routing_key") or ""),
        redelivered=bool(info.get("redelivered")),
        fault="; ".join(str(error[1]) for error in message.errors or ()),
    )
