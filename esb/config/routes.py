"""A route document: from its node to a compiled :class:`~esb.config.model.RouteSpec`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from esb.config.connectors import kebab
from esb.config.derived import branches_of, marking, undo_of
from esb.config.digest import canonical, digest, secrets_mark
from esb.config.expect import Expect
from esb.config.kpis import Kpi, KpiOptions, kpis_of_route
from esb.config.model import Dedupe, OnError, Order, Preset, RouteSpec, Settings, SitePlace, SourceSpec
from esb.config.origin import Origin
from esb.config.owners import system_of
from esb.config.reader import Level, WorkspaceReader
from esb.config.resources import Resources
from esb.config.scope import Scope
from esb.config.settings import check_alert, preset_text
from esb.config.sites import route_name
from esb.config.steps import Frame, merge_retry, places_of
from esb.config.yaml import Document
from esb.errors import Position, Problem
from esb.language import Expression, TextTemplate
from esb.message import EMPTY
from esb.spec import (
    MISSING,
    Kind,
    ListNode,
    MapNode,
    Node,
    Reader,
    ScalarNode,
    option,
    options_of,
    read_options,
)
from esb.spec.nodes import scalars
from esb.spec.parts import parts
from esb.steps.base import Block, OnTimeout, RetryPolicy, StepNode, Target, WhenDown

_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_XREF = re.compile(r"\bxref\(\s*(?:['\"`]+([^'\"`]+)|)")
#: lanes worked on at once where a route does not say it
_LANES = {"low": 4, "normal": 16, "high": 64}


class SourceKind(Kind):
    """``from``: one source with its options."""

    label = "one source with its options"

    def read(self, node: Node, reader: Reader) -> Any:
        return reader.resources.source(node, reader)

    def schema(self) -> dict[str, Any]:
        return {"$ref": "#/$defs/source"}


@dataclass(frozen=True, slots=True)
class RouteOptions:
    """A route: where messages come from, what is done with them, and what is promised about them."""

    route: str = option(
        doc="Name of the route: small letters, digits and `-`, unique in the workspace.", example="qms-hold"
    )
    description: str = option(default="", doc="What the route is for.", example="Blocks a lot in the ERP.")
    owner: str = option(default="", doc="Who answers for it.", example="quality-it")
    version: str = option(default="", doc="A version of your own, shown beside the bus's.", example="'1.4'")
    enabled: bool = option(
        default=True, doc="`false` takes nothing in, not by `esb send` either, and drains what is there.", example=True
    )
    system: str = option(
        default="", doc="The system whose changes it carries, where its source does not tell.", example="qms"
    )
    criticality: str = option(
        default="", doc="A preset of esb.yaml: retry, latency target, priority, alert.", example="release-blocking"
    )
    key: Expression | None = option(
        default=None, doc="Messages with the same key keep their order.", example="body.lot.id"
    )
    dedupe: Dedupe | None = option(
        default=None, doc="What identifies a repeat; it has one effect.", example="body.inspection_id"
    )
    track: Mapping[str, Expression] = option(
        default=EMPTY, doc="Business keys by which messages are found.", example="{ lot: body.lot.id }"
    )
    from_: Annotated[SourceSpec, SourceKind()] = option(
        doc="Where messages come from: exactly one source.", example="{ http: { path: /qms/inspections } }"
    )
    steps: Block = option(doc="What is done with a message, in order.", example="[ { to: erp.usage-decision } ]")
    on_error: tuple[OnError, ...] = option(
        default=(), doc="What becomes of messages that fail for good; the first entry that fits is taken."
    )
    order: Order | None = option(default=None, doc="What a dead message means for later ones of its key.")
    retry: RetryPolicy | None = option(
        default=None,
        doc="Retries; what it leaves out comes from the criticality.",
        example="{ max: 8, backoff: 2s..5m }",
    )
    when_down: WhenDown | None = option(default=None, doc="What an outage of a target means.", example="queue")
    ttl: timedelta | None = option(
        default=None, doc="A message older than this expires, also one that is held.", example="1d", positive=True
    )
    concurrency: int | None = option(
        default=None,
        doc="Lanes worked on at once; 16, or by priority 4 (low) and 64 (high).",
        example=16,
        minimum=1,
        maximum=1000,
    )
    within: timedelta | None = option(default=None, doc="Latency target.", example="5s")
    priority: Literal["low", "normal", "high"] | None = option(
        default=None, doc="Who goes first when workers are short.", example="high"
    )
    expect: Expect | None = option(
        default=None,
        doc="When messages should have come: a window in which too few did raises an alert.",
        example="{ by: '06:00', days: mon-fri }",
    )
    alert: str | None = option(default=None, doc="Alert of esb.yaml for dead letters.", example="quality-oncall")
    kpis: Mapping[str, KpiOptions] = option(
        default=EMPTY,
        doc="Indicators over the messages of this route, by name; see [KPIs](kpis.md).",
        example="{ hold-in-time: { start: accepted, end: done, by: decision, within: 5s } }",
    )


FIELDS = frozenset(spec.name for spec in options_of(RouteOptions))


@dataclass(frozen=True, slots=True)
class Made:
    """How a route came out of a template: its place, whom to tell of problems, and what else is its source."""

    place: SitePlace
    origin: Origin
    site: Document
    policy: Mapping[str, Any]  #: `require` and `forbid` of the site


@dataclass(frozen=True, slots=True)
class RouteDoc:
    """A route as it was read: its document, and the compiled route where it has no faults."""

    name: str
    document: Document
    node: MapNode
    spec: RouteSpec | None
    scope: Scope
    made: Made | None = None  #: how a template made it

    def tell(self, problems: Iterable[Problem]) -> Iterator[Problem]:
        """Problems of the route with the places that they have."""
        return map(self.told, problems)

    def told(self, problem: Problem) -> Problem:
        """One problem of the route with the places that it has."""
        return self.made.origin.told(problem) if self.made is not None else problem

    def places(self, at: Position, words: str) -> tuple[tuple[Position, str], ...]:
        """How another problem names a place of this route: in the template, and in the site that uses it."""
        if self.made is None:
            return ((at, words),)
        return ((self.made.origin.used, f"{words}, of site {self.made.place.site}"),)

    @classmethod
    def unread(cls, document: Document, node: MapNode) -> Self:
        """A route that could not be read at all."""
        return cls(name_of(node), document, node, None, Scope())


def name_of(node: MapNode) -> str:
    """What a route is called where it is written, empty where it has no name."""
    given = node.get("route")
    return str(given.value) if isinstance(given, ScalarNode) and given.value is not None else ""


class RouteReader:
    """Reads route documents of one workspace. ``settings`` is None where ``esb.yaml`` has faults."""

    def __init__(self, resources: Resources, settings: Settings | None, settings_node: Node | None) -> None:
        self._resources = resources
        self._settings = settings
        self._settings_node = settings_node

    def read(self, document: Document, node: MapNode, reader: WorkspaceReader, made: Made | None = None) -> RouteDoc:
        """The route; its problems go to ``reader``. ``made`` where a template made it."""
        resources = self._resources
        before = len(reader.problems)
        level = Level("the route", FIELDS, node.position, "from", self._inside(node))
        with resources.document() as scope, resources.levels.within(level):
            preset = self._preset(node, reader)
            resources.base_retry = self._base_retry(node, preset)
            with resources.inside(Frame("", places_of(node))), reader.inside("route"):
                options = read_options(RouteOptions, node, reader)
            self._name(node, reader)
            self._alerts(node, reader)
            base_retry = resources.base_retry
        errors = any(problem.severity == "error" for problem in reader.problems[before:])
        name = name_of(node)
        if options is MISSING or errors or preset is MISSING:
            return RouteDoc(name, document, node, None, scope, made)
        spec = self._spec(options, preset, base_retry, document, node, scope, made)
        return RouteDoc(name, document, node, spec, scope, made)

    # -- parts --------------------------------------------------------------------------------------------------------
    def _inside(self, node: MapNode) -> dict[str, str]:
        """The keys of the route's source, for those who wrote one of them beside ``from``."""
        given = node.get("from")
        if not isinstance(given, MapNode) or not given.entries:
            return {}
        name = given.entries[0][0].text
        component = self._resources.registry.get("source", name)
        return {spec.name: f"from: {name}" for spec in options_of(component.cls)} if component else {}

    def _name(self, node: MapNode, reader: Reader) -> None:
        given = node.get("route")
        if isinstance(given, ScalarNode) and isinstance(given.value, str) and not _NAME.fullmatch(given.value):
            reader.problem(
                "ESB110",
                f"`{given.value}` is no name for a route",
                given,
                hint=f"use small letters, digits and `-`: `{kebab(given.value)}`",
            )

    def _preset(self, node: MapNode, reader: Reader) -> Preset | Any:
        given = node.get("criticality")
        if not isinstance(given, ScalarNode) or not isinstance(given.value, str) or self._settings is None:
            return None
        presets = self._settings.criticality
        if given.value in presets:
            return presets[given.value]
        return reader.problem(
            "ESB309",
            f"criticality `{given.value}` is not in esb.yaml",
            given,
            label="not declared",
            hint=reader.nearest(given.value, presets) or "declare it under `criticality:` in esb.yaml",
        )

    def _alerts(self, node: MapNode, reader: Reader) -> None:
        if self._settings is None:
            return
        entries = node.get("on_error")
        expect = node.get("expect")
        places = [node.get("alert"), expect.get("alert") if isinstance(expect, MapNode) else None]
        listed = entries.items if isinstance(entries, ListNode) else (entries,)
        places.extend(entry.get("alert") for entry in listed if isinstance(entry, MapNode))
        for given in places:
            check_alert(given, self._settings.alerts, reader)

    def _base_retry(self, node: MapNode, preset: Preset | None) -> RetryPolicy:
        """What steps fall back to: the route's own retry over the criticality's over the default."""
        base = preset.retry if preset else RetryPolicy()
        given = node.get("retry")
        if given is None:
            return base
        silent = WorkspaceReader(self._resources)  # the route itself reports what is wrong with it
        own = read_options(RetryPolicy, given, silent)
        return base if own is MISSING or own is None else merge_retry(base, own, given)

    def _spec(
        self,
        options: RouteOptions,
        preset: Preset | None,
        retry: RetryPolicy,
        document: Document,
        node: MapNode,
        scope: Scope,
        made: Made | None = None,
    ) -> RouteSpec:
        preset = preset or Preset()
        priority = options.priority or preset.priority
        files = self._files(document, scope, node if made is not None else None)
        system = self._system(options, node)
        version, known = self._digest(node, options, files, scope, system)
        if made is not None:  # of its own it has the site's document; the file of the template is one among others
            files[document.path] = self._resources.assets.files.text(document.path) or document.text
            files = _with_site(made.site, files)
        steps = list(steps_of(scope.blocks))
        name_node = node.get("route")
        assert name_node is not None
        scope.blocks.update(undo_of(steps, name_node.position))
        return RouteSpec(
            name=options.route,
            position=name_node.position,
            source=marking(options.from_, options.steps),
            steps=options.steps,
            digest=version,
            known=known,
            description=options.description,
            owner=options.owner,
            version=options.version,
            enabled=options.enabled,
            criticality=options.criticality,
            key=options.key,
            dedupe=options.dedupe,
            track=options.track,
            on_error=options.on_error,
            order=options.order or Order(),
            retry=retry,
            when_down=options.when_down or preset.when_down or WhenDown(),
            ttl=options.ttl or preset.ttl,
            concurrency=options.concurrency or _LANES[priority],
            within=options.within or preset.within,
            priority=priority,
            alert=options.alert if options.alert is not None else preset.alert,
            expect=options.expect,
            blocks=MappingProxyType(dict(scope.blocks)),
            branch_when_down=MappingProxyType(dict(branches_of(steps))),
            files=MappingProxyType(files),
            system=system,
            topics=tuple(sorted({topic for step in steps for topic in topics_of(step)})),
            targets=tuple(sorted({target.name for step in steps for target in targets_of(step)})),
            kpis=tuple(self._kpis(options, document, node, made)),
            place=dataclasses.replace(made.place, node=node) if made is not None else None,
        )

    def _system(self, options: RouteOptions, node: MapNode) -> str:
        """Whose changes the route carries; nobody asks where the bus has no matrix of owners."""
        if self._settings is None or not self._settings.ownership:
            return ""
        return system_of(options.system, options.from_.protocol, options.from_.connector, node)

    @staticmethod
    def _kpis(options: RouteOptions, document: Document, node: MapNode, made: Made | None) -> Iterator[Kpi]:
        """The indicators of the route; those of a template are called after the site, as its routes are."""
        for kpi in kpis_of_route(options.route, options.kpis, node.get("kpis"), document.text):
            yield dataclasses.replace(kpi, name=route_name(kpi.name, made.place.site)) if made is not None else kpi

    def _files(self, document: Document, scope: Scope, expanded: MapNode | None = None) -> dict[str, str]:
        """The texts that make this version: the document itself and every file it refers to."""
        assets = self._resources.assets
        used = set(scope.used)
        for name in scope.connectors:
            used.add(self._resources.connectors[name].position.path)
        own = [document.text] if expanded is None else [str(scalar.value) for scalar in scalars(expanded)]
        texts = [*own, *(assets.files.text(path) or "" for path in used)]
        for text in texts:
            for found in _XREF.finditer(text):
                used.update(assets.table_paths(found[1]))
        files = {document.path: document.text}
        files.update((path, assets.files.text(path) or "") for path in sorted(used))
        return files

    def _digest(
        self, node: MapNode, options: RouteOptions, files: Mapping[str, str], scope: Scope, system: str
    ) -> tuple[str, str]:
        """The version, and the version without its secrets, which is the same in every process."""
        settings = self._settings or Settings()
        site = self._settings_node.get("site") if isinstance(self._settings_node, MapNode) else None
        connectors = {self._resources.connectors[name].position.path for name in scope.connectors}
        parts = [canonical(node), preset_text(self._settings_node, options.criticality), settings.timezone]
        parts += [canonical(site) if site is not None else "", *([system] if system else [])]
        for path in list(files)[1:]:
            if path not in connectors:
                parts.extend((path, files[path]))
        parts.extend(canonical(self._resources.connector_nodes[name]) for name in sorted(scope.connectors))
        known = digest(parts)
        marks = list(self._secrets(node, scope))
        return digest([*parts, *marks]) if marks else known, known

    def _secrets(self, node: MapNode, scope: Scope) -> Iterator[str]:
        """Marks of the secrets that are compiled into the route; what a connection shows is the connector's own."""
        nodes: list[Node | None] = [node]
        for name in sorted(scope.connectors):
            connector = self._resources.connector_nodes[name]
            nodes += [connector.get("inbound"), connector.get("operations")]
        yield from filter(None, (secrets_mark(part) for part in nodes if part is not None))


def _with_site(site: Document, files: Mapping[str, str]) -> dict[str, str]:
    """The site first: it is the document that a route of a template has for itself."""
    beside = files.get(site.path)
    text = site.text if beside is None else f"{site.text}---\n{beside}"
    return {site.path: text, **{path: other for path, other in files.items() if path != site.path}}


# -- walking compiled steps -----------------------------------------------------------------------------------------------


def steps_of(blocks: Mapping[str, Block]) -> Iterator[StepNode]:
    """Every step of a route, nested ones included."""
    for block in blocks.values():
        yield from block.nodes


def parts_of(value: Any, wanted: type | tuple[type, ...]) -> list[Any]:
    """Every value of a type inside the options of a step; nested lists of steps are left out."""
    return parts(value, wanted, (Block, StepNode, Expression, TextTemplate))


def targets_of(step: StepNode) -> list[Target]:
    """Where a step sends or asks, what asks after a timeout included."""
    return [*parts_of(step.step, Target), *(policy.verify for policy in questions_of(step))]


def questions_of(step: StepNode) -> list[OnTimeout]:
    """What asks the targets of a step after a timeout: beside it, else what the `verify` of each says."""
    if step.on_timeout is not None:
        return [step.on_timeout]
    if step.kind not in ("to", "tap"):  # the others ask only: what they do may be done twice
        return []
    return [target.on_timeout for target in parts_of(step.step, Target) if target.on_timeout is not None]


def topics_of(step: StepNode) -> list[str]:
    """The topics that a step publishes to, as far as they are fixed."""
    found = []
    if step.kind == "publish":
        found.append(fixed_text(getattr(step.step, "topic", None)))
    found += [
        fixed_text(getattr(target.sink, "topic", None)) for target in targets_of(step) if target.protocol == "topic"
    ]
    return [topic for topic in found if topic]


def fixed_text(value: Any) -> str:
    """A text that is the same for every message, else empty."""
    if isinstance(value, TextTemplate):
        return value.render({}) if value.constant else ""
    return value if isinstance(value, str) else ""
