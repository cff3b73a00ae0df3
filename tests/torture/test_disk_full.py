"""T5: the disk is full, and has room again. No yes without a row, 503 meanwhile, and it goes on by itself."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.demo.harness import call, until
from tests.acceptance.commands import items
from tests.torture.conftest import MakeRig
from tests.torture.rig import Rig
from tests.torture.tier import LONG

#: Bytes: more than it takes to open a store and to write one small transaction, less than a large one needs.
LITTLE = 512 << 10

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="limits and mounts of Linux"),
    pytest.mark.timeout(600 if LONG else 300),
]


def test_a_file_that_may_not_grow_stops_the_yes_and_nothing_else(rig: Rig) -> None:
    """RLIMIT_FSIZE at what the log of the store has already: every commit fails until it is taken back."""
    bus = rig.start()
    pid = bus.process.popen.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    with rig.load("full") as load:
        load.until(lambda load: load.acked >= 20)
        size = (rig.root / ".esb" / "bus.db-wal").stat().st_size
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[1]))
        load.until(lambda load: load.refused >= 20)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        load.until(lambda load, so_far=load.acked: load.acked >= so_far + 20)  # type: ignore[misc]  # bound now
    rig.drained()
    assert rig.verdict().faults == []
    assert rig.conserved() == []
    rig.settled()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 MB: a little above the space that the bus wants to see free."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("may not mount here; the test with RLIMIT_FSIZE covers the errors, not the watch on free space")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_short_space_closes_the_intake_says_why_and_opens_it_again(make_rig: MakeRig, small_disk: Path) -> None:
    rig = make_rig(settings=f"bus: torture\nstore: sqlite:///{small_disk}/bus.db\n")
    bus = rig.start()
    with rig.load("short") as load:
        load.until(lambda load: load.acked >= 20)
        fill(small_disk / "ballast")
        load.until(lambda load: load.refused >= 20)
        said = until(lambda: health(bus.admin)["reason"], within=60, what="the reason")
        assert "disk space is short" in said
        # what was refused before was refused by the disk itself
        load.until(lambda load: "disk space is short" in load.refusal)
        assert load.retry_after > 0
        (small_disk / "ballast").unlink()
        load.until(lambda load, so_far=load.acked: load.acked >= so_far + 20)  # type: ignore[misc]  # bound now
    rig.drained()
    assert rig.verdict().faults == []
    assert rig.conserved() == []
    rig.settled()


def test_what_is_old_can_be_removed_where_hardly_any_room_is_left(make_rig: MakeRig, small_disk: Path) -> None:
    """All at once it would take more than there is: the log of the store grows by what it removes."""
    rig = make_rig(settings=f"bus: torture\nstore: sqlite:///{small_disk}/bus.db\n")
    rig.start()
    with rig.load("before") as load:
        load.until(lambda load: load.acked >= 1_000)
    rig.drained()
    rig.settled()
    fill(small_disk / "ballast")
    os.truncate(small_disk / "ballast", (small_disk / "ballast").stat().st_size - LITTLE)
    (item,) = items("db", "prune", "--done", "0s", cwd=rig.root)
    assert item["removed"] >= 1_000
    assert items("db", "verify", cwd=rig.root) == []


def fill(ballast: Path) -> None:
    """Take all the room there is, while others write, too."""
    with ballast.open("wb") as file:
        for megabyte in range(10_000):
            try:
                os.posix_fallocate(file.fileno(), megabyte << 20, 1 << 20)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                return


def health(admin: str) -> dict[str, str]:
    return dict(call(f"{admin}/api/v1")["items"][0])
