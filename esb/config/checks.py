"""What can only be seen across steps and routes: names that nobody sets, topics that nobody reads, paths that clash."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from esb.config.model import RouteSpec, Settings
from esb.config.resources import Resources
from esb.config.routes import RouteDoc, fixed_text, parts_of, steps_of, targets_of, topics_of
from esb.config.settings import SETTINGS, forbidden_by, required_by
from esb.errors import Position, Problem
from esb.spec import ListNode, MapNode, Node, ScalarNode
from esb.steps.base import StepNode, Target

_PARAMETER = re.compile(r"\{[^{}]*\}")


def nearest(word: str, known: Iterable[str], prefix: str = "") -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean `{prefix}{close[0]}`?" if close else ""


@dataclass(frozen=True, slots=True)
class Routes:
    """Every route document of a workspace, and what they share."""

    docs: Sequence[RouteDoc]
    resources: Resources
    settings: Settings
    #: names in files that could not be read
    unread: frozenset[str]

    @property
    def specs(self) -> list[RouteSpec]:
        return [doc.spec for doc in self.docs if doc.spec is not None]

    @property
    def complete(self) -> bool:
        """False where a route has faults, so that what it publishes or reads is not known."""
        return not self.unread and all(doc.spec is not None for doc in self.docs)


def check_routes(
    docs: Sequence[RouteDoc], resources: Resources, settings: Settings, unread: frozenset[str] = frozenset()
) -> Iterator[Problem]:
    """Every fault between the parts of routes, and between routes."""
    routes = Routes(docs, resources, settings, unread)
    yield from duplicate_names(routes)
    yield from http_paths(routes)
    yield from route_targets(routes)
    yield from topics(routes)
    yield from policies(routes)
    for doc in docs:
        if doc.spec is not None:
            yield from unset_vars(doc)


# -- names ----------------------------------------------------------------------------------------------------------------


def duplicate_names(routes: Routes) -> Iterator[Problem]:
    first: dict[str, Position] = {}
    for doc in routes.docs:
        given = doc.node.get("route")
        if given is None or not doc.name:
            continue
        other = first.setdefault(doc.name, given.position)
        if other != given.position:
            yield Problem(
                "ESB109",
                f"two routes are called `{doc.name}`, the other one in {other}",
                given.position,
                hint="give each route a name of its own",
                related=((other, "the other one"),),
            )


def http_paths(routes: Routes) -> Iterator[Problem]:
    first: dict[tuple[str, str], tuple[str, Position]] = {}
    for spec in routes.specs:
        if spec.source.protocol != "http" or not spec.enabled:
            continue
        path = _PARAMETER.sub("{}", fixed_text(getattr(spec.source.options, "path", "")))
        method = getattr(spec.source.options, "method", "POST")
        for word in (method,) if isinstance(method, str) else method:
            place = _path_place(routes, spec)
            other = first.setdefault((word, path), (spec.name, place))
            if other[0] != spec.name:
                shown = fixed_text(getattr(spec.source.options, "path", ""))
                yield Problem(
                    "ESB109",
                    f"`{word} {shown}` belongs to the route `{other[0]}` already ({other[1]})",
                    place,
                    hint="give the route a path or method of its own",
                    related=((other[1], f"taken by `{other[0]}`"),),
                )


def _path_place(routes: Routes, spec: RouteSpec) -> Position:
    doc = next(doc for doc in routes.docs if doc.spec is spec)
    source = doc.node.get("from")
    options = source.get("http") if isinstance(source, MapNode) else None
    path = options.get("path") if isinstance(options, MapNode) else options
    return path.position if path is not None else spec.source.position


def route_targets(routes: Routes) -> Iterator[Problem]:
    names = [*(doc.name for doc in routes.docs), *routes.unread]
    for spec in routes.specs:
        for _, target in all_targets(spec):
            called = fixed_text(getattr(target.sink, "route", None)) if target.protocol == "route" else ""
            if called and called not in names:
                yield Problem(
                    "ESB306",
                    f"route `{called}` does not exist",
                    target.position,
                    label="no such route",
                    hint=nearest(called, names) or "the routes are listed by `esb routes ls`",
                )
            elif called == spec.name:
                yield _loop(f"the route `{called}` hands over to itself", target.position)


# -- topics ---------------------------------------------------------------------------------------------------------------


def topics(routes: Routes) -> Iterator[Problem]:
    published = {topic for spec in routes.specs for topic in spec.topics}
    published |= {f"alert.{name}" for name in routes.settings.alerts}
    read = {topic_read(spec) for spec in routes.specs} - {""}
    for spec in routes.specs:
        topic = topic_read(spec)
        if topic and topic in spec.topics:
            yield _loop(f"this route reads the topic `{topic}` and publishes to it", spec.source.position)
        if not routes.complete:
            continue
        if topic and topic not in published:
            yield Problem(
                "ESB305",
                f"no route publishes to the topic `{topic}`",
                spec.source.position,
                hint=nearest(topic, published) or f"add `publish: {topic}` to a route",
                severity="warning",
            )
        for step in steps_of(spec.blocks):
            for name in topics_of(step):
                if name not in read:
                    yield Problem(
                        "ESB305",
                        f"no route reads the topic `{name}`",
                        step.position,
                        hint=nearest(name, read) or f"add a route `from: {{ topic: {name} }}`",
                        severity="warning",
                    )


def topic_read(spec: RouteSpec) -> str:
    """The topic that a route reads, empty for every other source."""
    return fixed_text(getattr(spec.source.options, "topic", None)) if spec.source.protocol == "topic" else ""


def _loop(message: str, at: Position) -> Problem:
    return Problem("ESB311", message, at, hint="make sure that a message cannot go round for ever", severity="warning")


# -- vars -----------------------------------------------------------------------------------------------------------------


def unset_vars(doc: RouteDoc) -> Iterator[Problem]:
    """``vars.x`` that is read, but that no step of the route ever sets; each variable once."""
    assert doc.spec is not None
    steps = list(steps_of(doc.spec.blocks))
    if any(type(step.step).__module__.startswith("esb_workspace.") for step in steps):
        return  # a step of the workspace may set what it likes
    written = {path[1] for step in steps for path in writes_of(step) if path[0] == "vars" and len(path) > 1}
    reported: set[str] = set()
    for reading in doc.scope.readings:
        for var in sorted(vars_in(reading.names) - written - reported):
            reported.add(var)
            at = reading.at or next(
                (p for p in map(partial(place_in, words=f"vars.{var}"), scalars(doc.node)) if p), None
            )
            yield Problem(
                "ESB405",
                f"`vars.{var}` is never set in this route" + (f", but {reading.what} reads it" if reading.what else ""),
                at or doc.spec.position,
                label="always null",
                hint=nearest(var, written, "vars.") or f"set it before: `set: {{ vars.{var}: … }}`",
            )


def vars_in(names: Iterable[str]) -> set[str]:
    """``vars.lot.id`` reads the variable ``lot``."""
    parts = [name.split(".") for name in names]
    return {path[1] for path in parts if path[0] == "vars" and len(path) > 1}


def writes_of(step: StepNode) -> Iterator[Sequence[str]]:
    yield from getattr(step.step, "writes", ())
    if step.into:
        yield step.into


def scalars(node: Node) -> Iterator[ScalarNode]:
    match node:
        case ScalarNode():
            yield node
        case ListNode():
            for item in node.items:
                yield from scalars(item)
        case MapNode():
            for _, value in node.entries:
                yield from scalars(value)


def place_in(node: ScalarNode, words: str) -> Position | None:
    """Where some words stand in a value, None where they do not."""
    at, text = node.position, str(node.value)
    found = re.search(re.escape(words) + r"(?![\w-])", text) if isinstance(node.value, str) else None
    if found is None:
        return None
    offset = found.start()
    if node.text.startswith("|\n"):
        before = text[:offset]
        blank = len(text) - len(text.lstrip("\n"))
        line = at.line + before.count("\n") - blank
        return Position(at.path, line, at.column + len(before) - (before.rfind("\n") + 1), len(words))
    if "\n" in node.text or node.expanded:
        return at
    return Position(at.path, at.line, at.column + (1 if node.quoted else 0) + offset, len(words))


# -- policy -------------------------------------------------------------------------------------------------


def policies(routes: Routes) -> Iterator[Problem]:
    """The lint rules of this bus: ``policy.require`` and ``policy.forbid``."""
    required = required_by(routes.settings.policy)
    for doc in routes.docs:
        if doc.spec is None or doc.document.path == SETTINGS:
            continue  # the bus's own alert routes answer to esb.yaml, where they stand
        for name in required:
            if not getattr(doc.spec, name, None):
                yield Problem(
                    "ESB602",
                    f"the route has no `{name}`",
                    doc.spec.position,
                    label=f"`policy.require` in esb.yaml asks for `{name}`",
                    hint=f"add `{name}: …` to the route",
                )
    if "plain_http_out" in forbidden_by(routes.settings.policy):
        yield from plain_http(routes)


def plain_http(routes: Routes) -> Iterator[Problem]:
    places: dict[Position, str] = {}
    for connector in routes.resources.connectors.values():
        if connector.type == "http":
            url_node = routes.resources.connector_nodes[connector.name].get("base_url")
            at = url_node.position if url_node is not None else connector.position
            places[at] = fixed_text(getattr(connector.connection, "base_url", ""))
    for spec in routes.specs:
        for _, target in all_targets(spec):
            if target.protocol == "http" and not target.connector:
                url = getattr(target.sink, "url", None)
                places[target.position] = url if isinstance(url, str) else str(getattr(url, "text", "") or "")
    for at, url in places.items():
        if url.startswith("http://") and not is_loopback(url):
            yield Problem(
                "ESB603",
                "plain http leaves this machine",
                at,
                label="`policy.forbid` in esb.yaml has `plain_http_out`",
                hint="write `https://`",
            )


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def step_targets(spec: RouteSpec) -> Iterator[tuple[StepNode, Target]]:
    for step in steps_of(spec.blocks):
        for target in targets_of(step):
            yield step, target


def all_targets(spec: RouteSpec) -> Iterator[tuple[StepNode | None, Target]]:
    """Every target of a route, those in its other options included."""
    yield from step_targets(spec)
    for target in parts_of(spec.on_error, Target):
        yield None, target
