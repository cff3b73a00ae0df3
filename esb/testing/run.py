"""Runs cases: each on a store of its own, all of a workspace on one reading of it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any

from esb.config.builders import Wrap
from esb.config.loader import read_workspace
from esb.config.model import RouteSpec, Workspace
from esb.config.stubs import Stub
from esb.endpoints.base import Incoming, KeyConflict, Request, Response
from esb.errors import ConfigError, MessageError, StoreError
from esb.formats.charset import encode_text, encoding_of
from esb.formats.json import Json
from esb.testing.bus import MOST_ATTEMPTS, NeverEnds, TestedBus, empty_store
from esb.testing.clock import START, VirtualClock, VirtualLoop
from esb.testing.expectations import failures
from esb.testing.model import Case, Send, Suite, SuiteOptions
from esb.testing.reader import SuiteEnvironment
from esb.testing.results import Facts, Failure, Result
from esb.testing.snapshots import Snapshots
from esb.testing.targets import Systems
from esb.testing.trace import steps_run, trace_lines
from esb.testing.ways import ways_gone

_TYPES = {".json": "application/json", ".xml": "application/xml", ".csv": "text/csv", ".txt": "text/plain"}
#: Where files cost no write to a disk.
_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own with a random name is made inside


@dataclass(slots=True)
class Runner:
    """Runs the suites of the workspace at ``root``. Raises ConfigError where it cannot be read with a suite's `env`."""

    root: Path
    clock: VirtualClock = field(default_factory=VirtualClock)
    tables: Wrap | None = None  #: what is put in place of every table
    _known: dict[frozenset[tuple[str, str]], Workspace] = field(default_factory=dict)

    def workspace(self, suite: SuiteOptions) -> Workspace:
        """The workspace as a suite's environment makes it; read once for each environment."""
        env = dict(suite.env)
        key = frozenset(env.items())
        if key not in self._known:
            environ = SuiteEnvironment(env)
            loaded = read_workspace(self.root, environ=environ, clock=self.clock, tables=self.tables)
            if loaded.workspace is None:
                raise ConfigError(loaded.problems)
            self._known[key] = loaded.workspace
        return self._known[key]

    def routes(self, cases: Sequence[tuple[Suite, Case]]) -> dict[str, RouteSpec]:
        """The routes that cases test."""
        names = {suite.options.route: suite for suite, _ in cases}
        return {name: self.workspace(suite.options).routes[name] for name, suite in names.items()}

    def every_route(self) -> dict[str, RouteSpec]:
        """All routes of the workspace, tested or not, as far as it was read."""
        return {name: spec for workspace in self._known.values() for name, spec in workspace.routes.items()}

    def run(self, cases: Sequence[tuple[Suite, Case]], snapshots: Snapshots | None = None) -> Iterator[Result]:
        """Run cases one after the other, each by itself; without ``snapshots`` those on the disk are compared."""
        snapshots = snapshots or Snapshots(self.root)
        with scratch_folder() as folder, asyncio.Runner(loop_factory=lambda: VirtualLoop(self.clock)) as loop:
            empty = folder / "empty"
            (empty / "0").mkdir(parents=True)
            loop.run(empty_store(empty / "0", self.clock))  # made once: it takes longer than most cases
            for number, (suite, case) in enumerate(cases):
                place = folder / str(number)
                shutil.copytree(empty, place)
                began, at = time.perf_counter(), self.clock.seconds
                story = _Story(self.workspace(suite.options), suite, case, self.clock, place, snapshots)
                result = loop.run(story.run())
                shutil.rmtree(place)
                yield replace(result, seconds=time.perf_counter() - began, virtual=self.clock.seconds - at)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    memory = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="esb-test-", dir=memory, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


class _Story:
    """One case from its first message to its end."""

    def __init__(
        self,
        workspace: Workspace,
        suite: Suite,
        case: Case,
        clock: VirtualClock,
        folder: Path,
        snapshots: Snapshots,
    ) -> None:
        self._suite, self._case, self._clock, self._snapshots = suite, case, clock, snapshots
        names = dict.fromkeys((suite.options.route, *suite.options.with_, *case.with_))
        routes = MappingProxyType({name: workspace.routes[name] for name in names})
        self._workspace = replace(workspace, routes=routes)
        stubs = _stubs(workspace, suite, case)
        self._systems = Systems(clock, workspace.root, stubs, case.faults, clock.seconds)
        self._bus = TestedBus(self._workspace, clock, self._systems, folder)
        self._answers: list[asyncio.Task[Response] | None] = []

    async def run(self) -> Result:
        case, suite, bus, clock = self._case, self._suite, self._bus, self._clock
        clock.set(case.clock or suite.options.clock or datetime.fromisoformat(START))
        self._systems.began = clock.seconds
        await bus.start()
        lost: list[Failure] = []
        try:
            await self._play()
        except NeverEnds:
            words = f"the case does not come to rest: more than {MOST_ATTEMPTS} attempts; give it `run_for`"
            lost.append(Failure(case.position, words))
        except (StoreError, MessageError, KeyConflict) as error:
            lost.append(Failure(case.places.get("send", case.position), f"not taken: {error}"))
        facts = self._facts()
        await bus.stop()
        for task in self._answers:
            if task is not None:
                task.cancel()
        wrong = lost + failures(case.expect, facts, case.places.get("stubs", case.position))
        if not wrong:
            wrong = self._snapshots.check(suite.path, case, facts)
        return Result(
            suite.path,
            suite.options.route,
            case,
            wrong,
            trace_lines(facts) if wrong else (),
            steps=steps_run(facts.messages),
            ways=ways_gone(facts.messages),
            facts=facts,
        )

    async def _play(self) -> None:
        case, bus = self._case, self._bus
        began = before = self._clock.seconds
        jump = case.faults.clock_jump
        events: list[tuple[float, Send | None]] = []
        for send in case.send:
            at = began + send.at.total_seconds() if send.at is not None else before
            before = at + (send.after.total_seconds() if send.after is not None else 0.0)
            events.append((before, send))
        if case.faults.late is not None:
            events[0] = (events[0][0] + case.faults.late.total_seconds(), events[0][1])
            before = max(before, events[0][0])
        if case.faults.reorder:
            moments = [at for at, _ in events]
            events = list(zip(moments, [send for _, send in reversed(events)], strict=True))
        if jump is not None:
            events.append((began + jump.at.total_seconds(), None))
        for at, event in sorted(events, key=lambda pair: pair[0]):
            await bus.run_until(at)
            if event is None and jump is not None:
                self._clock.jump(jump.by)
            elif event is not None:
                await self._send(event)
        if case.run_for is not None:
            await bus.run_until(before + case.run_for.total_seconds())
        else:
            await bus.run_out()

    # -- sending ------------------------------------------------------------------------------------------------------
    async def _send(self, send: Send) -> None:
        payload, name = self._payload(send)
        faults = self._case.faults
        parts = [payload[: len(payload) // 2]] if faults.half_file else []
        parts += [payload] * (2 if faults.duplicate else 1)
        for _ in range(send.times):
            for part in parts:
                await self._hand_over(send, part, name)

    def _payload(self, send: Send) -> tuple[bytes, str]:
        if send.file is not None:
            return (self._workspace.root / send.file).read_bytes(), PurePath(send.file).name
        if send.body is not None:
            codec = getattr(
                self._workspace.routes[send.route or self._suite.options.route].source.options, "format", None
            )
            return encode_text(send.body, encoding_of(codec, send.body[:9]), "the text cannot be sent"), ""
        return Json().encode(send.json), ""

    async def _hand_over(self, send: Send, payload: bytes, name: str) -> None:
        route = send.route or self._suite.options.route
        source = self._workspace.routes[route].source
        headers = {key.lower(): value for key, value in send.headers.items()}
        if source.protocol == "http":
            kind = _TYPES.get(PurePath(name).suffix.lower(), "text/plain") if name or send.body else "application/json"
            fixed = getattr(source.options.format, "content_type", None)
            headers = {"content-type": fixed or kind, **headers}
            options = source.options
            request = Request(
                options.method, options.path, send.query, headers, payload, "127.0.0.1", dict(send.params)
            )
            self._answers.append(asyncio.ensure_future(self._bus.request(route, request)))
            await self._bus.settle()
            return
        meta = {"source": {"type": source.protocol}, **({"file_name": name} if name else {}), **send.meta}
        self._answers.append(None)
        incoming = Incoming(
            payload,
            codec=getattr(source.options, "format", None),
            content_type=headers.pop("content-type", ""),
            headers=headers,
            meta=meta,
            contract=getattr(source.options, "contract", None),
        )
        await self._bus.accept(route, incoming)
        await self._bus.settle()

    # -- the end ------------------------------------------------------------------------------------------------------
    def _facts(self) -> Facts:
        bus = self._bus
        return Facts(
            route=self._suite.options.route,
            messages=bus.messages(),
            asked=self._systems.calls,
            published=list(bus.told.published.values()),
            responses=[_answer(task) for task in self._answers],
            waits=bus.told.waits,
            unknown=self._systems.unknown,
        )


def _answer(task: asyncio.Task[Response] | None) -> Response | None:
    if task is None or not task.done() or task.cancelled() or task.exception() is not None:
        return None
    return task.result()


def _stubs(workspace: Workspace, suite: Suite, case: Case) -> dict[str, list[Stub]]:
    """The answers of each target: the case's own, else the suite's, else its connector's."""
    systems = workspace.systems(workspace.routes[suite.options.route])
    found: dict[str, Any] = {
        f"{name}.{operation}": stubs
        for name, connector in systems.items()
        for operation, stubs in connector.settings.stub.items()
    }
    layers: tuple[Mapping[str, Any], ...] = (suite.options.stubs, case.stubs)
    for layer in layers:
        found.update(layer)
    return {name: list(stubs) for name, stubs in found.items()}
