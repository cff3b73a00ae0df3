"""The watcher tells of a change once the files are at rest, and only of files that a workspace reads."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from esb.clock import SystemClock
from esb.runtime import watch
from esb.runtime.watch import Watcher, signature


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
