"""The lint rules of a bus (``policy:`` in esb.yaml), and what is doubtful in any: second effects, routes nobody answers for."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from esb.config.checks import Routes, all_targets
from esb.config.flow_places import Places
from esb.config.model import RouteSpec
from esb.config.routes import RouteDoc, fixed_text, questions_of, steps_of
from esb.config.settings import SETTINGS, forbidden_by, required_by
from esb.errors import Position, Problem
from esb.spec import MapNode, Node
from esb.steps.base import RetryPolicy, StepNode, Target, WhenDown


def check_policy(routes: Routes) -> Iterator[Problem]:
    """Every breach of the policy as an error, everything doubtful as a warning."""
    policy = routes.settings.policy
    for doc in routes.docs:
        if doc.spec is None or doc.document.path == SETTINGS:
            continue  # the bus's own alert routes answer to esb.yaml, where they stand
        yield from doc.tell(_breaches(routes, doc, doc.spec, required_by(policy), forbidden_by(policy)))
        if doc.made is not None:  # what its site asks beyond that
            required = [word for word in required_by(doc.made.policy) if word not in required_by(policy)]
            forbidden = [word for word in forbidden_by(doc.made.policy) if word not in forbidden_by(policy)]
            for problem in _asked(routes, doc, doc.spec, required, forbidden):
                label = problem.label.replace("`policy.", "`policies.").replace("in esb.yaml", "of the site")
                yield doc.told(replace(problem, label=label))
    if "plain_http_out" in forbidden_by(policy):
        yield from plain_http(routes, routes.specs, list(routes.resources.connectors))


def _breaches(
    routes: Routes, doc: RouteDoc, spec: RouteSpec, required: Sequence[str], forbidden: Sequence[str]
) -> Iterator[Problem]:
    yield from _unanswered(spec)
    yield from _second_effects(routes, doc, "unsafe_retry" in forbidden)
    yield from _asked(routes, doc, spec, required, [word for word in forbidden if word != "plain_http_out"])


def _asked(
    routes: Routes, doc: RouteDoc, spec: RouteSpec, required: Sequence[str], forbidden: Sequence[str]
) -> Iterator[Problem]:
    yield from _missing(doc, required)
    for word in forbidden:
        if word in FORBIDDEN:
            yield from FORBIDDEN[word](doc)
    if "plain_http_out" in forbidden:
        names = [target.connector for _, target in all_targets(spec) if target.connector]
        yield from plain_http(routes, [spec], names)


# -- require ----------------------------------------------------------------------------------------------------------------


def _missing(doc: RouteDoc, required: Sequence[str]) -> Iterator[Problem]:
    assert doc.spec is not None
    for name in required:
        if _has(doc.spec, name):
            continue
        hint = f"add `{name}: …` to the route"
        if name == "contract":
            if not hasattr(doc.spec.source.options, "contract"):
                continue  # a timer gives nothing that could have one
            hint = f"add `contract: <entity>.v1` to `from: {doc.spec.source.protocol}`"
        elif name == "dead_letter":
            hint = "add `on_error: [ { for: any, dead_letter: … , alert: … } ]`"
        label = f"`policy.require` in esb.yaml asks for `{name}`"
        yield Problem("ESB602", f"the route has no `{name}`", doc.spec.position, hint, label=label)


def _has(spec: RouteSpec, name: str) -> bool:
    match name:
        case "contract":
            return getattr(spec.source.options, "contract", None) is not None
        case "dead_letter":
            return any(entry.dead_letter for entry in spec.on_error)
        case "key" | "dedupe" if any(getattr(node.step, name, None) for node in steps_of(spec.blocks)):
            return True  # a split gives it to its items: a key belongs to the scope that has it
    return bool(getattr(spec, name, None))


def _unanswered(spec: RouteSpec) -> Iterator[Problem]:
    """A route that matters (it names a criticality), and nobody to ask or nobody who hears of its dead letters."""
    if not spec.criticality:
        return
    if not spec.owner:
        yield Problem(
            "ESB607", f"`{spec.criticality}`, but nobody owns the route", spec.position, "add `owner: <team>`",
            label="no `owner`", severity="warning",
        )  # fmt: skip
    heard = spec.alert or any(entry.alert or entry.dead_letter or entry.steps for entry in spec.on_error)
    if not heard and steps_of(spec.blocks):
        yield Problem(
            "ESB608", f"`{spec.criticality}`, but nobody hears of its dead letters", spec.position,
            "give the criticality an `alert`, or add `on_error: [ { for: any, dead_letter: <desk>, alert: <who> } ]`",
            label="no `on_error`, no `alert`", severity="warning",
        )  # fmt: skip


# -- effects that may happen twice ------------------------------------------------------------------------------------------


def _second_effects(routes: Routes, doc: RouteDoc, forbidden: bool) -> Iterator[Problem]:
    """A POST that is sent again when its answer is lost, and that the target cannot know again."""
    assert doc.spec is not None
    for step in steps_of(doc.spec.blocks):
        target = getattr(step.step, "target", None)
        if step.kind != "to" or not isinstance(target, Target) or not _unsafe(target) or questions_of(step):
            continue
        times = _repeats(step.retry or doc.spec.retry)
        if not times:
            continue
        declared = routes.resources.places.get(target.name)
        yield Problem(
            "ESB601",
            f"a retry can take effect twice: `{target.name}` is a POST without idempotency key, sent up to {times + 1} times",
            step.position,
            "take out `idempotency_key: false`; or have it asked first: `verify: { to: …, done_when: … }` beside that",
            label="`policy.forbid` in esb.yaml has `unsafe_retry`" if forbidden else "the target cannot know it again",
            severity="error" if forbidden else "warning",
            related=((declared, "the operation is declared here"),) if declared else (),
        )


def _unsafe(target: Target) -> bool:
    sink = target.sink
    return target.protocol == "http" and sink.method == "POST" and getattr(sink, "idempotency_key", None) is False


def _repeats(retry: RetryPolicy) -> int:
    """How often a delivery is tried again after its answer was lost."""
    return retry.max if {"timeout", "unavailable", "any"} & set(retry.for_) else 0


# -- forbid -----------------------------------------------------------------------------------------------------------------


def _forbidden(message: str, at: Position, word: str, hint: str) -> Problem:
    return Problem("ESB609", message, at, hint, label=f"`policy.forbid` in esb.yaml has `{word}`")


def _open_ingress(doc: RouteDoc) -> Iterator[Problem]:
    assert doc.spec is not None
    if doc.spec.source.protocol == "http" and getattr(doc.spec.source.options, "auth", None) is None:
        hint = "add `auth: <connector>`, or credentials in place"
        yield _forbidden("everybody may send to this route", doc.spec.source.position, "open_ingress", hint)


def _inline_endpoints(doc: RouteDoc) -> Iterator[Problem]:
    assert doc.spec is not None
    for _, target in all_targets(doc.spec):
        if target.name == target.protocol and not target.connector and getattr(target.sink, "handoff", None) is None:
            hint = "declare it as an operation in connectors/<name>.yaml and name that"
            yield _forbidden(
                f"the route itself holds an address (`{target.name}`)", target.position, "inline_endpoints", hint
            )


def _drops(doc: RouteDoc) -> Iterator[Problem]:
    assert doc.spec is not None
    ways: list[WhenDown] = [doc.spec.when_down, *doc.spec.branch_when_down.values()]
    ways += [step.when_down for step in steps_of(doc.spec.blocks) if step.when_down is not None]
    if any(way.mode == "drop_after" for way in ways):
        found = next((s.position for s in _keys(doc.node, "drop_after")), doc.spec.position)
        yield _forbidden("messages are dropped in an outage", found, "drop_messages", "write `when_down: queue`")


def _continues(doc: RouteDoc) -> Iterator[Problem]:
    assert doc.spec is not None
    places = Places(doc.node)
    for step in steps_of(doc.spec.blocks):
        if step.continue_on_error and step.kind != "tap":
            at = _beside(places.of_step(step.position), step, "continue_on_error")
            yield _forbidden("a failure of this step is passed over", at, "continue_on_error", "take it out")


def _beside(node: Node, step: StepNode, name: str) -> Position:
    key = node.key(name) if isinstance(node, MapNode) else None
    return key.position if key is not None else step.position


def _keys(node: Node, name: str) -> Iterator[Node]:
    if isinstance(node, MapNode):
        for key, value in node.entries:
            if key.text == name:
                yield key
            yield from _keys(value, name)
    elif not hasattr(node, "value"):
        for item in getattr(node, "items", ()):
            yield from _keys(item, name)


#: what ``policy.forbid`` refuses in a route; ``plain_http_out`` and ``unsafe_retry`` stand for themselves
FORBIDDEN: Mapping[str, Callable[[RouteDoc], Iterator[Problem]]] = {
    "open_ingress": _open_ingress,
    "inline_endpoints": _inline_endpoints,
    "drop_messages": _drops,
    "continue_on_error": _continues,
}


def plain_http(routes: Routes, specs: Sequence[RouteSpec], connectors: Sequence[str]) -> Iterator[Problem]:
    places: dict[Position, str] = {}
    for connector in (routes.resources.connectors[name] for name in connectors):
        if connector.type == "http":
            url_node = routes.resources.connector_nodes[connector.name].get("base_url")
            at = url_node.position if url_node is not None else connector.position
            places[at] = fixed_text(getattr(connector.connection, "base_url", ""))
    for spec in specs:
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
