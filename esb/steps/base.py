"""What a step is, and all that it may know: the message, its own options, and a :class:`Context`."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Protocol

from esb.clock import Clock
from esb.durations import Backoff
from esb.errors import InternalFault, MessageError, Position
from esb.language import Expression
from esb.message import EMPTY, Message
from esb.spec import Kind, Node, Reader, option

# -- what a step answers with -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Enter:
    """Go on with ``message`` in a nested block, then with the step after this one."""

    block: Block
    message: Message


@dataclass(frozen=True, slots=True)
class Stop:
    """The message ends here as ``done``; ``reason`` says why (a filter, a duplicate inside a scope)."""

    reason: str


class Wait(Exception):
    """Raised by a step that wants the message to wait in the store until ``until``; no attempt is used up."""

    def __init__(self, until: datetime) -> None:
        super().__init__(until.isoformat())
        self.until = until


Answer = Message | Enter | Stop


class Step(Protocol):
    """A frozen dataclass of options with one method, plain where it does not wait and ``async`` where it does."""

    def apply(self, message: Message, context: Context) -> Answer | Awaitable[Answer]: ...


# -- the compiled tree --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long a failed step is tried again."""

    for_: tuple[Literal["timeout", "unavailable", "rejected", "invalid", "unmapped", "internal", "any"], ...] = option(
        default=("timeout", "unavailable"), doc="Error classes that are tried again.", example="[timeout, unavailable]"
    )
    max: int = option(
        default=5,
        doc="Attempts after the first.",
        example=8,
        minimum=0,
        maximum=10_000,
        aliases=("attempts", "count", "retries", "max_attempts", "limit"),
    )
    backoff: Backoff = option(
        default=Backoff(timedelta(seconds=2), timedelta(minutes=5)),
        doc="First and longest wait; it doubles between them.",
        example="2s..5m",
        aliases=("delay", "wait", "interval", "initial"),
    )
    jitter: Literal["full", "none"] = option(
        default="full", doc="`full` draws each wait between zero and its length.", example="full"
    )
    within: timedelta | None = option(default=None, doc="Give up after this time since acceptance.", example="24h")


class WhenDownKind(Kind):
    """``queue``, ``{ reject: 503 }``, ``{ fallback: [steps] }`` or ``{ drop_after: 1h }``, read by the workspace loader."""

    label = "`queue`, `reject: <status>`, `fallback: <steps>` or `drop_after: <duration>`"

    def read(self, node: Node, reader: Reader) -> Any:
        return reader.resources.when_down(node, reader)

    def schema(self) -> dict[str, Any]:
        one = {"reject": {"type": "integer"}, "fallback": {"$ref": "#/$defs/steps"}, "drop_after": {"type": "string"}}
        objects = [{"type": "object", "properties": {name: schema}, "required": [name]} for name, schema in one.items()]
        return {"anyOf": [{"const": "queue"}, *objects]}


@dataclass(frozen=True, slots=True)
class WhenDown:
    """What an outage of the target means for the message: one of the four modes."""

    kind = WhenDownKind()
    mode: Literal["queue", "reject", "fallback", "drop_after"] = "queue"
    status: int = 503
    block: Block | None = None
    drop_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class StepNode:
    """One step of a compiled route.

    ``id`` is its stable name inside the route (``to:erp.usage-decision``, ``choose[0]/set``, the step's ``name`` where it has
    one); delivery ids and traces use it, so editing other steps does not change it.
    """

    id: str
    kind: str
    step: Step
    position: Position
    waits: bool = False
    guard: Expression | None = None
    timeout: timedelta | None = None
    retry: RetryPolicy | None = None
    when_down: WhenDown | None = None
    into: tuple[str, ...] = ()
    continue_on_error: bool = False


class BlockKind(Kind):
    """A list of steps, read by the workspace loader (``resources.steps``)."""

    label = "a list of steps"

    def read(self, node: Node, reader: Reader) -> Any:
        return reader.resources.steps(node, reader)

    def schema(self) -> dict[str, Any]:
        return {"$ref": "#/$defs/steps"}


@dataclass(frozen=True, slots=True)
class Block:
    """A compiled list of steps. ``id`` is its place: empty for the route's own list, ``fanout/mes`` for a branch."""

    kind = BlockKind()
    nodes: tuple[StepNode, ...] = ()
    id: str = ""


# -- hand-offs ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HandOff:
    """A message that is born when this one is settled, in the same transaction.

    ``kind``: ``branch`` and ``split`` go on inside the same route at block ``target`` (its scope); ``topic`` goes to every
    route that subscribes to ``target``; ``route`` goes to the route ``target``. ``place`` makes the child's delivery
    ids stable: it must be the same on every run of the same message (``split[17]``, ``fanout/mes``).
    """

    kind: Literal["branch", "split", "topic", "route"]
    target: str
    message: Message
    place: str
    key: str | None = None
    keep_key: bool = True  #: without a ``key`` of its own the child keeps its parent's
    dedupe: str | None = None
    dedupe_window: timedelta | None = None


# -- sinks, as steps see them ---------------------------------------------------------------------------------------------


class TargetKind(Kind):
    """``erp.usage-decision`` (connector and operation) or an inline endpoint ``{ http: { … } }``."""

    label = "a connector's operation or an endpoint"
    takes_mapping = True

    def read(self, node: Node, reader: Reader) -> Any:
        return reader.resources.target(node, reader)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/sink"}]}


@dataclass(frozen=True, slots=True)
class Target:
    """Where ``to`` sends: a sink with its options, and the connector whose connection and limits it shares.

    ``name`` is the word of messages and metrics: ``erp.usage-decision``, or ``http`` for an inline endpoint.
    ``connector`` is empty for an inline endpoint without one.
    """

    kind = TargetKind()
    name: str
    protocol: str
    connector: str
    sink: Any
    position: Position


@dataclass(frozen=True, slots=True)
class Reply:
    """What a target answered: becomes ``meta.reply``. ``status`` is None where the protocol has none."""

    status: int | None = None
    headers: Mapping[str, str] = field(default=EMPTY)
    body: Any = None

    def as_meta(self) -> dict[str, Any]:
        return {"status": self.status, "headers": dict(self.headers), "body": self.body}


# -- resources that options resolve to ----------------------------------------------------------------------------------


class _ResourceKind(Kind):
    """An option that names a thing of the workspace; ``resources.<method>(name, node, reader)`` finds it."""

    def __init__(self, method: str, label: str) -> None:
        self.method, self.label = method, label

    def read(self, node: Node, reader: Reader) -> Any:
        return getattr(reader.resources, self.method)(node, reader)

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


class Contract(Protocol):
    """A JSON Schema, compiled. ``name`` is ``inspection-result.v1``."""

    name: str

    def check(self, body: Any) -> None:
        """Raise :class:`~esb.errors.Invalid` with every violation."""
        ...


class Table(Protocol):
    """A cross-reference table. Raises :class:`~esb.errors.Unmapped` where ``value`` has no row."""

    name: str

    def find(
        self, value: Any, *, column: str | None = None, site: Mapping[str, Any] = EMPTY, on: datetime | None = None
    ) -> Any: ...

    def reverse(
        self, value: Any, *, column: str | None = None, site: Mapping[str, Any] = EMPTY, on: datetime | None = None
    ) -> Any:
        """What the table is keyed by, where ``column`` is ``value``."""
        ...


class Transform(Protocol):
    """A ``.jmes`` or ``.j2`` file, compiled."""

    name: str

    def apply(self, scope: Mapping[str, Any]) -> Any: ...


ContractRef = Annotated[Any, _ResourceKind("contract", "a contract (`<entity>.v<major>`)")]
TableRef = Annotated[Any, _ResourceKind("table", "a cross-reference table")]
TransformRef = Annotated[Any, _ResourceKind("transform", "a transform file (`x.jmes` or `x.j2`)")]


# -- what a step may know -----------------------------------------------------------------------------------------------


class Context(Protocol):
    """One run of one message through one version of a route."""

    @property
    def clock(self) -> Clock: ...

    @property
    def site(self) -> Mapping[str, Any]: ...

    @property
    def route(self) -> str: ...

    @property
    def message_id(self) -> str: ...

    @property
    def step(self) -> str:
        """Id of the step that runs now."""
        ...

    @property
    def attempt(self) -> int: ...

    def scope(self, message: Message) -> dict[str, Any]:
        """The names that expressions and templates see."""
        ...

    def emit(self, handoff: HandOff) -> None:
        """Have a message born when this one is settled."""
        ...

    def note(self, **facts: Any) -> None:
        """Add facts about this step to the trace; small plain values, never secrets."""
        ...

    def log(self, level: str, text: str, **fields: Any) -> None: ...

    def respond(self, status: int, headers: Mapping[str, str], body: Any) -> None:
        """Set the synchronous answer (``reply: delivered``)."""
        ...

    def recall(self, step: str) -> Any:
        """What :meth:`remember` kept for this message on an earlier attempt, else None."""
        ...

    def remember(self, step: str, value: Any) -> None:
        """Keep a small JSON value for later attempts of this message."""
        ...

    async def claim(self, key: str, window: timedelta) -> bool:
        """True if this message owns ``key`` in this step (durable; a retry of the same message still owns it)."""
        ...

    async def deliver(self, target: Target, message: Message, *, ledger: bool = True) -> Reply:
        """Send once under the stable delivery id; a delivery that was confirmed before is answered from the ledger.

        Applies the connector's limits and circuit, and the step's total deadline. Raises MessageError.
        """
        ...

    async def copy(self, target: Target, message: Message) -> None:
        """Send a copy; a failure is noted in the trace and never fails the message."""
        ...

    async def within(self, block: Block, message: Message) -> Answer:
        """Run a nested block to its end now (a fallback); most steps answer :class:`Enter` instead."""
        ...


def set_path(message: Message, path: Sequence[str], value: Any) -> Message:
    """The message with ``vars.x``, ``headers.x`` or ``body.x.y`` set; objects on the way are copied or made.

    ``("body",)`` replaces the whole body. Raises InternalFault where a part of the path is not an object.
    """
    root = path[0]
    changed = value if len(path) == 1 else put_in(getattr(message, root), path, 1, value)
    if root == "vars":
        return message.derive(vars=changed)
    return message.derive(body=changed) if root == "body" else message.derive(headers=changed)


def put_in(container: Any, path: Sequence[str], index: int, value: Any) -> Any:
    """``container`` (the part of a message at ``path[:index]``) with ``value`` at the rest of ``path``; a copy, always.

    Null counts as an empty object. Raises InternalFault where a part of the path is not an object.
    """
    if container is None:
        container = EMPTY
    elif not isinstance(container, Mapping):
        raise InternalFault(
            f"cannot set `{'.'.join(path)}`: `{'.'.join(path[:index])}` is {_in_words(container)}, not an object",
            hint=f"set `{'.'.join(path[:index])}` as a whole, or guard the step with `if`",
        )
    name = path[index]
    if index + 1 < len(path):
        value = put_in(container.get(name), path, index + 1, value)
    return {**container, name: value}


def _in_words(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, str):
        return "a text"
    return "raw bytes" if isinstance(value, bytes) else "a single value"


__all__ = [
    "Answer",
    "Block",
    "Context",
    "Contract",
    "ContractRef",
    "Enter",
    "HandOff",
    "MessageError",
    "Reply",
    "RetryPolicy",
    "Step",
    "StepNode",
    "Stop",
    "Table",
    "TableRef",
    "Target",
    "Transform",
    "TransformRef",
    "Wait",
    "WhenDown",
    "put_in",
    "set_path",
]
