"""Files where the system keeps what is open: Windows, as far as it can be played here."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from esb.endpoints import file_letter, file_local, folders
from esb.endpoints.file import FileSink, FileSource
from esb.endpoints.file_options import Done, Ready
from esb.errors import StoreBusy, Unavailable
from esb.formats.json import Json
from esb.language import TextTemplate
from esb.message import Message

Template = Callable[[str], TextTemplate]


def _refuse_open(path: Any) -> None:
    for number in Path("/proc/self/fd").iterdir():
        try:
            there = number.readlink()
        except OSError:
            continue
        if there == Path(path):
            raise PermissionError(errno.EACCES, "it is being used by another process", str(path))


class Locks:
    """`msvcrt`: a byte of a file, at the place of the descriptor, is one descriptor's at a time."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        self.held: dict[tuple[int, int], int] = {}

    def locking(self, fd: int, mode: int, count: int) -> None:
        assert (mode, count) == (self.LK_NBLCK, 1)
        place = os.fstat(fd).st_ino, os.lseek(fd, 0, os.SEEK_CUR)
        assert place[1] > 1 << 30  # what is locked there can be neither read nor written by others
        if self.held.setdefault(place, fd) != fd:
            raise OSError(errno.EACCES, "Permission denied")


@pytest.fixture(autouse=True)
def windows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No folder can be opened, what is open stays where it is, and only who may write may sync."""
    monkeypatch.setattr(folders, "BY_DESCRIPTOR", False)
    monkeypatch.setattr(folders, "sys", SimpleNamespace(platform="win32"))
    monkeypatch.setattr(folders, "msvcrt", Locks(), raising=False)
    for module in (folders, file_letter, file_local):
        monkeypatch.setattr(module, "OPEN_FILES_STAY", True)
    rename, replace, unlink, fsync = os.rename, os.replace, os.unlink, os.fsync

    def renames(old: Any, new: Any, **words: Any) -> None:
        _refuse_open(old)
        if Path(new).exists():
            raise FileExistsError(errno.EEXIST, "it is there already", str(new))
        rename(old, new, **words)

    def replaces(old: Any, new: Any, **words: Any) -> None:
        _refuse_open(old)
        _refuse_open(new)
        replace(old, new, **words)

    def unlinks(path: Any, **words: Any) -> None:
        _refuse_open(path)
        unlink(path, **words)

    def syncs(fd: int) -> None:
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        fsync(fd)

    with monkeypatch.context() as patch:
        for name, stand_in in (("rename", renames), ("replace", replaces), ("unlink", unlinks), ("fsync", syncs)):
            patch.setattr(os, name, stand_in)
        yield


def poll(bench: Any, template: Template, **options: Any) -> None:
    source = FileSource(path=template("inbox/*"), ready=Ready(rename=True), format=Json(), **options)
    asyncio.run(source.bind(bench.context()).poll_once())


def files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@pytest.fixture
def inbox(bench: Any) -> Path:
    folder: Path = bench.workspace / "inbox"
    folder.mkdir()
    (folder / "a.json").write_text("{}")
    return folder


def test_a_file_that_was_taken_is_filed_away(bench: Any, template: Template, inbox: Path) -> None:
    poll(bench, template, done=Done(move=template("archive/")))
    assert len(bench.intake.accepted) == 1
    assert files(inbox) == ["archive/a.json"]


def test_a_file_that_was_taken_is_removed(bench: Any, template: Template, inbox: Path) -> None:
    poll(bench, template, done=Done(delete=True))
    assert files(inbox) == []


def test_a_file_that_was_not_taken_is_put_back(bench: Any, template: Template, inbox: Path) -> None:
    def full(_: Any) -> None:
        raise StoreBusy("the disk is full")

    bench.intake.before = full
    poll(bench, template)
    assert files(inbox) == ["a.json"]


def test_a_file_that_its_writer_has_open_is_left_and_taken_later(bench: Any, template: Template, inbox: Path) -> None:
    with (inbox / "a.json").open("a"):
        poll(bench, template)
        assert files(inbox) == ["a.json"]
    poll(bench, template, done=Done(delete=True))
    assert len(bench.intake.accepted) == 1
    assert files(inbox) == []


def test_a_file_is_one_writers_at_a_time_and_read_from_where_it_was(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("line\n")
    with (tmp_path / "log").open("rb", 0) as one, (tmp_path / "log").open("rb", 0) as other:
        assert one.read(2) == b"li"
        assert folders.take_lock(one.fileno())
        assert one.read() == b"ne\n"
        assert not folders.take_lock(other.fileno())


def send(bench: Any, template: Template, body: str, exists: Any = "fail") -> None:
    message = Message(body)
    sink = FileSink(path=template("out/a.txt"), exists=exists)
    asyncio.run(sink.send(message, bench.delivery(message), None))


def test_a_delivery_that_was_written_before_is_known(bench: Any, template: Template) -> None:
    for _ in range(2):
        send(bench, template, "x")
    assert files(bench.workspace) == ["out/a.txt"]


def test_a_file_that_a_reader_has_open_is_replaced_by_a_later_attempt(bench: Any, template: Template) -> None:
    send(bench, template, "one", "replace")
    with (bench.workspace / "out/a.txt").open(), pytest.raises(Unavailable, match="may not write") as caught:
        send(bench, template, "two", "replace")
    assert "open" in caught.value.hint
    send(bench, template, "two", "replace")
    assert (bench.workspace / "out/a.txt").read_text() == "two"
    assert files(bench.workspace) == ["out/a.txt"]
