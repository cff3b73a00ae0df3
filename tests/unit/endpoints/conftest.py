"""A bench for sources and sinks without a bus: an intake that remembers, a clock that stands still, logs in a list."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import pytest

from esb.clock import ManualClock
from esb.endpoints.base import Delivery, Incoming, Outcome, Receipt, SourceContext
from esb.errors import ErrorRecord, InternalFault, Position
from esb.language import Expression, TextTemplate
from esb.message import Message
from esb.registry import Registry
from esb.spec import ListNode, MapNode, Node, Reader, ScalarNode, read_options
from tests.contracts.source_contract import key_of


def _date_format(text: str, pattern: str) -> str:
    return datetime.fromisoformat(text).strftime(pattern)


def _date_parse(text: str, pattern: str) -> str:
    return datetime.strptime(text, pattern).replace(tzinfo=UTC).isoformat()


def make_template(text: str) -> TextTemplate:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.filters.update(date_format=_date_format, date_parse=_date_parse)
    compiled = environment.from_string(text)

    def evaluate(scope: Mapping[str, Any]) -> str:
        try:
            return compiled.render(**scope)
        except Exception as error:
            raise InternalFault(str(error)) from error

    return TextTemplate(text, evaluate, constant="{{" not in text and "{%" not in text)


def make_expression(text: str) -> Expression:
    import jmespath

    compiled = jmespath.compile(text)
    return Expression(text, lambda scope: compiled.search(dict(scope)))


async def until(condition: Callable[[], bool]) -> None:
    """Give way to other tasks and threads until it is so; the test's own time limit bounds it."""
    while not condition():
        await asyncio.sleep(0)


class FakeIntake:
    """Commits into a list. ``before`` and ``after`` the commit a test may raise."""

    def __init__(self) -> None:
        self.accepted: list[Incoming] = []
        self.known: dict[str, tuple[str, str]] = {}
        self.open = True
        self.behind = False
        self.state = "queued"
        self.error: ErrorRecord | None = None
        self.before: Callable[[Incoming], None] = lambda incoming: None
        self.after: Callable[[Incoming], None] = lambda incoming: None

    def accept_soon(self, incoming: Incoming, told: Callable[[Receipt | Exception], None]) -> bool:
        return False

    async def accept(self, incoming: Incoming) -> Receipt:
        self.before(incoming)
        key, reused = key_of(incoming, self.known)
        if key is not None and key in self.known:
            id_ = self.known[key][0]
            return Receipt(id_, id_, "known", id_)
        id_ = f"m{len(self.accepted) + 1}"
        self.accepted.append(incoming)
        if key is not None:
            self.known[key] = (id_, incoming.fingerprint)
        self.after(incoming)
        return Receipt(id_, id_, self.state, error=self.error, reused=reused)  # type: ignore[arg-type]  # a double, or none

    async def outcome(self, message_id: str, timeout: float, seq: int = 0) -> Outcome | None:
        return None

    def outcome_then(self, message_id: str, timeout: float, seq: int, told: Callable[[Outcome | None], None]) -> None:
        asyncio.get_running_loop().call_soon(told, None)

    @property
    def payloads(self) -> list[bytes]:
        return [incoming.payload for incoming in self.accepted]


class MemoryState:
    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    async def get(self, name: str) -> Any:
        return self.values.get(name)

    async def put(self, name: str, value: Any) -> None:
        self.values[name] = value

    async def forget(self, name: str) -> None:
        self.values.pop(name, None)


@dataclass
class Bench:
    workspace: Path
    clock: ManualClock = field(default_factory=lambda: ManualClock("2026-11-24T10:00:00+00:00"))
    intake: FakeIntake = field(default_factory=FakeIntake)
    state: MemoryState = field(default_factory=MemoryState)
    logs: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def log(self, level: str, event: str, **fields: Any) -> None:
        self.logs.append((level, event, fields))

    until = staticmethod(until)

    def events(self, name: str) -> list[dict[str, Any]]:
        return [fields for _, event, fields in self.logs if event == name]

    def context(self, *, site: Mapping[str, Any] | None = None, timezone: str = "UTC") -> SourceContext:
        return SourceContext(
            route="files",
            intake=self.intake,
            clock=self.clock,
            workspace=self.workspace,
            state=self.state,
            ingress=None,  # type: ignore[arg-type]  # a double, or none
            log=self.log,
            site=site or {},
            timezone=timezone,
        )

    def delivery(self, message: Message, **changes: Any) -> Delivery:
        given: dict[str, Any] = {
            "id": "0d3b7a52-0000-8000-8000-00000000c0de",
            "attempt": 1,
            "timeout": 30.0,
            "scope": message.scope(changes.pop("site", {})),
            "clock": self.clock,
            "workspace": self.workspace,
            "message_id": "m1",
        }
        return Delivery(**{**given, **changes})


@dataclass
class Resources:
    """What a reader of options asks for, without a workspace."""

    registry: Registry
    language: Any

    def contract(self, node: Node, reader: Reader) -> Any:
        return node


class Words:
    expression = staticmethod(make_expression)
    template = staticmethod(make_template)


def node_of(value: Any, at: Position | None = None) -> Node:
    at = at or Position("routes/r.yaml", 1, 1)
    if isinstance(value, dict):
        entries = tuple((ScalarNode(at, key, key), node_of(item, at)) for key, item in value.items())
        return MapNode(at, entries)
    if isinstance(value, list):
        return ListNode(at, tuple(node_of(item, at) for item in value))
    return ScalarNode(at, value, "" if value is None else str(value), quoted=isinstance(value, str))


def read(cls: type, value: Any) -> tuple[Any, list[str]]:
    """The options of ``cls`` from a plain value, and the problems as `CODE words | hint`."""
    from esb.formats import json as json_format
    from esb.registry import components_of

    reader = Reader(Resources(Registry(components_of(json_format)), Words()), where="from")
    options = read_options(cls, node_of(value), reader)
    return options, [f"{problem.code} {problem.message} | {problem.hint}" for problem in reader.problems]


@pytest.fixture
def options() -> Callable[[type, Any], tuple[Any, list[str]]]:
    return read


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    return Bench(workspace)


@pytest.fixture
def template() -> Callable[[str], TextTemplate]:
    return make_template


@pytest.fixture
def expression() -> Callable[[str], Expression]:
    return make_expression
