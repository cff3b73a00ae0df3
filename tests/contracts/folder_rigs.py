"""Rigs of the endpoint contracts over folders: the local file system, and a private OpenSSH server."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import jinja2

from esb.clock import SystemClock
from esb.endpoints.base import ConnectionContext, RunningSource, SourceContext
from esb.endpoints.file import FileSink, FileSource
from esb.endpoints.file_options import Ready
from esb.endpoints.sftp import SftpConnection, SftpSink, SftpSource
from esb.formats.json import Json
from esb.language import TextTemplate
from esb.secret import Secret
from tests.contracts.sink_contract import SinkRig
from tests.contracts.source_contract import DurableIntake, SourceRig
from tests.servers.openssh import OpenSsh

NOW = Ready(rename=True)
SOON = timedelta(milliseconds=20)


def template(text: str) -> TextTemplate:
    compiled = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(text)

    def evaluate(scope: Mapping[str, Any]) -> str:
        return compiled.render(**scope)

    return TextTemplate(text, evaluate, constant="{{" not in text)


class MemoryState:
    """What a source remembers, over its restarts."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    async def get(self, name: str) -> Any:
        return self.values.get(name)

    async def put(self, name: str, value: Any) -> None:
        self.values[name] = value

    async def forget(self, name: str) -> None:
        self.values.pop(name, None)


class Logs(list[tuple[str, str, dict[str, Any]]]):
    def __call__(self, level: str, event: str, **fields: Any) -> None:
        self.append((level, event, fields))

    def of(self, event: str) -> list[dict[str, Any]]:
        return [fields for _, name, fields in self if name == event]


def connection_to(server: OpenSsh, **changes: Any) -> SftpConnection:
    given: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": server.port,
        "user": server.user,
        "key": Secret(server.key.read_text()),
        "known_hosts": str(server.known_hosts),
    }
    return SftpConnection(**{**given, **changes})


class FolderRig(SourceRig):
    """A folder of this machine, looked at by one protocol or the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workspace = folder
        self.state = MemoryState()
        self.logs = Logs()
        (folder / "in").mkdir(parents=True)

    async def offer(self, name: str, body: bytes) -> None:
        hidden = self.folder / f"in/.{name}.json"
        hidden.write_bytes(body)
        hidden.rename(self.folder / f"in/{name}.json")

    async def held(self) -> int:
        return len([*self.folder.glob("in/*.json"), *self.folder.glob("in/.esb-claim/*.json")])

    async def bind(self, context: SourceContext) -> RunningSource:
        return FileSource(path=template("in/*.json"), ready=NOW, every=SOON, format=Json()).bind(context)

    async def crash(self, source: RunningSource) -> None:
        """Everything that the source has begun ends where it is."""
        task = source._task  # type: ignore[attr-defined]  # of this kind
        others = {t for t in asyncio.all_tasks() if "FilePoller." in str(t.get_coro()) and t is not task}
        for doomed in (task, *others):
            doomed.cancel()
        await asyncio.gather(task, *others, return_exceptions=True)

    def context(self, intake: DurableIntake, connection: Any = None) -> SourceContext:
        return SourceContext(
            route="contract",
            intake=intake,
            clock=self.clock,
            workspace=self.workspace,
            state=self.state,
            ingress=None,  # type: ignore[arg-type]  # only the HTTP source has one
            log=self.logs,
            connection=connection,
        )

    async def start(self, intake: DurableIntake) -> RunningSource:
        source = await self.bind(self.context(intake))
        await source.start()
        return source


class SftpRig(FolderRig):
    """The same folder behind sshd."""

    def __init__(self, server: OpenSsh) -> None:
        super().__init__(server.files / uuid.uuid4().hex)
        self.server = server
        self._open: list[Any] = []

    def options(self, **changes: Any) -> SftpSource:
        given: dict[str, Any] = {"ready": NOW, "every": SOON, "format": Json(), **changes}
        return SftpSource(path=template(f"{self.folder}/in/*.json"), **given)

    async def session(self, **changes: Any) -> Any:
        context = ConnectionContext("gateway", self.clock, self.workspace, self.logs)
        return await connection_to(self.server, **changes).open(context)

    async def bind(self, context: SourceContext) -> RunningSource:
        session = await self.session()
        source = self.options().bind(self.context(context.intake, session))  # type: ignore[arg-type]  # the contract's own
        self._open.append(session)
        return _Closing(source, session)

    async def crash(self, source: RunningSource) -> None:
        assert isinstance(source, _Closing)
        await super().crash(source.inner)
        await source.session.close()


class _Closing:
    """A source that closes its connection when it stops, as the bus does for it."""

    def __init__(self, inner: RunningSource, session: Any) -> None:
        self.inner, self.session = inner, session

    async def start(self) -> None:
        await self.inner.start()

    async def stop(self) -> None:
        await self.inner.stop()
        await self.session.close()


class FileSinkRig(SinkRig):
    """Files in a local folder, which is never down: its faults are in `contracts/test_file_crashes.py`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workspace = folder
        self.clock = SystemClock()

    def connection(self) -> Any:
        return None

    def sink(self) -> Any:
        return FileSink(path=template("out/{{ body.n }}.json"))

    def refused_sink(self) -> Any:
        (self.folder / "out").mkdir(parents=True, exist_ok=True)
        (self.folder / "taken").write_text("other")
        return FileSink(path=template("taken"))

    async def received(self) -> list[tuple[str, bytes]]:
        return [("", path.read_bytes()) for path in sorted(self.folder.glob("out/*"))]

    async def down(self) -> None:
        """Not for a local folder."""

    up = freeze = thaw = down


class SftpSinkRig(FileSinkRig):
    """The same folder behind sshd."""

    def __init__(self, server: OpenSsh) -> None:
        super().__init__(server.files / uuid.uuid4().hex)
        self.folder.mkdir()
        self.server = server

    def connection(self) -> Any:
        return connection_to(self.server)

    def sink(self, **changes: Any) -> Any:
        return SftpSink(path=template(f"{self.folder}/out/{{{{ body.n }}}}.json"), **changes)

    def refused_sink(self) -> Any:
        super().refused_sink()
        return SftpSink(path=template(f"{self.folder}/taken"))

    async def down(self) -> None:
        self.server.stop()

    async def up(self) -> None:
        self.server.start()

    async def freeze(self) -> None:
        self.server.signal_sessions(signal.SIGSTOP)

    async def thaw(self) -> None:
        with suppress(AssertionError):
            self.server.signal_sessions(signal.SIGCONT)


__all__ = [
    "NOW",
    "FileSinkRig",
    "FolderRig",
    "Logs",
    "MemoryState",
    "SftpRig",
    "SftpSinkRig",
    "connection_to",
    "template",
]
