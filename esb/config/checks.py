"""What can only be seen across steps and routes: names that nobody sets, topics that nobody reads, paths that clash."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from esb.config.model import RouteSpec, Settings
from esb.config.resources import Resources
from esb.config.routes import RouteDoc, fixed_text, parts_of, steps_of, targets_of, topics_of
from esb.errors import Position, Problem
from esb.spec import MapNode, ScalarNode
from esb.spec.nodes import scalars
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


def check_routes(routes: Routes) -> Iterator[Problem]:
    """Every fault between the parts of routes, and between routes."""
    yield from duplicate_names(routes)
    yield from http_paths(routes)
    yield from route_targets(routes)
    yield from topics(routes)
    for doc in routes.docs:
        if doc.spec is not None:
            yield from doc.tell(unset_vars(doc))
            yield from doc.tell(stray_aggregates(doc.spec))
            yield from doc.tell(idle_compensations(doc.spec))


#: steps behind which a message of their own goes on
_GATHER = ("aggregate", "resequence")


def stray_aggregates(spec: RouteSpec) -> Iterator[Problem]:
    """The steps behind an `aggregate` are those of its own list: it stands where that is all that is left to do."""
    scopes = {""}
    for step in steps_of(spec.blocks):
        if step.kind in ("split", "fanout", *_GATHER):
            scopes.update(block.id for block in step.step.blocks)  # type: ignore[attr-defined]  # these have them
    for name, block in spec.blocks.items():
        for step in block.nodes:
            if step.kind in _GATHER and name not in scopes:
                hint = "put it into the route's own list, a `split` or a branch of a `fanout`, with an `if` beside it"
                yield Problem(
                    "ESB115", f"`{step.kind}` cannot stand here", step.position, hint, label="steps follow outside"
                )


def idle_compensations(spec: RouteSpec) -> Iterator[Problem]:
    """A `compensate` undoes what was sent between the one before it, or the beginning of its list, and itself."""
    for block in (spec.steps, *spec.blocks.values()):
        sends = False
        for step in block.nodes:
            if step.kind == "compensate" and not sends:
                hint = "put it behind the `to` that it undoes, in the same list"
                yield Problem(
                    "ESB115", "`compensate` has nothing to undo", step.position, hint, label="no `to` before it"
                )
            inner = step.kind != "compensate" and bool(getattr(step.step, "blocks", ()))
            sends = (sends and step.kind != "compensate") or inner or _sends(step)


def _sends(step: StepNode) -> bool:
    found = [target for target in targets_of(step) if getattr(target.sink, "handoff", None) is None]
    return step.kind == "to" and bool(found)


# -- names ----------------------------------------------------------------------------------------------------------------


def duplicate_names(routes: Routes) -> Iterator[Problem]:
    first: dict[str, RouteDoc] = {}
    for doc in routes.docs:
        given = doc.node.get("route")
        if given is None or not doc.name:
            continue
        other = first.setdefault(doc.name, doc)
        if other is not doc:
            place = other.node.get("route") or other.node
            hint = "give each route a name of its own"
            if doc.made is not None and other.made is not None and place.position == given.position:
                hint = f'write the site into its name: `route: "{doc.made.place.route}-{{{{ site.id | lower }}}}"`'
            yield doc.told(
                Problem(
                    "ESB109",
                    f"two routes are called `{doc.name}`, the other one in {place.position}",
                    given.position,
                    hint=hint,
                    related=other.places(place.position, "the other one"),
                )
            )


def http_paths(routes: Routes) -> Iterator[Problem]:
    first: dict[tuple[str, str], tuple[str, Position, RouteDoc]] = {}
    for doc in routes.docs:
        spec = doc.spec
        if spec is None or spec.source.protocol != "http" or not spec.enabled:
            continue
        path = _PARAMETER.sub("{}", fixed_text(getattr(spec.source.options, "path", "")))
        method = getattr(spec.source.options, "method", "POST")
        for word in (method,) if isinstance(method, str) else method:
            place = _path_place(doc, spec)
            other = first.setdefault((word, path), (spec.name, place, doc))
            if other[0] != spec.name:
                shown = fixed_text(getattr(spec.source.options, "path", ""))
                hint = "give the route a path or method of its own"
                if doc.made is not None and other[2].made is not None and other[1] == place:
                    hint = f"write the site into the path: `/{{{{ site.id }}}}{shown}`, or a parameter: `{{{{ params.x }}}}`"
                yield doc.told(
                    Problem(
                        "ESB109",
                        f"`{word} {shown}` belongs to the route `{other[0]}` already ({other[1]})",
                        place,
                        hint=hint,
                        related=other[2].places(other[1], f"taken by `{other[0]}`"),
                    )
                )


def _path_place(doc: RouteDoc, spec: RouteSpec) -> Position:
    source = doc.node.get("from")
    options = source.get("http") if isinstance(source, MapNode) else None
    path = options.get("path") if isinstance(options, MapNode) else options
    return path.position if path is not None else spec.source.position


def route_targets(routes: Routes) -> Iterator[Problem]:
    names = [*(doc.name for doc in routes.docs), *routes.unread]
    for spec in routes.specs:
        for _, target in all_targets(spec):
            if target.protocol != "route":
                continue
            called = fixed_text(getattr(target.sink, "route", None))
            if called not in names:
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
    read, complete = {topic_read(spec) for spec in routes.specs} - {""}, routes.complete
    for spec in routes.specs:
        topic = topic_read(spec)
        if topic and topic in spec.topics:
            yield _loop(f"this route reads the topic `{topic}` and publishes to it", spec.source.position)
        if not complete:
            continue
        if topic and topic not in published:
            yield Problem(
                "ESB305",
                f"no route publishes to the topic `{topic}`",
                spec.source.position,
                hint=nearest(topic, published) or f"add `publish: {topic}` to a route",
                severity="warning",
            )
        if read.issuperset(spec.topics):
            continue
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


def has_own_steps(spec: RouteSpec) -> bool:
    """Whether a route has a step of the workspace's own code, which may set any variable and publish to any topic."""
    return any(type(step.step).__module__.startswith("esb_workspace.") for step in steps_of(spec.blocks))


def topic_read(spec: RouteSpec) -> str:
    """The topic that a route reads, empty for every other source."""
    return fixed_text(getattr(spec.source.options, "topic", None)) if spec.source.protocol == "topic" else ""


def _loop(message: str, at: Position) -> Problem:
    return Problem("ESB311", message, at, hint="make sure that a message cannot go round for ever", severity="warning")


# -- vars -----------------------------------------------------------------------------------------------------------------


def unset_vars(doc: RouteDoc) -> Iterator[Problem]:
    """``vars.x`` that is read, but that no step of the route ever sets; each variable once."""
    assert doc.spec is not None
    if has_own_steps(doc.spec):
        return
    steps = list(steps_of(doc.spec.blocks))
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


def step_targets(spec: RouteSpec) -> Iterator[tuple[StepNode, Target]]:
    for step in steps_of(spec.blocks):
        for target in targets_of(step):
            yield step, target


def all_targets(spec: RouteSpec) -> Iterator[tuple[StepNode | None, Target]]:
    """Every target of a route, those in its other options included."""
    yield from step_targets(spec)
    for target in parts_of(spec.on_error, Target):
        yield None, target
