"""Files at the crash points: killed between any two steps, nothing is lost and nothing is taken or written twice.

A crash is played by an exception that nothing catches on its way (as a kill would), and by a second source or sink over
what the first one left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from esb.clock import ManualClock
from esb.endpoints.base import Delivery, Incoming, KeyConflict, Receipt, SourceContext
from esb.endpoints.file import FileSink, FileSource
from esb.endpoints.file_options import Done, Ready
from esb.endpoints.file_source import FilePoller
from esb.errors import Rejected, Unavailable
from esb.formats.json import Json
from esb.language import TextTemplate
from esb.message import Message


class Killed(BaseException):
    """The process is gone: no handler runs."""


def killed(*_: object, **__: object) -> None:
    raise Killed


@dataclass
class Disk:
    """What survives: the folder and the messages that were committed."""

    root: Path
    committed: dict[str, tuple[str, str, bytes]] = field(default_factory=dict)
    dead: bool = False
    clock: ManualClock = field(default_factory=ManualClock)

    @property
    def payloads(self) -> list[bytes]:
        return [payload for _, _, payload in self.committed.values()]

    def tree(self) -> list[str]:
        return sorted(p.relative_to(self.root).as_posix() for p in self.root.rglob("*") if not p.is_dir())


class DiskIntake:
    open = True

    def __init__(self, disk: Disk, kill: str) -> None:
        self.disk, self.kill = disk, kill

    def accept_soon(self, incoming: Incoming, told: Callable[[Receipt | Exception], None]) -> bool:
        return False

    async def accept(self, incoming: Incoming) -> Receipt:
        if self.kill == "before commit":
            raise Killed
        assert incoming.source_key is not None
        known = self.disk.committed.get(incoming.source_key)
        if known is not None:
            if known[1] != incoming.fingerprint:
                raise KeyConflict(known[0])
            return Receipt(known[0], known[0], "known", known[0])
        id_ = f"m{len(self.disk.committed) + 1}"
        self.disk.committed[incoming.source_key] = (id_, incoming.fingerprint, incoming.payload)
        if self.kill == "after commit":
            raise Killed
        return Receipt(id_, id_, "queued")

    async def outcome(self, message_id: str, timeout: float, seq: int = 0) -> None:
        return None


def text(value: str) -> TextTemplate:
    return TextTemplate(value, lambda scope: value, constant=True)


def poller(disk: Disk, *, kill: str = "", **options: Any) -> FilePoller:
    source = FileSource(path=text("in/*"), **{"ready": Ready(rename=True), "format": Json(), **options})
    context = SourceContext(
        route="r",
        intake=DiskIntake(disk, kill),
        clock=disk.clock,
        workspace=disk.root,
        state=None,  # type: ignore[arg-type]  # a double, or none
        ingress=None,  # type: ignore[arg-type]  # a double, or none
        log=lambda level, event, **fields: None,
    )
    return source.bind(context)


def poll(source: FilePoller) -> None:
    with contextlib.suppress(Killed):
        asyncio.run(source.poll_once())


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    (tmp_path / "in").mkdir()
    return Disk(tmp_path)


def sends(disk: Disk, body: Any = "one", **changes: Any) -> dict[str, Any]:
    """Send one delivery; the body of the reply."""
    sink = FileSink(path=text("out/a.txt"), **{k: v for k, v in changes.items() if k in ("exists", "mkdirs")})
    message = Message(body)
    given = {"id": "0d3b7a52-0000-8000-8000-00000000c0de", "attempt": 1, "timeout": 30.0, "again": False}
    given |= {k: v for k, v in changes.items() if k in given}
    delivery = Delivery(scope=message.scope(), clock=disk.clock, workspace=disk.root, **given)
    reply = asyncio.run(sink.send(message, delivery, None))
    return dict(reply.body)


# -- C6, C7: the source ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kill", ["before commit", "after commit"])
def test_a_kill_around_the_commit_loses_nothing_and_takes_nothing_twice(disk: Disk, kill: str) -> None:
    (disk.root / "in/a.json").write_text("{}")
    poll(poller(disk, kill=kill))
    assert disk.tree() == ["in/.esb-claim/a.json"]
    poll(poller(disk))
    assert disk.payloads == [b"{}"]
    assert disk.tree() == ["in/.esb-done/a.json"]


def test_a_kill_after_the_claim_leaves_the_file_to_the_next_start(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    (disk.root / "in/a.json").write_text("{}")
    with monkeypatch.context() as patch:
        patch.setattr(os, "read", killed)
        poll(poller(disk))
    assert disk.tree() == ["in/.esb-claim/a.json"]
    poll(poller(disk))
    assert disk.payloads == [b"{}"]


def test_a_claimed_file_is_taken_before_a_new_one_of_its_name(disk: Disk) -> None:
    (disk.root / "in/a.json").write_text("1")
    poll(poller(disk, kill="before commit"))
    (disk.root / "in/a.json").write_text("2")
    source = poller(disk)
    poll(source)
    poll(source)
    assert disk.payloads == [b"1", b"2"]
    assert disk.tree() == ["in/.esb-done/a.1.json", "in/.esb-done/a.json"]


def test_what_lies_claimed_is_taken_without_waiting_to_be_ready(disk: Disk) -> None:
    (disk.root / "in/.esb-claim").mkdir()
    (disk.root / "in/.esb-claim/a.json").write_text("{}")
    poll(poller(disk, ready=Ready(marker=".done")))
    assert disk.payloads == [b"{}"]


def test_another_routes_claimed_file_is_left_alone(disk: Disk) -> None:
    (disk.root / "in/.esb-claim").mkdir()
    (disk.root / "in/.esb-claim/b.xml").write_text("<b/>")
    source = FileSource(path=text("in/*.json"), ready=Ready(rename=True), format=Json())
    context = poller(disk)._context
    poll(source.bind(context))
    assert disk.tree() == ["in/.esb-claim/b.xml"]


@pytest.mark.parametrize("point", ["link", "unlink"])
@pytest.mark.parametrize("done", [Done(move=text("old/")), Done(delete=True)])
def test_a_kill_while_the_file_is_filed_away_leaves_one_copy(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, point: str, done: Done
) -> None:
    (disk.root / "in/a.json").write_text("{}")
    with monkeypatch.context() as patch:
        patch.setattr(os, point, killed)
        poll(poller(disk, done=done))
    poll(poller(disk, done=done))
    assert disk.payloads == [b"{}"]
    assert disk.tree() == (["in/old/a.json"] if done.move else [])


def test_two_sources_over_one_folder_take_each_file_once(disk: Disk) -> None:
    for number in range(40):
        (disk.root / f"in/{number}.json").write_text(str(number))
    first, second = Disk(disk.root), Disk(disk.root)

    async def scenario() -> None:
        sources = [poller(first), poller(second)]
        for _ in range(3):
            await asyncio.gather(*(source.poll_once() for source in sources))

    asyncio.run(scenario())
    taken = first.payloads + second.payloads
    assert sorted(taken, key=int) == [str(number).encode() for number in range(40)]
    assert len(disk.tree()) == 40


def test_a_file_that_another_process_has_in_hand_is_not_read(disk: Disk) -> None:
    claim = disk.root / "in/.esb-claim"
    claim.mkdir()
    (claim / "a.json").write_text("{}")
    with (claim / "a.json").open() as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        poll(poller(disk))
        assert disk.payloads == []
    poll(poller(disk))
    assert disk.payloads == [b"{}"]


def test_filing_away_works_without_hard_links_and_across_file_systems(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link
    calls: list[int] = []

    def no_links(name: str, new: str, *, src_dir_fd: int, dst_dir_fd: int, follow_symlinks: bool) -> None:
        calls.append(errno.EPERM)
        raise OSError(errno.EPERM, "Operation not permitted")

    def far_away(name: str, new: str, *, src_dir_fd: int, dst_dir_fd: int, follow_symlinks: bool) -> None:
        if os.path.samestat(os.fstat(src_dir_fd), os.fstat(dst_dir_fd)):
            link(name, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=follow_symlinks)
            return
        calls.append(errno.EXDEV)
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    for fault in (no_links, far_away):
        (disk.root / "in/a.json").write_text(fault.__name__)
        with monkeypatch.context() as patch:
            patch.setattr(os, "link", fault)
            poll(poller(disk))
    assert {errno.EPERM, errno.EXDEV} <= set(calls)
    kept = {name: (disk.root / name).read_text() for name in disk.tree()}
    assert kept == {"in/.esb-done/a.json": "no_links", "in/.esb-done/a.1.json": "far_away"}


# -- C14, C15: the sink ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["write", "fsync", "link"])
def test_a_kill_before_the_name_is_given_leaves_no_half_file(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    (disk.root / "out").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, point, killed)
        patch.setattr(os, "unlink", lambda *_, **__: None)  # a killed process cleans nothing up
        with pytest.raises(Killed):
            sends(disk)
    left = disk.tree()
    assert len(left) == 1
    assert left[0].startswith("out/.a.txt.0d3b7a52-")
    assert left[0].endswith(".part")
    sends(disk, attempt=2, again=True)
    assert disk.tree() == ["out/a.txt"]
    assert (disk.root / "out/a.txt").read_text() == "one"


def test_a_kill_after_the_name_was_given_is_done_at_the_second_try(disk: Disk) -> None:
    first = sends(disk)
    state = (disk.root / "out/a.txt").stat()
    assert sends(disk, attempt=2, again=True) == first
    assert (disk.root / "out/a.txt").stat().st_ino == state.st_ino
    assert first["sha256"] == hashlib.sha256(b"one").hexdigest()


def test_a_name_that_holds_other_content_is_a_conflict_and_stays(disk: Disk) -> None:
    sends(disk)
    with pytest.raises(Rejected, match="exists already"):
        sends(disk, "two")
    assert (disk.root / "out/a.txt").read_text() == "one"
    assert disk.tree() == ["out/a.txt"]


def test_a_name_that_is_taken_while_writing_is_a_conflict(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def racing(*args: Any, **options: Any) -> None:
        (disk.root / "out/a.txt").write_text("someone else's")
        link(*args, **options)

    monkeypatch.setattr(os, "link", racing)
    with pytest.raises(Rejected, match="exists already"):
        sends(disk)
    assert (disk.root / "out/a.txt").read_text() == "someone else's"
    assert disk.tree() == ["out/a.txt"]


def test_a_full_disk_is_unavailable_and_leaves_nothing(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(Unavailable, match="No space left"):
        sends(disk)
    assert disk.tree() == []


def test_a_file_without_hard_links_is_published_whole(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no links")

    monkeypatch.setattr(os, "link", no_links)
    sends(disk)
    with pytest.raises(Rejected):
        sends(disk, "two")
    assert disk.tree() == ["out/a.txt"]
    assert (disk.root / "out/a.txt").read_text() == "one"


@pytest.mark.parametrize("exists", ["fail", "replace", "unique"])
def test_the_same_delivery_twice_makes_one_file(disk: Disk, exists: str) -> None:
    assert sends(disk, exists=exists) == sends(disk, exists=exists, attempt=2, again=True)
    assert len(disk.tree()) == 1
