"""``template:`` documents, and connectors with ``params:``: what is declared once and made for each site."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from esb.config.connectors import NAME, kebab
from esb.config.expand import Expansion, params_read
from esb.config.params import Params
from esb.config.reader import Level, WorkspaceReader
from esb.config.resources import Resources
from esb.config.routes import FIELDS, name_of
from esb.config.scope import Unfilled
from esb.config.sites import TemplateOptions, TemplateSpec
from esb.config.yaml import Document
from esb.errors import Position, Problem
from esb.spec import MISSING, ListNode, MapNode, Node, ScalarNode, options_of, read_options

_OWN = tuple(spec.name for spec in options_of(TemplateOptions))
_OPERATION = re.compile(r"([a-z0-9][a-z0-9-]*)\.[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, slots=True)
class Template:
    """A template whose shape is right; its routes are read once for each site that uses it."""

    name: str
    document: Document
    position: Position
    description: str
    params: Params
    routes: tuple[MapNode, ...]
    #: sites that use it, or tried to
    users: list[tuple[str, Position]] = field(default_factory=list)

    def base_names(self) -> list[str]:
        return [name_of(route) for route in self.routes]

    def spec(self, parametrised: Mapping[str, object]) -> TemplateSpec:
        """What people see of it; ``parametrised`` are the connectors that a site fills in."""
        named = sorted({name for route in self.routes for name in connectors_in(route)} & set(parametrised))
        return TemplateSpec(
            self.name, self.position, self.description, self.params.schema, tuple(self.base_names()), tuple(named)
        )


@dataclass(frozen=True, slots=True)
class Parametrised:
    """A connector that is made for each site out of its parameters."""

    name: str
    document: Document
    node: MapNode  #: without ``params``
    params: Params
    users: list[str] = field(default_factory=list)  #: sites that made it theirs

    def alone(self, resources: Resources, reader: WorkspaceReader) -> MapNode | None:
        """The connector as routes without a site use it: with its defaults. None where somebody must fill something in."""
        if not self.params.filled:
            resources.unfilled[self.name] = Unfilled(
                f"connector `{self.name}` has parameters that only a site fills in",
                f"use it in a template; give every parameter a `default`; or name a site's: `{self.name}@SITE.operation`",
                self.params.position,
            )
            return None
        values = self.params.fill(None, self.params.position, reader)
        return Expansion(values, {}, reader).of(self.node) if values is not None else None


def read_template(document: Document, node: MapNode, resources: Resources, reader: WorkspaceReader) -> Template | None:
    """The template; None after every fault of its shape was reported."""
    before = len(reader.problems)
    whole = node
    single = node.get("routes") is None and any(node.get(word) is not None for word in ("route", "from", "steps"))
    if single:  # the fields of its one route stand beside `template`
        node = MapNode(node.position, tuple(entry for entry in node.entries if entry[0].text in _TEMPLATE))
    level = Level("the template", frozenset(_OWN), node.position, "template")
    with resources.levels.within(level), reader.inside("template"):
        options = read_options(TemplateOptions, node, reader)
    given = node.get("template")
    at = given.position if given is not None else node.position
    if isinstance(given, ScalarNode) and isinstance(given.value, str) and not NAME.fullmatch(given.value):
        hint = f"use small letters, digits and `-`: `{kebab(given.value)}`"
        reader.problem("ESB110", f"`{given.value}` is no name for a template", given, hint=hint)
    if options is MISSING or len(reader.problems) > before:
        return None
    what = f"template `{options.template}`"
    params = Params.read(what, node.get("params"), at, reader)
    routes = (_single(whole, options.template),) if single else tuple(_routes(node, what, reader))
    for route in routes:
        _check_names(route, params, reader)
        named = route.get("route")
        if named is not None and not (isinstance(named, ScalarNode) and isinstance(named.value, str)):
            reader.problem(
                "ESB103", f"the name of a route is a text, not {named.what}", named, hint="write `route: hold-sync`"
            )
    if len(reader.problems) > before:
        return None
    return Template(options.template, document, at, options.description, params, routes)


_TEMPLATE = ("template", "params")


def _single(node: MapNode, name: str) -> MapNode:
    rest = node.without(*_TEMPLATE)
    if rest.get("route") is not None:
        return rest
    at = node.entries[0][0].position
    named = (ScalarNode(at, "route", "route"), ScalarNode(at, name, name))
    return MapNode(node.position, (named, *rest.entries))


def _routes(node: MapNode, what: str, reader: WorkspaceReader) -> Iterator[MapNode]:
    given = node.get("routes")
    if given is None or (isinstance(given, ListNode) and not given.items):
        hint = "add `routes:`, a list of routes as in documents of their own"
        reader.problem("ESB102", f"{what} has no routes", given or node, hint=hint)
        return
    if not isinstance(given, ListNode):
        hint = "begin every route with `- route: name`"
        reader.problem("ESB103", f"`routes` is a list of routes, not {given.what}", given, hint=hint)
        return
    names: dict[str, Position] = {}
    for item in given.items:
        if not isinstance(item, MapNode):
            hint = "write `- route: name`, and the fields of the route below it"
            reader.problem("ESB103", f"a route is a mapping, not {item.what}", item, hint=hint)
            continue
        named = item.get("route")
        if named is None:
            hint = "for example `route: hold-sync`" + ("" if FIELDS & set(item.keys()) else "; `- ` begins a route")
            reader.problem("ESB102", "this route has no name", item, hint=hint)
            continue
        name = name_of(item)
        if name in names:
            related = ((names[name], "the other one"),)
            hint = "give each route a name of its own"
            reader.problem("ESB109", f"two routes of {what} are called `{name}`", named, hint=hint, related=related)
        names.setdefault(name, named.position)
        yield item


def read_parametrised(document: Document, node: MapNode, name: str, reader: WorkspaceReader) -> Parametrised | None:
    """A connector with ``params``; None after faults in them were reported."""
    before = len(reader.problems)
    given, key = node.get("params"), node.key("connector")
    at = key.position if key is not None else node.position
    params = Params.read(f"connector `{name}`", given, at, reader)
    rest = node.without("params")
    _check_names(rest, params, reader)
    return None if len(reader.problems) > before else Parametrised(name, document, rest, params)


def _check_names(node: Node, params: Params, reader: WorkspaceReader) -> None:
    """Report every ``{{ params.x }}`` that is not declared."""
    reported: set[Position] = set()
    for name, at in params_read(node):
        if name not in params.nodes and at.position not in reported and params.contract is not None:
            reported.add(at.position)
            hint = reader.nearest(name, params.nodes) or f"declare it: `params: {{ {name}: {{ type: string }} }}`"
            reader.problem("ESB317", f"`params.{name}` is not declared", at, hint=hint,
                           related=((params.position, f"{params.what} begins here"),))  # fmt: skip
        elif not params.nodes and at.position not in reported:
            reported.add(at.position)
            hint = f"declare it: `params: {{ {name}: {{ type: string }} }}`"
            reader.problem("ESB317", f"`params.{name}` is not declared", at, hint=hint)


def connectors_in(node: Node) -> Iterator[str]:
    """Words in a route that may name a connector: before the dot of an operation, and after ``connector`` or ``auth``."""
    match node:
        case ScalarNode():
            found = _OPERATION.fullmatch(node.value) if isinstance(node.value, str) else None
            if found:
                yield found[1]
        case ListNode():
            for item in node.items:
                yield from connectors_in(item)
        case MapNode():
            for key, value in node.entries:
                if key.text in ("connector", "auth") and isinstance(value, ScalarNode):
                    yield str(value.value)
                yield from connectors_in(value)


def unused(templates: Mapping[str, Template], connectors: Mapping[str, Parametrised]) -> Iterator[Problem]:
    """A warning for what no site makes anything of: nothing checks it."""
    for template in templates.values():
        if not template.users:
            yield _unused(f"template `{template.name}`", template.position, "its routes are", f"use: [{template.name}]")
    for name, connector in connectors.items():
        if not connector.params.filled and not connector.users:
            write = f"connectors: {{ {name}: {{ … }} }}"
            yield _unused(f"connector `{name}`", connector.params.position, "it is", write)


def told(problems: Iterable[Problem], templates: Iterable[Template]) -> list[Problem]:
    """Problems within a template that name no site yet, with the sites that use it."""
    return [_told(problem, templates) for problem in problems]


def _told(problem: Problem, templates: Iterable[Template]) -> Problem:
    at = problem.position
    behind = [one for one in templates if one.position.path == at.path and one.position.line <= at.line]
    template = max(behind, key=lambda one: one.position.line, default=None)
    if template is None:
        return problem
    named = {place.path for place, _ in problem.related}
    users = [] if any(used.path in named for _, used in template.users) else template.users
    places = tuple((used, f"used here by site {site}") for site, used in users)
    return replace(problem, related=(*problem.related, *places))


def _unused(what: str, at: Position, verb: str, write: str) -> Problem:
    message = f"no site uses the {what}, so {verb} not checked"
    hint = f"write a site: `esb sites add SITE`, or `{write}` in routes/sites/<SITE>.yaml"
    return Problem("ESB319", message, at, hint, label="not used", severity="warning")
