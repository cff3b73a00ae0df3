"""SFTP pick-up against bare asyncssh doing the same round trips, both against one private OpenSSH on loopback."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import asyncssh

from benchmarks import core
from benchmarks.figures import Figure, Rate, Skipped, alternate, median, ratio
from esb.clock import SystemClock
from esb.config.loader import load_workspace
from esb.endpoints._sftp.session import CIPHERS
from esb.endpoints.base import ConnectionContext, Incoming, Receipt, SourceContext
from esb.endpoints.file_options import Ready
from esb.endpoints.ingress import HttpIngress
from esb.endpoints.sftp import SftpConnection, SftpSource
from esb.language import TextTemplate
from esb.registry import load
from esb.runtime.stored import StoredState
from esb.runtime.supervisor import Supervisor
from esb.secret import Secret
from esb.store import open_store
from tests.servers.openssh import OpenSsh, openssh

FILES, IN_FLIGHT, LARGE = 500, 16, 100_000_000

ROUTE = """
route: bench
from: { route: {} }
steps:
  - filter: "`false`"
"""


def report(*, full: bool) -> Iterator[Figure]:
    """Pick-up of many small files, with and without the commit, and of one large file."""
    if shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
        raise Skipped("no OpenSSH server on this machine")
    turns = count()
    core.keep_loaded()

    def turn(part: Callable[[OpenSsh, int], Coroutine[Any, Any, Rate]]) -> Callable[[], Rate]:
        return lambda: core.run(part(server, next(turns)))

    with openssh() as server:
        rounds = 7 if full else 3
        bare, read, bus = alternate(rounds, turn(_bare), turn(partial(_bus, durable=False)), turn(_bus))
        theirs = f"asyncssh, {IN_FLIGHT} in flight {median(bare):.0f}/s"
        said = f"{median(read):.0f}/s; {theirs}{core.cpu(read, bare)}"
        yield Figure("SFTP pick-up without commit / asyncssh", ratio(read, bare), 0.8, said=said)
        said = f"{median(bus):.0f}/s; {theirs}, no commit{core.cpu(bus, bare)}"
        yield Figure("SFTP pick-up, committed before the move / asyncssh", ratio(bus, bare), 0.8, said=said)
        large, ours = alternate(rounds, turn(_bare_large), turn(_bus_large))
        said = f"{median(ours):.0f} MB/s with SHA-256; asyncssh without {median(large):.0f} MB/s{core.cpu(ours, large)}"
        yield Figure("SFTP, a file of 100 MB / asyncssh", ratio(ours, large), 0.8, said=said)


def _fill(server: OpenSsh, name: str, files: int) -> Path:
    folder = server.files / name
    for part in ("in/.esb-claim", "archive"):
        (folder / part).mkdir(parents=True)
    for number in range(files):
        (folder / f"in/{number:05}.json").write_bytes(core.payload(number))
    return folder


@asynccontextmanager
async def _client(server: OpenSsh) -> AsyncIterator[asyncssh.SFTPClient]:
    connection = await asyncssh.connect(
        "127.0.0.1",
        server.port,
        username=server.user,
        client_keys=[str(server.key)],
        known_hosts=str(server.known_hosts),
        encryption_algs=CIPHERS,
        compression_algs=None,
        config=None,
        agent_path=None,
    )
    async with connection, connection.start_sftp_client(path_encoding=None) as client:
        yield client


async def _bare(server: OpenSsh, turn: int) -> Rate:
    """Files a second: list, and for each file rename, open, read, close, rename; no commit."""
    folder = str(_fill(server, f"bare-{turn}", FILES)).encode()
    gate = asyncio.Semaphore(IN_FLIGHT)
    async with _client(server) as client:

        async def one(name: bytes) -> None:
            async with gate:
                claimed = folder + b"/in/.esb-claim/" + name
                await client.rename(folder + b"/in/" + name, claimed)
                file = await client.open(claimed, "rb", block_size=0)
                await file.read(100_000, 0)
                await file.close()
                await client.rename(claimed, folder + b"/archive/" + name)

        began = Rate.now()
        names = [entry.filename async for entry in client.scandir(folder + b"/in")]
        await asyncio.gather(*(one(name) for name in names if not name.startswith(b".")))
        return Rate.since(began, FILES)


@asynccontextmanager
async def _source(server: OpenSsh, folder: Path, *, durable: bool = True) -> AsyncIterator[Any]:
    """An SFTP source that hands to the intake of a running route over a store of its own."""
    with tempfile.TemporaryDirectory() as name:
        root, clock = Path(name), SystemClock()
        (root / "routes").mkdir()
        (root / "routes/bench.yaml").write_text(ROUTE)
        loaded, problems = load_workspace(root)
        assert loaded is not None, problems
        store = await open_store(loaded.settings.store, root, clock=clock)
        supervisor = Supervisor(store, clock, HttpIngress(), _quiet, loaded)
        await supervisor.start()
        options = SftpConnection(
            host="127.0.0.1", port=server.port, user=server.user, key=Secret(server.key.read_text()),
            known_hosts=str(server.known_hosts), patience=timedelta(minutes=1),
        )  # fmt: skip
        session: Any = await options.open(ConnectionContext("bench", clock, root, _quiet))
        await session.exists(b"/")
        context = SourceContext(
            route="bench", intake=_Commits(supervisor.routes["bench"].runner, durable), clock=clock, workspace=root,
            state=StoredState(store, "source:bench"), ingress=supervisor.ingress, log=_quiet, connection=session,
        )  # fmt: skip
        source = SftpSource(
            path=_text(f"{folder}/in/*"), ready=Ready(rename=True), batch=100_000, max_size=10 * LARGE,
            format=load().family("format")["raw"].cls(),
        )  # fmt: skip
        running: Any = source.bind(context)
        await running._desk.start()
        yield running
        await session.close()
        await supervisor.stop(loaded.settings.limits.drain)
        await store.close()


class _Commits:
    """An intake that commits (or not) and hands nothing to the route: picking up is measured, not working on it."""

    open = True

    def __init__(self, runner: Any, durable: bool) -> None:
        self._runner = runner
        self._durable = durable

    def accept_soon(self, incoming: Incoming, told: Callable[[Receipt | Exception], None]) -> bool:
        return False

    async def accept(self, incoming: Incoming) -> Receipt:
        if not self._durable:
            return Receipt("none", "none", "queued")
        bench = self._runner.bench
        birth = self._runner.births.of_incoming(self._runner.spec, incoming, bench.clock.now())
        accepted = await bench.store.accept(birth.new)
        return Receipt(accepted.id, accepted.id, "queued")

    async def outcome(self, message_id: str, timeout: float) -> None:
        return None


async def _bus(server: OpenSsh, turn: int, *, durable: bool = True) -> Rate:
    """Files a second through the source: the same round trips, and each message committed before its file moves."""
    folder = _fill(server, f"bus-{turn}-{durable}", FILES)
    async with _source(server, folder, durable=durable) as source:
        began = Rate.now()
        assert await source.poll_once() == FILES
        return Rate.since(began, FILES)


async def _bare_large(server: OpenSsh, turn: int) -> Rate:
    folder = _fill(server, f"bare-large-{turn}", 0)
    (folder / "in/large").write_bytes(b"x" * LARGE)
    async with _client(server) as client:
        began = Rate.now()
        async with client.open(str(folder / "in/large").encode(), "rb") as file:
            assert len(await file.read()) == LARGE
        rate = Rate.since(began, LARGE // 1_000_000)
    (folder / "in/large").unlink()
    return rate


async def _bus_large(server: OpenSsh, turn: int) -> Rate:
    folder = _fill(server, f"bus-large-{turn}", 0)
    (folder / "in/large").write_bytes(b"x" * LARGE)
    async with _source(server, folder) as source:
        (found,) = await source._desk.look(0.0)
        began = Rate.now()
        taken = await source._desk.take(found)
        rate = Rate.since(began, LARGE // 1_000_000)
        assert len(taken.payload) == LARGE
    (folder / "in/.esb-claim/large").unlink()
    return rate


def _text(text: str) -> TextTemplate:
    return TextTemplate(text, lambda scope: text, constant=True)


def _quiet(*_: object, **__: object) -> None:
    """Nobody reads the log of a benchmark."""
