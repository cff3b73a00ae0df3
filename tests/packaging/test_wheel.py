"""The wheel holds the program and the reference workspace, nothing else; what it installs makes a workspace that lints."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("routes", "schemas", "transforms", "connectors", "kpis")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (found,) = out.glob("*.whl")
    return found


def tracked(*folders: str) -> set[str]:
    listed = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, check=True, capture_output=True, text=True)
    return {name for name in listed.stdout.splitlines() if (ROOT / name).exists()}


def test_the_wheel_holds_what_the_repository_has(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    shipped = {f"esb/_workspace/{name}" for name in (*tracked(*PARTS), "esb.yaml")}
    missing = (tracked("esb") | shipped) - names
    assert not missing
    strangers = {name for name in names if not name.startswith("esb/") or "secret" in Path(name).parent.name}
    assert not strangers


def test_an_installed_program_makes_a_workspace_that_lints(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}

    def esb(*arguments: str) -> str:
        command = [sys.executable, "-m", "esb", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    esb("init", "bus")
    folders = sorted(path.name for path in (tmp_path / "bus").iterdir() if path.is_dir())
    assert folders == sorted((*PARTS, ".secrets", ".github", ".vscode"))
    assert "no problems" in esb("lint", "bus")
    assert ", 0 failed" in esb("test", "bus")
    esb("init", "drop", "--template", "file-drop")
    assert ", 0 failed" in esb("test", "drop")
