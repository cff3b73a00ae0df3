"""SFTP servers that misbehave: nothing leaves its folder, nothing is lost or taken twice, and the rest flows on.

S11 (names), S13 (listings), T10 (cuts, growth, no renames).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from esb.clock import ManualClock, SystemClock
from esb.endpoints.base import ConnectionContext, Delivery, SourceContext
from esb.endpoints.file_options import Done, Failed, Ready
from esb.endpoints.sftp import SftpConnection, SftpSink, SftpSource
from esb.errors import MessageError, Rejected, Unavailable
from esb.formats.base import Codec
from esb.message import Message
from esb.registry import load
from esb.secret import Secret
from tests.contracts.folder_rigs import NOW, Logs, MemoryState, template
from tests.contracts.source_contract import DurableIntake
from tests.servers.hostile_sftp import PASSWORD, USER, Hostile, hostile_sftp
from tests.torture.tier import sized

RAW: Codec = load().family("format")["raw"].cls()
BAD = [
    b"../../x.json", b"../x.json", b"/etc/passwd.json", b"//x.json", b"a/b.json", b"..\\..\\x.json", b"C:\\x.json", b"x\x00.json",
    b"", b"/.json",
]  # fmt: skip
#: names in one listing
COUNT = sized(10_000, long=100_000)
ODD = [
    b"\xff.json",
    b"latin-\xe9.json",
    b"a\xed\xa0\x80.json",
    b"a\nb.json",
    b"\x1b[31mb.json",
    "\u202egpj.json".encode(),
]


class Killed(BaseException):
    """The process is gone: no handler runs."""


class Ground:
    """A hostile server with a source and sinks over it; what it stores outlives both."""

    def __init__(self, server: Hostile) -> None:
        self.server, self.misdeeds = server, server.misdeeds
        self.root = server.root
        self.intake, self.state, self.logs = DurableIntake(), MemoryState(), Logs()
        self.clock: Any = SystemClock()
        (self.root / "in").mkdir()
        self.session: Any = None

    async def connect(self, **changes: Any) -> Any:
        options = SftpConnection(
            **{
                "host": "127.0.0.1", "port": self.server.port, "user": USER, "password": Secret(PASSWORD),
                "known_hosts": str(self.server.known_hosts), "patience": timedelta(seconds=10), **changes,
            }
        )  # fmt: skip
        self.session = await options.open(ConnectionContext("gw", self.clock, self.root.parent, self.logs))
        return self.session

    async def source(self, **options: Any) -> Any:
        if self.session is None:
            await self.connect()
        given: dict[str, Any] = {"ready": NOW, "format": RAW, **options}
        context = SourceContext(
            route="r", intake=self.intake, clock=self.clock, workspace=self.root.parent, state=self.state,
            ingress=None, log=self.logs, connection=self.session,  # type: ignore[arg-type]  # a double, or none
        )  # fmt: skip
        source: Any = SftpSource(path=template(given.pop("path", "/in/*.json")), **given).bind(context)
        await source._desk.start()
        return source

    async def poll_until(self, source: Any, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(40):
            while not condition():
                await source.poll_once()
                await asyncio.sleep(0.01)

    async def send(self, body: Any, path: str = "/out/a.bin", *, again: bool = False, **options: Any) -> Any:
        if self.session is None:
            await self.connect()
        message = Message(body)
        delivery = Delivery(
            id="0d3b7a52-0000-8000-8000-00000000c0de", attempt=2 if again else 1, timeout=20.0, scope=message.scope(),
            clock=self.clock, workspace=self.root.parent, message_id="m1", again=again,
        )  # fmt: skip
        return await SftpSink(path=template(path), **options).send(message, delivery, self.session)

    async def send_until_done(self, body: Any, **options: Any) -> None:
        again = False
        async with asyncio.timeout(40):
            while True:
                try:
                    await self.send(body, again=again, **options)
                except Unavailable:
                    again = True
                    await asyncio.sleep(0.02)
                else:
                    return

    def put(self, name: str, content: bytes = b"{}") -> None:
        path = self.root / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)

    def tree(self, below: str = "") -> list[str]:
        top = self.root / below
        return sorted(p.relative_to(top).as_posix() for p in top.rglob("*") if not p.is_dir())


def play(tmp_path: Path, scenario: Callable[[Ground], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with ground_at(tmp_path) as ground:
            await scenario(ground)

    asyncio.run(whole())


@asynccontextmanager
async def ground_at(tmp_path: Path) -> AsyncIterator[Ground]:
    async with hostile_sftp(tmp_path / "server") as server:
        ground = Ground(server)
        try:
            yield ground
        finally:
            if ground.session is not None:
                await ground.session.close()


# -- names ----------------------------------------------------------------------------------------------------------------


def test_names_that_lead_elsewhere_are_left_alone_and_told_once(tmp_path: Path) -> None:
    async def scenario(ground: Ground) -> None:
        ground.misdeeds.names = BAD
        ground.put("good.json")
        source = await ground.source()
        for _ in range(3):
            await source.poll_once()
        assert ground.intake.payloads == [b"{}"]
        assert len(ground.logs.of("file.bad_name")) == 2 * len(BAD)  # of the folder, and of `.esb-claim`
        inside = (b"/in", b"/in/")
        assert all(
            path == b"/in" or (path.startswith(inside) and b".." not in path) for path in ground.misdeeds.touched
        )

    play(tmp_path, scenario)


def test_undecodable_and_control_names_go_to_failed_and_the_rest_flows(tmp_path: Path) -> None:
    async def scenario(ground: Ground) -> None:
        folder = str(ground.root / "in").encode()
        for name in ODD:
            await asyncio.to_thread(Path(__file__).stat)
            with open(folder + b"/" + name, "wb") as file:
                file.write(b"{}")
        ground.put("good.json")
        source = await ground.source()
        await source.poll_once()
        await source.poll_once()
        assert ground.intake.payloads == [b"{}"]
        assert ground.tree("in/.esb-done") == ["good.json"]
        failed = ground.tree("in/.esb-failed")
        assert len([name for name in failed if name.endswith(".error.json")]) == len(ODD)
        assert len(ground.logs.of("file.failed")) == len(ODD)

    play(tmp_path, scenario)


def test_a_long_listing_is_taken_in_parts(tmp_path: Path) -> None:
    async def scenario(ground: Ground) -> None:
        # listed, and gone when they are claimed
        ground.misdeeds.names = [b"ghost-%05d.json" % n for n in range(10_000)]
        ground.put("zz.json")
        source = await ground.source(batch=50, order="name")
        assert await source.poll_once() == 0
        assert source.pause() == 0  # the rest of the listing is next
        ground.misdeeds.names = []
        assert await source.poll_once() == 1

    play(tmp_path, scenario)


# -- cuts -----------------------------------------------------------------------------------------------------------------

SIZE = 300_000
CONTENT = hashlib.sha256(b"seed").digest() * (SIZE // 32)


@pytest.mark.parametrize("percent", [0, 1, 50, 99])
def test_a_transfer_that_is_cut_is_taken_whole_afterwards(tmp_path: Path, percent: int) -> None:
    async def scenario(ground: Ground) -> None:
        ground.put("a.json", CONTENT)
        ground.misdeeds.cut_after = max(1, len(CONTENT) * percent // 100)
        source = await ground.source()
        await ground.poll_until(source, lambda: bool(ground.tree("in/.esb-done")))
        assert ground.intake.payloads == [CONTENT]
        assert ground.tree() == ["in/.esb-done/a.json"]

    play(tmp_path, scenario)


@pytest.mark.parametrize("percent", [0, 1, 50, 99])
def test_an_upload_that_is_cut_begins_anew_and_is_never_seen_half(tmp_path: Path, percent: int) -> None:
    async def scenario(ground: Ground) -> None:
        ground.misdeeds.cut_after = max(1, len(CONTENT) * percent // 100)
        with pytest.raises(Unavailable):
            await ground.send(CONTENT)
        assert not (ground.root / "out/a.bin").exists()
        await ground.send_until_done(CONTENT, path="/out/a.bin")
        assert ground.tree("out") == ["a.bin"]
        assert (ground.root / "out/a.bin").read_bytes() == CONTENT

    play(tmp_path, scenario)


@pytest.mark.parametrize("exists", ["fail", "replace", "unique"])
def test_a_connection_that_ends_before_the_rename_leaves_one_file(tmp_path: Path, exists: str) -> None:
    async def scenario(ground: Ground) -> None:
        ground.misdeeds.cut_renames = 1
        await ground.send_until_done(CONTENT, exists=exists)
        assert len(ground.tree("out")) == 1
        assert not ground.tree("out")[0].endswith(".part")

    play(tmp_path, scenario)


def test_a_connection_that_ends_before_claim_or_archive_loses_nothing(tmp_path: Path) -> None:
    async def scenario(ground: Ground) -> None:
        for number in range(20):
            ground.put(f"{number:02}.json", b"%d" % number)
        ground.misdeeds.cut_renames = 3
        source = await ground.source()
        await ground.poll_until(source, lambda: len(ground.tree("in/.esb-done")) == 20)
        assert sorted(ground.intake.payloads, key=int) == [b"%d" % number for number in range(20)]
        assert len(ground.tree()) == 20

    play(tmp_path, scenario)


def test_short_answers_to_reads_make_no_short_files(tmp_path: Path) -> None:
    async def scenario(ground: Ground) -> None:
        ground.misdeeds.short_reads = 1000
        ground.put("large.json", CONTENT)
        ground.put("small.json", CONTENT[:20_000])
        source = await ground.source()
        await source.poll_once()
        assert ground.intake.payloads == [CONTENT, CONTENT[:20_000]]

    play(tmp_path, scenario)


@pytest.mark.parametrize("size", [100, 200_000])
def test_a_file_that_grows_after_the_listing_is_put_back(tmp_path: Path, size: int) -> None:
    async def scenario(ground: Ground) -> None:
        ground.put("a.json", b"x" * size)
        source = await ground.source()
        look = source._desk.look

        async def look_then_grow(now: float) -> Any:
            found = await look(now)
            ground.put("a.json", b"x" * size + b"more")
            return found

        source._desk.look = look_then_grow
        await source.poll_once()
        assert ground.intake.payloads == []
        assert ground.tree() == ["in/a.json"]

    play(tmp_path, scenario)


def test_a_frozen_server_costs_one_deadline_and_is_left(tmp_path: Path) -> None:
    async def scenario(ground: Ground) -> None:
        await ground.connect(patience=timedelta(seconds=1))
        ground.put("a.json")
        source = await ground.source()
        ground.misdeeds.thaw = thaw = asyncio.Event()
        await source.poll_once()
        assert ground.logs.of("file.trouble")
        assert ground.tree() == ["in/.esb-claim/a.json"]
        thaw.set()
        ground.misdeeds.thaw = None
        await ground.poll_until(source, lambda: bool(ground.tree("in/.esb-done")))
        assert ground.intake.payloads == [b"{}"]

    play(tmp_path, scenario)


# -- servers that forbid ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("refusal", [asyncssh.SFTPOpUnsupported, asyncssh.SFTPPermissionDenied])
@pytest.mark.parametrize("done", ["move", "delete"])
def test_without_renames_a_file_is_taken_once_and_copied(tmp_path: Path, refusal: Any, done: str) -> None:
    async def scenario(ground: Ground) -> None:
        ground.misdeeds.no_rename = refusal
        ground.put("a.json", b"1")
        ground.put("b.json", b"2")
        ending = Done(move=template("../old/")) if done == "move" else Done(delete=True)
        source = await ground.source(done=ending)
        await source.poll_once()
        await source.poll_once()
        assert ground.intake.payloads == [b"1", b"2"]
        assert ground.tree() == (["old/a.json", "old/b.json"] if done == "move" else [])
        assert len(ground.logs.of("file.no_rename")) >= 1
        assert ground.logs.of("file.duplicate") == []
        ground.put("a.json", b"1")
        await source.poll_once()
        assert len(ground.logs.of("file.duplicate")) == 1
        if done == "move":
            assert ground.tree() == ["old/a.1.json", "old/a.json", "old/b.json"]

    play(tmp_path, scenario)


def test_without_renames_a_crash_after_the_commit_is_no_duplicate(tmp_path: Path) -> None:
    async def scenario(ground: Ground) -> None:
        ground.misdeeds.no_rename = asyncssh.SFTPOpUnsupported
        ground.misdeeds.no_mkdir = True
        ground.put("a.json", b"1")
        source = await ground.source(done=Done(delete=True))

        async def dies(*_: Any) -> Any:
            raise Killed

        source._desk.done = dies
        with pytest.raises(Killed):
            await source.poll_once()
        again = await ground.source(done=Done(delete=True))
        await again.poll_once()
        assert ground.intake.payloads == [b"1"]
        assert ground.logs.of("file.duplicate") == []
        assert ground.tree() == []

    play(tmp_path, scenario)


def test_a_file_that_can_be_neither_moved_nor_removed_is_taken_once_over_restarts(tmp_path: Path) -> None:
    async def scenario(ground: Ground) -> None:
        ground.misdeeds.no_rename = asyncssh.SFTPPermissionDenied
        ground.misdeeds.no_remove = ground.misdeeds.no_mkdir = True
        ground.put("a.json", b"1")
        for _ in range(3):
            source = await ground.source()
            await source.poll_once()
            assert await source.poll_once() == 0
        assert ground.intake.payloads == [b"1"]
        assert len(ground.logs.of("file.kept")) == 1
        ground.put("a.json", b"corrected")
        await source.poll_once()
        assert ground.intake.payloads == [b"1", b"corrected"]

    play(tmp_path, scenario)


def test_a_sink_without_renames_is_refused_and_shows_no_half_file(tmp_path: Path) -> None:
    async def scenario(ground: Ground) -> None:
        ground.misdeeds.no_rename = asyncssh.SFTPOpUnsupported
        with pytest.raises(Rejected, match="does not rename"):
            await ground.send(b"x")
        assert ground.tree("out") == []

    play(tmp_path, scenario)


# -- what a sink does about a taken name --------------------------------------------------------------------------------------


def test_exists_decides_what_becomes_of_a_taken_name(tmp_path: Path) -> None:
    async def scenario(ground: Ground) -> None:
        reply = await ground.send(b"one")
        assert reply.body == {"path": "/out/a.bin", "bytes": 3, "sha256": hashlib.sha256(b"one").hexdigest()}
        await ground.send(b"one", again=True)
        with pytest.raises(Rejected, match="exists already"):
            await ground.send(b"two")
        await ground.send(b"two", exists="replace")
        assert (ground.root / "out/a.bin").read_bytes() == b"two"
        await ground.send(b"three", exists="append")
        await ground.send(b"four", exists="append")
        assert (ground.root / "out/a.bin").read_bytes() == b"twothree\nfour\n"
        await ground.send(b"five", exists="unique")
        assert ground.tree("out") == ["a.0d3b7a520000.bin", "a.bin"]
        with pytest.raises(MessageError, match="no folder"):
            await ground.send(b"x", path="/not/there/a", mkdirs=False)

    play(tmp_path, scenario)


def test_what_stands_in_a_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    async def scenario(ground: Ground) -> None:
        for body in ("../../x", "/etc/passwd", "..", "a\x00b", "..\\x", "CON", "x" * 300, "é" * 200, "\u202ex"):
            await ground.send(body, path="/out/to/{{ body }}", exists="replace")
        assert ground.tree() == ground.tree("out") or all(name.startswith("out/to/") for name in ground.tree())

    play(tmp_path, scenario)


# -- growing and ready ----------------------------------------------------------------------------------------------------------


def test_a_file_is_stable_before_it_is_taken_and_a_marker_says_so_too(tmp_path: Path) -> None:
    async def scenario(ground: Ground) -> None:
        ground.clock = clock = ManualClock()
        source = await ground.source(ready=Ready(stable_for=timedelta(seconds=20)))
        for size in range(1, 4):
            ground.put("a.json", b"x" * size)
            assert await source.poll_once() == 0
            clock.advance(15)
        assert await source.poll_once() == 0
        clock.advance(20)
        assert await source.poll_once() == 1
        marked = await ground.source(ready=Ready(marker=".done"))
        ground.put("b.json", b"y")
        assert await marked.poll_once() == 0
        ground.put("b.json.done")
        assert await marked.poll_once() == 1
        assert ground.tree() == ["in/.esb-done/a.json", "in/.esb-done/b.json"]

    play(tmp_path, scenario)


def test_a_corrected_file_is_new_the_same_again_a_reported_duplicate(tmp_path: Path) -> None:
    async def scenario(ground: Ground) -> None:
        source = await ground.source(failed=Failed(move=template("/bad/")))
        for content in (b"1", b"2", b"1"):
            ground.put("a.json", content)
            await source.poll_once()
        assert ground.intake.payloads == [b"1", b"2"]
        assert ground.tree() == ["in/.esb-done/a.1.json", "in/.esb-done/a.2.json", "in/.esb-done/a.json"]
        assert [told["message"] for told in ground.logs.of("file.duplicate")] == ["m1"]

    play(tmp_path, scenario)
