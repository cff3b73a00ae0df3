"""The completion of shells: what they print, what they offer, and that nothing is loaded for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from esb.cli import COMMANDS, cli
from esb.config.loader import load_workspace

ROOT = Path(__file__).parents[3]
PLANTS = ROOT / "examples" / "plants"


def offered(line: str, cwd: Path = PLANTS) -> list[str]:
    """What Tab offers in bash at the end of a line."""
    words = line.split(" ")
    env = {**os.environ, "_ESB_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    env["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-m", "esb"]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [item.partition(",")[2] for item in done.stdout.splitlines() if item]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_each_shell_gets_its_own_words(shell: str) -> None:
    text = CliRunner().invoke(cli, ["completion", shell]).stdout
    assert f"{shell}_complete" in text
    assert "_ESB_COMPLETE" in text


def test_commands_are_offered_and_values_and_options() -> None:
    assert offered("esb ") == list(COMMANDS)
    assert offered("esb comp") == ["completion"]
    assert offered("esb completion ") == ["bash", "zsh", "fish", "powershell"]
    assert offered("esb init --template ") == ["reference", "file-drop", "empty"]
    assert "--coverage" in offered("esb test --co")
    assert offered("esb nonsense ") == list(COMMANDS)


def test_names_of_the_workspace_are_offered() -> None:
    workspace, _ = load_workspace(PLANTS, need_secrets=False)
    assert workspace is not None
    assert offered("esb routes pause ") == sorted(workspace.routes)
    assert offered("esb messages ls --route hold-n") == sorted(n for n in workspace.routes if n.startswith("hold-n"))
    assert offered("esb sites check ") == sorted(workspace.sites)
    assert offered("esb sites add X --template ") == sorted(workspace.templates)
    assert {name.partition("@")[0] for name in workspace.connectors} <= set(offered("esb ping "))
    assert offered(f"esb explain -C {ROOT} lot-h", cwd=Path("/")) == []
    assert "ESB402" in offered("esb explain esb4")


def test_the_workspace_that_the_line_names_is_looked_at(tmp_path: Path) -> None:
    assert offered("esb explain ", cwd=tmp_path) == []
    workspace, _ = load_workspace(ROOT, need_secrets=False)
    assert workspace is not None
    written = [name for name in workspace.routes if not name.startswith("alert-")]  # those are of esb.yaml
    assert offered(f"esb explain -C {ROOT} ", cwd=tmp_path) == sorted(written)


@pytest.fixture
def path(tmp_path: Path) -> dict[str, str]:
    """An environment in which `esb` is the program of this checkout."""
    program = tmp_path / "bin" / "esb"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m esb "$@"\n')
    program.chmod(0o755)
    return {**os.environ, "HOME": str(tmp_path), "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}


def said(command: list[str], env: dict[str, str]) -> list[str]:
    done = subprocess.run(command, cwd=PLANTS, env=env, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_itself_completes(path: dict[str, str]) -> None:
    """The whole way: the printed function, called as bash calls it."""
    script = (
        'eval "$(esb completion bash)"; COMP_WORDS=(esb sites check P); COMP_CWORD=3;'
        ' _esb_completion esb; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    assert said(["bash", "--norc", "-c", script], path) == ["P10", "P20"]


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish")
def test_fish_itself_completes_and_shows_whole_descriptions(path: dict[str, str]) -> None:
    begin = "esb completion fish | source; complete -C "
    assert said(["fish", "--no-config", "-c", f"{begin}'esb sites check P'"], path) == ["P10", "P20"]
    (shown,) = said(["fish", "--no-config", "-c", f"{begin}'esb completio'"], path)
    assert shown == "completion\tWhat makes a shell complete commands, options and names."


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
def test_zsh_itself_completes(path: dict[str, str]) -> None:
    """The printed function, called as zsh's completion calls it."""
    script = (
        'compdef() { : }; compadd() { print -l -- "${completions[@]}" }; eval "$(esb completion zsh)";'
        " words=(esb sites check P); CURRENT=4; _esb_completion"
    )
    assert said(["zsh", "-f", "-c", script], path) == ["P10", "P20"]


def test_a_description_for_fish_is_not_cut_at_a_comma() -> None:
    assert 'string split -m 1 ","' in CliRunner().invoke(cli, ["completion", "fish"]).stdout
