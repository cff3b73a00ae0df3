"""Where a command works: the folder of a workspace, recognised before anything is said about what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from esb.cli import exits

if TYPE_CHECKING:
    from esb.config.model import Workspace

#: One of these makes a folder a workspace.
MARKS = ("esb.yaml", "routes", "connectors")


def workspace_folder(directory: Path, command: str, code: int = exits.MISSING) -> Path:
    """The whole path of a workspace. Ends the command where the folder is missing, or is none (with ``code``)."""
    if not directory.is_dir():
        hint = f"esb {command} DIR, where DIR holds esb.yaml or routes/"
        raise exits.Exit(f"no folder {directory}", exits.MISSING, hint=hint)
    root = directory.resolve()
    if not any((root / name).exists() for name in MARKS):
        hint = f"`esb init {directory}` makes one; or name the folder of esb.yaml or routes/: esb {command} DIR"
        raise exits.Exit(f"{root} is no workspace: neither esb.yaml nor routes/ is there", code, hint=hint)
    return root


def operated_folder(directory: Path) -> Path:
    """The whole path of a folder whose bus is asked or whose store is opened: a workspace, or one that a bus has run in.

    Ends the command anywhere else, where looking would make a store and find it empty.
    """
    root = directory.resolve()
    if not any((root / name).exists() for name in (*MARKS, ".esb")):
        hint = "go to the folder of esb.yaml or routes/, or name it with -C DIR"
        raise exits.Exit(f"{root} is no workspace", exits.MISSING, hint=hint)
    return root


def read_or_fail(directory: Path, command: str) -> Workspace:
    """The workspace as its files stand, secrets not needed. Raises ConfigError with every problem."""
    from esb.config.loader import load_workspace
    from esb.errors import ConfigError

    workspace, problems = load_workspace(workspace_folder(directory, command), need_secrets=False)
    if workspace is None:
        raise ConfigError(problems)
    return workspace
