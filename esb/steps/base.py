"""What a step is, and all that it may know: the message, its own options, and a :class:`Context`."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Protocol

from msgspec import Struct

from esb.clock import Clock
from esb.durations import Backoff, Rate
from esb.errors import BadRow, MessageError, Position
from esb.language import Expression
from esb.message import EMPTY, Message
from esb.spec import Kind, Node, Reader, option
from esb.steps.paths import put_in, set_path

# -- what a step answers with -------------------------------------------------------------------------------------------


class Enter(Struct, frozen=True):
    """Go on with ``message`` in a nested block, then with the step after this one."""

    block: Block
    message: Message


class Stop(Struct, frozen=True):
    """The message ends here as ``done``; ``reason`` says why (a filter, a duplicate inside a scope)."""

    reason: str


class Wait(Exception):
    """Raised by a step that wants the message to wait in the store until ``until``; no attempt is used up.

    ``PARKED`` waits for another version of the route (a new row of a table); ``reason`` is what is shown as its error.
    """

    def __init__(self, until: datetime, reason: MessageError | None = None) -> None:
        super().__init__(until.isoformat())
        self.until = until
        self.reason = reason


Answer = Message | Enter | Stop


class Step(Protocol):
    """A frozen dataclass of options with one method, plain where it does not wait and ``async`` where it does."""

    def apply(self, message: Message, context: Context) -> Answer | Awaitable[Answer]: ...


#: The kind of a step that only looks on: it stands in no file.
LOOK = "look"

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
    """What an outage of the target means for the message: one of the four modes.

    ``drop_after``: the message is tried until it is so old, however many retries that takes, and then ends as done (dropped).
    """

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
    apart: bool = False  #: never on the loop, which it could block: begins in a worker process
    guard: Expression | None = None
    timeout: timedelta | None = None
    retry: RetryPolicy | None = None
    when_down: WhenDown | None = None
    on_timeout: OnTimeout | None = None
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


class HandOff(Struct, frozen=True):
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
    even_if_dead: bool = False  #: born also where this attempt makes the message dead
    version: str = ""  #: the version that the child runs on; empty: its parent's


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
    site: str = ""  #: the site whose route this is: two of them share a place in a template
    on_timeout: OnTimeout | None = None  #: what its own `verify` asks; what stands beside a step goes before

    @property
    def system(self) -> str:
        """The name with the connector that a site made, which tells the systems of two plants apart."""
        operation = self.name.partition(".")[2]
        return f"{self.connector}.{operation}" if "@" in self.connector and operation else self.name


@dataclass(frozen=True, slots=True)
class OnTimeout:
    """How the target is asked whether it has the message, before it is sent again."""

    verify: Target = option(
        doc="The operation that asks; it must change nothing.",
        example="erp.get-order",
        aliases=("ask", "check", "query"),
    )
    done_when: Expression = option(
        doc="True where the answer (`meta.reply`) says that the target has the message.",
        example="meta.reply.status == `200`",
        aliases=("success_when", "when", "done", "until"),
    )


class Reply(Struct, frozen=True):
    """What a target answered: becomes ``meta.reply``. ``status`` is None where the protocol has none."""

    status: int | None = None
    headers: Mapping[str, str] = EMPTY
    body: Any = None

    def as_meta(self) -> dict[str, Any]:
        return {"status": self.status, "headers": dict(self.headers), "body": self.body}


# -- resources that options resolve to ----------------------------------------------------------------------------------


class ResourceKind(Kind):
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


ContractRef = Annotated[Any, ResourceKind("contract", "a contract (`<entity>.v<major>`)")]
TableRef = Annotated[Any, ResourceKind("table", "a cross-reference table")]
TransformRef = Annotated[Any, ResourceKind("transform", "a transform file (`x.jmes` or `x.j2`)")]


# -- what a step may know -----------------------------------------------------------------------------------------------


class Context(Protocol):
    """One run of one message through one version of a route."""

    @property
    def clock(self) -> Clock: ...

    @property
    def site(self) -> Mapping[str, Any]: ...

    @property
    def timezone(self) -> str:
        """The time zone of the route: its site's, else that of the bus."""
        ...

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

    @property
    def accepted_at(self) -> datetime: ...

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

    def peers(self) -> Sequence[Message]:
        """The messages that wait behind this one in its lane, in their order."""
        ...

    async def in_line(self, number: int, gap: timedelta, first: int | None) -> Literal["next", "late", "duplicate"]:
        """What becomes of this number of its lane's sequence, decided once; ``late`` was given up before it came.

        Raises Wait until every lower number has ended, or was missing for ``gap``. ``first`` begins the sequence.
        """
        ...

    async def absorb(self, count: int, message: Message) -> bool:
        """Make this message ``message`` and end the first ``count`` of its peers, at the same instant; false: they changed."""
        ...

    async def turn(self, rate: Rate) -> None:
        """Wait for the message's turn at this step, at ``rate`` over all its messages. Raises Wait where that is long."""
        ...

    async def deliver(self, target: Target, message: Message, *, ledger: bool = True) -> Reply:
        """Send once under the stable delivery id; a delivery that was confirmed before is answered from the ledger.

        Applies the connector's limits and circuit, and the step's total deadline. Raises MessageError.
        """
        ...

    async def ask(self, target: Target, message: Message, *, cache: timedelta | None = None) -> Reply:
        """Send a question that changes nothing at the target, every time; with ``cache`` an equal one is answered from memory.

        The cache is this process's own and bounded. Raises MessageError.
        """
        ...

    async def copy(self, target: Target, message: Message) -> None:
        """Send a copy; a failure is noted in the trace and never fails the message."""
        ...

    async def report(self, reason: str, rows: Sequence[BadRow], *, whole: bool) -> str:
        """Have the source tell the sender which rows were not taken; where it lies, empty where the source has no place.

        ``whole``: nothing of the delivery was taken, so it lies there, too. Raises Unavailable while that cannot be done.
        """
        ...

    async def compensable(self, message: Message) -> Sequence[str]:
        """Keep the message for the compensation of the deliveries confirmed since the last call; the steps that it covers."""
        ...

    async def within(self, block: Block, message: Message) -> Answer:
        """Run a nested block to its end now (a fallback); most steps answer :class:`Enter` instead."""
        ...


__all__ = [
    "LOOK",
    "Answer",
    "Block",
    "Context",
    "Contract",
    "ContractRef",
    "Enter",
    "HandOff",
    "MessageError",
    "OnTimeout",
    "Reply",
    "ResourceKind",
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
