"""``esb doctor``: whether this machine and workspace can carry a bus."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from esb.cli import exits
from esb.cli.gateway import json_option
from esb.cli.output import emit_json, safe
from esb.cli.places import workspace_folder

SIGNS = {"ok": "✓", "warning": "!", "fault": "✗"}


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option("--ping", "with_ping", is_flag=True, help="Also ask whether the systems behind the connectors answer.")
@json_option
def doctor(directory: Path, with_ping: bool, as_json: bool) -> None:
    """Look at Python, permissions, disk, fsync, clock, ports, lock, store, secrets, drivers and network shares of DIRECTORY.

    Each finding says what to do about it. Exit code 1 where there is a fault; warnings alone are 0. With the bus running its store is left
    alone.
    """
    from esb.doctor import Finding, examine

    root = workspace_folder(directory, "doctor")
    found = examine(root)
    if with_ping:
        from esb.cli.inspect import ping_all

        for item in ping_all(root):
            todo = "" if item["reached"] else f"is it up, and is the way there open? {item['address']}"
            found.append(
                Finding("systems", "ok" if item["reached"] else "fault", f"{item['connector']} {item['said']}", todo)
            )
    if as_json:
        emit_json({"kind": "Doctor", "items": [one.as_item() for one in found]})
    else:
        for one in found:
            click.echo(safe(f"{SIGNS[one.level]} {one.name:<15} {one.said}"))
            if one.todo:
                click.echo(safe(f"  {'':<15} → {one.todo}"))
    sys.exit(exits.NO if any(one.level == "fault" for one in found) else exits.DONE)
