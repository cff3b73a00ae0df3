"""``esb approvals``: what waits for a second person."""

from __future__ import annotations

from pathlib import Path

import click

from esb.cli.gateway import Gateway, json_option, workspace_option
from esb.cli.output import clock, emit_json, table


@click.group()
def approvals() -> None:
    """What waits for a second person (`approval:` in esb.yaml): list, approve, deny."""


@approvals.command("ls")
@click.option("--all", "everything", is_flag=True, help="Also what was decided, or is over.")
@workspace_option
@json_option
def approvals_ls(everything: bool, root: Path, as_json: bool) -> None:
    """The requests that wait, newest first."""
    found = Gateway(root).get("/approvals")
    if not everything:
        found["items"] = [item for item in found["items"] if item["state"] in ("pending", "approved")]
    if as_json:
        emit_json(found)
        return
    rows = [
        {
            **item,
            "asked": clock(item["at"]),
            "what": f"{item['action']} {item['count']}",
            "where": ", ".join(item["routes"]),
        }
        for item in found["items"]
    ]
    columns = [("ID", "approval"), ("ASKED", "asked"), ("BY", "by"), ("STATE", "state"), ("WHAT", "what")]
    table(rows, [*columns, ("ROUTES", "where"), ("WHY", "reason")], empty="nothing waits for a second person")


def _decision(verb: str, doc: str) -> None:
    @approvals.command(verb, help=doc)
    @click.argument("id_", metavar="ID")
    @click.option("--reason", required=True, help="Why; kept in the audit.")
    @workspace_option
    @json_option
    def decide(id_: str, reason: str, root: Path, as_json: bool) -> None:
        found = Gateway(root).post(f"/approvals/{id_}/{verb}", {"reason": reason}, timeout=600)
        if as_json:
            emit_json(found)
            return
        item = found["items"][0]
        said = ", ".join(f"{count} {result}" for result, count in item["results"].items())
        click.echo(f"{id_}: {item['state']}" + (f" ({said})" if said else ""))


_decision("approve", "Say yes, as somebody else than who asked: it is done at once.")
_decision("deny", "Say no, or take back what you asked for.")
