"""The watcher tells of a change once the files are at rest, and only of files that a workspace reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from esb.clock import SystemClock
from esb.errors import StoreError
from esb.runtime import watch
from esb.runtime.watch import SUFFIXES, Watcher, is_network_share, signature


def workspace(root: Path) -> Path:
    (root / "routes").mkdir()
    (root / "routes" / "a.yaml").write_text("route: a\n")
    (root / "out").mkdir()
    return root


def test_the_signature_covers_what_a_workspace_reads_and_nothing_else(tmp_path: Path) -> None:
    root = workspace(tmp_path)
    before = signature(root)
    assert list(before) == [str(root / "routes" / "a.yaml")]
    (root / "out" / "x.json").write_text("{}")
    (root / "routes" / ".a.yaml.swp").write_text("")
    (root / "routes" / "notes.txt").write_text("")
    assert signature(root) == before
    (root / "esb.yaml").write_text("bus: b\n")
    (root / "routes" / "sites").mkdir()
    (root / "routes" / "sites" / "p10.yaml").write_text("site: P10\n")
    assert len(signature(root)) == 3


def test_other_folders_can_be_watched_and_all_files_in_them(tmp_path: Path) -> None:
    root = workspace(tmp_path)
    (root / "out" / "x.txt").write_text("1")
    (root / "out" / "x.txt~").write_text("1")
    (root / "routes" / "notes.txt").write_text("")
    found = signature(root, {"routes": SUFFIXES, "out": ("",)})
    assert sorted(found) == [str(root / "out" / "x.txt"), str(root / "routes" / "a.yaml")]


@pytest.mark.parametrize(
    ("place", "share"),
    [
        ("/mnt/plant", True),
        ("/mnt/plant/routes", True),
        ("/mnt/plant/local/routes", False),
        ("/mnt/plants", False),
        ("/mnt/our share/routes", True),
        ("/srv/esb", False),
    ],
)
def test_a_network_share_is_known_by_its_mount_point_and_below_it(tmp_path: Path, place: str, share: bool) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/sda / ext4 rw 0 0\nnas:/p /mnt/plant nfs4 rw 0 0\n/dev/sdb /mnt/plant/local ext4 rw 0 0\n"
        "//nas/o /mnt/our\\040share cifs rw 0 0\n"
    )
    assert is_network_share(Path(place), mounts) is share


def test_routes_on_a_share_below_a_local_workspace_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "is_network_share", lambda path: path.name == "routes")
    assert watch.gives_no_events(tmp_path)


async def first_change(root: Path, *, events: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = asyncio.Event()

    async def note() -> None:
        changed.set()

    if not events:
        monkeypatch.setattr(watch, "is_network_share", lambda _path: True)
        monkeypatch.setattr(watch, "LOOK_WITHOUT", 0.05)
    watcher = Watcher(root, SystemClock(), note, lambda *_a, **_k: None)
    await watcher.start()
    try:
        (root / "routes" / "b.yaml").write_text("route: b\n")
        async with asyncio.timeout(20):
            await changed.wait()
    finally:
        await watcher.stop()


@pytest.mark.parametrize("events", [True, False], ids=["events", "network-share"])
def test_a_new_file_is_noticed_by_events_and_by_looking(
    tmp_path: Path, events: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(first_change(workspace(tmp_path), events=events, monkeypatch=monkeypatch))


def test_what_was_saved_between_the_reading_and_the_watch_is_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        root, changed = workspace(tmp_path), asyncio.Event()

        async def note() -> None:
            changed.set()

        monkeypatch.setattr(watch, "LOOK_WITH_EVENTS", 3600.0)
        before = signature(root)
        put(root, "route: saved while the store was opened\n")
        watcher = Watcher(root, SystemClock(), note, lambda *_a, **_k: None, seen=before)
        await watcher.start()
        try:
            async with asyncio.timeout(20):
                await changed.wait()
        finally:
            await watcher.stop()

    asyncio.run(scenario())


def put(root: Path, text: str) -> None:
    (root / "routes" / "a.yaml").write_text(text)


def swap(root: Path) -> None:
    """A deployment: the new folder is made beside, and takes the place of the old one by its name."""
    (root / "next").mkdir()
    (root / "next" / "a.yaml").write_text("route: b\n")
    (root / "routes").rename(root / "before")
    (root / "next").rename(root / "routes")


def later_folder(root: Path) -> None:
    (root / "schemas").mkdir()


def later_schema(root: Path) -> None:
    (root / "schemas" / "a.v1.json").write_text("{}")


def moved_in(root: Path) -> None:
    (root / "staged").mkdir()
    (root / "staged" / "p10.yaml").write_text("site: P10\n")
    (root / "staged").rename(root / "routes" / "sites")


def moved_about(root: Path) -> None:
    (root / "routes" / "sites").rename(root / "routes" / "plants")


@pytest.mark.parametrize(
    "edits",
    [
        (swap, lambda root: put(root, "route: c\n")),
        (later_folder, later_schema, lambda root: (root / "schemas" / "a.v1.json").write_text("{} ")),
        (moved_in, moved_about, lambda root: (root / "routes" / "plants" / "p10.yaml").write_text("site: P20\n")),
    ],
    ids=["another-folder-in-its-place", "a-folder-that-comes-later", "folders-that-move"],
)
def test_folders_come_go_and_move_and_their_files_are_still_noticed_at_once(
    tmp_path: Path, edits: Sequence[Callable[[Path], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By events alone: no look every now and then helps."""

    async def scenario() -> None:
        root, seen = workspace(tmp_path), asyncio.Event()
        known = signature(root)

        async def changed() -> None:
            seen.set()

        monkeypatch.setattr(watch, "LOOK_WITH_EVENTS", 3600.0)
        watcher = Watcher(root, SystemClock(), changed, lambda *_a, **_k: None)
        await watcher.start()
        try:
            for edit in edits:
                seen.clear()
                edit(root)
                if signature(root) == known:
                    continue  # an empty folder is no change of files
                async with asyncio.timeout(20):
                    await seen.wait()
                known = signature(root)
        finally:
            await watcher.stop()

    asyncio.run(scenario())


def test_a_change_that_could_not_be_taken_over_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk at the wrong moment must not be the end of hot reload."""

    async def scenario() -> None:
        root, tries, logs = workspace(tmp_path), list[int](), list[str]()
        taken = asyncio.Event()

        async def changed() -> None:
            tries.append(1)
            if len(tries) == 1:
                raise StoreError("the disk is full")
            taken.set()

        monkeypatch.setattr(watch, "LOOK_WITH_EVENTS", 0.05)
        monkeypatch.setattr(watch, "LOOK_WITHOUT", 0.05)
        watcher = Watcher(root, SystemClock(), changed, lambda level, event, **fields: logs.append(fields["error"]))
        await watcher.start()
        try:
            (root / "routes" / "b.yaml").write_text("route: b\n")
            async with asyncio.timeout(20):
                await taken.wait()
        finally:
            await watcher.stop()
        assert logs == ["StoreError: the disk is full"]

    asyncio.run(scenario())
