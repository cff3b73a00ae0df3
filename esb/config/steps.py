"""Lists of steps: from nodes to compiled blocks with stable ids.

The id of a step is its kind (``validate``), kind and target (``to:erp.usage-decision``), or its ``name``; ``#2`` marks the
second of its kind in a block. A nested block is called after its step and its place in it (``choose[0]``, ``fanout/mes``).
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

from esb.config.aliases import KEYS, SINKS, STEPS, plain, words_of
from esb.config.reader import Level, WorkspaceReader
from esb.errors import Position
from esb.language import Expression
from esb.registry import Component
from esb.spec import MISSING, ListNode, MapNode, Node, Reader, ScalarNode, option, options_of, part_of, read_options
from esb.steps.aggregate import Aggregate
from esb.steps.base import Block, OnTimeout, RetryPolicy, StepNode, Target, WhenDown
from esb.steps.paths import PathKind
from esb.steps.resequence import Resequence

if TYPE_CHECKING:
    from esb.config.resources import Resources

#: Steps of its own between those of a list: the list and its id to the list that is compiled.
Weave = Callable[[list[StepNode], str], list[StepNode]]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")


@dataclass(frozen=True, slots=True)
class Modifiers:
    """What may stand beside the name of every step."""

    name: str | None = option(
        default=None, doc="A name of your own for the step; traces and stubs use it.", example="hold"
    )
    if_: Expression | None = option(
        default=None, doc="The step runs only where this is true.", example="body.status == 'REL'"
    )
    timeout: timedelta | None = option(
        default=None, doc="Longest time of the step, everything included.", example="10s", positive=True
    )
    retry: RetryPolicy | None = option(
        default=None, doc="Retries of this step; what it leaves out comes from the route.", example="{ max: 8 }"
    )
    when_down: WhenDown | None = option(
        default=None,
        doc="What an outage of the target means for the message. With `drop_after` it is tried until it is so old, however"
        " many retries that takes, and then ends as done (dropped). With `fallback` those steps run instead, and once one of"
        " them has delivered, later attempts do not go back to the target; while they are down, too, it is tried again.",
        example="{ drop_after: 1h }",
    )
    on_timeout: OnTimeout | None = option(
        default=None,
        doc="Beside `to`: what asks the target, after an attempt without an answer, whether it has the message already.",
        example="{ verify: erp.get-order, done_when: meta.reply.status == `200` }",
        aliases=("verify",),
    )
    into: Annotated[tuple[str, ...], PathKind()] = option(
        default=(), doc="Where the target's answer, or the step's result, is kept.", example="vars.reply"
    )
    continue_on_error: bool = option(
        default=False, doc="A failure is noted in the trace and the message goes on.", example=True
    )


MODIFIERS = frozenset(spec.name for spec in options_of(Modifiers))


@dataclass(slots=True)
class Frame:
    """The step whose options are being read: its id, and where the lists of steps inside it stand."""

    id: str = ""
    places: Mapping[int, str] = field(default_factory=dict)

    def block_id(self, node: Node) -> str:
        return (self.id + self.places.get(id(node), "")).lstrip("/")


def places_of(node: Node) -> dict[int, str]:
    """For every node below ``node`` the suffix of a block that stands there: ``[0]``, ``/mes``, ``/fallback``."""
    found: dict[int, str] = {}

    def walk(inner: Node, suffix: str, listed: bool) -> None:
        found[id(inner)] = suffix
        if isinstance(inner, ListNode):
            for index, item in enumerate(inner.items):
                walk(item, f"{suffix}[{index}]", True)
        elif isinstance(inner, MapNode):
            for key, value in inner.entries:
                silent = key.text in ("steps", "branches") or (listed and key.text == "otherwise")
                walk(value, suffix if silent else f"{suffix}/{key.text}", False)

    walk(node, "", False)
    return found


def merge_retry(base: RetryPolicy, own: RetryPolicy, node: Node | None) -> RetryPolicy:
    """``own`` where it says something, ``base`` for the rest: a route overrides the parts it names."""
    if not isinstance(node, MapNode):
        return own
    said = {spec.field: getattr(own, spec.field) for spec in options_of(RetryPolicy) if node.key(spec.name) is not None}
    return dataclasses.replace(base, **said)


class StepsReader:
    """Reads blocks for one workspace; ``resources`` finds what the steps refer to."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def block(self, node: Node, block_id: str, reader: Reader) -> Any:
        """The compiled block, or MISSING after every problem in it was reported."""
        if not isinstance(node, ListNode):
            hint = "begin every step with `- `" if isinstance(node, MapNode) else "write `- ` and the step"
            return reader.problem("ESB103", f"`steps` is a list of steps, not {node.what}", node, hint=hint)
        counts: Counter[str] = Counter()
        nodes = [self._step(item, block_id, counts, reader) for item in node.items]
        if any(step is MISSING for step in nodes):
            return MISSING
        weave = self._resources.weave
        return self._block(nodes if weave is None else weave(nodes, block_id), block_id)

    def _block(self, nodes: list[StepNode], block_id: str) -> Block:
        """The steps behind an `aggregate` or a `resequence` are a block of their own, which its messages run."""
        for place, node in enumerate(nodes):
            for own in getattr(node.step, "own_blocks", _no_blocks)(node.id, node.position):
                self._resources.scope.blocks[own.id] = own
            if isinstance(node.step, (Aggregate, Resequence)):
                kind, step = node.step.head
                first = StepNode(f"{node.id}/{kind}", kind, step, node.position, waits=True)
                rest = self._block([first, *nodes[place + 1 :]], node.id)
                self._resources.scope.blocks[rest.id] = rest
                whole = dataclasses.replace(node.step, rest=rest)
                return Block((*nodes[:place], dataclasses.replace(node, step=whole)), block_id)
        return Block(tuple(nodes), block_id)

    # -- one step -----------------------------------------------------------------------------------------------------
    def _step(self, node: Node, block_id: str, counts: Counter[str], reader: Reader) -> Any:
        if not isinstance(node, MapNode):
            return self._not_a_step(node, reader)
        steps = self._resources.registry.family("step")
        named = [key for key, _ in node.entries if key.text in steps]
        if not named:
            return self._unknown_step(node, reader)
        if len(named) > 1:
            return reader.problem(
                "ESB202",
                f"two steps in one: `{named[0].text}` and `{named[1].text}`",
                named[1],
                label="a second step",
                hint=f"give it a line of its own: `- {named[1].text}: …`",
                related=((named[0].position, "the first step"),),
            )
        key = named[0]
        component = steps[key.text]
        if not self._beside(node, key, component, reader):
            return MISSING
        return self._compile(node, key, component, block_id, counts, reader)

    def _compile(
        self,
        node: MapNode,
        key: ScalarNode,
        component: Component,
        block_id: str,
        counts: Counter[str],
        reader: Reader,
    ) -> Any:
        kind = key.text
        value = node.get(kind)
        assert value is not None
        prefix = f"{block_id}/" if block_id else ""
        name = self._name(node, reader)
        level = Level("the step", MODIFIERS, key.position, kind)
        with self._resources.levels.within(level):
            tentative = name or prefix + _numbered(kind, counts[kind] + 1)
            with reader.inside(kind), self._resources.inside(Frame(tentative, places_of(value))):
                step = read_options(component.cls, value, reader)
            base, target = kind, None
            if step is not MISSING and (target := _target_of(step)) is not None:
                base = f"{kind}:{target.name}"
            counts[base] += 1
            step_id = name or prefix + _numbered(base, counts[base])
            if not name and kind == "to" and target is not None:
                counts[f"{base} by place"] += 1
                if counts[f"{base} by place"] > 1:
                    self._known_by_place(target, key, reader)
            beside = self._modifiers(node, step_id, reader)
        if step is MISSING or beside is MISSING or name is MISSING:
            return MISSING
        if name and not self._resources.claim_step(name, node, reader):
            return MISSING
        if beside.on_timeout is not None and not self._can_verify(step, beside.on_timeout, node, reader):
            return MISSING
        retry = beside.retry
        if retry is not None:
            retry = merge_retry(self._resources.base_retry, retry, node.get("retry"))
        return StepNode(
            id=step_id,
            kind=kind,
            step=step,
            position=key.position,
            waits=getattr(step, "waits", inspect.iscoroutinefunction(type(step).apply)),
            apart=getattr(step, "apart", False),
            guard=beside.if_,
            timeout=beside.timeout,
            retry=retry,
            when_down=beside.when_down,
            on_timeout=beside.on_timeout,
            into=beside.into,
            continue_on_error=beside.continue_on_error,
        )

    @staticmethod
    def _known_by_place(target: Target, key: ScalarNode, reader: Reader) -> None:
        """An endpoint in the route that is told from another by the number before it alone: what was delivered is kept under that."""
        if "." in target.name or _stays_inside(target):
            return
        reader.problem(
            "ESB612",
            f"only its place tells this `{key.text}: {{ {target.name}: … }}` from the one before it",
            key,
            label="what was delivered to it is kept under its place",
            hint="write `name: …` beside both: one more or one less then shifts nothing for messages in flight",
            severity="warning",
        )

    def _modifiers(self, node: MapNode, step_id: str, reader: Reader) -> Any:
        entries = tuple(entry for entry in node.entries if entry[0].text in MODIFIERS)
        if not entries:
            return _PLAIN
        beside = MapNode(node.position, entries)
        down = node.get("when_down")
        with self._resources.inside(Frame(step_id, places_of(down) if down is not None else {})):
            return read_options(Modifiers, beside, reader)

    @staticmethod
    def _can_verify(step: Any, policy: OnTimeout, node: MapNode, reader: Reader) -> bool:
        """True where the step sends to a system, and what asks it is one that answers."""
        given = node.get("on_timeout")
        assert given is not None
        target = getattr(step, "target", None)
        if node.get("to") is None or not isinstance(target, Target) or _stays_inside(target):
            hint = "take it out: only a `to` that waits for a system can be without its answer"
            reader.problem("ESB115", "`on_timeout` has no effect here", given, hint=hint, label="nothing to ask about")
            return False
        if _stays_inside(policy.verify):
            hint = "ask a system by `http` or `sql`"
            reader.problem("ESB105", f"`{policy.verify.name}` gives no answer", part_of(given, "verify"), hint=hint)
            return False
        return True

    def _name(self, node: MapNode, reader: Reader) -> Any:
        """The step's own name, empty where it has none; a name of the wrong type is reported with the other modifiers."""
        given = node.get("name")
        if not isinstance(given, ScalarNode) or not isinstance(given.value, str):
            return ""
        if _NAME.fullmatch(given.value):
            return given.value
        return reader.problem(
            "ESB110",
            f"`{given.value}` is no name for a step",
            given,
            hint="use letters, digits, `-`, `_` and `.`",
        )

    # -- what is wrong with a step --------------------------------------------------------------------------------------
    def _not_a_step(self, node: Node, reader: Reader) -> Any:
        steps = self._resources.registry.family("step")
        if isinstance(node, ScalarNode) and node.value is None:
            return reader.problem("ESB201", "an empty step", node, hint="take the line out, or write `- log: text`")
        if isinstance(node, ScalarNode) and str(node.value) in steps:
            return reader.problem(
                "ESB103", f"the step `{node.value}` says nothing", node, hint=f"write `- {node.value}: …`"
            )
        if isinstance(node, ScalarNode):
            found = words_of(STEPS, str(node.value))
            hint = found[1] if found else "write it like `- validate: order.v1`"
            return reader.problem("ESB103", f"a step is `name: value`, not {node.what}", node, hint=hint)
        return reader.problem("ESB103", f"a step is `name: value`, not {node.what}", node, hint="take one `- ` away")

    def _unknown_step(self, node: MapNode, reader: Reader) -> Any:
        unknown = [key for key, _ in node.entries if key.text not in MODIFIERS]
        if not unknown:
            return reader.problem(
                "ESB201",
                "this step does nothing: it has only " + ", ".join(f"`{key.text}`" for key, _ in node),
                node.entries[0][0] if node.entries else node,
                hint="add the step's name, for example `to: erp.create-order`; beside it these keys are right",
            )
        steps = self._resources.registry.family("step")
        key = next((k for k in unknown if words_of(STEPS, k.text)), unknown[0])
        word = key.text
        label, hint = words_of(STEPS, word) or ("not a step", self._step_hint(key, steps, reader))
        return reader.problem("ESB203", f"unknown step `{word}`", key, label=label, hint=hint)

    def _step_hint(self, key: ScalarNode, steps: Mapping[str, Component], reader: Reader) -> str:
        word = key.text
        if word in self._resources.registry.family("sink"):
            return f"`{word}` is an endpoint: write `to: {{ {word}: … }}`"
        if self._resources.is_operation(word):
            return f"write `to: {word}`"
        close = reader.nearest(word, steps)
        if close.startswith("did you mean"):
            return close
        for level in self._resources.levels:
            if word in level.names:
                return f"`{word}` is a key of {level.label}: {level.move_out(key)}"
        if words := words_of(SINKS, word):
            return f"{words[1]}, in `to: {{ … }}`"
        return close or "the steps are listed by `esb catalog step`"

    def _beside(self, node: MapNode, key: ScalarNode, component: Component, reader: Reader) -> bool:
        """True where every other key of the step may stand there."""
        strangers = [k for k, _ in node.entries if k is not key and k.text not in MODIFIERS]
        if not strangers:
            return True
        own = {spec.name for spec in options_of(component.cls)}
        value = node.get(key.text)
        if isinstance(value, ScalarNode) and value.value is None and strangers[0].text in own:
            reader.problem(
                "ESB112",
                f"`{strangers[0].text}` is one level too high: it belongs into `{key.text}`",
                strangers[0],
                label=f"indent it under `{key.text}`",
                hint=f"put it into column {key.position.column + 2} or further right",
            )
            return False
        for stranger in strangers:
            self._stranger(stranger, key, own, reader)
        return False

    def _stranger(self, stranger: ScalarNode, key: ScalarNode, own: set[str], reader: Reader) -> None:
        assert isinstance(reader, WorkspaceReader)
        word = stranger.text
        if word in own:
            reader.too_high(stranger, "the step", key.text)
        elif outer := next((level for level in self._resources.levels if word in level.names), None):
            reader.too_deep(stranger, "the step", outer)
        else:
            right = next((name for name in KEYS.get(plain(word), ()) if name in MODIFIERS), None)
            hint = f"here it is `{right}`" if right else reader.nearest(word, sorted(MODIFIERS | own))
            reader.problem(
                "ESB101",
                f"unknown key `{word}` beside `{key.text}`",
                stranger,
                label="not known here",
                hint=hint or "beside a step may stand: " + ", ".join(sorted(MODIFIERS)),
            )


def _numbered(base: str, number: int) -> str:
    return base if number == 1 else f"{base}#{number}"


def _target_of(step: Any) -> Target | None:
    """The target that a step sends to, if it sends."""
    for spec in options_of(step.__class__):
        value = getattr(step, spec.field)
        if isinstance(value, Target):
            return value
    return None


def _stays_inside(target: Target) -> bool:
    return getattr(target.sink, "handoff", None) is not None


def _no_blocks(id_: str, position: Position) -> tuple[Block, ...]:
    return ()


_PLAIN = Modifiers()
