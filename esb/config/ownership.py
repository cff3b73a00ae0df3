"""Systems of record (``ownership:`` in esb.yaml): a field is changed where it belongs, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from esb.config.checks import Routes, nearest, step_targets
from esb.config.model import RouteSpec
from esb.config.owners import Owner, owner_of
from esb.config.routes import fixed_text
from esb.errors import Position, Problem
from esb.spec import MapNode, Node

if TYPE_CHECKING:
    from esb.steps.base import Target


def check_ownership(routes: Routes, settings_node: Node | None) -> Iterator[Problem]:
    """An error for each route that writes a field for a system it does not belong to; a warning for fields that go both ways."""
    owners = routes.settings.ownership
    yield from _unknown_names(routes, settings_node)
    if not owners:
        return
    origins = origins_of(routes.specs)
    ways: dict[tuple[str, str, str], tuple[str, Position]] = {}
    for spec in routes.specs:
        for _, target in step_targets(spec):
            for name in written_by(routes, target):
                found = owner_of(name, owners)
                if found is None:
                    continue
                key, owner = found
                for origin in sorted(origins[spec.name] - {owner.system, *owner.also}):
                    yield _foreign(routes, settings_node, name, key, owner, origin, target)
                for origin in sorted(origins[spec.name] - {target.connector}):
                    ways.setdefault((name, origin, target.connector), (spec.name, target.position))
    yield from _echoes(ways)


def written_by(routes: Routes, target: Target) -> tuple[str, ...]:
    """The fields that an operation changes in its system."""
    connector = routes.resources.connectors.get(target.connector) if target.connector else None
    if connector is None or not target.name.startswith(f"{target.connector}."):
        return ()
    return connector.settings.writes.get(target.name.removeprefix(f"{target.connector}."), ())


def origins_of(specs: list[RouteSpec]) -> dict[str, frozenset[str]]:
    """The systems whose changes each route carries, over topics and hand-offs; empty where nobody can tell."""
    found = {spec.name: frozenset([spec.system] if spec.system else []) for spec in specs}
    feeds = {spec.name: _feeders(spec, specs) for spec in specs if not spec.system}
    changed = True
    while changed:
        changed = False
        for name, feeders in feeds.items():
            more = found[name].union(*(found[other] for other in feeders))
            changed = changed or more != found[name]
            found[name] = more
    return found


def _feeders(spec: RouteSpec, specs: list[RouteSpec]) -> list[str]:
    if spec.source.protocol == "topic":
        topic = fixed_text(getattr(spec.source.options, "topic", None))
        return [other.name for other in specs if topic in other.topics]
    if spec.source.protocol == "route":
        return [
            other.name
            for other in specs
            for _, target in step_targets(other)
            if target.protocol == "route" and fixed_text(getattr(target.sink, "route", None)) == spec.name
        ]
    return []


def _foreign(
    routes: Routes, node: Node | None, name: str, key: str, owner: Owner, origin: str, target: Target
) -> Problem:
    related = [(at, f"`{key}` belongs to `{owner.system}`") for at in [_entry(node, key)] if at is not None]
    declared = routes.resources.places.get(target.name)
    related += [(declared, "the operation is declared here")] if declared is not None else []
    return Problem(
        "ESB620",
        f"`{name}` belongs to `{owner.system}`: this route writes it from `{origin}` into `{target.connector}`",
        target.position,
        f"let `{owner.system}` make the change and send it on; or allow it: "
        f"`{key}: {{ system: {owner.system}, also: [{origin}] }}` in esb.yaml",
        label=f"writes `{name}`",
        related=tuple(related),
    )


def _echoes(ways: Mapping[tuple[str, str, str], tuple[str, Position]]) -> Iterator[Problem]:
    for (name, origin, target), (route, at) in ways.items():
        back = ways.get((name, target, origin))
        if back is None or origin > target:
            continue
        yield Problem(
            "ESB621",
            f"`{name}` goes from `{origin}` to `{target}` (route `{route}`) and back (route `{back[0]}`)",
            back[1],
            f"an echo is stopped where `{target}` sends `X-ESB-Origin` back; else let the route filter what it brought itself",
            label="the way back",
            severity="warning",
            related=((at, "the way there"),),
        )


def _entry(node: Node | None, key: str) -> Position | None:
    given = node.get("ownership") if isinstance(node, MapNode) else None
    found = given.key(key) if isinstance(given, MapNode) else None
    return found.position if found is not None else None


def _unknown_names(routes: Routes, node: Node | None) -> Iterator[Problem]:
    """Systems of the matrix that are no connectors, and operations under `writes` that do not exist."""
    connectors = routes.resources.connectors
    known = {*connectors, *routes.resources.broken}
    for key, owner in routes.settings.ownership.items():
        for system in (owner.system, *owner.also):
            if system not in known:
                at = _entry(node, key) or Position("esb.yaml")
                hint = nearest(system, known) or f"declare it in connectors/{system}.yaml"
                yield Problem("ESB301", f"connector `{system}` does not exist", at, hint, label="no such system")
    nodes = routes.resources.connector_nodes
    for name, connector in connectors.items():
        given = nodes[name].get("writes") if name in nodes else None
        for operation, _ in given.entries if isinstance(given, MapNode) else ():
            if operation.text not in connector.operations:
                message = f"connector `{name}` has no operation `{operation.text}`"
                yield Problem("ESB301", message, operation.position, nearest(operation.text, connector.operations))
