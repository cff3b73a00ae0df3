"""The ``amqp`` endpoint: queues that messages come from, exchanges that they go to, and the brokers behind them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from esb.endpoints.base import Answered, ConnectionContext, Delivery, LiveConnection, RunningSource, SourceContext
from esb.endpoints.http import HttpTls
from esb.formats.base import Codec, CodecKind
from esb.language import Expression, TextTemplate
from esb.message import EMPTY, Message
from esb.registry import connection, sink, source
from esb.secret import Secret
from esb.spec import MapNode, Node, Reader, option
from esb.spec.kinds import Size
from esb.steps.base import ContractRef, Reply

_AMQP = frozenset({"amqp", "amqps"})
_REDIS = "no confirms: what Redis loses at a crash is lost, and by default that is what came since its last snapshot"
#: kombu's other transports that keep a message until it is acknowledged, and what they do not do.
VIRTUAL: Mapping[str, str] = {
    "memory": "nothing survives the process, and queues are shared by everything in it",
    "redis": _REDIS,
    "rediss": _REDIS,
    "sqs": "at least once in any order, bodies up to 256 KB",
    "azureservicebus": "at least once in any order",
    "gcpubsub": "at least once in any order",
}
#: Those that let go of a message before the work on it is done.
_LOSING: Mapping[str, str] = {
    "sqla": "marks a row done when it is delivered",
    "sqlalchemy": "marks a row done when it is delivered",
    "db": "marks a row done when it is delivered",
    "filesystem": "deletes the file when it is delivered",
    "mongodb": "deletes the document when it is delivered",
}
_OTHER_NAMES: Mapping[str, str] = {
    "pyamqp": "amqp",
    "librabbitmq": "amqp",
    "rabbitmq": "amqp",
    "rabbitmqs": "amqps",
    "amqp+ssl": "amqps",
    "amqp+tls": "amqps",
}
_HEADER = re.compile(r"[a-z0-9_.:-]{1,128}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Binding:
    """An exchange that the queue gets messages from."""

    exchange: str = option(doc="Name of the exchange.", example="erp.orders", shorthand=True, aliases=("source",))
    routing_key: str = option(
        default="#",
        doc="Routing key, or pattern of a topic exchange.",
        example="order.*",
        aliases=("routingKey", "key", "pattern", "topic"),
    )
    type: Literal["topic", "direct", "fanout", "headers"] = option(
        default="topic", doc="Type of the exchange, which is declared durable.", example="topic", aliases=("kind",)
    )
    arguments: Mapping[str, Any] = option(
        default=EMPTY, doc="Arguments of the binding, for a `headers` exchange.", example="{ x-match: all, plant: P10 }"
    )
    passive: bool = option(
        default=False, doc="The exchange must be there; it is not declared.", example=True, aliases=("skipDeclare",)
    )


@dataclass(frozen=True, slots=True)
class Declare:
    """What the broker must have; declared at each connection, which changes nothing where it is there already."""

    type: Literal["quorum", "classic"] = option(
        default="quorum",
        doc="Type of the queue, which is durable: `quorum` is replicated and written to disk, `classic` lives on one node.",
        example="quorum",
        aliases=("queue_type", "x-queue-type"),
    )
    bind: tuple[Binding, ...] = option(
        default=(),
        doc="Exchanges that the queue gets messages from.",
        example='[ { exchange: erp.orders, routing_key: "order.*" } ]',
        aliases=("bindings", "binding", "exchange"),
    )
    arguments: Mapping[str, Any] = option(
        default=EMPTY,
        doc="Further arguments of the queue.",
        example="{ x-single-active-consumer: true, x-max-length: 100000 }",
        aliases=("args",),
    )
    passive: bool = option(
        default=False,
        doc="Only look whether the queue is there and bind it; its type is left to whoever made it.",
        example=True,
    )

    def declare(self, channel: Any, queue: str) -> None:
        """Have the broker make what is missing. Raises the broker's refusal."""
        arguments = {"x-queue-type": self.type, **_plain(self.arguments)}
        if self.passive:
            channel.queue_declare(queue, passive=True, durable=True, auto_delete=False)
        else:
            channel.queue_declare(queue, durable=True, auto_delete=False, arguments=arguments)
        for one in self.bind:
            channel.exchange_declare(one.exchange, one.type, passive=one.passive, durable=True, auto_delete=False)
            channel.queue_bind(queue, one.exchange, one.routing_key, arguments=_plain(one.arguments))

    def check(self, node: Node, reader: Reader) -> None:
        for name, text in (("bind", one.exchange) for one in self.bind):
            _check_fixed(name, text, node, reader)
        if "x-max-priority" in self.arguments and self.type == "quorum":
            hint = "write `type: classic`, or take it out"
            reader.problem("ESB106", "a quorum queue has no `x-max-priority`", spot(node, "arguments"), hint=hint)


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as AMQP writes them; whole numbers are integers there."""
    return {
        name: int(value) if isinstance(value, Decimal) and value == int(value) else value
        for name, value in arguments.items()
    }


@source("amqp")
@dataclass(frozen=True, slots=True)
class AmqpSource:
    """A queue of a broker; each delivery is one message, acknowledged after its commit.

    What cannot be read (content type, encoding, contract, size) is stored as a dead letter and acknowledged, never sent
    back to its queue. A redelivery of a known `message_id` with the same content is acknowledged and stored no second time.
    At most `prefetch` deliveries and `in_hand` bytes of them are in hand, one larger message alone; while the route is paused or its queue is full they go back to the broker.
    """

    needs_connector: ClassVar[bool] = True

    queue: str = option(
        doc="Queue to consume.", example="qms.inspections", shorthand=True, aliases=("queues", "name", "destination")
    )
    prefetch: int = option(
        default=100,
        doc="Deliveries in hand before the first is acknowledged.",
        example=100,
        minimum=1,
        maximum=5_000,
        aliases=("prefetchCount", "prefetch_count", "qos"),
    )
    in_hand: Size = option(
        default=64_000_000,
        doc="Bytes in hand before the first is acknowledged; what would be more goes back to the queue, and fewer messages are"
        " asked for while they are that large.",
        example="64MB",
        aliases=("prefetch_size", "prefetch_bytes"),
    )
    declare: Declare | None = option(
        default=None,
        doc="What the broker must have; without it the queue must be there.",
        example='{ type: quorum, bind: [ { exchange: erp.orders, routing_key: "order.*" } ] }',
        aliases=("autoDeclare", "queue_declare", "topology"),
    )
    seen_by: Literal["message_id", "none"] = option(
        default="message_id",
        doc="What makes a delivery the same as an earlier one; `none` where senders reuse ids, and duplicates may pass.",
        example="message_id",
        aliases=("idempotentKey",),
    )
    format: Annotated[Codec | None, CodecKind()] = option(
        default=None, doc="The only format that is taken; without it the content type decides.", example="json"
    )
    contract: ContractRef = option(
        default=None,
        doc="Contract that the content must keep; else its message is a dead letter.",
        example="inspection-result.v1",
    )
    max_size: Size = option(default=10_000_000, doc="A larger message becomes a dead letter.", example="1MB")

    def bind(self, context: SourceContext) -> RunningSource:
        from esb.endpoints._amqp.receive import AmqpReceiver  # noqa: PLC0415 - loads only where a route runs

        return AmqpReceiver(self, context)

    def check(self, node: Node, reader: Reader) -> None:
        _check_fixed("queue", self.queue, node, reader)
        if not self.queue:
            reader.problem("ESB102", "`queue` is empty", spot(node, "queue"), hint="name the queue to consume")


@connection("amqp")
@dataclass(frozen=True, slots=True)
class AmqpConnection:
    """A broker for AMQP 0-9-1, such as RabbitMQ, and how we show ourselves there.

    Connected when first used, and again for ever when the connection is lost; the bus also starts while the broker is down.
    Sending and receiving each have a connection of their own. Other transports of kombu (`redis://`, `sqs://`, `memory://`)
    work with less: none confirms what it took.
    """

    url: str | Secret = option(
        doc="Address of the broker: `amqp://host:port/vhost`, or `amqps://` for TLS.",
        example="amqps://broker.plant.example/quality",
        aliases=("uri", "host", "broker", "addresses", "base_url", "address"),
    )
    user: str = option(
        default="",
        doc="Who we are; `guest` where neither this nor the address says.",
        example="esb",
        aliases=("username", "userid", "login"),
    )
    password: Secret | None = option(default=None, doc="Its password.", example="${secret:plant-bus}")
    tls: HttpTls | None = option(default=None, doc="Certificates, with `amqps://`.")
    heartbeat: timedelta = option(
        default=timedelta(seconds=10),
        doc="A broker that is silent for twice as long counts as gone.",
        example="10s",
        aliases=("requestedHeartbeat",),
    )
    confirm_timeout: timedelta = option(
        default=timedelta(seconds=30),
        doc="Longest wait for the broker's confirm of a message; the step's `timeout` may be shorter.",
        example="10s",
        aliases=("confirmTimeout", "publisher_confirm_timeout"),
    )

    visibility_timeout: timedelta = option(
        default=timedelta(minutes=5),
        doc="With `redis://`, `rediss://` and `sqs://`: after this, what a consumer had in hand that is gone comes again.",
        example="1m",
        aliases=("visibilityTimeout",),
    )

    @property
    def address(self) -> str:
        return self.url.reveal() if isinstance(self.url, Secret) else self.url

    @property
    def scheme(self) -> str:
        return urlsplit(self.address).scheme

    def check(self, node: Node, reader: Reader) -> None:
        at = spot(node, "url")
        if self.heartbeat < timedelta(seconds=1):
            reader.problem("ESB106", "`heartbeat` must be at least 1s", spot(node, "heartbeat"), hint="write `10s`")
        if self.confirm_timeout <= timedelta(0):
            reader.problem("ESB106", "`confirm_timeout` must be more than 0s", spot(node, "confirm_timeout"))
        if self.visibility_timeout < timedelta(seconds=1):
            reader.problem("ESB106", "`visibility_timeout` must be at least 1s", spot(node, "visibility_timeout"))
        try:
            parts = urlsplit(self.address)
            has_host, password = bool(parts.hostname) and parts.port != 0, parts.password
        except ValueError:
            reader.problem("ESB103", "`url` is no address", at, hint="write it like `amqp://broker:5672/vhost`")
            return
        if password and not isinstance(self.url, Secret):
            hint = "write `user: …` and `password: ${secret:name}` beside it, or the whole `url: ${secret:name}`"
            reader.problem("ESB501", "`url` holds a password", at, label="value hidden", hint=hint)
            return
        self._check_scheme(parts.scheme, has_host, at, reader)
        if self.tls is not None and parts.scheme == "amqp":
            reader.problem("ESB107", "`tls` with a plain address", spot(node, "tls"), hint="write `amqps://` in `url`")

    def _check_scheme(self, scheme: str, has_host: bool, at: Node, reader: Reader) -> None:
        if scheme in _AMQP:
            if not has_host:
                reader.problem(
                    "ESB103", "`url` names no host", at, hint=f"write it like `{scheme}://broker:5672/vhost`"
                )
        elif scheme in VIRTUAL:
            words = f"`{scheme}://` gives less than AMQP: {VIRTUAL[scheme]}"
            reader.problem(
                "ESB605", words, at, severity="warning", hint="use `amqp://` where a message must not get lost"
            )
        elif loses := _LOSING.get(scheme.partition("+")[0]):
            words = f"`{scheme}://` {loses}, so a crash loses messages"
            reader.problem("ESB106", words, at, hint="use `amqp://`, or `from: { topic: … }` inside the bus")
        elif right := _OTHER_NAMES.get(scheme):
            reader.problem("ESB105", f"`{scheme}://` is no scheme here", at, hint=f"write `{right}://`")
        else:
            known = ", ".join(f"`{name}://`" for name in (*sorted(_AMQP), *VIRTUAL))
            words = f"`{scheme}://` is no scheme here" if scheme else "`url` has no scheme"
            reader.problem("ESB105", words, at, hint=f"known here: {known}")

    def check_beside(self, endpoint: Any, node: Node, reader: Reader) -> None:
        """What a source or a sink wants of a transport that cannot do it."""
        if self.scheme not in VIRTUAL:
            return
        hint = f"take it out, or use `amqp://`: `{self.scheme}://` does not do it"
        declare = getattr(endpoint, "declare", None)
        for name in ("priority", "expiration"):
            if getattr(endpoint, name, None) is not None:
                reader.problem(
                    "ESB605", f"`{name}` has no effect here", spot(node, name), severity="warning", hint=hint
                )
        if declare is not None and declare.arguments:
            words = "`arguments` of the queue have no effect here"
            reader.problem("ESB605", words, spot(spot(node, "declare"), "arguments"), severity="warning", hint=hint)
        if declare is not None and any(one.type == "headers" for one in declare.bind):
            words = "an exchange of type `headers` is not possible here"
            reader.problem("ESB107", words, spot(spot(node, "declare"), "bind"), hint=hint)

    async def open(self, context: ConnectionContext) -> LiveConnection:
        from esb.endpoints._amqp.live import open_amqp  # noqa: PLC0415 - the client library loads when it is used

        return open_amqp(self, context)


@sink("amqp")
@dataclass(frozen=True, slots=True)
class AmqpSink:
    """One persistent message per delivery, done when the broker has confirmed it.

    `message_id` is the delivery id, the same on every retry. A message that no queue takes is `rejected`; a refusal by the
    broker (`nack`), a lost connection and a missing exchange are `unavailable`, a confirm that does not come is `timeout`.
    """

    exchange: TextTemplate | None = option(
        default=None,
        doc="Exchange to publish to; without it the routing key is the name of a queue.",
        example="supplier.asn",
        aliases=("exchangeName", "topic"),
    )
    routing_key: TextTemplate | None = option(
        default=None,
        doc="Routing key, or the queue's name where there is no exchange.",
        example="asn.{{ site.plant }}",
        aliases=("routingKey", "key", "queue"),
    )
    headers: Mapping[str, TextTemplate] = option(
        default=EMPTY, doc="Application headers.", example="{ plant: '{{ body.plant }}' }"
    )
    body: Expression | None = option(
        default=None, doc="What is sent instead of the message's body.", example="body.order"
    )
    format: Annotated[Codec | None, CodecKind()] = option(
        default=None, doc="How the body is written; JSON by default, a text as it is.", example="xml"
    )
    type: TextTemplate | None = option(default=None, doc="The property `type`.", example="order.released")
    priority: int | None = option(
        default=None, doc="Priority, for classic queues that have them.", example=5, minimum=0, maximum=255
    )
    expiration: timedelta | None = option(
        default=None,
        doc="How long the message may wait in its queue before the broker drops it.",
        example="1h",
        aliases=("ttl", "x-message-ttl"),
    )
    mandatory: bool = option(
        default=True,
        doc="A message that no queue takes is `rejected`; `false` lets the broker drop it, as for events nobody need hear.",
        example=False,
    )
    persistent: bool = option(
        default=True,
        doc="The broker keeps it over its own restart; `false` for readings that may get lost.",
        example=False,
        aliases=("delivery_mode", "deliveryMode"),
    )

    def check(self, node: Node, reader: Reader) -> None:
        if self.exchange is None and self.routing_key is None:
            hint = "write `exchange: name`, or `routing_key: <queue>` for a queue"
            reader.problem("ESB102", "`amqp` needs `exchange` or `routing_key`", node, hint=hint)
        for name in self.headers:
            if not _HEADER.fullmatch(name) or name.lower().startswith(("esb-", "esb_", "x-death")):
                reader.problem("ESB103", f"`{name}` is no name for a header", spot(node, "headers"))

    def own_connection(self) -> None:
        """A broker is always a connector's."""
        return

    async def send(self, message: Message, delivery: Delivery, connection: Any) -> Reply:
        from esb.endpoints._amqp.send import send  # noqa: PLC0415 - the client library loads when it is used

        return await send(self, message, delivery, connection)

    def begin(
        self, message: Message, delivery: Delivery, connection: Any, answered: Answered
    ) -> Callable[[], None] | None:
        """See :class:`esb.endpoints.base.BeginsSink`."""
        begun: Callable[[], None] | None = None
        if connection is not None:
            begun = connection.begin(self, message, delivery, answered)
        return begun


def spot(node: Node, name: str) -> Node:
    """The value of one option, to point at it; the whole node where the option stands alone."""
    return (node.get(name) or node) if isinstance(node, MapNode) else node


def _check_fixed(name: str, text: str, node: Node, reader: Reader) -> None:
    if "{{" in text or "{%" in text:
        hint = "write the name out; one route for each queue"
        reader.problem("ESB103", f"`{name}` is a fixed name, not a template", spot(node, name), hint=hint)
    elif len(text.encode()) > 255:
        reader.problem("ESB106", f"`{name}` is longer than 255 bytes", spot(node, name))
