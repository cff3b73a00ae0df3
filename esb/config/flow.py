"""What is known of a message at each step of a route, and the fields that a step reads although they can never be there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from esb.config.assets import BROKEN
from esb.config.channels import Channel, Channels, Said
from esb.config.flow_made import misfits
from esb.config.flow_places import Places
from esb.config.flow_reports import Reports, Touched, Use
from esb.config.resources import Resources
from esb.config.routes import RouteDoc, parts_of, questions_of
from esb.contracts import JsonContract
from esb.endpoints.http_verify import Verify
from esb.errors import Position, Problem
from esb.language import Expression, TextTemplate
from esb.language.inference import Finding, Seen
from esb.language.shapes import UNKNOWN, Built, Listed, Origin, Shape, both, either, set_in
from esb.language.workspace import WorkspaceLanguage
from esb.spec import ListNode, MapNode, Node, ScalarNode
from esb.spec.parts import parts
from esb.steps.base import Block, StepNode, Target
from esb.transforms import JinjaTransform, JmesTransform

#: steps after which a message is as it was before
_KEEPS = frozenset(
    {"validate", "choose", "filter", "split", "fanout", "publish", "to", "dedupe", "throttle", "delay", "tap", "respond",
     "compensate", "reject", "log", "remove", "gather", "resequence", "line", "claim", "fetch", "await"}
)  # fmt: skip
#: steps whose new body nobody can foresee; those that are not named at all may set what they like
_ANEW = frozenset({"parse", "format", "enrich", "python"})
_READ = _KEEPS | _ANEW | {"map", "set", "transform", "lookup", "aggregate"}
META = (
    "message_id", "correlation_id", "route", "key", "version", "received_at", "attempt", "reply", "error", "split",
    "aggregate", "resequence", "compensation", "source", "params", "query", "path", "client", "content_type", "compensation", "file_name", "file_path", "file_size",
    "file_modified", "slot", "after", "delivery_id",
)  # fmt: skip
_META = Built(dict.fromkeys(META, UNKNOWN), Origin("`meta`"), open=True)


@dataclass(frozen=True, slots=True)
class State:
    """What is known of a message: its body, and the variables that were set so far.

    ``said`` are the places that say it where they are in another route.
    """

    body: Shape = UNKNOWN
    vars: Shape = UNKNOWN
    said: Said = ()

    @property
    def root(self) -> Shape:
        parts = {"body": self.body, "vars": self.vars, "meta": _META, "headers": UNKNOWN, "site": UNKNOWN}
        return Built(parts)

    def set(self, path: Sequence[str], value: Shape) -> State:
        if path[0] == "body":
            return replace(self, body=set_in(self.body, path[1:], value))
        return replace(self, vars=set_in(self.vars, path[1:], value)) if path[0] == "vars" else self

    def or_(self, other: State) -> State:
        if other is self:
            return self
        said = tuple(dict.fromkeys((*self.said, *other.said)))
        return State(either([self.body, other.body]), either([self.vars, other.vars]), said)

    def anew(self, body: Shape) -> State:
        """The same with a body of this route's own making."""
        return replace(self, body=body, said=())


NOTHING_KNOWN = State()


def check_flow(docs: Sequence[RouteDoc], resources: Resources) -> list[Problem]:
    """Every field and variable that a route reads although it cannot be there. What is not known is not judged."""
    return _walked(docs, resources).problems()


def known_at(docs: Sequence[RouteDoc], resources: Resources) -> list[Shape]:
    """What is known at the fields that are called :data:`~esb.language.inference.PROBE`, for editors."""
    return _walked(docs, resources).asked


def touched_by(docs: Sequence[RouteDoc], resources: Resources) -> list[Touched]:
    """Every field that these routes read or write, as far as it is known where it belongs."""
    return _walked(docs, resources, touched=[]).touched or []


def _walked(docs: Sequence[RouteDoc], resources: Resources, touched: list[Touched] | None = None) -> Reports:
    reports, language = Reports(resources), resources.plain_language
    reports.touched = touched
    channels = Channels(docs, whole=not resources.broken)
    for doc in channels.in_order():
        if isinstance(language, WorkspaceLanguage):
            _Route(doc, resources, language, reports, channels).check()
    return reports


class _Route:
    """One route: walks its blocks with what is known at each place."""

    def __init__(
        self, doc: RouteDoc, resources: Resources, language: WorkspaceLanguage, reports: Reports, channels: Channels
    ) -> None:
        assert doc.spec is not None
        self._doc, self._channels = doc, channels
        self._spec, self._resources, self._language = doc.spec, resources, language
        self._places = Places(doc.node)
        self._reports = reports.of(doc.spec.name, doc)

    def check(self) -> None:
        spec = self._spec
        body, said = self._channels.heard(self._doc)
        contract = self._contract(getattr(spec.source.options, "contract", None))
        state = State(both(body, contract), Built({}), said)
        heads = [spec.key, spec.order.overtake, *spec.track.values()]
        for part in (*heads, spec.dedupe.key if spec.dedupe else None):
            if part is not None:
                self._read(part, state, self._places.top, spec.position)
        self._block(spec.steps, state)

    # -- steps ----------------------------------------------------------------------------------------------------------
    def _block(self, block: Block, state: State) -> State:
        for step in block.nodes:
            after = self._step(step, state)
            if step.guard is not None or step.continue_on_error:
                after = after.or_(state)
            state = after
        return state

    def _step(self, step: StepNode, state: State) -> State:
        node = self._places.of_step(step.position)
        if step.kind not in _READ:
            self._inner(step, NOTHING_KNOWN)
            return NOTHING_KNOWN
        if step.guard is not None:
            self._read(step.guard, state, node, step.position)
        for policy in questions_of(step):
            self._target(policy.verify, state, node)
            self._read(policy.done_when, state, node, step.position)
        after = self._own(step, state, node)
        if step.into:
            return state.set(step.into, UNKNOWN)
        return after

    def _own(self, step: StepNode, state: State, node: Node) -> State:
        body: Any = step.step
        match step.kind:
            case "map":
                return state.anew(self._mapped(_value_of(node, "map"), state, step))
            case "set":
                return self._set(body, state, node, step)
            case "transform":
                return state.anew(self._transform(body, state, node, step))
            case "validate":
                return self._validated(body, state, node, step)
            case "choose":
                return self._choose(body, state, node, step)
            case "aggregate":
                return self._aggregate(body, state, node, step)
            case "gather":
                return state
            case "publish":
                self._publish(body, state, node, step)
            case "split":
                self._split(body, state, node, step)
            case _:
                self._options(body, state, node, step)
                self._inner(step, state)
        if step.kind in _ANEW:
            return state if step.into else state.anew(UNKNOWN)
        for path in getattr(body, "writes", ()):
            state = state.set(path, UNKNOWN)
        return state

    def _inner(self, step: StepNode, state: State) -> None:
        for block in getattr(step.step, "blocks", ()):
            self._block(block, state)
        if step.when_down is not None and step.when_down.block is not None:
            self._block(step.when_down.block, state)

    def _mapped(self, node: Node | None, state: State, step: StepNode, path: str = "body") -> Shape:
        made = Origin(f"the body that the `map` in line {step.position.line} makes", lambda: step.position)
        match node:
            case MapNode():
                fields = {}
                for key, value in node:
                    name = key.text.removesuffix("?")
                    self._reports.written(f"{path}.{name}", key.position)
                    fields[name] = self._mapped(value, state, step, f"{path}.{name}")
                return Built(fields, made)
            case ListNode():
                return Listed(
                    either([self._mapped(item, state, step, path) for item in node]) if node.items else UNKNOWN
                )
            case ScalarNode() if isinstance(node.value, str):
                return self._read(self._language.expression(node.value), state, node, step.position)
        return UNKNOWN

    def _set(self, body: Any, state: State, node: Node, step: StepNode) -> State:
        for path, expression in body.values.entries:
            self._reports.written(".".join(path), step.position)
            state = state.set(path, self._read(expression, state, node, step.position))
        return state

    def _transform(self, body: Any, state: State, node: Node, step: StepNode) -> Shape:
        if body.jmespath is not None:
            return self._read(body.jmespath, state, node, step.position)
        if body.jinja is not None:
            self._read(body.jinja, state, node, step.position)
            return UNKNOWN
        path = f"transforms/{body.file.name}"
        inside: Expression | TextTemplate | None = None
        match body.file:
            case JmesTransform(expression=inside) | JinjaTransform(template=inside):
                pass
        if inside is None:
            return UNKNOWN
        findings: list[Finding] = []
        trail: list[Seen] = []
        made = Origin(path, lambda: Position(path))
        files: dict[str, list[Finding]] = {}
        shape = self._language.look_into(inside, state.root, findings.append, made, trail, files)
        self._reports.seen(trail, None, step.position)
        for place, found in ((path, findings), *((f"transforms/{name}", own) for name, own in files.items())):
            self._reports.file(place, Use(step.position, tuple(found), said=state.said))
        return shape if isinstance(inside, Expression) else UNKNOWN

    def _validated(self, body: Any, state: State, node: Node, step: StepNode) -> State:
        contract = self._contract(body.contract)
        if body.as_ is None:
            place = self._places.scalar(node, body.contract.name)
            self._reports.made(misfits(state.body, contract, place.position if place is not None else step.position))
            return replace(state, body=both(state.body, contract))
        self._read(body.as_, state, node, step.position)
        return state

    def _choose(self, body: Any, state: State, node: Node, step: StepNode) -> State:
        ends = []
        for case in body.branches.cases:
            self._read(case.when, state, node, step.position)
            ends.append(self._block(case.steps, state))
        rest = body.branches.otherwise
        end = self._block(rest, state) if rest is not None else state
        for other in ends:
            end = end.or_(other)
        return end

    def _aggregate(self, body: Any, state: State, node: Node, step: StepNode) -> State:
        self._read(body.by, state, node, step.position)
        after = state.set(body.into, Listed(state.body))
        if body.complete.when is not None:
            self._read(body.complete.when, after, node, step.position)
        self._block(body.rest, after if step.guard is None else after.or_(state))
        return state

    def _publish(self, body: Any, state: State, node: Node, step: StepNode) -> None:
        given = state.body
        for part in _readers(body):
            shape = self._read(part, state, node, step.position)
            given = shape if part is body.body else given
        self._channels.sends(Channel("topic", body.topic), given, step.position, self._spec.name)

    def _split(self, body: Any, state: State, node: Node, step: StepNode) -> None:
        items = self._read(body.each, state, node, step.position)
        inner = replace(state, body=items.items() if items.can_be("array") else UNKNOWN)
        for part in (body.key, body.dedupe.key if body.dedupe else None):
            if part is not None:
                self._read(part, inner, node, step.position)
        self._block(body.steps, inner)

    # -- what is read ---------------------------------------------------------------------------------------------------
    def _options(self, body: Any, state: State, node: Node, step: StepNode) -> None:
        """Every expression and template among the options of a step, those of its targets included."""
        for target in parts_of(body, Target):
            self._target(target, state, node)
            if target.protocol in ("topic", "route"):
                channel = Channel(target.protocol, getattr(target.sink, target.protocol))
                fits = self._fits(channel, state, target)
                self._channels.sends(channel, state.body if fits else UNKNOWN, step.position, self._spec.name)
        for part in _readers(body):
            self._read(part, state, node, step.position)

    def _fits(self, channel: Channel, state: State, target: Target) -> bool:
        """Hold what is handed over against the contract of the route that takes it; False where that always refuses it."""
        wanted = self._channels.wanted(channel)
        if wanted is None:
            return True
        contract, place = wanted
        related = ((place, f"the route `{channel.name}` takes nothing else"),)
        found = list(misfits(state.body, self._contract(contract), target.position))
        self._reports.made(replace(one, related=(*one.related, *related)) for one in found)
        return not found

    def _target(self, target: Target, state: State, node: Node) -> None:
        sink = target.sink
        each = getattr(sink, "each", None) or getattr(getattr(sink, "batch", None), "each", None)
        if each is not None:
            items = self._read(each, state, node, target.position, target)
            state = replace(state, body=items.items() if items.can_be("array") else UNKNOWN)
        for part in _readers(sink):
            if part is not each and not (each is not None and part in _answers(sink)):
                self._read(part, state, node, target.position, target)

    def _read(
        self,
        part: Expression | TextTemplate,
        state: State,
        node: Node,
        at: Position,
        target: Target | None = None,
    ) -> Shape:
        """Hold one expression or template against what is known; gives what it gives."""
        findings: list[Finding] = []
        trail: list[Seen] | None = [] if self._reports.all.touched is not None else None
        files: dict[str, list[Finding]] = {}
        shape = self._language.look_into(part, state.root, findings.append, trail=trail, files=files)
        for name, found in files.items():
            self._reports.file(f"transforms/{name}", Use(at, tuple(found), said=state.said))
        if findings or trail:
            where = self._places.scalar(node, part.text)
            self._reports.findings(findings, where, at, target, state.said)
            self._reports.seen(trail or (), where, at)
        return shape

    def _contract(self, contract: Any) -> Shape:
        if not isinstance(contract, JsonContract) or contract is BROKEN:
            return UNKNOWN
        return contract.shape(self._resources.assets.place_in)


def _value_of(node: Node, name: str) -> Node | None:
    return node.get(name) if isinstance(node, MapNode) else None


def _answers(sink: Any) -> list[Any]:
    """What speaks of the answer as a whole, also where items are sent."""
    return [getattr(sink, name, None) for name in ("success_when", "retry_when", "rejected_message")]


def _readers(value: Any) -> list[Expression | TextTemplate]:
    """Every expression and template in some options; targets, what asks them and nested steps are left out."""
    return parts(value, (Expression, TextTemplate), (Block, StepNode, Target, Verify))
