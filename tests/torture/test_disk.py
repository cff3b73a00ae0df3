"""The model of a disk and the reader of traces: what survives a power cut, and what need not."""

from __future__ import annotations

import random
from pathlib import Path

from tests.torture.disk import Disk
from tests.torture.trace import Step, steps


def after(tmp_path: Path, *happened: Step, chance: random.Random | None = None) -> dict[str, bytes]:
    """What is left of an empty folder `/d` in which this happened, by path."""
    root = tmp_path / "before"
    root.mkdir(exist_ok=True)
    disk = Disk(root)
    for step in happened:
        place = str(root)
        disk.take(Step(step.what, place + step.path, place + step.to, step.offset, step.data, step.number))
    target = tmp_path / f"after{len(list(tmp_path.iterdir()))}"
    disk.cut(target, chance)
    return {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}


def synced(path: str) -> tuple[Step, Step]:
    return Step("sync", path, number=1), Step("synced", path, number=1)


WRITTEN = Step("write", "/a", data=b"one")


def test_nothing_that_was_not_synced_is_left(tmp_path: Path) -> None:
    assert after(tmp_path, WRITTEN) == {}


def test_bytes_need_the_sync_of_the_file_and_names_that_of_the_folder(tmp_path: Path) -> None:
    assert after(tmp_path, WRITTEN, *synced("/a")) == {}
    assert after(tmp_path, WRITTEN, *synced("")) == {"a": b""}
    assert after(tmp_path, WRITTEN, *synced("/a"), *synced("")) == {"a": b"one"}


def test_what_was_written_while_the_sync_ran_is_not_covered_by_it(tmp_path: Path) -> None:
    began, ended = synced("/a")
    late = Step("write", "/a", offset=0, data=b"two")
    assert after(tmp_path, WRITTEN, *synced(""), began, late, ended) == {"a": b"one"}


def test_a_rename_is_one_step_also_from_folder_to_folder(tmp_path: Path) -> None:
    both = [WRITTEN, *synced("/a"), Step("make", "/to"), *synced("")]
    moved = [*both, Step("rename", "/a", "/to/b")]
    assert after(tmp_path, *moved) == {"a": b"one"}
    assert after(tmp_path, *moved, *synced("/to")) == {"to/b": b"one"}
    assert after(tmp_path, *moved, *synced("")) == {"to/b": b"one"}


def test_without_a_sync_between_link_and_unlink_a_file_can_vanish(tmp_path: Path) -> None:
    both = [WRITTEN, *synced("/a"), Step("make", "/to"), *synced("")]
    moved = [*both, Step("link", "/a", "/to/b"), Step("unlink", "/a")]
    left = [after(tmp_path, *moved, chance=random.Random(n)) for n in range(40)]
    assert {} in left
    safe = [*both, Step("link", "/a", "/to/b"), *synced("/to"), Step("unlink", "/a")]
    assert all("to/b" in after(tmp_path, *safe, chance=random.Random(n)) for n in range(40))


def test_unsynced_writes_survive_each_by_itself(tmp_path: Path) -> None:
    written = [WRITTEN, *synced("/a"), *synced("")]
    loose = [Step("write", "/a", offset=0, data=b"x"), Step("write", "/a", offset=2, data=b"y")]
    left = {after(tmp_path, *written, *loose, chance=random.Random(n))["a"] for n in range(60)}
    assert left == {b"one", b"xne", b"ony", b"xny"}


def test_a_trace_is_read_with_its_interleaved_calls(tmp_path: Path) -> None:
    def hex_(text: str) -> str:
        return "".join(f"\\x{byte:02x}" for byte in text.encode())

    log = tmp_path / "trace"
    log.write_text(
        f"7 fdatasync(14<{hex_('/w/db-wal')}> <unfinished ...>\n"
        f'8 write(29<{hex_("socket:[1]")}>, "{hex_("HTTP/1.1 202 Accepted")}", 21) = 21\n'
        "7 <... fdatasync resumed>) = 0\n"
        f'7 pwrite64(14<{hex_("/w/db-wal")}>, "{hex_("abc")}", 3, 8192) = 3\n'
        f'7 renameat(20<{hex_("/w/in")}>, "{hex_("a")}", 21<{hex_("/w/in/c")}>, "{hex_("b")}") = 0\n'
        f'7 unlink("{hex_("/w/x")}") = -1 ENOENT (No such file or directory)\n'
        f"7 fsync(14<{hex_('/w/db-wal')}>) = -1 EIO (Input/output error) (INJECTED)\n"
        "8 +++ exited with 0 +++\n"
    )
    found = list(steps(log))
    assert [(one.what, one.path, one.to) for one in found] == [
        ("sync", "/w/db-wal", ""),
        ("answer", "", ""),
        ("synced", "/w/db-wal", ""),
        ("write", "/w/db-wal", ""),
        ("rename", "/w/in/a", "/w/in/c/b"),
        ("sync", "/w/db-wal", ""),
        ("failed", "/w/db-wal", "EIO"),
    ]
    assert (found[3].offset, found[3].data) == (8192, b"abc")
