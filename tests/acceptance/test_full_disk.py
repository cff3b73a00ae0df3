"""A disk without room: a start says so, no bad configuration, so a service manager tries again; a command takes no file away."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from examples.demo.harness import Bus
from tests.acceptance.commands import esb, items
from tests.acceptance.test_program import TO_FILE, workspace

pytestmark = pytest.mark.acceptance

StartBus = Callable[..., Bus]


@pytest.mark.parametrize("room", [0, 20_000], ids=["none", "too little"])
def test_a_start_on_a_full_disk_exits_with_try_again_and_says_so(tmp_path: Path, room: int) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_FILE)
    done = without_room("run", ".", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", cwd=root, room=room)
    assert "disk full" in done.stderr


def without_room(
    *words: str, cwd: Path, room: int = 0, given: str = "", code: int = 75
) -> subprocess.CompletedProcess[str]:
    """One command where files have at most ``room`` bytes: it must say so, and exit with "try again", or with ``code``."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "esb", *words],
        cwd=cwd,
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


UNTIDY = TO_FILE.replace("key: body.lot", "key:   body.lot")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("new", "route", "fresh"), "routes/fresh.yaml"),
        (("fmt",), "routes/a.yaml"),
        (("schema", "--out", "given.json"), "given.json"),
        (("report", "--out", "given.json"), "given.json"),
        (("docs", "build"), "site/"),
        (("init", "other"), "other/"),
        (("secrets", "set", "erp", "--stdin"), ".secrets/erp"),
    ],
    ids=lambda words: words[0] if isinstance(words, tuple) else "",
)
def test_a_command_without_room_names_the_file_and_leaves_every_file_as_it_was(
    tmp_path: Path, words: tuple[str, ...], names: str
) -> None:
    root = workspace(tmp_path, routes__a_yaml=UNTIDY)
    (root / "given.json").write_text("mine", encoding="utf-8")
    before = contents(root)
    done = without_room(*words, cwd=root, given="s3cret")
    assert names in done.stderr
    assert contents(root) == before


def test_a_doctor_says_of_a_full_disk_that_it_cannot_be_synced(tmp_path: Path) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_FILE)
    done = without_room("doctor", "--json", cwd=root, code=1)
    found = {item["name"]: item for item in json.loads(done.stdout)["items"]}
    assert (found["fsync"]["level"], found["fsync"]["todo"]) == ("fault", "free some space")


def test_a_running_bus_without_room_makes_no_key_and_rolls_nothing_back_and_does_when_there_is_room(
    tmp_path: Path, bus: StartBus
) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_FILE)
    running = bus(root, "--no-watch")
    newer = TO_FILE + "description: newer\n"
    (root / "routes/a.yaml").write_text(newer, encoding="utf-8")
    esb("routes", "reload", cwd=root)
    pid = running.process.popen.pid
    roomy = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, roomy[1]))
    for words, names in (
        (("evidence", "key"), "evidence.key"),
        (("routes", "rollback", "lots", "--yes", "--reason", "it was better"), "routes/a.yaml"),
    ):
        done = esb(*words, cwd=root, code=75)
        assert names in done.stderr
    assert (root / "routes/a.yaml").read_text(encoding="utf-8") == newer
    assert [path.name for path in (root / "routes").iterdir()] == ["a.yaml"]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, roomy)
    assert "route.rollback" not in {item["action"] for item in items("audit", "ls", cwd=root)}
    esb("evidence", "key", cwd=root)
    esb("routes", "rollback", "lots", "--yes", "--reason", "it was better", cwd=root)
    assert (root / "routes/a.yaml").read_text(encoding="utf-8") == TO_FILE
