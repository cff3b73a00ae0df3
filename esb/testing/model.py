"""A route test as it is written: suites, cases, what is sent, what goes wrong, what is expected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from esb.config.stubs import Beside, Stub
from esb.errors import Position
from esb.message import EMPTY
from esb.spec import Kind, MapNode, Node, Reader, ScalarNode, option, part_of

StateWord = Literal[
    "done", "dead", "waiting", "held", "queued", "expired", "duplicate", "superseded", "discarded", "refused"
]
_PAYLOADS = ("file", "json", "body")
_NOWHERE = Position("")


class InstantKind(Kind):
    label = "an instant with its zone"

    def read(self, node: Node, reader: Reader) -> Any:
        if isinstance(node, ScalarNode) and isinstance(node.value, str):
            try:
                instant = datetime.fromisoformat(node.value)
            except ValueError:
                instant = None
            if instant is not None and instant.tzinfo is not None:
                return instant
        return reader.wrong_type(node, self, hint="write it like `2026-05-31T06:00:00+02:00`")

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "date-time"}


def _keep_places(target: Any, node: Node) -> None:
    """Where each key of a mapping stands, for the words of a failed expectation."""
    places = {key.text: key.position for key, _ in node.entries} if isinstance(node, MapNode) else {}
    object.__setattr__(target, "position", node.position)
    object.__setattr__(target, "places", places)


@dataclass(frozen=True, slots=True)
class Send:
    """One message, as a source hands it over."""

    file: Beside | None = option(
        default=None, doc="Payload from a file, named from the folder of the test.", example="samples/reject.json"
    )
    json: Any = option(default=None, doc="Payload as it is written here, sent as JSON.", example="{ lot: '4711' }")
    body: str | None = option(
        default=None, doc="Payload as a text, written in the `encoding` of the source's format.", example="LOT;QTY"
    )
    headers: Mapping[str, str] = option(default=EMPTY, doc="Headers.", example="{ content-type: text/csv }")
    params: Mapping[str, str] = option(
        default=EMPTY, doc="The `{names}` of an HTTP path.", example="{ entity: defect }"
    )
    query: str = option(default="", doc="Query of an HTTP request.", example="dry=1")
    meta: Mapping[str, Any] = option(
        default=EMPTY, doc="What another source knows of it.", example="{ file_name: a.csv }"
    )
    route: str = option(default="", doc="One of `with`, where the message goes to another route.", example="qms-hold")
    times: int = option(default=1, doc="How often the same is sent.", example=2, minimum=1, maximum=1000)
    at: timedelta | None = option(default=None, doc="When, from the start of the case.", example="10m")
    after: timedelta | None = option(default=None, doc="When, from what was sent before.", example="30s")

    def check(self, node: Node, reader: Reader) -> None:
        given = [name for name in _PAYLOADS if isinstance(node, MapNode) and node.get(name) is not None]
        if len(given) != 1:
            reader.problem(
                "ESB107",
                "`send` has exactly one of `file`, `json` and `body`",
                part_of(node, given[1]) if given else node,
                hint="for example `json: { lot: '4711' }`",
            )
        if self.at is not None and self.after is not None:
            reader.problem("ESB107", "`at` or `after`, not both", part_of(node, "after"))


@dataclass(frozen=True, slots=True)
class Outage:
    """A system that cannot be reached."""

    target: str = option(doc="A connector, or one of its operations.", example="erp", shorthand=True)
    for_: timedelta | None = option(default=None, doc="How long; for ever without it.", example="10m")
    at: timedelta = option(default=timedelta(0), doc="From when on, from the start of the case.", example="5m")


@dataclass(frozen=True, slots=True)
class Slow:
    """A system that takes its time."""

    target: str = option(doc="A connector, or one of its operations.", example="erp")
    by: timedelta = option(doc="How long it takes to answer.", example="20s")


@dataclass(frozen=True, slots=True)
class ClockJump:
    """Somebody sets the clock of the machine."""

    forward: timedelta | None = option(default=None, doc="By how much it is put forward.", example="1h")
    back: timedelta | None = option(default=None, doc="By how much it is put back.", example="1h")
    at: timedelta = option(default=timedelta(0), doc="When, from the start of the case.", example="5m")

    def check(self, node: Node, reader: Reader) -> None:
        if (self.forward is None) == (self.back is None):
            reader.problem("ESB107", "`clock_jump` has exactly one of `forward` and `back`", node)

    @property
    def by(self) -> timedelta:
        return self.forward if self.forward is not None else -(self.back or timedelta(0))


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong in a case."""

    kill_after: str = option(
        default="",
        doc="The process dies when this target has taken the message, before the bus knows it, and starts again.",
        example="'to:erp.usage-decision'",
    )
    duplicate: bool = option(default=False, doc="Everything is sent twice.", example=True)
    reorder: bool = option(default=False, doc="What is sent arrives last first.", example=True)
    late: timedelta | None = option(
        default=None, doc="What is sent first arrives this much later than it says.", example="10m"
    )
    half_file: bool = option(default=False, doc="Half of each payload arrives first, then the whole.", example=True)
    outage: tuple[Outage, ...] = option(default=(), doc="Systems that are down.", example="{ target: erp, for: 10m }")
    slow: tuple[Slow, ...] = option(default=(), doc="Systems that are slow.", example="{ target: erp, by: 20s }")
    lying: tuple[str, ...] = option(
        default=(),
        doc="Targets that answer as if they had taken a message, and have not.",
        example="[erp.usage-decision]",
    )
    partial_update: tuple[str, ...] = option(
        default=(),
        doc="Targets that take each message and break off before they answer, the first time.",
        example="[erp.usage-decision]",
    )
    clock_jump: ClockJump | None = option(default=None, doc="The clock is set.", example="{ back: 1h, at: 5m }")


@dataclass(frozen=True, slots=True)
class ErrorWanted:
    """The error of a dead message."""

    class_: str = option(default="", doc="Its class.", example="rejected", shorthand=True)
    step: str = option(default="", doc="Its step; the end of the id is enough.", example="'to:erp.usage-decision'")
    message: str = option(default="", doc="What its words contain.", example="M7/021")
    pointer: str = option(default="", doc="Where in the payload.", example="/lot/id")
    dead_letter: str = option(default="", doc="Its dead letter queue.", example="erp")


@dataclass(frozen=True, slots=True)
class SentWanted:
    """Deliveries that a target took. Values of `json` must be there; more may be."""

    to: str = option(doc="The target.", example="erp.usage-decision")
    times: int = option(
        default=1, doc="How many different deliveries; a repeat under the same id counts once.", example=1, minimum=0
    )
    calls: int | None = option(
        default=None, doc="How often the target was asked, failures and repeats included.", example=3, minimum=0
    )
    json: Any = option(default=None, doc="What the body contains.", example="{ UsageDecision: R }")
    body: str | None = option(default=None, doc="The body as a text contains this.", example="UNH+")
    headers: Mapping[str, str] = option(default=EMPTY, doc="Headers, exactly.", example="{ x-plant: P10 }")
    path: str = option(default="", doc="Path of an HTTP request, exactly.", example="/lots/4711")
    method: str = option(default="", doc="Method of an HTTP request.", example="PATCH")
    position: Position = field(default=_NOWHERE, compare=False)
    places: Mapping[str, Position] = field(default=EMPTY, compare=False)

    def check(self, node: Node, reader: Reader) -> None:
        _keep_places(self, node)


@dataclass(frozen=True, slots=True)
class FileWanted:
    """A file that a `file` or `sftp` sink wrote, as the sink makes it."""

    path: str = option(
        doc="Its path, as the sink names it; `*` stands for anything.", example="out/4711.json", shorthand=True
    )
    times: int = option(default=1, doc="How many such files, or blocks of one.", example=1, minimum=0)
    json: Any = option(default=None, doc="What its format reads in it contains this.", example="[ { lot: '4711' } ]")
    body: str | None = option(default=None, doc="Its text contains this.", example="4711;12.10")
    position: Position = field(default=_NOWHERE, compare=False)
    places: Mapping[str, Position] = field(default=EMPTY, compare=False)

    def check(self, node: Node, reader: Reader) -> None:
        _keep_places(self, node)


@dataclass(frozen=True, slots=True)
class RowsWanted:
    """Rows that an `sql` sink sent: the values that it binds, by the names of its parameters."""

    to: str = option(doc="The target.", example="erp-db.posting", shorthand=True)
    times: int = option(default=1, doc="How many rows.", example=1, minimum=0)
    json: Any = option(default=None, doc="What a row contains.", example="{ lot: '4711', qty: 12.10 }")
    position: Position = field(default=_NOWHERE, compare=False)
    places: Mapping[str, Position] = field(default=EMPTY, compare=False)

    def check(self, node: Node, reader: Reader) -> None:
        _keep_places(self, node)


@dataclass(frozen=True, slots=True)
class PublishedWanted:
    """Messages handed to a topic or another route."""

    topic: str = option(doc="The topic; `alert.<name>` is an alert.", example="quality.lot-blocked", shorthand=True)
    times: int = option(default=1, doc="How many.", example=1, minimum=0)
    json: Any = option(default=None, doc="What the body contains.", example="{ lot: '4711' }")
    headers: Mapping[str, str] = option(default=EMPTY, doc="Headers, exactly.", example="{ x-plant: P10 }")
    position: Position = field(default=_NOWHERE, compare=False)
    places: Mapping[str, Position] = field(default=EMPTY, compare=False)

    def check(self, node: Node, reader: Reader) -> None:
        _keep_places(self, node)


@dataclass(frozen=True, slots=True)
class ResponseWanted:
    """The answer that the sender got over HTTP."""

    status: int | None = option(default=None, doc="Status.", example=202, shorthand=True)
    json: Any = option(default=None, doc="What the body contains.", example="{ state: queued }")
    headers: Mapping[str, str] = option(default=EMPTY, doc="Headers, exactly.", example="{ retry-after: '5' }")


@dataclass(frozen=True, slots=True)
class BranchWanted:
    """The messages of a branch of `fanout`, or of the items of a `split`."""

    state: tuple[StateWord, ...] = option(doc="One for all of them, or one for each.", example="done", shorthand=True)
    attempts: tuple[int, ...] = option(default=(), doc="One for all of them, or one for each.", example=3)


@dataclass(frozen=True, slots=True)
class Expect:
    """What must be true when everything has come to rest."""

    state: tuple[StateWord, ...] = option(
        default=(), doc="One for all but duplicates, or a list: one for each that was sent.", example="done"
    )
    attempts: tuple[int, ...] = option(
        default=(), doc="Attempts that ended: one for all but duplicates, or a list.", example=3
    )
    error: ErrorWanted | None = option(
        default=None, doc="A dead message has this error.", example="{ class: rejected, message: locked }"
    )
    sent: tuple[SentWanted, ...] = option(
        default=(), doc="What targets took.", example="{ to: erp.usage-decision, json: { UsageDecision: R } }"
    )
    files: tuple[FileWanted, ...] = option(
        default=(), doc="Files that were written.", example="{ path: out/4711.json, json: { lot: '4711' } }"
    )
    rows: tuple[RowsWanted, ...] = option(
        default=(), doc="Rows that databases got.", example="{ to: erp-db.posting, json: { lot: '4711' } }"
    )
    published: tuple[PublishedWanted, ...] = option(
        default=(), doc="What was handed to topics and other routes.", example="{ topic: lots, json: { lot: '4711' } }"
    )
    response: tuple[ResponseWanted, ...] = option(
        default=(), doc="Answers over HTTP: one for all, or one for each that was sent.", example="{ status: 202 }"
    )
    branches: Mapping[str, BranchWanted] = option(
        default=EMPTY, doc="By branch of a `fanout`, or `split`.", example="{ erp: done, mes: dead }"
    )
    waits: tuple[timedelta, ...] | None = option(
        default=None, doc="Every wait before a retry, in order; without jitter.", example="[2s, 4s]"
    )
    order: tuple[str, ...] = option(
        default=(), doc="Targets in the order in which they took something.", example="[erp.hold, wms.hold]"
    )
    snapshot: bool = option(
        default=False,
        doc="What is sent, published and answered is as it was when `esb test --update` ran.",
        example=True,
    )
    nothing_else: bool = option(default=False, doc="Nothing was sent or published but what stands here.", example=True)
    position: Position = field(default=_NOWHERE, compare=False)
    places: Mapping[str, Position] = field(default=EMPTY, compare=False)

    def check(self, node: Node, reader: Reader) -> None:
        _keep_places(self, node)

    def place(self, name: str) -> Position:
        return self.places.get(name, self.position)


@dataclass(frozen=True, slots=True)
class Case:
    """One story of a route, from what is sent to what is expected."""

    name: str = option(doc="What is proved.", example="a rejected lot is rejected in the ERP")
    send: tuple[Send, ...] = option(doc="What arrives, in order.", example="{ json: { lot: '4711' } }")
    stubs: Mapping[str, tuple[Stub, ...]] = option(
        default=EMPTY, doc="What targets answer, by name.", example="{ erp.usage-decision: { status: 201 } }"
    )
    faults: Faults = option(default=Faults(), doc="What goes wrong.", example="{ duplicate: true }")
    with_: tuple[str, ...] = option(default=(), doc="Routes that run along.", example="[decision-effects]")
    clock: Annotated[datetime, InstantKind()] | None = option(
        default=None, doc="When it begins.", example="'2026-05-31T06:00:00+02:00'"
    )
    run_for: timedelta | None = option(
        default=None, doc="Look after this time instead of when all has come to rest.", example="10m"
    )
    expect: Expect = option(doc="What must be true in the end.", example="{ state: done }")
    position: Position = field(default=_NOWHERE, compare=False)
    places: Mapping[str, Position] = field(default=EMPTY, compare=False)

    def check(self, node: Node, reader: Reader) -> None:
        _keep_places(self, node)


@dataclass(frozen=True, slots=True)
class SuiteOptions:
    """`x.test.yaml`: the cases of one route."""

    route: str = option(
        doc="The route that is tested; a route of a template is tested for every site that uses it.",
        example="qms-inspection-to-erp",
    )
    sites: tuple[str, ...] = option(
        default=(), doc="Only these sites, where the route is that of a template.", example="[P10, P20]"
    )
    description: str = option(default="", doc="What the cases are about.")
    env: Mapping[str, str] = option(
        default=EMPTY, doc="Environment; nothing of the machine's is read.", example="{ PLANT: P10 }"
    )
    clock: Annotated[datetime, InstantKind()] | None = option(
        default=None, doc="When cases begin.", example="'2026-05-31T06:00:00+02:00'"
    )
    with_: tuple[str, ...] = option(default=(), doc="Routes that run along.", example="[decision-effects]")
    stubs: Mapping[str, tuple[Stub, ...]] = option(
        default=EMPTY,
        doc="Answers for all cases; a case's own go first.",
        example="{ erp.usage-decision: { status: 201 } }",
    )
    cases: tuple[Case, ...] = option(doc="The cases.", example="[ { name: …, send: …, expect: … } ]")
    position: Position = field(default=_NOWHERE, compare=False)
    places: Mapping[str, Position] = field(default=EMPTY, compare=False)

    def check(self, node: Node, reader: Reader) -> None:
        _keep_places(self, node)


@dataclass(frozen=True, slots=True)
class Suite:
    """A file's cases for one route."""

    path: str
    options: SuiteOptions
