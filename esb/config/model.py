"""The workspace, read and compiled: what the runtime works from. Immutable; a reload makes a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from esb.config.alert_rules import Alert
from esb.config.expect import Expect
from esb.config.kpis import Kpi
from esb.config.listeners import AdminListener, Approval, HttpListener, Oidc, Tls
from esb.config.owners import Owner
from esb.config.sites import SitePlace, SiteSpec, TemplateSpec
from esb.config.stubs import Stub
from esb.durations import Rate
from esb.endpoints.cron import Cron
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
    window: timedelta = option(
        default=timedelta(days=7), doc="How long a key is remembered.", example="7d", positive=True
    )


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
    known: str = ""  #: the digest without the marks of secrets: the same in every process
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
    system: str = ""  #: whose changes it carries, where the bus has a matrix of owners
    targets: tuple[str, ...] = ()  #: names of the targets it sends to
    expect: Expect | None = None
    kpis: tuple[Kpi, ...] = ()  #: the indicators of its field `kpis`
    place: SitePlace | None = None  #: the site that it was made for, None for a route that was written out

    def site_values(self, bus: Mapping[str, Any]) -> Mapping[str, Any]:
        """What expressions of the route see as ``site``; ``bus`` are the values of esb.yaml."""
        return self.place.values if self.place is not None else bus

    def zone_name(self, bus: str) -> str:
        """The time zone of the route; ``bus`` is that of esb.yaml."""
        return self.place.timezone if self.place is not None else bus


# -- connectors ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Circuit:
    """Stop to ask a target that fails, and probe it once in a while."""

    failures: int = option(default=5, doc="Failures in a row that open the circuit.", example=5, minimum=1)
    open_for: timedelta = option(
        default=timedelta(seconds=30), doc="How long it stays open before one probe.", example="30s"
    )


@dataclass(frozen=True, slots=True)
class Maintenance:
    """A window in which a system is not asked."""

    cron: Cron = option(
        doc="When it begins, in the time zone of the bus.", example='"0 22 * * 6"', aliases=("at", "start")
    )
    for_: timedelta = option(doc="How long it lasts.", example="4h", aliases=("duration", "lasts"))

    def end(self, now: datetime, zone: ZoneInfo) -> datetime | None:
        """When the window that is open at ``now`` ends; None where none is."""
        begun = self.cron.after(now - self.for_, zone)
        return begun + self.for_ if begun is not None and begun <= now else None


@dataclass(frozen=True, slots=True)
class ConnectorSettings:
    """What every connector may say, whatever its type."""

    description: str = option(default="", doc="What the system is.")
    timeout: timedelta = option(
        default=timedelta(seconds=30), doc="Total time of one delivery.", example="10s", positive=True
    )
    concurrency: int = option(default=16, doc="Deliveries at the same time.", example=4, minimum=1, maximum=1000)
    rate: Rate | None = option(
        default=None,
        doc="Most deliveries per span; who has no turn within `timeout` waits in the store, and uses up no attempt.",
        example="50/s",
    )
    circuit: Circuit | None = option(
        default=None,
        doc="When to stop asking a target that fails; without it every message tries for itself.",
        example="{ failures: 5, open_for: 30s }",
    )
    maintenance: tuple[Maintenance, ...] = option(
        default=(),
        doc="Windows in which nothing is sent: messages wait in the store and use up no attempt.",
        example='[ { cron: "0 22 * * 6", for: 4h } ]',
    )
    writes: Mapping[str, tuple[str, ...]] = option(
        default=EMPTY,
        doc="Fields that operations change in the system, by operation; see `ownership` in esb.yaml.",
        example="{ hold: [lot.status] }",
    )
    stub: Mapping[str, tuple[Stub, ...]] = option(
        default=EMPTY,
        doc="Answers for route tests, by operation, where a test has none of its own.",
        example="{ goods-movement: { status: 201 } }",
    )


@dataclass(frozen=True, slots=True)
class Connector:
    """A named system. ``connection`` are the transport settings of its type; ``operations`` are sinks by name, and ``examples`` are
    those of operations that have some, by name.

    ``inbound`` are the credentials that this system shows when *it* calls the bus (``auth: <connector>`` on a source).
    """

    name: str
    type: str
    position: Position
    settings: ConnectorSettings
    connection: Any
    operations: Mapping[str, Any] = field(default=EMPTY)
    digest: str = ""
    timezone: str = ""  #: of its maintenance windows; that of the bus where it is empty
    examples: Mapping[str, Mapping[str, Any]] = field(default=EMPTY)


# -- esb.yaml -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds; at a limit the source is slowed or refused, nothing is dropped."""

    queue: int = option(default=100_000, doc="Open messages per route.", example=100_000, minimum=1)
    queue_bytes: Size = option(default=1_000_000_000, doc="Bytes of open messages per route.", example="1GB")
    drain: timedelta = option(default=timedelta(seconds=25), doc="Time for work in flight at a stop.", example="25s")
    step: timedelta = option(
        default=timedelta(seconds=60), doc="Longest time of a step without a timeout of its own.", example="60s"
    )
    inline: Size = option(
        default=50_000,
        doc="Largest payload that is read and transformed on the loop of the bus; a larger one is in a worker process.",
        example="50KB",
    )
    blob: Size = option(
        default=1_000_000,
        doc="Largest payload that is kept in the database of the store; a larger one is a file beside it.",
        example="1MB",
    )
    in_memory: Size = option(
        default=100_000_000,
        doc="Largest payload that is held in memory as a whole; a larger one can only be worked through piece by piece:"
        " by `split`, or by a `to` that writes it as it is. Beyond it the message is dead where something of its route needs the whole.",
        example="100MB",
    )
    workers: int = option(
        default=2,
        doc="Worker processes for large payloads and slow steps, started when needed; one route uses half of them.",
        example=2,
        minimum=1,
        maximum=64,
    )
    transform: timedelta = option(
        default=timedelta(seconds=5),
        doc="Longest time of a step that does not wait, and of reading a payload; beyond it the message is dead.",
        example="5s",
    )
    transform_memory: Size = option(
        default=512_000_000,
        doc="Memory that a worker process may take beside its start (Linux); beyond it the message is dead.",
        example="512MB",
    )


@dataclass(frozen=True, slots=True)
class Audit:
    """Where the audit is anchored outside of the store."""

    anchor: str = option(
        default="",
        doc="File to which the head of the audit is appended every minute and at the end; put it where those who can"
        " write the store cannot.",
        example="/mnt/audit/plant-graz.anchor",
    )
    key: Secret | None = option(
        default=None,
        doc="Signs each line of the anchor (HMAC-SHA256), so that none can be made up.",
        example="${secret:audit-key}",
    )


@dataclass(frozen=True, slots=True)
class Preset:
    """A criticality: what a route of this class gets unless it says otherwise."""

    retry: RetryPolicy = option(default=RetryPolicy(), doc="Retries.")
    within: timedelta | None = option(default=None, doc="Latency target.", example="5s")
    priority: Literal["low", "normal", "high"] = option(default="normal", doc="Who goes first when workers are short.")
    alert: str = option(default="", doc="Alert for dead letters.")
    ttl: timedelta | None = option(
        default=None, doc="A message older than this expires, also one that is held.", example="1d", positive=True
    )
    when_down: WhenDown | None = option(default=None, doc="What an outage means.")


@dataclass(frozen=True, slots=True)
class Traces:
    """Where the spans of messages go."""

    endpoint: str = option(
        default="",
        doc="URL of a collector that takes OTLP over HTTP; needs the extra `otel`. Without it no span is made.",
        example="http://127.0.0.1:4318/v1/traces",
    )
    headers: Mapping[str, Secret] = option(
        default=EMPTY, doc="Headers for it.", example="{ Authorization: '${secret:collector}' }"
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """``esb.yaml``."""

    bus: str = option(default="esb", doc="Name of this bus.", example="plant-graz")
    store: str | Secret = option(
        default="sqlite:///.esb/bus.db",
        doc="Where messages live: a file of this machine, or `postgresql+psycopg://USER:${secret:NAME}@HOST:PORT/DATABASE`, a schema of a"
        " PostgreSQL (`pip install 'plantbus[postgres]'`; `?schema=esb`, `sslmode` and the other words of its driver behind it).",
        example="sqlite:///.esb/bus.db",
    )
    http: HttpListener = option(default=HttpListener(), doc="Ingress of routes.")
    admin: AdminListener = option(default=AdminListener(), doc="API, metrics, health.")
    timezone: str = option(default="UTC", doc="Time zone of the plant.", example="Europe/Vienna")
    site: Mapping[str, Any] = option(
        default=EMPTY, doc="Values that expressions see as `site`.", example="{ plant: P10 }"
    )
    criticality: Mapping[str, Preset] = option(default=EMPTY, doc="Presets that a route names.")
    ownership: Mapping[str, Owner] = option(
        default=EMPTY,
        doc="Which system a field belongs to; `lot.*` is every field of a lot. A route that writes it for another is refused.",
        example="{ lot.status: erp, inspection.*: { system: qms, also: [lims] } }",
    )
    limits: Limits = option(default=Limits(), doc="Bounds.")
    retention: Mapping[str, Any] = option(
        default=EMPTY,
        doc="How long messages are kept (`done`, `dead`, `payload`: a duration, or `forever`), by criticality (`classes`), how large the store"
        " gets (`max_size`), and a folder to which messages are written before they go (`export`).",
        example="{ done: 30d, dead: 365d, classes: { release-blocking: { done: 730d } } }",
    )
    traces: Traces = option(default=Traces(), doc="Spans for OpenTelemetry; taken over at a start.")
    audit: Audit = option(default=Audit(), doc="The anchor of the audit.")
    policy: Mapping[str, Any] = option(
        default=EMPTY,
        doc="Lint rules of this bus: what every route must have (`require`), and what none may do (`forbid`); see ESB602 and ESB609.",
        example="{ require: [owner, criticality, key], forbid: [plain_http_out] }",
    )
    regulated: bool = option(
        default=False,
        doc="Actions of people on messages and routes need their password again, a reason and a meaning (21 CFR Part 11).",
        example=True,
    )
    approval: Approval = option(
        default=Approval(), doc="What needs a second person.", example="{ discard: 1, retry: 50 }"
    )
    alerts: Mapping[str, Any] = option(default=EMPTY, doc="Who hears of what.")
    secrets: str = option(default=".secrets", doc="Folder with one file per secret.", example="/run/secrets")
    keyring: str = option(
        default="",
        doc="Service under which the keyring of the operating system is asked for secrets that stand nowhere else;"
        " needs the extra `keyring`.",
        example="plant-graz",
    )


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
    texts: Mapping[str, str] = field(default=EMPTY)  #: of every file that it was read from, but for code
    marked: frozenset[str] = frozenset()  #: names of members of payloads that contracts mark as sensitive
    kpis: Mapping[str, Kpi] = field(default=EMPTY)
    alerts: tuple[Alert, ...] = ()
    sites: Mapping[str, SiteSpec] = field(default=EMPTY)
    templates: Mapping[str, TemplateSpec] = field(default=EMPTY)
    connector_params: Mapping[str, Mapping[str, Any]] = field(default=EMPTY)  #: JSON Schemas, by connector
    _subscribers: Mapping[str, list[RouteSpec]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        found: dict[str, list[RouteSpec]] = {}
        for _, route in sorted(self.routes.items()):
            if route.enabled and route.source.protocol == "topic":
                found.setdefault(route.source.options.topic, []).append(route)
        object.__setattr__(self, "_subscribers", found)

    def systems(self, spec: RouteSpec | None = None) -> dict[str, Connector]:
        """The connectors by the name that a route writes (without one, that any route here does): sites have their own."""
        found = dict(self.connectors)
        names = self.routes.keys() if spec is None else {spec.name}
        for site in self.sites.values():
            if not names.isdisjoint(site.routes):
                found.update({local: self.connectors[name] for local, name in site.connectors.items()})
        return found

    def subscribers(self, topic: str) -> Sequence[RouteSpec]:
        """The routes whose source is ``topic``, by name."""
        return self._subscribers.get(topic, ())


__all__ = [
    "AdminListener",
    "Approval",
    "Audit",
    "Circuit",
    "Connector",
    "ConnectorSettings",
    "Dedupe",
    "HttpListener",
    "Limits",
    "Oidc",
    "OnError",
    "Order",
    "Preset",
    "RouteSpec",
    "Settings",
    "SitePlace",
    "SourceSpec",
    "Tls",
    "Workspace",
]
