"""What a connector of ``type: mqtt`` is while the bus runs: a way out, and an address for the sessions of its sources."""

from __future__ import annotations

import ssl
import uuid
from functools import cached_property
from typing import TYPE_CHECKING

from paho.mqtt.enums import MQTTProtocolVersion

from esb.endpoints._mqtt.link import Address, Log
from esb.endpoints._mqtt.send import Publisher
from esb.endpoints.base import ConnectionContext
from esb.trust import trusting

if TYPE_CHECKING:
    from esb.endpoints.mqtt import MqttConnection


class LiveMqtt:
    """A broker. Everything that is sent shares one connection; each source has a session of its own."""

    def __init__(self, options: MqttConnection, context: ConnectionContext) -> None:
        self.name = context.name or "mqtt"
        self.log: Log = context.log
        self.address = _address_of(options, context)

    @cached_property
    def publisher(self) -> Publisher:
        return Publisher(self.address, f"esb-{uuid.uuid4().hex[:16]}", self.log, self.name)

    async def close(self) -> None:
        if "publisher" in self.__dict__:
            await self.publisher.close()


def open_mqtt(options: MqttConnection, context: ConnectionContext) -> LiveMqtt:
    """Never waits for the broker: it may be down while the bus starts. Raises EsbError for certificates that do not load."""
    return LiveMqtt(options, context)


def _address_of(options: MqttConnection, context: ConnectionContext) -> Address:
    host, port = options.where
    return Address(
        host=host,
        port=port,
        user=options.user,
        password=options.password.reveal() if options.password is not None else "",
        tls=_tls(options, context) if options.encrypted else None,
        version=MQTTProtocolVersion.MQTTv5 if options.version == "5" else MQTTProtocolVersion.MQTTv311,
        keepalive=int(options.keepalive.total_seconds()),
    )


def _tls(options: MqttConnection, context: ConnectionContext) -> ssl.SSLContext:
    from esb.endpoints._http.client import client_tls  # noqa: PLC0415 - the HTTP client loads where TLS is used

    made = client_tls(options.tls, context.workspace)
    if options.tls is not None and options.tls.trust_all:
        context.log("warning", "mqtt.trusts_every_certificate", connector=context.name)
    return trusting() if isinstance(made, bool) else made
