"""The messages of a workspace as AsyncAPI 3: queues, topics and folders that routes read and write.

Channels are the places where messages lie, operations are the routes at them. Addresses that hold a secret are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from esb import __version__
from esb.config.model import Connector, RouteSpec, Workspace
from esb.config.routes import steps_of, targets_of, topics_of
from esb.language import TextTemplate
from esb.message import short_version
from esb.outline.openapi import version_of
from esb.outline.schemas import Schemas
from esb.secret import Secret

VERSION = "3.0.0"
#: Protocols whose endpoints are channels, and what of their options is the address.
ADDRESSES: dict[str, tuple[str, ...]] = {
    "amqp": ("queue", "exchange", "routing_key"),
    "mqtt": ("topics", "topic"),
    "file": ("path",),
    "sftp": ("path",),
    "topic": ("topic",),
}
_NO_ID = re.compile(r"[^A-Za-z0-9_-]+")
_FILLED = re.compile(r"\{\{(.*?)\}\}")


@dataclass(slots=True)
class _Document:
    """What is collected while routes are walked."""

    schemas: Schemas
    channels: dict[str, Any] = field(default_factory=dict)
    operations: dict[str, Any] = field(default_factory=dict)
    servers: dict[str, Any] = field(default_factory=dict)

    def add(
        self, spec: RouteSpec, action: str, protocol: str, address: str, connector: Connector | None, contract: Any
    ) -> None:
        """A route at a channel."""
        name = _id(connector.name if connector is not None else protocol, address)
        while self.channels.get(name, {}).get("title", f"{protocol} {address}") != f"{protocol} {address}":
            name += "-2"  # two addresses that differ in what no id may have
        plain, parameters = _parameters(address)
        channel = self.channels.setdefault(name, {"address": plain, "messages": {}})
        channel["title"] = f"{protocol} {address}"
        if parameters:
            channel["parameters"] = parameters
        if connector is not None:
            self._server(connector, protocol)
            channel["servers"] = [{"$ref": f"#/servers/{connector.name}"}]
        schema = self.schemas.refer(contract)
        message = _id(getattr(contract, "name", "") or spec.name)
        payload = {"payload": schema} if schema else {}
        channel["messages"].setdefault(message, {"name": message, **payload})
        self.operations[_id(spec.name, action, name)] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{name}"},
            "summary": spec.description or spec.name,
            "messages": [{"$ref": f"#/channels/{name}/messages/{message}"}],
            "tags": [{"name": spec.owner or "routes"}],
            "x-esb-route": spec.name,
            "x-esb-version": short_version(spec.digest),
        }

    def _server(self, connector: Connector, protocol: str) -> None:
        host, scheme = _host(connector)
        self.servers[connector.name] = {
            "host": host,
            "protocol": scheme or protocol,
            "description": connector.settings.description or f"The connector {connector.name}",
        }


def asyncapi(workspace: Workspace) -> dict[str, Any]:
    """The document for every enabled route that reads from or writes to a queue, topic or folder."""
    found = _Document(Schemas(workspace, "-"))
    specs = [spec for spec in workspace.routes.values() if spec.enabled]
    for spec in specs:
        for action, protocol, address, connector, contract in _places(spec):
            found.add(spec, action, protocol, address, workspace.connectors.get(connector), contract)
    document: dict[str, Any] = {
        "asyncapi": VERSION,
        "info": {
            "title": workspace.settings.bus,
            "version": version_of(specs),
            "description": f"The messages of {workspace.settings.bus}. Written by esb {__version__} from the routes that are live.",
        },
        "defaultContentType": "application/json",
        "channels": dict(sorted(found.channels.items())),
        "operations": dict(sorted(found.operations.items())),
    }
    if found.servers:
        document["servers"] = found.servers
    if found.schemas.components:
        document["components"] = {"schemas": found.schemas.components}
    return document


def _places(spec: RouteSpec) -> Iterator[tuple[str, str, str, str, Any]]:
    """Action, protocol, address, connector and contract of everything that a route reads and writes."""
    source = spec.source
    for address in _addresses(source.protocol, source.options):
        yield "receive", source.protocol, address, source.connector, getattr(source.options, "contract", None)
    for step in steps_of(spec.blocks):
        for topic in topics_of(step):
            yield "send", "topic", topic, "", None
        for target in targets_of(step):
            if target.protocol != "topic":
                for address in _addresses(target.protocol, target.sink):
                    yield "send", target.protocol, address, target.connector, None


def _addresses(protocol: str, options: Any) -> list[str]:
    """A source of several topics has several, an exchange with a routing key one."""
    values = [getattr(options, name, None) for name in ADDRESSES.get(protocol, ())]
    several = next((value for value in values if isinstance(value, tuple)), None)
    if several is not None:
        return [written(value) for value in several]
    parts = [written(value) for value in values if value]
    return ["/".join(parts)] if parts else []


def _parameters(address: str) -> tuple[str, dict[str, Any]]:
    """The address with `{name}` for each `{{ expression }}`, and what the names stand for."""
    found: dict[str, Any] = {}

    def name(match: re.Match[str]) -> str:
        words = match[1].strip()
        key = _id(words)[:60]
        found[key] = {"description": f"`{words}` of the message"}
        return "{" + key + "}"

    return _FILLED.sub(name, address), found


def written(value: Any) -> str:
    """A text as it stands in the file, templates included."""
    if isinstance(value, Secret):
        return "***"
    return str(value.text) if isinstance(value, TextTemplate) or hasattr(value, "text") else str(value)


def _host(connector: Connector) -> tuple[str, str]:
    """Host and protocol of a system; a name that leads nowhere where the address is a secret."""
    options = connector.connection
    url = getattr(options, "url", "") or ""
    if isinstance(url, str) and url:
        parts = urlsplit(url)
        return (parts.hostname or connector.name) + (f":{parts.port}" if parts.port else ""), parts.scheme
    host = getattr(options, "host", "")
    port = getattr(options, "port", 0)
    return (f"{host}:{port}" if port else str(host)) if isinstance(
        host, str
    ) and host else f"{connector.name}.invalid", ""


def _id(*parts: str) -> str:
    return _NO_ID.sub("-", "-".join(parts)).strip("-") or "root"
