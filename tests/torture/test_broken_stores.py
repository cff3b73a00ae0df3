"""A store that is damaged, gone, newer than the program, or on a full disk: the bus says what to do and touches nothing."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from examples.demo.harness import ROOT
from tests.servers.require import program
from tests.torture.trace import tracer

ROUTE = "route: a\nfrom: { http: { path: /a } }\nsteps: [ { log: taken } ]\n"


def esb(root: Path, *words: str, under: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [*(under or []), sys.executable, "-m", "esb", *words],
        cwd=root, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


RUN = ("run", ".", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A stopped bus with one message in its store."""
    (tmp_path / "routes").mkdir()
    (tmp_path / "routes" / "a.yaml").write_text(ROUTE, encoding="utf-8")
    sent = esb(tmp_path, "send", "a", "--data", '{"id":1}')
    assert sent.returncode == 0, sent.stderr
    return tmp_path


def damaged(store: Path) -> None:
    data = bytearray(store.read_bytes())
    data[8192 * 2 : 8192 * 6] = os.urandom(8192 * 4)
    store.write_bytes(data)


def cut_short(store: Path) -> None:
    store.write_bytes(store.read_bytes()[: 8192 * 3])


def overwritten(store: Path) -> None:
    store.write_text("not a database at all\n" * 100, encoding="utf-8")


def gone(store: Path) -> None:
    store.unlink()


def newer(store: Path) -> None:
    with closing(sqlite3.connect(store)) as connection:
        connection.execute("PRAGMA user_version = 9999")


def foreign(store: Path) -> None:
    with closing(sqlite3.connect(store)) as connection:
        connection.execute("PRAGMA application_id = 7")


@pytest.mark.parametrize(
    ("break_it", "says", "names"),
    [
        (damaged, "is damaged", "esb db restore"),
        (cut_short, "is damaged", "esb db restore"),
        (overwritten, "is damaged", "esb db restore"),
        (gone, "is missing, but bus.db.exists says that there was one", "esb db restore"),
        (newer, "newer version of this program", "install the newer version"),
        (foreign, "is not a store of this program", "store:"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_store_that_may_not_be_opened_is_refused_and_left_alone(
    root: Path, break_it: Callable[[Path], None], says: str, names: str
) -> None:
    break_it(root / ".esb" / "bus.db")
    before = contents(root)
    refused = esb(root, *RUN)
    assert refused.returncode == 65, refused.stderr
    assert says in refused.stderr
    assert names in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "ready" not in refused.stdout
    assert contents(root) == before


def contents(root: Path) -> dict[str, str]:
    """What is in the files of the store. A reader of SQLite leaves an empty log and an index of it, and that is nothing."""
    own = [path for path in (root / ".esb").iterdir() if path.name != "bus.lock" and not path.name.endswith("-shm")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in own if path.stat().st_size}


@pytest.mark.parametrize(
    "fault", ["pwrite64:error=ENOSPC:when=3+", "fdatasync:error=EIO:when=2+", "mkdir:error=ENOSPC:when=1+"]
)
def test_a_first_start_on_a_broken_disk_says_so_and_the_next_one_works(tmp_path: Path, fault: str) -> None:
    program("strace", package="strace")
    root = tmp_path / "workspace"
    (root / "routes").mkdir(parents=True)
    (root / "routes" / "a.yaml").write_text(ROUTE, encoding="utf-8")
    refused = esb(root, *RUN, under=tracer(tmp_path / "trace", inject=(fault,)))
    assert refused.returncode in (75, 78), refused.stderr
    assert "Traceback" not in refused.stderr
    assert "disk" in refused.stderr
    sent = esb(root, "send", "a", "--data", '{"id":1}')
    assert sent.returncode == 0, sent.stderr
