"""What the HTTP tests share: loops, nodes, a language, an intake that remembers, raw clients and scripted servers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Self, TypeVar

import jinja2
import jmespath
import pytest
import uvloop

from esb.clock import ManualClock
from esb.endpoints.base import ConnectionContext, Delivery, Incoming, Outcome, Receipt, SourceContext
from esb.endpoints.ingress import HttpIngress
from esb.endpoints.webserver import Listener, ListenerLimits
from esb.errors import Position
from esb.language import Expression, TextTemplate
from esb.message import Message
from esb.registry import Registry, load
from esb.secret import Secret
from esb.spec import MISSING, ListNode, MapNode, Node, Reader, ScalarNode, read_options
from tests.servers.certificates import make_certificates

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on both event loops; what never ends fails."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else None

    def go(coroutine: Coroutine[Any, Any, T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(60):
                return await coroutine

        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(bounded())

    return go


# -- options ----------------------------------------------------------------------------------------------------------


class FakeLanguage:
    """The two languages without functions of our own."""

    def __init__(self) -> None:
        self._jinja = jinja2.Environment(undefined=jinja2.StrictUndefined)

    def expression(self, text: str) -> Expression:
        compiled = jmespath.compile(text)
        return Expression(text, compiled.search)

    def template(self, text: str) -> TextTemplate:
        compiled = self._jinja.from_string(text)
        return TextTemplate(text, lambda scope: compiled.render(**scope), "{{" not in text)


class FakeResources:
    """What kinds ask for while options are read."""

    def __init__(self) -> None:
        self.language = FakeLanguage()
        self.registry: Registry = load()
        self.inbounds: dict[str, Any] = {}
        self.contracts: dict[str, Any] = {}

    def inbound(self, node: ScalarNode, reader: Reader) -> Any:
        if str(node.value) not in self.inbounds:
            return reader.problem("ESB301", f"unknown connector `{node.value}`", node)
        return self.inbounds[str(node.value)]

    def contract(self, node: ScalarNode, reader: Reader) -> Any:
        return self.contracts[str(node.value)]


def node_of(value: Any) -> Node:
    at = Position("routes/x.yaml")
    match value:
        case dict():
            return MapNode(at, tuple((ScalarNode(at, key, key), node_of(one)) for key, one in value.items()))
        case list():
            return ListNode(at, tuple(node_of(one) for one in value))
        case bool():
            return ScalarNode(at, value, str(value).lower())
        case Secret():
            return ScalarNode(at, value, "${secret:x}")
        case None:
            return ScalarNode(at, None, "")
        case Decimal() | int() | str():
            return ScalarNode(at, value, str(value))
    raise TypeError(value)


@dataclass
class Options:
    """Reads options as the loader does."""

    resources: FakeResources = field(default_factory=FakeResources)

    def read(self, cls: type[T], value: Any) -> T:
        options, problems = self.try_read(cls, value)
        assert not problems, problems
        return options

    def try_read(self, cls: type[T], value: Any) -> tuple[T, list[str]]:
        reader = Reader(self.resources)
        options = read_options(cls, node_of(value), reader)
        errors = [problem for problem in reader.problems if problem.severity == "error"]
        assert (options is MISSING) == bool(errors)
        return options, [f"{problem.code} {problem.message}" for problem in reader.problems]


@pytest.fixture
def options() -> Options:
    return Options()


# -- the bus around an endpoint ---------------------------------------------------------------------------------------


class FakeIntake:
    """Decodes and checks like intake, remembers what came, and answers what a test has set."""

    def __init__(self) -> None:
        self.accepted: list[Incoming] = []
        self.bodies: list[Any] = []
        self.state: Any = "queued"
        self.error: Exception | None = None
        self.result: Outcome | None = Outcome("done")
        self.waited: list[tuple[str, float]] = []

        self.soon = False  #: whether it takes what comes without a task of the source

    def accept_soon(self, incoming: Incoming, told: Callable[[Receipt | Exception], None]) -> bool:
        def ended(task: asyncio.Task[Receipt]) -> None:
            if not task.cancelled():
                error = task.exception()
                told(error if isinstance(error, Exception) else task.result())

        if self.soon:
            asyncio.create_task(self.accept(incoming)).add_done_callback(ended)
        return self.soon

    async def accept(self, incoming: Incoming) -> Receipt:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        body = incoming.codec.decode(incoming.payload) if incoming.codec is not None else incoming.payload
        if incoming.contract is not None:
            incoming.contract.check(body)
        self.accepted.append(incoming)
        self.bodies.append(body)
        number = len(self.accepted)
        return Receipt(f"m-{number}", incoming.correlation_id or f"c-{number}", self.state)

    async def outcome(self, message_id: str, timeout: float, seq: int = 0) -> Outcome | None:
        self.waited.append((message_id, timeout))
        return self.result

    def outcome_then(self, message_id: str, timeout: float, seq: int, told: Callable[[Outcome | None], None]) -> None:
        waiting = asyncio.ensure_future(self.outcome(message_id, timeout, seq))
        waiting.add_done_callback(lambda ended: told(ended.result()))

    @property
    def open(self) -> bool:
        return True


class Bus:
    """An ingress on a real socket, and sources on it.

    Tests leave it by `async with`, also when they fail: uvloop cannot close a loop that still listens. ``way`` is that of
    the requests of :meth:`ask`: `parsed`, or whole with a `task` or without one (`soon`).
    """

    def __init__(self, way: str = "parsed", **limits: Any) -> None:
        self.way = way
        self.clock = ManualClock()
        self.logged: list[tuple[Any, ...]] = []
        self.ingress = HttpIngress(max_body=limits.pop("max_body", 1_000), max_held=10_000, log=self._log)
        app, tls = limits.pop("app", self.ingress), limits.pop("tls", None)
        self.listener = Listener(app, tls=tls, limits=ListenerLimits(**{"linger_time": 0.2, **limits}))
        self.intake = FakeIntake()
        self.intake.soon = way == "soon"

    def _log(self, *args: Any, **fields: Any) -> None:
        self.logged.append((*args, fields))

    def context(self) -> SourceContext:
        return SourceContext(
            route="r",
            intake=self.intake,
            clock=self.clock,
            workspace=Path(),
            state=None,  # type: ignore[arg-type]  # a double, or none
            ingress=self.ingress,
            log=self._log,
        )

    async def __aenter__(self) -> Self:
        await self.listener.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.listener.stop(1.0)

    async def serve(self, source: Any) -> Any:
        running = source.bind(self.context())
        await running.start()
        return running

    async def ask(self, *lines: str, body: bytes = b"") -> Answered:
        """One request on a connection of its own; the length is added where there is a body."""
        head = [*lines, "Host: bus"]
        if body and not any(line.lower().startswith(("content-length", "transfer")) for line in lines):
            head.append(f"Content-Length: {len(body)}")
        if self.way != "parsed":
            return await ask_once(self.listener.port, "\r\n".join([*head, "", ""]).encode() + body)
        answers = await talk(self.listener.port, "\r\n".join([*head, "Connection: close", "", ""]).encode() + body)
        return answers[0]

    async def post(self, path: str, body: bytes = b"{}", *headers: str, kind: str = "application/json") -> Answered:
        return await self.ask(f"POST {path} HTTP/1.1", f"Content-Type: {kind}", *headers, body=body)


@pytest.fixture
def bus() -> Callable[..., Bus]:
    return Bus


@dataclass
class Answered:
    """One answer as it stood on the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        import json

        return json.loads(self.body)

    @property
    def code(self) -> str:
        assert self.headers["content-type"] == "application/problem+json", self
        assert self.json["status"] == self.status
        return str(self.json["code"])


def split_answers(data: bytes) -> list[Answered]:
    found = []
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, data
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", "0"))
        body, data = data[:length], data[length:]
        if not first.startswith("HTTP/1.1 100"):
            found.append(Answered(int(first.split()[1]), headers, body))
    return found


async def talk(port: int, *sent: bytes) -> list[Answered]:
    """Send bytes as they are and read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        for piece in sent:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
    data = b""
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(65536):
            data += piece
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return split_answers(data)


async def ask_once(port: int, sent: bytes) -> Answered:
    """One request whose connection stays open until it is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    head = await reader.readuntil(b"\r\n\r\n")
    (answered,) = split_answers(head)
    answered.body = await reader.readexactly(int(answered.headers.get("content-length", "0")))
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return answered


# -- targets ----------------------------------------------------------------------------------------------------------


@dataclass
class Seen:
    """A request as a target saw it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Script = Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]


def answer(
    status: int = 200, body: bytes = b"", *headers: str, kind: str = "application/json", length: int | None = None
) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body) if length is None else length}", *headers]
    if kind:
        lines.append(f"content-type: {kind}")
    return "\r\n".join([*lines, "", ""]).encode() + body


class Target:
    """A system on a real socket that answers from a list, or as a script says; the last answer stays."""

    def __init__(self, *answers: bytes | Script) -> None:
        self._answers = list(answers)
        self.seen: list[Seen] = []
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._begin, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not writer.is_closing():
                seen = await read_request(reader)
                self.seen.append(seen)
                reply = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
                if isinstance(reply, bytes):
                    writer.write(reply)
                    await writer.drain()
                else:
                    await reply(seen, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()


async def read_request(reader: asyncio.StreamReader) -> Seen:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("utf-8")
    first, *lines = head.strip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(method, path, headers, body)


@dataclass
class Sender:
    """Sends through a sink as the runtime does, over one open connection."""

    clock: ManualClock = field(default_factory=ManualClock)
    timeout: float = 5.0
    workspace: Path = Path("/")
    library: bool = False  #: nothing goes out but through the client library
    logged: list[Any] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def opened(self, connection: Any, name: str = "erp") -> AsyncIterator[Any]:
        context = ConnectionContext(name, self.clock, self.workspace, lambda *args, **_: self.logged.append(args))
        live = await connection.open(context)
        if self.library:
            live.plain = None
        try:
            yield live
        finally:
            await live.close()

    async def send(self, sink: Any, live: Any, body: Any = None, **more: Any) -> Any:
        message = Message(body, headers=more.pop("headers", {}), meta=more.pop("meta", {}))
        delivery = Delivery(
            id="d-1",
            attempt=1,
            timeout=more.pop("timeout", self.timeout),
            scope=message.scope(),
            clock=self.clock,
            workspace=Path("/"),
            correlation_id=more.pop("correlation_id", ""),
        )
        return await sink.send(message, delivery, live)


@pytest.fixture
def sender() -> Sender:
    return Sender()


@pytest.fixture
def tools() -> Any:
    """The helpers, for test modules that cannot import this file."""

    class Tools:
        pass

    for one in (Target, answer, talk, split_answers, read_request, Seen, Answered):
        setattr(Tools, one.__name__, staticmethod(one) if callable(one) and not isinstance(one, type) else one)
    return Tools


# -- certificates --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    make_certificates(folder)
    return folder
