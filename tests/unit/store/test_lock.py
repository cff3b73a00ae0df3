"""One process per store, whatever happens at the same instant."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from esb.errors import StoreBusy
from esb.store import lock as lock_module
from esb.store.lock import StoreLock, read_owner

RACER = """
import sys
from pathlib import Path
from esb.errors import StoreBusy
from esb.store import lock as lock_module
from esb.store.lock import StoreLock
sys.stdin.readline()
for n in range(10):
    lock = StoreLock(Path(sys.argv[1]) / str(n))
    try:
        lock.acquire()
    except StoreBusy as error:
        print("busy", error, flush=True)
    else:
        print("owner", flush=True)
        kept = globals().setdefault("kept", [])
        kept.append(lock)
sys.stdin.readline()
"""


def test_the_owner_is_named_to_the_second(tmp_path: Path) -> None:
    lock = StoreLock(tmp_path / ".esb").acquire()
    lock.write(admin="127.0.0.1:8081", http="127.0.0.1:8080")
    owner = read_owner(tmp_path / ".esb")
    assert owner is not None
    assert (owner["pid"], owner["host"]) == (os.getpid(), socket.gethostname())
    assert (owner["admin"], owner["http"]) == ("127.0.0.1:8081", "127.0.0.1:8080")
    with pytest.raises(StoreBusy, match=f"process {os.getpid()} on {socket.gethostname()}") as caught:
        StoreLock(tmp_path / ".esb").acquire()
    assert "esb status" in caught.value.hint
    lock.release()


def test_a_released_lock_is_free_and_says_nothing(tmp_path: Path) -> None:
    with StoreLock(tmp_path) as lock:
        assert lock.held
    assert not lock.held
    assert read_owner(tmp_path) is None
    assert (tmp_path / "bus.lock").read_text() == ""
    with StoreLock(tmp_path):
        pass
    lock.release()


def test_nobody_owns_what_never_was(tmp_path: Path) -> None:
    assert read_owner(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_what_is_said_later_leaves_no_rest_of_what_was_said_before(tmp_path: Path) -> None:
    with StoreLock(tmp_path) as lock:
        lock.write(http="x" * 500)
        lock.write(http="y")
        assert json.loads((tmp_path / "bus.lock").read_text())["http"] == "y"


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be closed or removed there")
def test_a_stray_open_and_close_of_the_file_does_not_free_it(tmp_path: Path) -> None:
    with StoreLock(tmp_path):
        (tmp_path / "bus.lock").read_text()
        os.close(os.open(tmp_path / "bus.lock", os.O_RDWR))
        with pytest.raises(StoreBusy):
            StoreLock(tmp_path).acquire()


@pytest.mark.skipif(os.name == "nt", reason="the file can be read and written by its owner only, by other means there")
def test_the_file_is_private(tmp_path: Path) -> None:
    with StoreLock(tmp_path / ".esb") as lock:
        assert lock.path.stat().st_mode & 0o777 == 0o600
        assert lock.path.parent.stat().st_mode & 0o777 == 0o700


def test_the_lock_of_a_dead_process_is_free(tmp_path: Path) -> None:
    code = "import sys, os; from pathlib import Path; from esb.store.lock import StoreLock\n"
    code += "StoreLock(Path(sys.argv[1])).acquire(); os._exit(1)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert "pid" in (tmp_path / "bus.lock").read_text()
    assert read_owner(tmp_path) is None
    StoreLock(tmp_path).acquire().release()


def test_of_two_processes_at_the_same_instant_one_owns_it(tmp_path: Path) -> None:
    """Ten locks, two processes that reach for each at once."""
    with contextlib.ExitStack() as stack:
        racers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", RACER, str(tmp_path)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(2)
        ]
        said: list[list[str]] = []
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        for racer in racers:
            assert racer.stdout is not None
            said.append([racer.stdout.readline().strip() for _ in range(10)])
        for racer in racers:
            racer.communicate("end\n")
    for one, other in zip(*said, strict=True):
        assert sorted([one.split()[0], other.split()[0]]) == ["busy", "owner"]


COMMAND = """
import sys
from pathlib import Path
from esb.store.lock import StoreLock
with StoreLock(Path(sys.argv[1]), command=sys.argv[2] == "command"):
    print("owner", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("kind", ["command", "bus"])
def test_a_command_is_waited_for_and_a_bus_is_not(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`esb status` beside the start of a bus must not turn the bus away."""
    words = [sys.executable, "-c", COMMAND, str(tmp_path), kind]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "owner\n"
        waits = 0

        def wait(_seconds: float) -> None:
            nonlocal waits
            waits += 1
            if waits == 50:
                other.communicate("end\n")

        monkeypatch.setattr(lock_module.time, "sleep", wait)
        lock = StoreLock(tmp_path)
        if kind == "bus":
            with pytest.raises(StoreBusy, match=f"process {other.pid} on .* runs this workspace"):
                lock.acquire()
            assert waits < 20
            other.communicate("end\n")
        else:
            lock.acquire()
            assert lock.held
            lock.release()
