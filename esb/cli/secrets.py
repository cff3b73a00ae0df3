"""``esb secrets``: the names of the secrets that a workspace uses, where each comes from, and writing one down."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esb.cli import exits
from esb.cli.gateway import json_option, workspace_option
from esb.cli.output import emit_json, table
from esb.cli.places import workspace_folder

if TYPE_CHECKING:
    from esb.config.secrets import Secrets


@click.group()
def secrets() -> None:
    """Secrets by name: list, check, set. A value is never shown."""


def _items(root: Path, command: str) -> list[dict[str, Any]]:
    from esb.config.loader import read_workspace

    loaded = read_workspace(workspace_folder(root, f"secrets {command} -C"), need_secrets=False)
    folder, used = loaded.secrets, loaded.secrets_used
    items = [
        {"name": name, "source": folder.source(name), "place": folder.place(name), "used_by": places}
        for name, places in sorted(used.items())
    ]
    if command == "check" and loaded.errors and all(item["source"] in _GOOD for item in items):
        # a secret that a fault hides would count as there
        raise exits.Exit("the files of the workspace have faults", exits.BAD_CONFIG, hint="esb lint")
    return items


@secrets.command("ls")
@workspace_option
@json_option
def secrets_ls(root: Path, as_json: bool) -> None:
    """Every secret that the workspace names, where it comes from, and who uses it."""
    _show(_items(root, "ls"), as_json)


@secrets.command("check")
@workspace_option
@json_option
def secrets_check(root: Path, as_json: bool) -> None:
    """Exit code 1 where a secret is missing, empty, or in a file that others may read."""
    items = [item for item in _items(root, "check") if item["source"] not in _GOOD]
    if as_json:
        emit_json({"kind": "SecretList", "items": items})
    elif items:
        _show(items, as_json=False)
    else:
        click.echo("every secret is there")
    sys.exit(exits.NO if items else exits.DONE)


_GOOD = frozenset({"environment", "file", "credential", "keyring"})


def _show(items: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        emit_json({"kind": "SecretList", "items": items})
        return
    rows = [{**item, "used": ", ".join(item["used_by"])} for item in items]
    table(rows, [("SECRET", "name"), ("FROM", "source"), ("PLACE", "place"), ("USED BY", "used")], empty="no secrets")


@secrets.command("set")
@click.argument("name")
@click.option(
    "--stdin", "from_stdin", is_flag=True, help="Read the value from standard input (one newline at the end goes)."
)
@workspace_option
@json_option
def secrets_set(name: str, from_stdin: bool, root: Path, as_json: bool) -> None:
    """Write a secret to its file in the secrets folder, readable for the owner alone. A running bus takes it at its next reload."""
    from esb.config.loader import secrets_of
    from esb.config.secrets import NAME
    from esb.errors import FULL

    if not NAME.fullmatch(name):
        raise exits.Exit(f"`{name}` is not a name of a secret", exits.USAGE, hint="letters, digits, `-`, `_` and `.`")
    if from_stdin:
        value = sys.stdin.buffer.read().decode("utf-8", "strict").removesuffix("\n").removesuffix("\r")
    elif sys.stdin.isatty():
        value = str(click.prompt("Value", hide_input=True, confirmation_prompt=True, err=True))
    else:
        raise click.UsageError("No terminal to ask for the value: give --stdin.")
    if not value:
        raise exits.Exit("an empty secret is none", exits.BAD_INPUT)
    folder, _ = secrets_of(workspace_folder(root, "secrets set NAME -C"))
    try:
        path = _write(folder, name, value.encode())
    except OSError as error:
        if error.errno in FULL:
            raise
        raise exits.Exit(
            f"{folder.folder / name} cannot be written: {error.strerror}",
            exits.NOT_ALLOWED,
            hint="a mounted folder is often read-only: set it where it is mounted from",
        ) from None
    shadow = folder.source(name)
    if as_json:
        emit_json({"kind": "SecretResult", "items": [{"name": name, "result": "written", "source": shadow}]})
    else:
        click.echo(f"{name} is written to {path}")
        if shadow != "file":
            click.echo(f"the bus does not take it from there: the {shadow} comes first", err=True)


def _write(folder: Secrets, name: str, value: bytes) -> Path:
    """Whole, synced and for the owner alone from the first byte on."""
    from esb.config.drafts import write_whole

    folder.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder.folder / name
    write_whole(path, value, mode=0o600, synced=True)
    return path
