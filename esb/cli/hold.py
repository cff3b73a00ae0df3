"""``esb hold``: legal holds, which keep messages from retention."""

from __future__ import annotations

from pathlib import Path

import click

from esb.cli import exits
from esb.cli.gateway import Gateway, json_option, workspace_option
from esb.cli.output import clock, emit_json, table


@click.group()
def hold() -> None:
    """Legal holds: messages of a lot that retention must leave."""


@hold.command("ls")
@workspace_option
@json_option
def hold_ls(root: Path, as_json: bool) -> None:
    """Every hold, the oldest first, with the number of messages that it keeps."""
    found = Gateway(root).get("/holds")
    if as_json:
        emit_json(found)
        return
    rows = [{**one, "when": clock(one["at"])} for one in found["items"]]
    columns = [("HOLD", "track"), ("SINCE", "when"), ("BY", "by"), ("MESSAGES", "messages"), ("WHY", "reason")]
    table(rows, columns, empty="no holds")


def _command(verb: str, doc: str) -> None:
    @hold.command(verb, help=doc)
    @click.option("--track", required=True, metavar="NAME=VALUE", help="The tracked value, such as `lot=4711`.")
    @click.option("--reason", required=True, help="Why; kept in the audit.")
    @workspace_option
    @json_option
    def act(track: str, reason: str, root: Path, as_json: bool) -> None:
        found = Gateway(root).post(f"/holds/{verb}", {"track": track, "reason": reason})
        (one,) = found["items"]
        if as_json:
            emit_json(found)
        else:
            click.echo(f"{one['track']}: {one['result']}" + (f" ({one['why']})" if one["why"] else ""))
        if verb == "lift" and one["result"] == "skipped":
            raise SystemExit(exits.NO)  # a typo, perhaps: what was meant stands still


_command("place", "Keep every message that tracks the value, whatever its age, until the hold is lifted.")
_command("lift", "Let retention have the messages again.")
