"""What stands around the process must not end it: closed streams, a log on a full disk, a folder that is gone."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from examples.demo.harness import until

from .commands import esb
from .test_program import TO_FILE, workspace

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full"),
]
ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
ESB = f"exec {sys.executable} -m esb"


@contextmanager
def running(root: Path, streams: str) -> Iterator[subprocess.Popen[bytes]]:
    """`esb run` under a shell that sets its streams; nobody can read its `ready`, so the lock says that it runs."""
    words = f"{ESB} run --http 127.0.0.1:0 --admin 127.0.0.1:0 {streams}"
    process = subprocess.Popen(["/bin/sh", "-c", words], cwd=root, env=ENVIRONMENT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def lives(root: Path, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "it has ended"
    told = esb("status", "--json", cwd=root, code=None)
    return told.returncode == 0 and json.loads(told.stdout)["items"][0]["state"] == "running"


@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
def test_a_bus_runs_whatever_its_streams_are(tmp_path: Path, streams: str) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_FILE)
    with running(root, streams) as process:
        until(lambda: lives(root, process), within=30, what="the bus")  # it waits for the end of each such look
        esb("send", "lots", "--data", '{"id":"A"}', "--wait", cwd=root)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_an_output_that_cannot_be_written_is_said_in_a_line(tmp_path: Path) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_FILE)
    done = subprocess.run(
        ["/bin/sh", "-c", f"{ESB} catalog >/dev/full"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT,
    )
    assert (done.returncode, done.stderr.splitlines()[0]) == (75, "esb: cannot write: No space left on device")
    gone = tmp_path / "gone"
    words = f"mkdir {gone}; cd {gone}; rmdir {gone}; {ESB} status"
    done = subprocess.run(
        ["/bin/sh", "-c", words],
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT,
    )
    assert (done.returncode, done.stderr.splitlines()[0]) == (66, "esb: the current folder is gone")


@pytest.mark.parametrize(
    "words",
    [
        ("messages", "ls"),
        ("messages", "ls", "--json"),
        ("messages", "export"),
        ("catalog",),
        ("lint",),
        ("fmt", "-"),
        ("tail",),
        ("--help",),
        ("status", "--help"),
    ],
    ids=" ".join,
)
def test_a_reader_that_has_seen_enough_ends_a_command_without_a_word(tmp_path: Path, words: tuple[str, ...]) -> None:
    """1 would be "the check says no", 0 that all was said."""
    root = workspace(tmp_path, routes__a_yaml=TO_FILE)
    esb("send", "lots", "--data", '{"id":"A"}', cwd=root)
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "esb", *words]
    try:
        done = subprocess.run(
            command, cwd=root, input=b"a: 1\n", stdout=writer, stderr=subprocess.PIPE, check=False, env=ENVIRONMENT
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.fixture
def heard() -> Iterator[None]:
    """What a shell starts in the background, these tests perhaps, ignores Ctrl-C, and so would its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("words", [("tail", "--json"), ("top", "--json")])
def test_ctrl_c_is_the_end_of_a_command_that_goes_on(tmp_path: Path, words: tuple[str, ...]) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_FILE)
    esb("send", "lots", "--data", '{"id":"A"}', cwd=root)
    command = [sys.executable, "-m", "esb", *words]
    with subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        assert b"lots" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, b"")


class Interrupted(io.RawIOBase):
    """A terminal at which somebody types Ctrl-C instead of what is asked for."""

    def readable(self) -> bool:
        return True

    def readinto(self, _: object) -> int:
        raise KeyboardInterrupt


def test_ctrl_c_in_a_command_that_has_not_come_to_its_end_is_130_and_no_word_of_its_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Interrupted())))
    done = esb("fmt", "-", cwd=tmp_path, code=130)
    assert (done.stdout, done.stderr) == ("", "")
