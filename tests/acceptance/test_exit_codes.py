"""Exit codes mean one thing everywhere: what is missing is 66, wherever it was typed, and a look at the wrong folder is no answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from esb.cli import exits
from tests.acceptance.commands import esb
from tests.acceptance.test_program import TO_FILE, workspace

pytestmark = pytest.mark.acceptance


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = workspace(tmp_path, routes__a_yaml=TO_FILE)
    esb("send", "lots", "-d", '{"id": "A", "lot": "1", "qty": 1}', cwd=root)
    return root


@pytest.mark.parametrize(
    "words",
    [
        ["db", "backup", "no/such/copy.db"],
        ["db", "backup", "esb.yaml/copy.db"],
        ["db", "verify", "--file", "no.db"],
        ["db", "restore", "no.db"],
        ["evidence", "verify", "no.zip"],
        ["plan", "--against", "no"],
        ["ping", "no"],
    ],
    ids=" ".join,
)
def test_what_is_not_there_is_missing(words: list[str], root: Path) -> None:
    done = esb(*words, cwd=root, code=exits.MISSING)
    assert done.stdout == ""
    assert "no" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["db", "verify"],
        ["db", "prune", "--done", "1d"],
        ["db", "restore"],
        ["secrets", "ls"],
        ["secrets", "check"],
        ["metrics", "rules"],
        ["metrics", "dashboard"],
        ["status"],
    ],
    ids=" ".join,
)
def test_a_folder_that_is_no_workspace_is_said_and_left_as_it_is(words: list[str], root: Path, tmp_path: Path) -> None:
    """An empty store, made there, would be called whole, and an empty folder would have every secret."""
    esb("db", "backup", str(tmp_path / "copy.db"), cwd=root)
    there = tmp_path / "elsewhere"
    there.mkdir()
    more = [str(tmp_path / "copy.db")] if words[-1] == "restore" else []
    done = esb(*words, *more, cwd=there, code=exits.MISSING)
    assert "is no workspace" in done.stderr
    assert list(there.iterdir()) == []


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_a_component_is_asked_for_with_its_kind(form: list[str], tmp_path: Path) -> None:
    done = esb("catalog", "http", *form, cwd=tmp_path, code=exits.MISSING)
    assert done.stdout == ""
    assert "= help: esb catalog source http or esb catalog sink http" in done.stderr


def test_a_store_that_never_was_is_not_whole(tmp_path: Path) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_FILE)
    assert "has not run here yet" in esb("db", "verify", cwd=root, code=exits.MISSING).stderr
    assert not (root / ".esb").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["graph"],
        ["config"],
        ["explain", "lots"],
        ["docs", "build", "--out", "site"],
        ["ping"],
        ["metrics", "rules"],
        ["secrets", "check"],
        ["kpi", "ls"],
        ["send", "lots", "-d", "{}"],
    ],
    ids=" ".join,
)
def test_files_with_faults_are_a_bad_configuration(words: list[str], root: Path) -> None:
    """1 would be the word of a check, such as `ping` of a system that does not answer."""
    (root / "routes" / "a.yaml").write_text("route: lots\nfrom: { http: { path: /lots } }\nsteps: [ { sett: {} } ]\n")
    done = esb(*words, cwd=root, code=exits.BAD_CONFIG)
    assert done.stdout == ""
    assert "ESB203" in done.stderr or "esb lint" in done.stderr


@pytest.mark.parametrize("words", [["status"], ["db", "verify"], ["users", "ls"]], ids=" ".join)
def test_settings_with_faults_are_a_bad_configuration(words: list[str], root: Path) -> None:
    (root / "esb.yaml").write_text("bus: [\n")
    assert "esb.yaml has faults" in esb(*words, cwd=root, code=exits.BAD_CONFIG).stderr


def test_a_store_that_vanished_is_damage(root: Path) -> None:
    (root / ".esb" / "bus.db").unlink()
    assert "is missing" in esb("db", "verify", cwd=root, code=exits.BAD_INPUT).stderr


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="this is a folder where nobody may make a file, on Linux")
def test_a_backup_where_nobody_may_write_is_not_allowed(root: Path) -> None:
    done = esb("db", "backup", "/sys/kernel/copy.db", cwd=root, code=exits.NOT_ALLOWED)
    assert "look at owner and permissions" in done.stderr
