"""What the tests of steps share: YAML of one step to a step, a context that records, and a way to run both."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from esb.blob import Blob
from esb.clock import Deadlines, ManualClock
from esb.config.yaml import read_documents
from esb.durations import Rate
from esb.errors import Invalid, MessageError, Position, Problem, Unmapped, Violation
from esb.language import Expression
from esb.language.workspace import WorkspaceLanguage
from esb.message import EMPTY, Message
from esb.registry import Component, Registry, components_of
from esb.spec import MISSING, ListNode, MapNode, Node, Reader, ScalarNode, read_options
from esb.steps.base import Block, HandOff, Reply, StepNode, Target, WhenDown


class Aside:
    """What `claim` and `fetch` ask for: keeps parts in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[Blob, bytes]] = {}

    async def put_aside(self, content: bytes | Blob) -> Blob:
        if isinstance(content, Blob):
            self.kept[content.sha256] = (content, b"")
            return content
        blob = Blob.named(hashlib.sha256(content).hexdigest(), len(content))
        self.kept[blob.sha256] = (blob, content)
        return blob

    async def bring_back(self, sha256: str) -> Blob:
        if sha256 not in self.kept:
            raise Invalid("nothing was put aside")
        return self.kept[sha256][0]

    async def whole(self, blob: Blob) -> bytes:
        return self.kept[blob.sha256][1]


@dataclass
class FakeContext:
    """Records what a step asks for; ``owned`` are the keys that other messages hold."""

    clock: ManualClock = field(default_factory=ManualClock)
    site: Mapping[str, Any] = field(default_factory=lambda: {"plant": "P10"})
    route: str = "orders"
    timezone: str = "Europe/Vienna"
    message_id: str = "m-1"
    compensates: list[str] = field(default_factory=list)
    lined: Any = None
    fate: str = "next"
    step: str = "step"
    attempt: int = 1
    emitted: list[HandOff] = field(default_factory=list)
    asked: list[tuple[Target, timedelta | None]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    lines: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    response: tuple[int, Mapping[str, str], Any] | None = None
    kept: dict[str, Any] = field(default_factory=dict)
    owned: set[str] = field(default_factory=set)
    claims: list[tuple[str, timedelta]] = field(default_factory=list)
    sent: list[tuple[Target, Message]] = field(default_factory=list)
    copied: list[tuple[Target, Message]] = field(default_factory=list)
    behind: list[Message] = field(default_factory=list)
    absorbed: list[int] = field(default_factory=list)
    turns: list[Rate] = field(default_factory=list)
    aside: Aside = field(default_factory=Aside)
    told: dict[tuple[str, str, str], Any] = field(default_factory=dict)
    answers: list[Reply | MessageError] = field(default_factory=list)

    def scope(self, message: Message) -> dict[str, Any]:
        return message.scope(self.site)

    def emit(self, handoff: HandOff) -> None:
        self.emitted.append(handoff)

    def note(self, **facts: Any) -> None:
        self.notes.update(facts)

    def log(self, level: str, text: str, **fields: Any) -> None:
        self.lines.append((level, text, fields))

    def respond(self, status: int, headers: Mapping[str, str], body: Any) -> None:
        self.response = (status, headers, body)

    async def in_line(self, number: int, gap: timedelta, first: int | None) -> str:
        self.lined = (number, gap, first)
        return self.fate

    async def compensable(self, message: Message) -> list[str]:
        return self.compensates

    def recall(self, step: str) -> Any:
        return self.kept.get(step)

    def remember(self, step: str, value: Any) -> None:
        self.kept[step] = value

    async def differences(self, found: Any) -> dict[str, Any]:
        return {"opened": [one.key for one in found], "closed": [], "open": len(found)}

    async def claim(self, key: str, window: timedelta) -> bool:
        self.claims.append((key, window))
        return key not in self.owned

    def tracked(self, name: str, value: str, route: str) -> Any:
        return self.told.get((name, value, route))

    def peers(self) -> list[Message]:
        return self.behind

    async def absorb(self, count: int, message: Message) -> bool:
        self.absorbed.append(count)
        return True

    async def turn(self, rate: Rate) -> None:
        self.turns.append(rate)

    async def deliver(self, target: Target, message: Message, *, ledger: bool = True) -> Reply:
        self.sent.append((target, message))
        answer = self.answers.pop(0) if self.answers else Reply(200, EMPTY, None)
        if isinstance(answer, MessageError):
            raise answer
        return answer

    async def ask(self, target: Target, message: Message, *, cache: timedelta | None = None) -> Reply:
        self.asked.append((target, cache))
        return await self.deliver(target, message, ledger=False)

    async def copy(self, target: Target, message: Message) -> None:
        self.copied.append((target, message))

    async def within(self, block: Block, message: Message) -> Any:
        raise AssertionError("no step here runs a block by itself")

    # what the pipeline asks for besides
    accepted_at: datetime = datetime(2026, 1, 5, 9, tzinfo=UTC)
    step_limit: float = 10.0
    unread: bool = False
    heavy: bool = False
    watch: None = None
    timeout: float = 10.0
    when_down: WhenDown | None = None
    retried: bool = False
    deadlines: Deadlines = field(default_factory=Deadlines)

    async def may_wait(self) -> None:
        return None

    def begin(self, node: StepNode) -> None:
        self.step = node.id

    def end(self, note: str = "", error: MessageError | None = None) -> None:
        return None


@dataclass(frozen=True)
class FakeContract:
    """Wants each of ``required`` in an object."""

    name: str
    required: tuple[str, ...]

    def check(self, body: Any) -> None:
        if not isinstance(body, dict):
            raise Invalid(f"not a valid {self.name}", violations=[Violation("", "is no object")])
        missing = [name for name in self.required if name not in body]
        if missing:
            raise Invalid(
                f"not a valid {self.name}",
                hint="see the contract",
                violations=[Violation(f"/{name}", "is missing") for name in missing],
            )


@dataclass(frozen=True)
class FakeTable:
    """Rows by key; each row has columns, the first of which is the usual answer."""

    name: str
    rows: Mapping[str, Mapping[str, Any]]
    asked: list[dict[str, Any]] = field(default_factory=list)

    def find(self, value: Any, *, column: str | None = None, **more: Any) -> Any:
        self.asked.append(more)
        row = self.rows.get(value)
        if row is None:
            raise Unmapped(f"`{self.name}` has no row for {value!r}")
        return row[column or next(iter(row))]

    def reverse(self, value: Any, *, column: str | None = None, **more: Any) -> Any:
        self.asked.append(more)
        for key, row in self.rows.items():
            if row[column or next(iter(row))] == value:
                return key
        raise Unmapped(f"`{self.name}` has no row for {value!r}")


@dataclass(frozen=True)
class FakeTransform:
    name: str
    expression: Expression

    def apply(self, scope: Mapping[str, Any]) -> Any:
        return self.expression(scope)


@dataclass(frozen=True)
class FakeHandOffSink:
    """A sink inside the bus, as ``topic`` and ``route`` are."""

    name: str

    def handoff(self, message: Message, step: str, context: Any) -> HandOff:
        if message.body == "broken":
            raise Invalid("cannot be handed on")
        return HandOff("topic", self.name, message, step)


class FakeResources:
    """The workspace, as far as options of steps refer to it."""

    def __init__(self) -> None:
        self.language = WorkspaceLanguage()
        self.registry = Registry(tuple(_components("esb.steps", "esb.formats")))
        self.contracts = {"order.v1": FakeContract("order.v1", ("no", "qty"))}
        self.tables = {
            "plants": FakeTable("plants", {"P10": {"werks": "1000", "city": "Graz"}, "7": {"werks": "1007"}})
        }
        self.transforms = {"transforms/lot.jmes": FakeTransform("lot", self.language.expression("{ lot: body.id }"))}

    def steps(self, node: Node, reader: Reader) -> Any:
        if not isinstance(node, ListNode):
            return reader.problem("ESB103", "`steps` is a list of steps", node)
        nodes = []
        for item in node.items:
            assert isinstance(item, MapNode)
            key, value = item.entries[0]
            component = self.registry.get("step", key.text)
            assert component is not None, key.text
            with reader.inside(key.text):
                step = read_options(component.cls, value, reader)
            if step is MISSING:
                return MISSING
            nodes.append(StepNode(key.text, key.text, step, key.position))
        return Block(tuple(nodes), f"block@{node.position.line}:{node.position.column}")

    def when_down(self, node: Node, reader: Reader) -> Any:
        return WhenDown("drop_after", drop_after=timedelta(hours=1))

    def contract(self, node: Node, reader: Reader) -> Any:
        return self._named("contract", self.contracts, node, reader)

    def table(self, node: Node, reader: Reader) -> Any:
        return self._named("table", self.tables, node, reader)

    def transform(self, node: Node, reader: Reader) -> Any:
        return self._named("transform", self.transforms, node, reader)

    @staticmethod
    def _named(what: str, known: Mapping[str, Any], node: Node, reader: Reader) -> Any:
        name = node.value if isinstance(node, ScalarNode) else None
        return known.get(str(name)) or reader.problem("ESB302", f"no {what} `{name}`", node)

    def target(self, node: Node, reader: Reader) -> Any:
        if isinstance(node, ScalarNode) and isinstance(node.value, str):
            return Target(node.value, "http", node.value.split(".")[0], object(), node.position)
        if isinstance(node, MapNode):
            key, value = node.entries[0]
            sink = FakeHandOffSink(str(value.value)) if isinstance(value, ScalarNode) else object()
            return Target(key.text, key.text, "", sink, node.position)
        return reader.problem("ESB103", "no target", node)


def _components(*packages: str) -> list[Component]:
    found: list[Component] = []
    for name in packages:
        package = importlib.import_module(name)
        for info in pkgutil.iter_modules(package.__path__):
            found.extend(components_of(importlib.import_module(f"{name}.{info.name}")))
    return found


@pytest.fixture(scope="session")
def resources() -> FakeResources:
    return FakeResources()


def _read(text: str, resources: FakeResources) -> tuple[Any, list[Problem]]:
    faults: list[Problem] = []
    documents, _ = read_documents(text, "routes/x.yaml", faults.append)
    assert not faults, faults
    node = documents[0].node
    assert isinstance(node, MapNode)
    key, value = node.entries[0]
    component = resources.registry.get("step", key.text)
    assert component is not None, key.text
    reader = Reader(resources)
    with reader.inside(key.text):
        return read_options(component.cls, value, reader), reader.problems


@pytest.fixture(scope="session")
def read_step(resources: FakeResources) -> Callable[[str], Any]:
    """The step of ``name: options``."""

    def read(text: str) -> Any:
        step, problems = _read(text, resources)
        assert not problems, "\n".join(f"{p} / {p.hint}" for p in problems)
        assert step is not MISSING
        return step

    return read


@pytest.fixture(scope="session")
def problem_of(resources: FakeResources) -> Callable[[str], Problem]:
    """The one problem of ``name: options``."""

    def read(text: str) -> Problem:
        step, problems = _read(text, resources)
        assert step is MISSING
        assert len(problems) == 1, "\n".join(map(str, problems))
        assert isinstance(problems[0].position, Position)
        return problems[0]

    return read


@pytest.fixture
def context() -> FakeContext:
    return FakeContext()


@pytest.fixture
def run(context: FakeContext, read_step: Callable[[str], Any]) -> Callable[..., Any]:
    """Read a step (or take one) and apply it to a message or a body."""

    def apply(step: Any, body: Any = None, **parts: Any) -> Any:
        if isinstance(step, str):
            step = read_step(step)
        answer = step.apply(Message(body, **parts), context)
        return asyncio.run(_awaited(answer)) if inspect.isawaitable(answer) else answer

    return apply


async def _awaited(answer: Any) -> Any:
    return await answer
