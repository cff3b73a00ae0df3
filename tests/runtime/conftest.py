"""A bus in this process, on a clock that tests move, with a target that does what it is told."""

from __future__ import annotations

import asyncio
import json
import sys
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from esb.clock import ManualClock
from esb.config.diagnostics import render_text
from esb.config.loader import load_workspace
from esb.endpoints.base import Incoming, Receipt
from esb.endpoints.ingress import HttpIngress
from esb.errors import MessageError
from esb.formats.json import Json
from esb.operations import Operations, Who
from esb.runtime.supervisor import Supervisor
from esb.steps.base import Reply
from esb.store import open_store
from esb.store.base import Filter, Stored

PLUGIN = '''
"""A target for tests: keeps what it gets, and answers as it is told."""
from __future__ import annotations

from dataclasses import dataclass

import esb_probe
from esb.registry import connection, sink
from esb.spec import option


@connection("probe")
@dataclass(frozen=True, slots=True)
class ProbeConnection:
    """Nothing to connect to."""

    async def open(self, context):
        return self

    async def close(self):
        pass


@sink("probe")
@dataclass(frozen=True, slots=True)
class Probe:
    """Keeps what it gets."""

    name: str = option(doc="Which one.", shorthand=True)

    async def send(self, message, delivery, connection):
        return await esb_probe.target.take(self.name, message, delivery)

    def begin(self, message, delivery, connection, answered):
        return esb_probe.target.begin(self.name, message, delivery, answered)
'''

MOODY = '''
"""A source for tests that starts where nothing is said against it."""
from __future__ import annotations

from dataclasses import dataclass

from esb.errors import Unavailable
from esb.registry import source
from esb.spec import option


@source("moody")
@dataclass(frozen=True, slots=True)
class Moody:
    """Starts, or says why it cannot."""

    fault: str = option(doc="Why it cannot start.", shorthand=True)

    def bind(self, context):
        return Running(self.fault)


class Running:
    def __init__(self, fault):
        self.fault, self.up = fault, False

    async def start(self):
        if self.fault:
            raise Unavailable(self.fault)
        self.up = True

    async def stop(self):
        self.up = False
'''


@dataclass
class Got:
    """One delivery as the target saw it."""

    to: str
    id: str
    body: Any
    attempt: int
    again: bool
    key: str | None


def begun(taken: Coroutine[Any, Any, Reply], answered: Callable[[Any], None]) -> Callable[[], Any]:
    """A delivery whose answer is told by a call; gives what ends it."""
    task = asyncio.get_running_loop().create_task(taken)

    def told(done: asyncio.Task[Reply]) -> None:
        if not done.cancelled():
            answered(done.exception() or done.result())

    def give_up() -> None:
        task.remove_done_callback(told)
        task.cancel()

    task.add_done_callback(told)
    return give_up


@dataclass
class ProbeTarget:
    """Answers from ``script[name]`` in turn: a Reply, an exception, or a future to wait for; then with 200.

    ``by_call``: it tells the bus of its answers by a call; else every delivery needs a task.
    """

    got: list[Got] = field(default_factory=list)
    script: dict[str, list[Any]] = field(default_factory=dict)
    by_call: bool = True
    begun: int = 0  #: deliveries that needed no task

    def begin(self, name: str, message: Any, delivery: Any, answered: Callable[[Any], None]) -> Any:
        if not self.by_call:
            return None
        self.begun += 1
        return begun(self.take(name, message, delivery), answered)

    async def take(self, name: str, message: Any, delivery: Any) -> Reply:
        self.got.append(Got(name, delivery.id, message.body, delivery.attempt, delivery.again, delivery.key))
        answers = self.script.get(name) or []
        answer = answers.pop(0) if answers else Reply(200)
        if isinstance(answer, asyncio.Future):
            answer = await answer
        if isinstance(answer, MessageError):
            raise answer
        return answer

    def bodies(self, name: str) -> list[Any]:
        return [got.body for got in self.got if got.to == name]


@pytest.fixture
def probe(request: pytest.FixtureRequest) -> Iterator[ProbeTarget]:
    module: Any = types.ModuleType("esb_probe")
    module.target = ProbeTarget(by_call=getattr(request, "param", "call") == "call")
    sys.modules["esb_probe"] = module
    yield module.target
    del sys.modules["esb_probe"]


class Wall(ManualClock):
    """A clock that somebody sets."""

    def set(self, by: timedelta) -> None:
        self._now += by


@dataclass
class TestBus:
    """A started bus. ``settle`` lets everything run that can run without time passing."""

    __test__ = False
    root: Path
    clock: ManualClock
    supervisor: Supervisor
    store: Any
    logs: list[dict[str, Any]]

    @property
    def operations(self) -> Operations:
        return Operations(self.store, self.clock, self.supervisor, self.supervisor.observer)

    async def send(self, route: str, body: Any, **more: Any) -> Receipt:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.supervisor.routes[route].intake.accept(Incoming(data, codec=Json(), **more))

    async def settle(self) -> None:
        quiet = 0
        while quiet < 10:
            await asyncio.sleep(0)
            quiet = 0 if any(live.runner.running for live in self.supervisor.routes.values()) else quiet + 1

    async def advance(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))
        await self.settle()

    def messages(self, **words: Any) -> list[Stored]:
        return sorted(self.store.find(Filter(limit=10_000, **words)), key=lambda stored: stored.envelope.seq)

    def states(self, route: str) -> list[str]:
        return [stored.state.value for stored in self.messages(route=route)]

    def state(self, id_: str) -> str:
        found = self.store.get(id_)
        assert found is not None
        return str(found.state.value)

    def logged(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.logs if line["event"] == event]

    def whole(self) -> None:
        """Conservation holds."""
        assert self.store.verify_conservation() == []

    def write(self, files: dict[str, str]) -> None:
        write(self.root, files)

    async def reload(self) -> Any:
        return await self.supervisor.apply(load(self.root))


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def load(root: Path) -> Any:
    workspace, problems = load_workspace(root)
    errors = [problem for problem in problems if problem.severity == "error"]
    assert not errors, render_text(problems, lambda path: (root / path).read_text().splitlines())
    assert workspace is not None
    return workspace


Start = Callable[..., Any]


@pytest.fixture
def start(tmp_path: Path, probe: ProbeTarget) -> Start:
    """``async with start({"routes/x.yaml": …}) as bus``; a second start on the same folder is a restart."""

    @asynccontextmanager
    async def begin(files: dict[str, str] | None = None, *, clock: ManualClock | None = None) -> AsyncIterator[TestBus]:
        write(tmp_path, {"connectors/probe.py": PLUGIN, **(files or {})})
        clock = clock or ManualClock()
        logs: list[dict[str, Any]] = []
        workspace = load(tmp_path)
        store = await open_store(workspace.settings.store, tmp_path, clock=clock, min_free=0, threaded=False)
        log: Any = lambda level, event, **fields: logs.append({"level": level, "event": event, **fields})  # noqa: E731 - all that it does
        supervisor = Supervisor(store, clock, HttpIngress(), log, workspace)
        await supervisor.start()
        bus = TestBus(tmp_path, clock, supervisor, store, logs)
        await bus.settle()
        try:
            yield bus
        finally:
            await supervisor.stop(timedelta(seconds=0.2))
            await store.close()

    return begin


WHO = Who("tester", "because")
