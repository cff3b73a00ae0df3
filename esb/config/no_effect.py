"""What is written correctly and still does nothing: names that are always null, a reaction to an outage nobody notices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from esb.config.checks import nearest, place_in, scalars
from esb.config.resources import Resources
from esb.config.routes import RouteDoc, steps_of
from esb.errors import Position, Problem
from esb.spec import ListNode, MapNode, Node, ScalarNode
from esb.steps.base import StepNode, Target


def check_effects(docs: Sequence[RouteDoc], resources: Resources, site: Mapping[str, Any] | None) -> Iterator[Problem]:
    """A warning for everything in these routes that can have no effect; ``site`` is None where it could not be read."""
    for doc in docs:
        if doc.spec is not None:
            yield from null_names(doc, site)
            yield from blind_rejects(doc, resources)


# -- names ----------------------------------------------------------------------------------------------------------------


def null_names(doc: RouteDoc, site: Mapping[str, Any] | None) -> Iterator[Problem]:
    """Headers in capitals, and values of the site that esb.yaml does not have; each name once."""
    assert doc.spec is not None
    reported: set[str] = set()
    for reading in doc.scope.readings:
        for name in sorted(reading.names):
            root, _, rest = name.partition(".")
            if root == "headers" and rest != rest.lower():
                read, message = rest, f"`headers.{rest}` is always null: the names of headers are in small letters"
                hint = f"write `headers.{_written(rest.lower())}`"
            elif site is not None and root == "site" and rest and rest.partition(".")[0] not in site:
                read = rest.partition(".")[0]
                message = f"`site.{read}` is always null: `site` in esb.yaml has no `{read}`"
                hint = nearest(read, site, "site.") or f"add it to esb.yaml: `site: {{ {read}: … }}`"
            else:
                continue
            if (shown := f"{root}.{read}") in reported:
                continue
            reported.add(shown)
            message += f" ({reading.what} reads it)" if reading.what else ""
            at = reading.at or _place_of(doc.node, root, read) or doc.spec.position
            yield Problem("ESB402", message, at, hint, label="always null", severity="warning")


def _written(name: str) -> str:
    return name if name.replace("_", "a").isalnum() and not name[0].isdigit() else f'"{name}"'


def _place_of(node: Node, root: str, name: str) -> Position | None:
    ways = (f"{root}.{name}", f'{root}."{name}"', f"{root}['{name}']", f'{root}["{name}"]')
    found = (place_in(scalar, way) for scalar in scalars(node) for way in ways)
    return next((place for place in found if place is not None), None)


# -- outages --------------------------------------------------------------------------------------------------------------


def blind_rejects(doc: RouteDoc, resources: Resources) -> Iterator[Problem]:
    """``when_down: { reject: … }`` where no target can be known to be down before a message is taken."""
    assert doc.spec is not None
    followers: list[Target] = []
    for step in steps_of(doc.spec.blocks):
        target = getattr(step.step, "target", None)
        if not isinstance(target, Target):
            continue
        if step.when_down is None:
            followers.append(target)
        elif step.when_down.mode == "reject" and not _has_circuit(target, resources):
            yield _blind(_policy_of(doc.node, step), (target,))
    given = doc.node.get("when_down")
    known = any(_has_circuit(target, resources) for target in followers)
    if given is not None and doc.spec.when_down.mode == "reject" and not known:
        yield _blind(given.position, followers)


def _has_circuit(target: Target, resources: Resources) -> bool:
    connector = resources.connectors.get(target.connector) if target.connector else None
    return connector is not None and connector.settings.circuit is not None


def _blind(at: Position, targets: Sequence[Target]) -> Problem:
    connectors = list(dict.fromkeys(target.connector for target in targets if target.connector))
    hint = "send through a connector that has `circuit`, or take `when_down` out"
    if connectors:
        files = " and ".join(f"connectors/{name}.yaml" for name in connectors)
        hint = f"add `circuit: {{ failures: 5, open_for: 30s }}` to {files}"
    message = "`when_down: { reject: … }` has no effect: only a connector with `circuit` can be known to be down"
    return Problem("ESB604", message, at, hint, label="never happens", severity="warning")


def _policy_of(node: Node, step: StepNode) -> Position:
    """Where the step has its ``when_down``."""
    found = (entry.get("when_down") for entry in _mappings(node) if _is(entry, step))
    return next((policy.position for policy in found if policy is not None), step.position)


def _is(node: MapNode, step: StepNode) -> bool:
    return any(place == step.position for key, value in node.entries for place in (key.position, value.position))


def _mappings(node: Node) -> Iterator[MapNode]:
    match node:
        case ScalarNode():
            return
        case ListNode():
            for item in node.items:
                yield from _mappings(item)
        case MapNode():
            yield node
            for _, value in node.entries:
                yield from _mappings(value)
