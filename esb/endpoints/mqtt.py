"""The ``mqtt`` endpoint: topics of a broker on the shop floor, and messages to them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from esb.endpoints.base import ConnectionContext, Delivery, LiveConnection, RunningSource, SourceContext
from esb.endpoints.drivers import need
from esb.endpoints.http import HttpTls
from esb.formats.base import Codec, CodecKind
from esb.language import Expression, TextTemplate
from esb.message import EMPTY, Message
from esb.registry import connection, sink, source
from esb.secret import Secret
from esb.spec import MapNode, Node, Reader, option
from esb.spec.kinds import Size
from esb.steps.base import ContractRef, Reply

#: MQTT 5, 4.7.3: a topic has 1 to 65 535 bytes
LONGEST_TOPIC = 65_535
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_PROPERTY = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_CLIENT_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


def fault_of(topic: str, *, wildcards: bool) -> str:
    """What is wrong with a topic (or, with ``wildcards``, a filter); empty where nothing is. MQTT 5, 4.7."""
    if not topic:
        return "is empty"
    if len(topic.encode("utf-8", "surrogatepass")) > LONGEST_TOPIC:
        return f"is longer than {LONGEST_TOPIC} bytes"
    if any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 or 0xD800 <= ord(char) < 0xE000 for char in topic):
        return "holds a control character"
    if not wildcards:
        return "holds a wildcard" if "+" in topic or "#" in topic else ""
    levels = topic.split("/")
    if any("#" in level and (level != "#" or place != len(levels) - 1) for place, level in enumerate(levels)):
        return "has a `#` that is not its last level"
    if any("+" in level and level != "+" for level in levels):
        return "has a `+` beside other characters of its level"
    return ""


@source("mqtt")
@dataclass(frozen=True, slots=True)
class MqttSource:
    """Topics of a broker; each message is acknowledged after its commit.

    The broker keeps a session for the route: what is published with QoS 1 while the bus is down comes when it is back, as far as
    the broker's queue reaches. Messages of QoS 0 are taken as they come; the protocol does not repeat them. A repeat of a known
    message (`seen_by`) is acknowledged and stored no second time. QoS 2 is not offered: the client would have to keep what it
    has half received, so use QoS 1 and `dedupe`.
    """

    needs_connector: ClassVar[bool] = True

    topics: tuple[str, ...] = option(
        doc="Topics to subscribe to; `+` stands for one level, `#` for all below.",
        example="[ plant/+/scrap ]",
        shorthand=True,
        aliases=("topic", "filter", "subscribe"),
    )
    qos: int = option(
        default=1,
        doc="Highest quality of service asked for: 1 is acknowledged, 0 is not.",
        example=1,
        minimum=0,
        maximum=2,
    )
    client_id: str = option(
        default="",
        doc="Name of the session at the broker; by default one that this bus makes for the route and keeps.",
        example="esb-graz-scrap",
        aliases=("clientId", "client"),
    )
    session: timedelta = option(
        default=timedelta(days=7),
        doc="How long the broker keeps what comes while the bus is away (MQTT 5; a 3.1.1 broker keeps it for ever).",
        example="7d",
        aliases=("session_expiry", "sessionExpiryInterval"),
    )
    prefetch: int = option(
        default=100,
        doc="Messages in hand before the first is acknowledged.",
        example=100,
        minimum=1,
        maximum=5_000,
        aliases=("receive_maximum", "receiveMaximum"),
    )
    in_hand: Size = option(
        default=64_000_000,
        doc="Bytes of messages in hand beyond which no more are read, until some are stored; one larger message is taken alone.",
        example="16MB",
    )
    retained: Literal["take", "ignore"] = option(
        default="take",
        doc="What to do with the message that a topic holds when the session begins (MQTT 5).",
        example="ignore",
    )
    seen_by: str = option(
        default="message-id",
        doc="User property that names a message (MQTT 5); a repeat with the same content is taken once. `none`: there is none.",
        example="message-id",
    )
    format: Annotated[Codec | None, CodecKind()] = option(
        default=None, doc="The only format that is taken; without it the content type decides, JSON where there is none.", example="json"
    )  # fmt: skip
    contract: ContractRef = option(
        default=None,
        doc="Contract that the content must keep; else its message is a dead letter.",
        example="inspection-result.v1",
    )
    max_size: Size = option(default=1_000_000, doc="A larger message becomes a dead letter.", example="100KB")

    def bind(self, context: SourceContext) -> RunningSource:
        from esb.endpoints._mqtt.receive import MqttReceiver  # noqa: PLC0415 - loads only where a route runs

        return MqttReceiver(self, context)

    def check(self, node: Node, reader: Reader) -> None:
        if not self.topics:
            reader.problem("ESB102", "`topics` is empty", _spot(node, "topics"), hint="name the topics to subscribe to")
        for topic in self.topics:
            if "{{" in topic or "{%" in topic:
                hint = "write the topic out; `+` and `#` stand for any level"
                reader.problem("ESB103", "`topics` are fixed, not templates", _spot(node, "topics"), hint=hint)
            elif fault := fault_of(topic, wildcards=True):
                hint = "write it like `plant/+/scrap` or `plant/#`"
                reader.problem("ESB103", f"`{topic[:80]}` {fault}", _spot(node, "topics"), hint=hint)
        if self.qos == 2:
            hint = "write `qos: 1`, and `dedupe` on the route"
            reader.problem("ESB106", "a source has no QoS 2: half of a message would live in memory", _spot(node, "qos"), hint=hint)  # fmt: skip
        if self.client_id and not _CLIENT_ID.fullmatch(self.client_id):
            hint = "letters, digits and `_.:-`, at most 128"
            reader.problem("ESB103", "`client_id` is no name for a session", _spot(node, "client_id"), hint=hint)


@connection("mqtt")
@dataclass(frozen=True, slots=True)
class MqttConnection:
    """A broker for MQTT 5 or 3.1.1, such as Mosquitto or HiveMQ, and how we show ourselves there.

    Connected when first used, and again for ever when the connection is lost; the bus also starts while the broker is down.
    """

    url: str = option(
        doc="Address of the broker: `mqtt://host:1883`, or `mqtts://` for TLS.",
        example="mqtts://broker.plant.example",
        aliases=("host", "broker", "address", "uri"),
    )
    user: str = option(default="", doc="Who we are.", example="esb", aliases=("username", "login"))
    password: Secret | None = option(default=None, doc="The password.", example="${secret:shop-floor}")
    tls: HttpTls | None = option(default=None, doc="Certificates, with `mqtts://`.")
    version: Literal["5", "3.1.1"] = option(
        default="5",
        doc="Version of the protocol; 3.1.1 has no headers, content types, reasons and message names.",
        example="3.1.1",
        aliases=("protocol",),
    )
    keepalive: timedelta = option(
        default=timedelta(seconds=15),
        doc="A broker that is silent for longer, when asked, counts as gone.",
        example="15s",
        aliases=("keep_alive", "heartbeat"),
    )

    def check(self, node: Node, reader: Reader) -> None:
        at = _spot(node, "url")
        if not timedelta(seconds=1) <= self.keepalive <= timedelta(seconds=65_535):
            reader.problem("ESB106", "`keepalive` must be 1s to 65535s", _spot(node, "keepalive"), hint="write `15s`")
        try:
            parts = urlsplit(self.url)
            host, _, password = parts.hostname, parts.port, parts.password
        except ValueError:
            reader.problem("ESB103", "`url` is no address", at, hint="write it like `mqtt://broker:1883`")
            return
        if password:
            hint = "write `user: …` and `password: ${secret:name}` beside it"
            reader.problem("ESB501", "`url` holds a password", at, label="value hidden", hint=hint)
        elif parts.scheme not in _PORTS:
            words = f"`{parts.scheme}://` is no scheme here" if parts.scheme else "`url` has no scheme"
            reader.problem("ESB105", words, at, hint="known here: `mqtt://`, `mqtts://`")
        elif not host or parts.path not in ("", "/"):
            reader.problem("ESB103", "`url` is no address of a broker", at, hint="write it like `mqtt://broker:1883`")
        elif self.tls is not None and parts.scheme == "mqtt":
            reader.problem("ESB107", "`tls` with a plain address", _spot(node, "tls"), hint="write `mqtts://` in `url`")

    @property
    def where(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or _PORTS.get(parts.scheme, 1883)

    @property
    def encrypted(self) -> bool:
        return urlsplit(self.url).scheme == "mqtts"

    async def open(self, context: ConnectionContext) -> LiveConnection:
        need("paho", "mqtt", context.name)
        from esb.endpoints._mqtt.live import open_mqtt  # noqa: PLC0415 - the client library loads when it is used

        return open_mqtt(self, context)


@sink("mqtt")
@dataclass(frozen=True, slots=True)
class MqttSink:
    """One message per delivery, done when the broker has acknowledged it (QoS 0: when it is written to the connection).

    The user property `message-id` is the delivery id, the same on every retry (MQTT 5). A refusal is `rejected`, a quota
    `unavailable`, an acknowledgement that does not come `timeout`.
    """

    topic: TextTemplate = option(
        doc="Topic to publish to, without wildcards.",
        example="plant/{{ site.plant }}/hold",
        shorthand=True,
        aliases=("topics",),
    )
    qos: int = option(
        default=1, doc="Quality of service; 0 may get lost.", example=1, minimum=0, maximum=2
    )  # fmt: skip
    retain: bool = option(
        default=False,
        doc="The broker keeps the message as the topic's state, for those that subscribe later.",
        example=True,
        aliases=("retained",),
    )
    headers: Mapping[str, TextTemplate] = option(
        default=EMPTY, doc="User properties (MQTT 5).", example="{ plant: '{{ body.plant }}' }", aliases=("properties",)
    )
    body: Expression | None = option(
        default=None, doc="What is sent instead of the message's body.", example="body.order"
    )
    format: Annotated[Codec | None, CodecKind()] = option(
        default=None, doc="How the body is written; JSON by default, a text as it is.", example="json"
    )
    expiration: timedelta | None = option(
        default=None,
        doc="How long the broker keeps it for a reader that is away (MQTT 5).",
        example="1h",
        aliases=("ttl", "message_expiry"),
    )
    heard: bool = option(
        default=False,
        doc="A message that nobody has subscribed to is `rejected`, where the broker tells (MQTT 5, QoS 1).",
        example=True,
        aliases=("mandatory",),
    )

    def check(self, node: Node, reader: Reader) -> None:
        if self.topic.constant and (fault := fault_of(self.topic.text, wildcards=False)):
            reader.problem("ESB103", f"`{self.topic.text[:80]}` {fault}", _spot(node, "topic"), hint="name one topic")
        for name in self.headers:
            if not _PROPERTY.fullmatch(name) or name.lower().startswith(("esb-", "esb_")):
                reader.problem("ESB103", f"`{name}` is no name for a user property", _spot(node, "headers"))

    def own_connection(self) -> None:
        """A broker is always a connector's."""
        return

    async def send(self, message: Message, delivery: Delivery, connection: Any) -> Reply:
        from esb.endpoints._mqtt.send import send  # noqa: PLC0415 - the client library loads when it is used

        return await send(self, message, delivery, connection)


def _spot(node: Node, name: str) -> Node:
    """The value of one option, to point at it; the whole node where the option stands alone."""
    return (node.get(name) or node) if isinstance(node, MapNode) else node
