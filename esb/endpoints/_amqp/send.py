"""From a delivery to a confirmed message."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from esb.endpoints._amqp.properties import outgoing, short
from esb.endpoints._amqp.publish import Parcel, Publisher
from esb.endpoints._http.media import written
from esb.endpoints.base import Answered, Delivery
from esb.endpoints.carried import event_of, trace_of_message
from esb.errors import InternalFault
from esb.message import Message
from esb.steps.base import Reply

if TYPE_CHECKING:
    from esb.endpoints._amqp.live import LiveAmqp
    from esb.endpoints.amqp import AmqpSink


async def send(sink: AmqpSink, message: Message, delivery: Delivery, live: LiveAmqp | None) -> Reply:
    """Send and wait for the confirm, within the delivery's and the connector's time."""
    if live is None:
        raise InternalFault("an `amqp` sink needs a connector", hint="write `connector: name` beside the exchange")
    parcel = parcel_of(sink, message, delivery)
    await live.publisher.publish(parcel, min(delivery.timeout, live.confirm_timeout))
    return reply_of(parcel)


def begin(
    sink: AmqpSink, message: Message, delivery: Delivery, live: LiveAmqp, answered: Answered
) -> Callable[[], None]:
    """The same without a task, see :class:`esb.endpoints.base.BeginsSink`."""
    parcel = parcel_of(sink, message, delivery)
    # a parcel known by whom it tells would wait for the collector, and all of its message with it
    reply = reply_of(parcel)
    parcel.told = lambda error: answered(reply if error is None else error)
    publisher: Publisher = live.publisher
    publisher.begin(parcel, min(delivery.timeout, live.confirm_timeout))
    return partial(publisher.give_up, parcel)


def reply_of(parcel: Parcel) -> Reply:
    """What a confirm says."""
    return Reply(body={"exchange": parcel.exchange, "routing_key": parcel.routing_key})


def parcel_of(sink: AmqpSink, message: Message, delivery: Delivery) -> Parcel:
    """What goes to the broker. Raises Invalid where a value cannot stand where it is wanted."""
    scope = delivery.scope
    body, content_type = written(message.body if sink.body is None else sink.body(scope), sink.format)
    headers = {name: template.render(scope) for name, template in sink.headers.items()}
    for name, value in trace_of_message(scope).items():
        headers.setdefault(name, value)
    for name, value in event_of(scope).items():
        headers.setdefault(f"cloudEvents:{name}", value)
    return Parcel(
        exchange=short("exchange", sink.exchange.render(scope) if sink.exchange is not None else ""),
        routing_key=short("routing_key", sink.routing_key.render(scope) if sink.routing_key is not None else ""),
        message=outgoing(
            body,
            content_type,
            headers,
            content_encoding="utf-8" if content_type.endswith(("json", "charset=utf-8")) else None,
            delivery_mode=2 if sink.persistent else 1,
            message_id=delivery.id,
            correlation_id=_correlation(delivery),
            timestamp=int(delivery.clock.now().timestamp()),
            type=short("type", sink.type.render(scope)) if sink.type is not None else None,
            priority=sink.priority,
            expiration=str(int(sink.expiration.total_seconds() * 1000)) if sink.expiration is not None else None,
        ),
        mandatory=sink.mandatory,
    )


def _correlation(delivery: Delivery) -> str | None:
    value = delivery.correlation_id
    return value if value and value.isprintable() and len(value.encode()) <= 255 else None
