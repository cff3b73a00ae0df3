"""What is written correctly and still does nothing: names that are always null, a reaction to an outage nobody notices."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from esb.config.checks import nearest, place_in
from esb.config.flow_places import Places
from esb.config.model import RouteSpec
from esb.config.resources import Resources
from esb.config.retries import drop_of, waits_out
from esb.config.routes import RouteDoc, steps_of, targets_of
from esb.durations import format_duration, parse_duration
from esb.endpoints.file_options import FolderSource
from esb.errors import InternalFault, Position, Problem
from esb.language import Expression, TextTemplate
from esb.spec import ListNode, MapNode, Node, ScalarNode
from esb.spec.nodes import scalars
from esb.spec.parts import parts
from esb.steps.base import Block, StepNode, Target

#: steps that make messages of their own, which run the steps inside
_BEARS = ("split", "fanout", "aggregate", "resequence")
#: steps after which a message has a reply only where it had one before
_SILENT = frozenset(
    {"validate", "filter", "split", "fanout", "publish", "dedupe", "throttle", "delay", "respond", "reject", "log", "remove",
     "map", "set", "transform", "lookup", "enrich", "claim", "fetch", "parse", "format", "gather", "line", "tap"}
)  # fmt: skip
_TEXTS = (Expression, TextTemplate)


def check_effects(docs: Sequence[RouteDoc], resources: Resources, site: Mapping[str, Any] | None) -> Iterator[Problem]:
    """A warning for everything in these routes that can have no effect; ``site`` is None where it could not be read."""
    for doc in docs:
        if doc.spec is not None:
            yield from doc.tell(null_names(doc, site))
            yield from doc.tell(unfilled(doc, site))
            yield from doc.tell(lost_replies(doc))
            yield from doc.tell(blind_rejects(doc, resources))
            yield from doc.tell(late_drops(doc))


# -- names ----------------------------------------------------------------------------------------------------------------


def null_names(doc: RouteDoc, site: Mapping[str, Any] | None) -> Iterator[Problem]:
    """Headers in capitals, and values of the site that esb.yaml does not have; each name once.

    An error where it can only be a slip, and where the source cannot start without it. A value of the site may be wanted at some
    plants alone.
    """
    assert doc.spec is not None
    reported: set[str] = set()
    needed = needed_names(doc.spec, site)
    made = doc.made.place if doc.made is not None else None
    site = made.values if made is not None else site
    whose, where = (f"site {made.site}", "`values:`") if made is not None else ("`site` in esb.yaml", "esb.yaml")
    for reading in doc.scope.readings:
        for name in sorted(reading.names):
            root, _, rest = name.partition(".")
            if root == "headers" and rest != rest.lower():
                read, message = rest, f"`headers.{rest}` is always null: the names of headers are in small letters"
                hint, sure = f"write `headers.{_written(rest.lower())}`", True
            elif site is not None and root == "site" and rest and rest.partition(".")[0] not in site:
                read = rest.partition(".")[0]
                message = f"`site.{read}` is always null: {whose} has no `{read}`"
                written = f"{read}: …" if made is not None else f"site: {{ {read}: … }}"
                near = nearest(read, site, "site.")
                hint, sure = near or f"add it to {where}: `{written}`", bool(near) and made is None
            else:
                continue
            if (shown := f"{root}.{read}") in reported:
                continue
            reported.add(shown)
            at = reading.at or _place_of(doc.node, root, read) or doc.spec.position
            if shown in needed:
                message = f"`{shown}` is not there: {whose} has no `{read}`, and the source cannot start without it"
                yield Problem("ESB402", message, at, hint, label="not there")
                continue
            message += f" ({reading.what} reads it)" if reading.what else ""
            yield Problem("ESB402", message, at, hint, label="always null", severity="error" if sure else "warning")


def needed_names(spec: RouteSpec, site: Mapping[str, Any] | None) -> Container[str]:
    """The names of ``site`` that are not there and that the source fills in when it starts."""
    fault = _fault_of_beginning(spec, site)
    if fault is None or site is None:
        return ()
    read = (name.split(".")[1] for name in spec.source.options.path.names if name.startswith("site."))
    return {f"site.{name}" for name in read if name not in spec.site_values(site)}


def unfilled(doc: RouteDoc, site: Mapping[str, Any] | None) -> Iterator[Problem]:
    """A path that cannot be filled in when the source starts, for another reason than a name of ``site``."""
    assert doc.spec is not None
    fault = _fault_of_beginning(doc.spec, site)
    if fault is not None and not needed_names(doc.spec, site):
        hint = "what a source names is filled in at its start, from `site` in esb.yaml or from the values of the site"
        yield Problem("ESB801", f"route `{doc.spec.name}` cannot start: {fault}", doc.spec.source.position, hint)


def _fault_of_beginning(spec: RouteSpec, site: Mapping[str, Any] | None) -> InternalFault | None:
    options = spec.source.options
    if site is not None and isinstance(options, FolderSource):
        try:
            options.begins(spec.name, spec.site_values(site))
        except InternalFault as fault:
            return fault
    return None


def _written(name: str) -> str:
    return name if name.replace("_", "a").isalnum() and not name[0].isdigit() else f'"{name}"'


def _place_of(node: Node, root: str, name: str) -> Position | None:
    ways = (f"{root}.{name}", f'{root}."{name}"', f"{root}['{name}']", f'{root}["{name}"]')
    found = (place_in(scalar, way) for scalar in scalars(node) for way in ways)
    return next((place for place in found if place is not None), None)


# -- replies --------------------------------------------------------------------------------------------------------------


def lost_replies(doc: RouteDoc) -> Iterator[Problem]:
    """``meta.reply`` in a branch, an item or an aggregate before anything has answered it: each is a message of its own."""
    assert doc.spec is not None
    places = Places(doc.node)
    for step in steps_of(doc.spec.blocks):
        for block in getattr(step.step, "blocks", ()) if step.kind in _BEARS else ():
            for reader in _readers(block, []):
                node = places.of_step(reader.position)
                yield Problem(
                    "ESB402",
                    f"`meta.reply` is always null here: what `{step.kind}` makes is a message of its own, which nothing has answered yet",
                    _place_of(node, "meta", "reply") or reader.position,
                    "write `into: vars.reply` beside the `to` before, and read `vars.reply` here",
                    label="always null",
                    severity="warning",
                )


def _readers(block: Block, answered: list[StepNode]) -> Iterator[StepNode]:
    """The steps that read a reply although none can be there; whatever may bring one ends the search and is in ``answered``."""
    for step in block.nodes:
        closed = (Block, StepNode, Target)  # what an operation reads of its own answer is there
        read = [step.guard, *([] if step.kind == "await" else parts(step.step, _TEXTS, closed))]
        if any(name == "meta.reply" or name.startswith("meta.reply.") for one in read if one for name in one.names):
            yield step
        if step.kind == "choose":
            for inner in step.step.blocks:  # type: ignore[attr-defined]  # every `choose` has them
                found: list[StepNode] = []
                yield from _readers(inner, found)
                answered += found
        elif step.kind not in _SILENT:
            answered.append(step)
        if answered:
            return


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


def late_drops(doc: RouteDoc) -> Iterator[Problem]:
    """``when_down: { drop_after: … }`` where the message is dead before, because its retries end sooner; each place once."""
    assert doc.spec is not None
    spec, reported = doc.spec, set()
    for name, block in spec.blocks.items():
        for step in block.nodes:
            policy = drop_of(spec, name, step)
            after = policy.drop_after if policy is not None else None
            if after is None or step.kind == "tap" or not targets_of(step):
                continue
            end = waits_out(step.retry or spec.retry)
            at = (
                _policy_of(doc.node, step)
                if step.when_down is policy
                else _first_drop(doc.node, after) or step.position
            )
            if end is None or end >= after or at in reported:
                continue
            reported.add(at)
            yield Problem(
                "ESB604",
                f"`drop_after: {format_duration(after)}` never happens: the retries of `{step.id}` end after at most"
                f" {format_duration(end)}, and then the message is dead",
                at,
                "let `retry` be for `unavailable`, give it a longer `within`, or drop sooner",
                label="never happens",
                severity="warning",
            )


def _first_drop(node: Node, after: timedelta) -> Position | None:
    """Where a ``drop_after`` of this time stands."""
    for entry in _mappings(node):
        given = entry.get("drop_after")
        if isinstance(given, ScalarNode) and _is_duration(given.text, after):
            return given.position
    return None


def _is_duration(text: str, wanted: timedelta) -> bool:
    try:
        return parse_duration(text) == wanted
    except ValueError:
        return False


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
