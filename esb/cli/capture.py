"""``esb capture``: a stored message becomes a case of its route's test."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import click

from esb.cli import exits
from esb.cli.gateway import Gateway, json_option, workspace_option
from esb.cli.output import emit_json, safe
from esb.cli.places import workspace_folder


@click.command()
@click.argument("id_", metavar="ID")
@click.option("--name", default="", help="What the case proves.")
@click.option(
    "--mask", "names", multiple=True, metavar="MEMBER", help="Mask members of this name, too; may be repeated."
)
@click.option("--write", is_flag=True, help="Append it to the test file beside the route, instead of printing it.")
@workspace_option
@json_option
def capture(id_: str, name: str, names: tuple[str, ...], write: bool, root: Path, as_json: bool) -> None:
    """The message ID as a case of its route's test: what arrived, what targets said, and what came of it.

    What contracts mark as sensitive, and members named by --mask, become other values of the same form, everywhere where they stand. The
    case is run before it is shown, with the route as its files stand: it passes. Look at it before you commit it: nobody but
    you knows what else is confidential.
    """
    from esb.cli.traffic import trials_of_ids
    from esb.config.drafts import write_whole
    from esb.testing.capture import CannotCapture
    from esb.testing.capture import capture as captured

    folder = workspace_folder(root, "capture ID -C")
    gateway = Gateway(root)
    item = gateway.get(f"/messages/{id_}")["items"][0]
    while item["scope"] and item["parent_id"]:
        item = gateway.get(f"/messages/{item['parent_id']}")["items"][0]
    trials = list(trials_of_ids(gateway, item["route"], [item["id"]]))
    if not trials:
        raise exits.Exit(f"the payload of {item['id']} is not kept any more", exits.MISSING)
    try:
        found = captured(folder, os.environ, trials[0], seed=secrets.token_bytes(16), names=names, name=name)
    except CannotCapture as error:
        raise exits.Exit(str(error), exits.BAD_INPUT, hint=error.hint) from None
    if write:
        place = folder / found.path
        before = place.read_text(encoding="utf-8").rstrip() + "\n---\n" if place.exists() else ""
        write_whole(place, before + found.text)
    if as_json:
        emit_json({"kind": "Captured", "items": [{"path": found.path, "text": found.text, "masked": list(found.masked), "notes": list(found.notes), "written": write}]})  # fmt: skip
    else:
        click.echo(found.path if write else safe(found.text), nl=write)
    for note in (*found.notes, f"masked: {', '.join(found.masked) or 'nothing; --mask MEMBER masks'}"):
        click.echo(f"note: {note}", err=True)
