"""The workspace, read and compiled: what the runtime works from. Immutable; a reload makes a new one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from esb.durations import Rate
from esb.errors import Position, Problem
from esb.language import Expression, Language
from esb.message import EMPTY
from esb.registry import Registry
from esb.secret import Secret
from esb.spec import option
from esb.spec.kinds import Size
from esb.steps.base import Block, RetryPolicy, WhenDown

# -- the route ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dedupe:
    """One effect per key."""

    key: Expression = option(doc="What identifies a repeat.", example="body.inspection_id", shorthand=True)
    window: timedelta = option(default=timedelta(days=7), doc="How long a key is remembered.", example="7d")


@dataclass(frozen=True, slots=True)
class Order:
    """What a dead message means for the later ones of its key, and which messages need not wait."""

    on_dead: Literal["block", "skip"] = option(
        default="block",
        doc="`block` keeps later messages of the key held; `skip` goes on with the next.",
        example="block",
    )
    overtake: Expression | None = option(
        default=None,
        doc="Messages for which this is true go at once and supersede earlier unsent ones of their key.",
        example="body.kind == 'HOLD'",
    )


@dataclass(frozen=True, slots=True)
class OnError:
    """One entry of ``on_error``; the first whose ``for`` names the error class is taken."""

    for_: tuple[
        Literal["invalid", "unmapped", "rejected", "timeout", "unavailable", "exhausted", "expired", "internal", "any"],
        ...,
    ] = option(default=("any",), doc="Error classes this entry is for.", example="[exhausted, rejected]")
    dead_letter: str = option(default="", doc="Name of the dead letter group.", example="master-data")
    alert: str = option(default="", doc="Alert of esb.yaml to raise.", example="quality-oncall")
    steps: Block | None = option(
        default=None,
        doc="Steps to run instead; if they succeed the message is done (unless `dead_letter` is given, too).",
    )
    reply: Mapping[str, Any] | None = option(
        default=None, doc="Answer of a synchronous source: `status`, `body`.", example="{ status: 409 }"
    )


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """The one source of a route: its protocol, its options, and the connector whose connection it shares."""

    protocol: str
    options: Any
    connector: str
    position: Position


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """A route, compiled.

    ``digest`` identifies the version: it covers the document and everything it refers to (contracts, transforms, tables,
    connectors), so that a reload touches only what changed. ``files`` are those texts, for the record.
    ``blocks`` finds the steps of a child message by its scope. ``retry`` is already resolved from route and criticality.
    """

    name: str
    position: Position
    source: SourceSpec
    steps: Block
    digest: str
    description: str = ""
    owner: str = ""
    version: str = ""
    enabled: bool = True
    criticality: str = ""
    key: Expression | None = None
    dedupe: Dedupe | None = None
    track: Mapping[str, Expression] = field(default=EMPTY)
    on_error: tuple[OnError, ...] = ()
    order: Order = field(default=Order())
    retry: RetryPolicy = field(default=RetryPolicy())
    when_down: WhenDown = field(default=WhenDown())
    ttl: timedelta | None = None
    concurrency: int = (
        16  #: lanes worked on at once; the loader's default follows the priority (low 4, normal 16, high 64)
    )
    within: timedelta | None = None
    priority: Literal["low", "normal", "high"] = "normal"
    alert: str = ""
    blocks: Mapping[str, Block] = field(default=EMPTY)
    branch_when_down: Mapping[str, WhenDown] = field(default=EMPTY)  #: by scope, for fanout branches that say it
    files: Mapping[str, str] = field(default=EMPTY)
    topics: tuple[str, ...] = ()  #: topics it publishes to
    targets: tuple[str, ...] = ()  #: names of the targets it sends to


# -- connectors ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Circuit:
    """Stop to ask a target that fails, and probe it once in a while."""

    failures: int = option(default=5, doc="Failures in a row that open the circuit.", example=5, minimum=1)
    open_for: timedelta = option(
        default=timedelta(seconds=30), doc="How long it stays open before one probe.", example="30s"
    )


@dataclass(frozen=True, slots=True)
class ConnectorSettings:
    """What every connector may say, whatever its type."""

    description: str = option(default="", doc="What the system is.")
    timeout: timedelta = option(default=timedelta(seconds=30), doc="Total time of one delivery.", example="10s")
    concurrency: int = option(default=16, doc="Deliveries at the same time.", example=4, minimum=1, maximum=1000)
    rate: Rate | None = option(default=None, doc="Most deliveries per span.", example="50/s")
    circuit: Circuit | None = option(
        default=None,
        doc="When to stop asking a target that fails; without it every message tries for itself.",
        example="{ failures: 5, open_for: 30s }",
    )
    stub: Mapping[str, Any] = option(default=EMPTY, doc="Answers for tests, by operation.")


@dataclass(frozen=True, slots=True)
class Connector:
    """A named system. ``connection`` are the transport settings of its type; ``operations`` are sinks by name.

    ``inbound`` are the credentials that this system shows when *it* calls the bus (``auth: <connector>`` on a source).
    """

    name: str
    type: str
    position: Position
    settings: ConnectorSettings
    connection: Any
    operations: Mapping[str, Any] = field(default=EMPTY)
    digest: str = ""


# -- esb.yaml -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS of a listener; PEM files."""

    cert: str = option(doc="Certificate chain.", example="tls/bus.crt")
    key: str = option(doc="Private key.", example="tls/bus.key")
    client_ca: str | None = option(
        default=None, doc="Ask clients for a certificate of this authority.", example="tls/clients.crt"
    )


@dataclass(frozen=True, slots=True)
class HttpListener:
    """The ingress listener of routes."""

    host: str = option(default="127.0.0.1", doc="Address to listen on.", example="127.0.0.1")
    port: int = option(default=8080, doc="Port; 0 takes a free one.", example=8080, minimum=0, maximum=65535)
    max_body: Size = option(default=10_000_000, doc="Largest body that is taken.", example="10MB")
    tls: Tls | None = option(default=None, doc="Serve HTTPS.")


@dataclass(frozen=True, slots=True)
class AdminListener:
    """The listener of the API, metrics and health."""

    host: str = option(default="127.0.0.1", doc="Address to listen on.", example="127.0.0.1")
    port: int = option(default=8081, doc="Port; 0 takes a free one.", example=8081, minimum=0, maximum=65535)
    token: Secret | None = option(
        default=None,
        doc="Bearer token for callers other than the local command line; required off loopback.",
        example="${secret:admin-token}",
    )
    allow_hosts: tuple[str, ...] = option(
        default=(), doc="Host names under which the listener may be called, besides loopback."
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds; at a limit the source is slowed or refused, nothing is dropped."""

    queue: int = option(default=100_000, doc="Open messages per route.", example=100_000, minimum=1)
    queue_bytes: Size = option(default=1_000_000_000, doc="Bytes of open messages per route.", example="1GB")
    drain: timedelta = option(default=timedelta(seconds=25), doc="Time for work in flight at a stop.", example="25s")
    step: timedelta = option(
        default=timedelta(seconds=60), doc="Longest time of a step without a timeout of its own.", example="60s"
    )


@dataclass(frozen=True, slots=True)
class Preset:
    """A criticality: what a route of this class gets unless it says otherwise."""

    retry: RetryPolicy = option(default=RetryPolicy(), doc="Retries.")
    within: timedelta | None = option(default=None, doc="Latency target.", example="5s")
    priority: Literal["low", "normal", "high"] = option(default="normal", doc="Who goes first when workers are short.")
    alert: str = option(default="", doc="Alert for dead letters.")
    ttl: timedelta | None = option(default=None, doc="A message older than this expires.", example="1d")
    when_down: WhenDown | None = option(default=None, doc="What an outage means.")


@dataclass(frozen=True, slots=True)
class Settings:
    """``esb.yaml``."""

    bus: str = option(default="esb", doc="Name of this bus.", example="plant-graz")
    store: str = option(default="sqlite:///.esb/bus.db", doc="Where messages live.", example="sqlite:///.esb/bus.db")
    http: HttpListener = option(default=HttpListener(), doc="Ingress of routes.")
    admin: AdminListener = option(default=AdminListener(), doc="API, metrics, health.")
    timezone: str = option(default="UTC", doc="Time zone of the plant.", example="Europe/Vienna")
    site: Mapping[str, Any] = option(
        default=EMPTY, doc="Values that expressions see as `site`.", example="{ plant: P10 }"
    )
    criticality: Mapping[str, Preset] = option(default=EMPTY, doc="Presets that a route names.")
    limits: Limits = option(default=Limits(), doc="Bounds.")
    retention: Mapping[str, Any] = option(
        default=EMPTY, doc="How long messages are kept: a duration, or `forever`.", example="{ done: 30d, dead: 365d }"
    )
    policy: Mapping[str, Any] = option(
        default=EMPTY,
        doc="Lint rules of this bus: fields that every route must have, and what is not allowed.",
        example="{ require: [owner, criticality, key], forbid: [plain_http_out] }",
    )
    alerts: Mapping[str, Any] = option(default=EMPTY, doc="Who hears of what.")
    secrets: str = option(default=".secrets", doc="Folder with one file per secret.", example="/run/secrets")


@dataclass(frozen=True, slots=True)
class Workspace:
    """Everything that was read, compiled. ``problems`` are warnings; errors never make it here."""

    root: Path
    settings: Settings
    routes: Mapping[str, RouteSpec]
    connectors: Mapping[str, Connector]
    registry: Registry
    language: Language
    problems: tuple[Problem, ...] = ()

    def subscribers(self, topic: str) -> list[RouteSpec]:
        """The routes whose source is ``topic``, by name."""
        found = [
            r
            for r in self.routes.values()
            if r.enabled and r.source.protocol == "topic" and r.source.options.topic == topic
        ]
        return sorted(found, key=lambda route: route.name)


__all__ = [
    "AdminListener",
    "Circuit",
    "Connector",
    "ConnectorSettings",
    "Dedupe",
    "HttpListener",
    "Limits",
    "OnError",
    "Order",
    "Preset",
    "RouteSpec",
    "Settings",
    "SourceSpec",
    "Tls",
    "Workspace",
]
