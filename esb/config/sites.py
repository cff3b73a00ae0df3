"""``template:`` and ``site:`` documents: what may be written in them, and what is known of them once they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from esb.errors import Position
from esb.message import EMPTY
from esb.spec import Kind, MapNode, Node, Reader, option, to_plain
from esb.spec.kinds import AnyKind


class RawKind(Kind):
    """A mapping that another reader reads: its place is kept in the node, its words are checked later."""

    label = "a mapping"

    def __init__(self, schema: Mapping[str, Any] = EMPTY) -> None:
        self._schema = dict(schema) or {"type": "object"}

    def read(self, node: Node, reader: Reader) -> Any:
        return to_plain(node) if isinstance(node, MapNode) else reader.wrong_type(node, self)

    def schema(self) -> dict[str, Any]:
        return dict(self._schema)


class RoutesKind(AnyKind):
    label = "a list of routes"

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": {"$ref": "#/$defs/route"}}


Raw = Annotated[Mapping[str, Any], RawKind()]
Overrides = Annotated[Mapping[str, Any], RawKind({"type": "object", "additionalProperties": {"type": "object"}})]


@dataclass(frozen=True, slots=True)
class TemplateOptions:
    """Routes that several plants have in common. What differs is written `{{ params.x }}`."""

    template: str = option(doc="Name of the template: small letters, digits and `-`.", example="hold-sync")
    description: str = option(default="", doc="What its routes are for.", example="Blocks a lot in every system.")
    params: Raw = option(
        default=EMPTY,
        doc="What a site must fill in: a JSON Schema by parameter (without `default` it is required), or one whole JSON"
        " Schema of an object.",
        example="{ werks: { type: string, pattern: '^[0-9]{4}$' } }",
    )
    routes: Annotated[Any, RoutesKind()] = option(
        default=(),
        doc="The routes, each as in a document of its own; the fields of a single route may stand here instead.",
    )


@dataclass(frozen=True, slots=True)
class Use:
    """One template that a site uses, and what it fills in."""

    template: str = option(doc="Name of the template.", example="hold-sync", shorthand=True)
    params: Raw = option(default=EMPTY, doc="Its parameters.", example="{ werks: '2000' }")


@dataclass(frozen=True, slots=True)
class SitePolicies:
    """What the site asks of its routes beyond esb.yaml."""

    require: tuple[str, ...] = option(default=(), doc="Fields that its routes must have, too.", example="[description]")
    forbid: tuple[str, ...] = option(default=(), doc="What its routes may not do, too.", example="[plain_http_out]")
    criticality: Raw = option(
        default=EMPTY,
        doc="Parts of the presets of esb.yaml that are different here: retry, latency target, alert, `when_down`.",
        example="{ release-blocking: { within: 15s, alert: quality-plant-20 } }",
    )


@dataclass(frozen=True, slots=True)
class SiteOptions:
    """A plant: the templates that it uses, and all that is different there."""

    site: str = option(doc="Name of the site; expressions see it as `site.id`.", example="P20")
    description: str = option(default="", doc="Which plant it is.", example="Moulding plant in Ohio.")
    enabled: bool = option(
        default=True, doc="`false` takes nothing in at any of its routes, and drains what is there.", example=True
    )
    use: tuple[Use, ...] = option(
        default=(),
        doc="The templates, with their parameters.",
        example="[ { template: hold-sync, params: { werks: '2000' } } ]",
    )
    values: Raw = option(
        default=EMPTY,
        doc="What expressions of its routes see as `site.*`, over the values of esb.yaml; `id`, `plant` (the name of the site"
        " without one), `timezone` and `locale` are always there.",
        example="{ plant: P20, werks: '2000' }",
    )
    connectors: Overrides = option(
        default=EMPTY,
        doc="Parameters by connector. `{ connector: other, params: … }` takes another connector under this name.",
        example="{ erp: { base_url: 'https://erp20.example', client: '200' } }",
    )
    timezone: str | None = option(
        default=None, doc="Time zone of the plant; that of esb.yaml without it.", example="America/New_York"
    )
    locale: str | None = option(
        default=None, doc="How numbers are written there: the default of `number(text)`.", example="en-US"
    )
    tables: Mapping[str, str] = option(
        default=EMPTY,
        doc="Cross-reference tables of its own: the name that templates use, and the table that is taken here.",
        example="{ defect-codes: defect-codes-p20 }",
    )
    policies: SitePolicies = option(default=SitePolicies(), doc="What the site asks of its routes beyond esb.yaml.")
    overrides: Overrides = option(
        default=EMPTY,
        doc="Fields of single routes that are different here, by the name that the route has in its template. Mappings are"
        " merged, everything else is replaced. `esb sites drift` lists them.",
        example="{ hold-sync: { within: 30s } }",
    )


@dataclass(frozen=True, slots=True)
class Deviation:
    """One value of a route that a site says otherwise than its template; None where it has none."""

    field: str
    template: Any
    site: Any
    position: Position


@dataclass(frozen=True, slots=True)
class SitePlace:
    """What a route that a template made for a site knows of both."""

    site: str
    values: Mapping[str, Any]
    timezone: str
    template: str
    route: str  #: its name in the template
    overrides: tuple[Deviation, ...] = ()  #: what the site says otherwise
    node: Node | None = field(default=None, repr=False, compare=False)  #: the route with everything filled in


@dataclass(frozen=True, slots=True)
class TemplateSpec:
    """A template that was read: its parameters as a JSON Schema, and the names of its routes."""

    name: str
    position: Position
    description: str
    schema: Mapping[str, Any]
    routes: tuple[str, ...]
    #: connectors with parameters that its routes name
    connectors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SiteSpec:
    """A site that was read, as people look at it; secrets in it stay :class:`~esb.secret.Secret`."""

    name: str
    position: Position
    options: SiteOptions
    values: Mapping[str, Any]
    timezone: str
    locale: str
    #: by the name in templates: the connector that the site has made of it
    connectors: Mapping[str, str] = field(default=EMPTY)
    routes: tuple[str, ...] = ()


def route_name(base: str, site: str) -> str:
    """What a route of a template is called at a site, unless the template names it itself."""
    return f"{base}-{site.lower()}"


def connector_name(base: str, site: str) -> str:
    """What a connector with parameters is called at a site: no declared connector can have this name."""
    return f"{base}@{site}"
