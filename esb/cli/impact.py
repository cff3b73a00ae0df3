"""``esb impact``: what hangs on a thing of the workspace."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from esb.cli import exits
from esb.cli.places import workspace_folder


@click.command()
@click.argument("what")
@click.argument("directory", type=click.Path(path_type=Path), default=Path())
@click.option("--json", "as_json", is_flag=True, help='Machine output: {"kind", "items"} on stdout.')
def impact(what: str, directory: Path, as_json: bool) -> None:
    """What hangs on WHAT: `field:lot.status`, `contract:lot.v1`, `connector:erp`, `operation:erp.hold`, `table:plants`, `transform:x.jmes`,
    `topic:lots`, `route:name`.

    For a field: the contracts that declare it and the routes that read or write it, as far as the shape of their messages is known.
    Exit code 0, or 1 where nothing hangs on it.
    """
    from esb.cli.output import emit_json, table
    from esb.config.impact import KINDS
    from esb.config.impact import impact as find
    from esb.config.loader import read_workspace

    kind, _, name = what.partition(":")
    if kind not in KINDS or not name:
        raise click.UsageError(f"write what it is, like `field:lot.status`; known: {', '.join(KINDS)}")
    root = workspace_folder(directory, "impact")
    loaded = read_workspace(root, resolve_env=False, need_secrets=False)
    items = [
        {"what": one.what, "how": one.how, "detail": one.detail, "at": str(one.at)} for one in find(loaded, kind, name)
    ]
    if as_json:
        emit_json({"kind": "Impact", "items": items})
    else:
        table(
            items,
            [("WHAT", "what"), ("HOW", "how"), ("DETAIL", "detail"), ("AT", "at")],
            empty=f"nothing hangs on {what}",
        )
    if loaded.errors:
        click.echo(f"{len(loaded.errors)} errors: what has faults is not seen (esb lint)", err=True)
    sys.exit(exits.DONE if items else exits.NO)
