"""``site:`` documents: the templates that a plant uses, made into its routes, with its connectors, tables and language."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any

from esb.clock import Clock
from esb.config.assets import Tables
from esb.config.builders import Builders, Report
from esb.config.connectors import read_connector
from esb.config.expand import Expansion, deviations_of, merge
from esb.config.model import Connector, Preset, Settings, SitePlace
from esb.config.origin import Origin
from esb.config.reader import Level, WorkspaceReader
from esb.config.resources import Resources
from esb.config.routes import Made, RouteDoc, RouteReader, name_of
from esb.config.scope import Unfilled
from esb.config.settings import FORBIDDABLE, REQUIRABLE, check_alert, check_words, check_zone
from esb.config.site_assets import SiteAssets
from esb.config.sites import SiteOptions, SiteSpec, TemplateSpec, connector_name, route_name
from esb.config.steps import Frame, places_of
from esb.config.template_reader import Parametrised, Template
from esb.config.yaml import Document
from esb.errors import Position, Problem
from esb.language.numbers import is_locale
from esb.language.workspace import WorkspaceLanguage
from esb.spec import MISSING, ListNode, MapNode, Node, ScalarNode, options_of, read_options

_FIELDS = frozenset(spec.name for spec in options_of(SiteOptions))


@dataclass(slots=True)
class SiteReader:
    """Reads the sites of one workspace. ``shared`` are the resources of all of it; what sites make goes in there, too."""

    shared: Resources
    settings: Settings | None
    settings_node: Node | None
    templates: Mapping[str, Template]
    connectors: Mapping[str, Parametrised]
    clock: Clock
    include: Any
    guarded: Any  #: runs what may meet the workspace's own code
    report: Report
    broken: frozenset[str] = frozenset()  #: templates with faults
    names: dict[str, Position] = field(default_factory=dict)
    sites: dict[str, SiteSpec] = field(default_factory=dict)

    def read(self, document: Document, node: MapNode) -> tuple[list[RouteDoc], list[Problem]]:
        """The routes of a site, and every problem of it."""
        reader = WorkspaceReader(self.shared, where="site")
        level = Level("the site", _FIELDS, node.position, "site")
        with self.shared.levels.within(level):
            options = read_options(SiteOptions, node, reader)
        named = node.get("site")
        at = named.position if named is not None else node.position
        if options is not MISSING:
            self._check(options, node, at, reader)
        if options is MISSING or any(problem.severity == "error" for problem in reader.problems):
            return [], reader.problems
        return _Site(self, document, node, options, at, reader).make(), reader.problems

    def template_specs(self) -> Mapping[str, TemplateSpec]:
        """The templates as people see them."""
        return MappingProxyType({name: one.spec(self.connectors) for name, one in sorted(self.templates.items())})

    def _check(self, options: SiteOptions, node: MapNode, at: Position, reader: WorkspaceReader) -> None:
        name = options.site
        if not name.replace("-", "").isalnum() or not name.isascii() or name.strip("-") != name:
            reader.problem("ESB110", f"`{name}` is no name for a site", at, hint="use letters, digits and `-`: `P20`")
        other = self.names.setdefault(name.lower(), at)
        if other != at:
            hint = "give each site a name of its own; capitals do not count"
            related = ((other, "the other one"),)
            reader.problem(
                "ESB109", f"two sites are called `{name}`, the other one in {other}", at, hint=hint, related=related
            )
        check_zone(node.get("timezone"), reader)
        locale = node.get("locale")
        if locale is not None and options.locale is not None and not is_locale(options.locale):
            hint = "write it like `de-DE`, `en-US`, `fr-FR`, or `c` for 1234.56"
            reader.problem("ESB805", f"`{options.locale}` is no locale that `number` knows", locale, hint=hint)
        self._check_tables(node.get("tables"), reader)
        self._check_policies(node.get("policies"), reader)

    def _check_tables(self, tables: Node | None, reader: WorkspaceReader) -> None:
        for _, value in tables.entries if isinstance(tables, MapNode) else ():
            if isinstance(value, ScalarNode) and self.shared.assets.path("table", str(value.value)) is None:
                self.shared.assets.missing("table", str(value.value), value, reader)

    def _check_policies(self, policies: Node | None, reader: WorkspaceReader) -> None:
        if not isinstance(policies, MapNode):
            return
        check_words(policies.get("require"), "require", REQUIRABLE, reader)
        check_words(policies.get("forbid"), "forbid", FORBIDDABLE, reader)
        presets = policies.get("criticality")
        if self.settings is None or not isinstance(presets, MapNode):
            return
        known = self.settings.criticality
        for key, preset in presets.entries:
            if isinstance(preset, MapNode):
                check_alert(preset.get("alert"), self.settings.alerts, reader)
            if key.text not in known:
                hint = reader.nearest(key.text, known) or "declare it under `criticality:` in esb.yaml"
                reader.problem("ESB309", f"criticality `{key.text}` is not in esb.yaml", key, hint=hint)


class _Site:
    """One site while it is read."""

    def __init__(
        self,
        all_: SiteReader,
        document: Document,
        node: MapNode,
        options: SiteOptions,
        at: Position,
        reader: WorkspaceReader,
    ) -> None:
        self._all, self._document, self._node, self._options, self._at = all_, document, node, options, at
        self._reader = reader
        self.name = options.site
        self.whole = True
        settings = all_.settings or Settings()
        self._timezone = options.timezone or settings.timezone
        self._locale = options.locale or "c"
        self._values = self._values_of(settings)
        self._resources = self._make_resources()

    def _values_of(self, settings: Settings) -> Mapping[str, Any]:
        own = dict(self._options.values)
        own.setdefault("plant", self.name)
        fixed = {"id": self.name, "timezone": self._timezone, "locale": self._locale}
        return MappingProxyType({**settings.site, **own, **fixed})

    def _make_resources(self) -> Resources:
        shared = self._all.shared
        tables = Tables()
        language = WorkspaceLanguage(tables, self._timezone, self._all.clock, self._all.include, self._locale)
        builders = Builders(shared.assets.files, language, self._all.report)
        assets = SiteAssets(shared.assets, builders, self._options.tables, self._all.report)
        tables.bind(assets)
        made = Resources(shared.registry, language, assets)
        made.weave = shared.weave
        made.connectors = dict(shared.connectors)
        made.connector_nodes = dict(shared.connector_nodes)
        made.operation_names = dict(shared.operation_names)
        made.broken, made.places, made.functions = set(shared.broken), dict(shared.places), shared.functions
        made.site = self.name
        return made

    # -- the way ------------------------------------------------------------------------------------------------------
    def make(self) -> list[RouteDoc]:
        self._connectors()
        uses = list(self._uses())
        names = {}
        for template, expansion, _ in uses:
            for route in template.routes:
                names[name_of(route)] = self._name(route, expansion)[1]
        self._resources.route_names = MappingProxyType(names)
        self._check_overrides(names)
        routes = RouteReader(self._resources, self._settings(), self._settings_node())
        docs = [doc for use in uses for doc in self._routes(*use, routes)]
        self._keep(docs)
        return docs

    def _uses(self) -> Iterator[tuple[Template, Expansion, Origin]]:
        given = self._node.get("use")
        entries = given.items if isinstance(given, ListNode) else (given,) if given is not None else ()
        for entry in entries:
            named = entry.get("template") if isinstance(entry, MapNode) else entry
            if not isinstance(named, ScalarNode):
                continue
            name = str(named.value)
            template = self._all.templates.get(name)
            if template is None:
                self.whole = False
                if name not in self._all.broken:
                    known = [*self._all.templates, *self._all.broken]
                    hint = self._reader.nearest(name, known) or f"declare it: `template: {name}` in routes/{name}.yaml"
                    self._reader.problem(
                        "ESB313", f"template `{name}` does not exist", named, hint=hint, label="not declared",
                        related=self._meant(hint),
                    )  # fmt: skip
                continue
            template.users.append((self.name, named.position))
            params = entry.get("params") if isinstance(entry, MapNode) else None
            filled = template.params.fill(params if isinstance(params, MapNode) else None, named.position, self._reader)
            if filled is None:
                self.whole = False
                continue
            origin = Origin(f"template `{name}`", template.position, self.name, named.position)
            yield template, self._expansion(filled, origin), origin

    def _expansion(self, params: Mapping[str, Node], origin: Origin) -> Expansion:
        return Expansion(params, self._values, _Told(self._resources, self._reader, origin), origin.given)

    # -- connectors ---------------------------------------------------------------------------------------------------
    def _connectors(self) -> None:
        given = self._node.get("connectors")
        entries = given.entries if isinstance(given, MapNode) else ()
        wanted: dict[str, tuple[ScalarNode, str, MapNode | None]] = {}
        said = set()
        for key, value in entries:
            other, params = _other(value)
            name = other or key.text
            said.add(key.text)
            if name not in self._all.connectors:
                self._no_params(key, name, params, reader=self._reader)
            else:
                wanted[key.text] = (key, name, params)
        for name in self._all.connectors:
            if name not in said:
                wanted[name] = (ScalarNode(self._at, name, name), name, None)
        for local, (key, name, params) in wanted.items():
            self._connector(local, self._all.connectors[name], key, params)

    def _no_params(self, key: ScalarNode, name: str, params: MapNode | None, reader: WorkspaceReader) -> None:
        """A connector without parameters stands for itself, under another name if the site wants that."""
        if name in self._all.shared.broken:
            self._resources.broken.add(key.text)
            return
        connector = self._all.shared.connectors.get(name)
        if connector is None:
            hint = reader.nearest(name, [*self._all.connectors, *self._all.shared.connectors])
            reader.problem("ESB301", f"connector `{name}` does not exist", key, hint=hint, label="not declared")
        elif params is not None and params.entries:
            hint = f"declare them in {connector.position.path}: `params: {{ {params.entries[0][0].text}: … }}`"
            related = ((connector.position, "declared here"),)
            reader.problem("ESB314", f"connector `{name}` has no parameters", key, hint=hint, related=related)
        else:
            self._rename(key.text, name, connector)

    def _rename(self, local: str, name: str, connector: Connector) -> None:
        made, shared = self._resources, self._all.shared
        made.connectors[local], made.connector_nodes[local] = connector, shared.connector_nodes[name]
        for operation in connector.operations:
            made.operation_names[f"{local}.{operation}"] = shared.operation_names.get(
                f"{name}.{operation}", frozenset()
            )
            made.places[f"{local}.{operation}"] = shared.places.get(f"{name}.{operation}", connector.position)

    def _connector(self, local: str, declared: Parametrised, key: ScalarNode, params: MapNode | None) -> None:
        made = self._resources
        made.connectors.pop(local, None)
        mentioned = key.position != self._at
        if not mentioned and not declared.params.filled:
            missing = ", ".join(f"`{name}`" for name in declared.params.required)
            write = ", ".join(f"{name}: …" for name in declared.params.required)
            connectors = self._node.key("connectors")
            made.unfilled[local] = Unfilled(
                f"connector `{local}` needs {missing} of site {self.name}",
                f"add `{local}: {{ {write} }}` under `connectors:`",
                declared.params.position,
                connectors.position if connectors is not None else self._at,
            )
            return
        declared.users.append(self.name)
        filled = declared.params.fill(params, key.position, self._reader)
        if filled is None:
            made.broken.add(local)
            return
        origin = Origin(f"connector `{declared.name}`", declared.params.position, self.name, key.position)
        node = self._expansion(filled, origin).of(declared.node)
        reader = WorkspaceReader(made, where="connector")
        connector = self._all.guarded(partial(read_connector, node, made, reader))
        self._reader.problems.extend(origin.tell(reader.problems))
        if connector is None:
            made.broken.add(local)
            self._all.shared.broken.add(connector_name(declared.name, self.name))
            return
        named = replace(connector, name=connector_name(local, self.name), timezone=self._timezone)
        made.connectors[local], made.connector_nodes[local] = named, node
        if local != declared.name:
            for operation in connector.operations:
                read = made.operation_names.get(f"{declared.name}.{operation}", frozenset())
                made.operation_names[f"{local}.{operation}"] = read

    # -- routes -------------------------------------------------------------------------------------------------------
    def _name(self, route: MapNode, expansion: Expansion) -> tuple[ScalarNode, str]:
        given = route.get("route")
        assert isinstance(given, ScalarNode)
        base = str(given.value)
        if "{{" in base:
            found = expansion.text(given)
            return given, str(found.value) if isinstance(found, ScalarNode) else base
        return given, route_name(base, self.name)

    def _routes(
        self, template: Template, expansion: Expansion, origin: Origin, routes: RouteReader
    ) -> Iterator[RouteDoc]:
        for route in template.routes:
            node = expansion.of(route)
            given, name = self._name(route, expansion)
            over = self._override(name_of(route))
            deviations = tuple(deviations_of(node, over)) if over is not None else ()
            node = merge(node, over) if over is not None else node
            if not self._options.enabled:
                at = self._node.get("enabled") or given
                off = ScalarNode(at.position, False, "false")
                node = merge(node, MapNode(at.position, ((ScalarNode(at.position, "enabled", "enabled"), off),)))
            named = ScalarNode(given.position, name, name, given.quoted, True)
            entries = tuple((key, named if key.text == "route" else value) for key, value in node.entries)
            place = SitePlace(
                site=self.name,
                values=self._values,
                timezone=self._timezone,
                template=template.name,
                route=name_of(route),
                overrides=deviations,
            )
            policy = {"require": self._options.policies.require, "forbid": self._options.policies.forbid}
            made = Made(place, origin, self._document, policy)
            reader = WorkspaceReader(self._resources, where="route")
            read = partial(routes.read, template.document, MapNode(node.position, entries), reader, made)
            doc = self._all.guarded(read)
            self._reader.problems.extend(origin.tell(reader.problems))
            yield doc or replace(RouteDoc.unread(template.document, MapNode(node.position, entries)), made=made)

    def _override(self, base: str) -> MapNode | None:
        given = self._node.get("overrides")
        found = given.get(base) if isinstance(given, MapNode) else None
        return found if isinstance(found, MapNode) else None

    def _meant(self, hint: str) -> tuple[tuple[Position, str], ...]:
        """Where the template stands that a hint names."""
        found = self._all.templates.get(hint.removeprefix("did you mean `").removesuffix("`?"))
        return ((found.position, "declared here"),) if found is not None else ()

    def _check_overrides(self, names: Mapping[str, str]) -> None:
        given = self._node.get("overrides")
        for key, value in given.entries if isinstance(given, MapNode) else ():
            if key.text not in names:
                hint = self._reader.nearest(key.text, names) or "its templates have: " + ", ".join(sorted(names))
                if self.whole:
                    self._reader.problem("ESB318", f"no template of this site has a route `{key.text}`", key, hint=hint)
                continue
            if not isinstance(value, MapNode):
                self._reader.problem("ESB103", f"`{key.text}` holds fields of the route, not {value.what}", value)
                continue
            for word, _ in value.entries:
                if word.text == "route":
                    hint = 'name it in the template: `route: "hold-{{ params.line }}"`'
                    self._reader.problem("ESB318", "a site cannot rename a route", word, hint=hint)

    # -- settings -----------------------------------------------------------------------------------------------------
    def _settings(self) -> Settings | None:
        """The settings as the routes of this site see them: its presets, its time zone."""
        settings = self._all.settings
        if settings is None:
            return None
        node = self._settings_node()
        presets = dict(settings.criticality)
        listed = node.get("criticality")
        own = self._own_presets()
        for key, value in listed.entries if isinstance(listed, MapNode) and own is not None else ():
            if own is None or own.get(key.text) is None:
                continue
            reader = WorkspaceReader(self._resources, where=key.text)
            frame = Frame("preset", places_of(value))
            with self._resources.document(), self._resources.inside(frame):
                found = read_options(Preset, value, reader)
            self._reader.problems.extend(reader.problems)
            if found is not MISSING:
                presets[key.text] = found
        return replace(settings, criticality=MappingProxyType(presets), timezone=self._timezone)

    def _own_presets(self) -> MapNode | None:
        policies = self._node.get("policies")
        found = policies.get("criticality") if isinstance(policies, MapNode) else None
        return found if isinstance(found, MapNode) else None

    def _settings_node(self) -> MapNode:
        """What esb.yaml would say if it were for this site alone: it is a part of the version of its routes."""
        bus = self._all.settings_node
        presets = bus.get("criticality") if isinstance(bus, MapNode) else None
        own = self._own_presets()
        if own is not None:
            presets = merge(presets, own) if isinstance(presets, MapNode) else own
        entries = [(_key("site"), _node_of(self._values, self._at))]
        if presets is not None:
            entries.append((_key("criticality"), presets))
        return MapNode(self._at, tuple(entries))

    # -- the end ------------------------------------------------------------------------------------------------------
    def _keep(self, docs: Sequence[RouteDoc]) -> None:
        """Hand the site over, and of its connectors those that it names or uses."""
        used = {name for doc in docs for name in doc.scope.connectors}
        given = self._node.get("connectors")
        used |= set(given.keys()) if isinstance(given, MapNode) else set()
        shared, taken = self._all.shared, {}
        for local in sorted(used):
            connector = self._resources.connectors.get(local)
            if connector is None:
                continue
            taken[local] = connector.name
            if connector.name not in shared.connectors:
                shared.connectors[connector.name] = connector
                shared.connector_nodes[connector.name] = self._resources.connector_nodes[local]
                for operation in connector.operations:
                    read = self._resources.operation_names.get(f"{local}.{operation}", frozenset())
                    shared.operation_names[f"{connector.name}.{operation}"] = read
        routes = tuple(doc.name for doc in docs)
        self._all.sites[self.name] = SiteSpec(
            self.name, self._at, self._options, self._values, self._timezone, self._locale, taken, routes
        )


class _Told(WorkspaceReader):
    """A reader that tells another one of its problems, with where they come from."""

    def __init__(self, resources: Resources, told: WorkspaceReader, origin: Origin) -> None:
        super().__init__(resources)
        self._told, self._origin = told, origin

    def problem(self, *args: Any, **more: Any) -> Any:
        super().problem(*args, **more)
        self._told.problems.append(self._origin.told(self.problems[-1]))
        return MISSING


def _other(value: Node) -> tuple[str, MapNode | None]:
    """The connector that a site takes instead, if it says one, and the parameters."""
    if not isinstance(value, MapNode):
        return "", None
    if value.entries and set(value.keys()) <= {"connector", "params"}:
        named, params = value.get("connector"), value.get("params")
        name = str(named.value) if isinstance(named, ScalarNode) else ""
        if name or isinstance(params, MapNode):
            return name, params if isinstance(params, MapNode) else None
    return "", value


def _key(name: str) -> ScalarNode:
    return ScalarNode(Position(""), name, name)


def _node_of(value: Any, at: Position) -> Node:
    if isinstance(value, Mapping):
        return MapNode(at, tuple((_key(str(key)), _node_of(inner, at)) for key, inner in value.items()))
    if isinstance(value, (list, tuple)):
        return ListNode(at, tuple(_node_of(inner, at) for inner in value))
    return ScalarNode(at, value, str(value), isinstance(value, str))
