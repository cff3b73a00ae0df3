"""What a connector of ``type: amqp`` is while the bus runs: a link out and a link in, each made when it is first needed."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from esb.endpoints._amqp.consume import Consumer
from esb.endpoints._amqp.link import Address
from esb.endpoints._amqp.publish import Publisher
from esb.endpoints._amqp.send import begin
from esb.endpoints.base import Answered, ConnectionContext, Delivery
from esb.message import Message
from esb.trust import trusting

if TYPE_CHECKING:
    from esb.endpoints._amqp.virtual import Place
    from esb.endpoints.amqp import AmqpConnection, AmqpSink

Log = Callable[..., None]


class LiveAmqp:
    """A broker. Sending and receiving have a connection each: a broker in alarm stops reading from those that publish."""

    def __init__(self, options: AmqpConnection, context: ConnectionContext) -> None:
        self._options = options
        self._context = context
        self._name = context.name or "amqp"
        self._address = address_of(options, context) if options.scheme in ("amqp", "amqps") else None
        if self._address is None:
            from esb.endpoints._amqp.virtual import check_driver  # noqa: PLC0415 - kombu loads for its own transports only

            check_driver(options.scheme)
            self._place = place_of(options, context)

    @cached_property
    def confirm_timeout(self) -> float:
        return self._options.confirm_timeout.total_seconds()

    @cached_property
    def publisher(self) -> Any:
        if self._address is not None:
            return Publisher(self._address, self._context.log, self._name)
        from esb.endpoints._amqp.virtual import VirtualPublisher  # noqa: PLC0415 - as above

        return VirtualPublisher(self._place, self._context.log, self._name)

    @cached_property
    def consumer(self) -> Any:
        if self._address is not None:
            return Consumer(self._address, self._context.log, self._name)
        from esb.endpoints._amqp.virtual import VirtualConsumer  # noqa: PLC0415 - as above

        return VirtualConsumer(self._place, self._context.log, self._name)

    def begin(
        self, sink: AmqpSink, message: Message, delivery: Delivery, answered: Answered
    ) -> Callable[[], None] | None:
        """Send without a task; None where the transport has no confirms."""
        return begin(sink, message, delivery, self, answered) if self._address is not None else None

    async def close(self) -> None:
        for name in ("publisher", "consumer"):
            if name in self.__dict__:  # and they stay: whoever is late must not open a connection that nobody closes
                await self.__dict__[name].close()


def open_amqp(options: AmqpConnection, context: ConnectionContext) -> LiveAmqp:
    """Never waits for the broker: it may be down while the bus starts. Raises EsbError for certificates that do not load
    and for a transport whose library is missing."""
    return LiveAmqp(options, context)


def address_of(options: AmqpConnection, context: ConnectionContext) -> Address:
    parts = urlsplit(options.address)
    tls = _tls(options, context) if parts.scheme == "amqps" else None
    path = unquote(parts.path[1:]) if len(parts.path) > 1 else "/"
    password = options.password.reveal() if options.password is not None else unquote(parts.password or "guest")
    return Address(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or (5671 if parts.scheme == "amqps" else 5672),
        virtual_host=path,
        user=options.user or unquote(parts.username or "guest"),
        password=password,
        tls=tls,
        heartbeat=options.heartbeat.total_seconds(),
        name=f"esb {context.name}".strip(),
    )


def place_of(options: AmqpConnection, context: ConnectionContext) -> Place:
    """The same for kombu's other transports. Raises EsbError for certificates that do not load."""
    from esb.endpoints._amqp.virtual import Place  # noqa: PLC0415 - kombu loads for its own transports only

    return Place(
        options.address,
        options.user,
        options.password.reveal() if options.password is not None else "",
        _tls(options, context) if options.scheme == "rediss" else None,
        options.visibility_timeout.total_seconds(),
    )


def _tls(options: AmqpConnection, context: ConnectionContext) -> ssl.SSLContext:
    from esb.endpoints._http.client import client_tls  # noqa: PLC0415 - the HTTP client loads where TLS is used

    made = client_tls(options.tls, context.workspace)
    if options.tls is not None and options.tls.trust_all:
        context.log("warning", "amqp.trusts_every_certificate", connector=context.name)
    if isinstance(made, bool):
        return trusting()
    return made
