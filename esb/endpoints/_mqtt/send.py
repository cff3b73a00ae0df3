"""From a delivery to an acknowledged message."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from esb.endpoints._http.media import written
from esb.endpoints._mqtt.link import Address, Link, Log, Session
from esb.endpoints.base import Delivery
from esb.endpoints.carried import header_value, trace_of_message
from esb.errors import InternalFault, Invalid, MessageError, Rejected, Timeout, Unavailable
from esb.message import Message
from esb.steps.base import Reply

if TYPE_CHECKING:
    from esb.endpoints._mqtt.live import LiveMqtt
    from esb.endpoints.mqtt import MqttSink

#: MQTT 5, 2.4: reason codes of an acknowledgement that another attempt may not meet
_LATER = frozenset({0x80, 0x83, 0x91, 0x97})
_NOBODY = 0x10
#: The library's answers that say that there is no connection, or no room in it.
_NO_CONNECTION = frozenset({paho.MQTT_ERR_NO_CONN, paho.MQTT_ERR_CONN_LOST, paho.MQTT_ERR_QUEUE_SIZE})


class Publisher:
    """Sends over one connection; an acknowledgement settles the future of its message. A :class:`~.link.Listener`."""

    def __init__(self, address: Address, client_id: str, log: Log, name: str) -> None:
        self._link = Link(address, Session(client_id), self, log, name)
        self._client: Any = None
        self._there = asyncio.Event()
        self._open: dict[int, asyncio.Future[Any]] = {}

    async def close(self) -> None:
        await self._link.close()

    async def publish(self, topic: str, data: bytes, qos: int, *, retain: bool, properties: Any) -> Any:
        """The reason code of the acknowledgement. Raises Unavailable without a connection, and when it breaks."""
        self._link.start()
        if self._client is None:
            if self._link.trouble:
                raise Unavailable(self._link.trouble)
            await self._there.wait()
        if self._client is None:
            raise Unavailable(self._link.trouble or "the connection is lost")
        info = self._client.publish(topic, data, qos, retain, properties)
        if info.rc in _NO_CONNECTION:
            raise Unavailable(f"{self._link.address.where}: {paho.error_string(info.rc)}")
        if info.rc != paho.MQTT_ERR_SUCCESS:
            raise Rejected(paho.error_string(info.rc))
        future = self._open[info.mid] = asyncio.get_running_loop().create_future()
        try:
            return await future
        finally:
            self._open.pop(info.mid, None)

    # -- what the link tells ------------------------------------------------------------------------------------------
    def connected(self, client: Any, *, session_present: bool) -> None:
        self._client = client
        self._there.set()

    def lost(self, reason: str) -> None:
        self._client = None
        waiting, self._open = self._open, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(Unavailable(reason))
        self._there.set()  # whoever waits for a connection is told, too
        self._there.clear()

    def published(self, client: Any, mid: int, code: Any) -> None:
        future = self._open.get(mid)
        if client is self._client and future is not None and not future.done():
            future.set_result(code)

    def arrived(self, client: Any, message: Any) -> None:
        """Nothing is subscribed here."""

    def subscribed(self, codes: list[Any]) -> None:
        """As above."""


async def send(sink: MqttSink, message: Message, delivery: Delivery, live: LiveMqtt | None) -> Reply:
    """Send and wait for the acknowledgement, within the delivery's time."""
    if live is None:
        raise InternalFault("an `mqtt` sink needs a connector", hint="write `connector: name` beside the topic")
    topic = topic_of(sink, delivery.scope)
    data, content_type = written(message.body if sink.body is None else sink.body(delivery.scope), sink.format)
    properties = _properties(sink, delivery, content_type) if live.address.version == paho.MQTTv5 else None
    try:
        async with asyncio.timeout(delivery.timeout):
            code = await live.publisher.publish(topic, data, sink.qos, retain=sink.retain, properties=properties)
    except TimeoutError:
        raise Timeout(f"{live.address.where}: no acknowledgement within {delivery.timeout:g} s") from None
    if (fault := fault_of_code(code, heard=sink.heard and sink.qos > 0)) is not None:
        raise fault
    return Reply(body={"topic": topic})


def topic_of(sink: MqttSink, scope: Mapping[str, Any]) -> str:
    """Raises Invalid where the topic of this message is none: a value could otherwise choose a wildcard or nothing."""
    from esb.endpoints.mqtt import fault_of  # noqa: PLC0415 - the options load this module

    topic = sink.topic.render(scope)
    if fault := fault_of(topic, wildcards=False):
        raise Invalid(f"the topic `{topic[:80]}` {fault}")
    return topic


def fault_of_code(code: Any, *, heard: bool) -> MessageError | None:
    """What an acknowledgement says: None for a yes."""
    number = getattr(code, "value", code)
    if number == _NOBODY and heard:
        return Rejected("nobody has subscribed to this topic")
    if not getattr(code, "is_failure", False):
        return None
    if number in _LATER:
        return Unavailable(f"the broker refuses: {code}")
    return Rejected(f"the broker refuses: {code}")


def _properties(sink: MqttSink, delivery: Delivery, content_type: str) -> Properties:
    made = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # the library's
    if content_type:
        made.ContentType = content_type
        made.PayloadFormatIndicator = 0 if content_type == "application/octet-stream" else 1
    if sink.expiration is not None:
        made.MessageExpiryInterval = max(1, int(sink.expiration.total_seconds()))
    own = {"message-id": delivery.id}
    if delivery.correlation_id and delivery.correlation_id.isprintable():
        own["x-correlation-id"] = delivery.correlation_id
    own |= trace_of_message(delivery.scope)
    own |= {name: header_value(name, template.render(delivery.scope)) for name, template in sink.headers.items()}
    made.UserProperty = list(own.items())
    return made
