"""``esb reconcile``: what systems do not agree on."""

from __future__ import annotations

from pathlib import Path

import click

from esb.cli import exits, names
from esb.cli.gateway import Gateway, json_option, workspace_option
from esb.cli.output import age, clock, compact, emit_json, safe, table


@click.group()
def reconcile() -> None:
    """Differences between systems: list, show, accept."""


@reconcile.command("ls")
@click.option("--route", default="", help="Only those of this route.", shell_complete=names.routes)
@click.option("--all", "closed", is_flag=True, help="Closed ones, too, the newest first.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many.")
@workspace_option
@json_option
def reconcile_ls(route: str, closed: bool, limit: int, root: Path, as_json: bool) -> None:
    """Open differences, the oldest first."""
    found = Gateway(root).get("/differences", {"reconcile": route, "all": "yes" if closed else "", "limit": limit})
    if as_json:
        emit_json(found)
        return
    rows = [
        {
            **one,
            "age": age(one["opened_at"]),
            "worth": f"{one['value']} {one['unit']}".strip(),
            "end": one["how"] or "open",
        }
        for one in found["items"]
    ]
    columns = [("ROUTE", "reconcile"), ("KEY", "key"), ("AGE", "age"), ("VALUE", "worth"), ("OWNER", "owner")]
    columns += [("STATE", "end")] if closed else []
    table(rows, [*columns, ("WHAT", "what")], empty="no differences")


@reconcile.command("show")
@click.argument("route", shell_complete=names.routes)
@click.argument("key")
@workspace_option
@json_option
def reconcile_show(route: str, key: str, root: Path, as_json: bool) -> None:
    """One difference with both sides, its repair, and what became of earlier ones of the same key."""
    found = Gateway(root).get("/differences", {"reconcile": route, "key": key, "all": "yes"})
    if not found["items"]:
        raise exits.Exit(f"no difference {key} of {route}", exits.MISSING, hint="esb reconcile ls --all")
    if as_json:
        emit_json(found)
        return
    for one in found["items"]:
        end = f"{one['how']} {clock(one['closed_at'])}" if one["closed_at"] else "open"
        click.echo(f"{clock(one['opened_at'])}  {end}  {safe(one['what'])}")
        for word in ("value", "unit", "owner", "repair", "by", "reason"):
            if one[word]:
                click.echo(f"  {word}: {safe(one[word])}")
        for side, record in one["sides"].items():
            click.echo(f"  {side}: {safe(compact(record))}")


@reconcile.command("close")
@click.argument("route", shell_complete=names.routes)
@click.argument("key")
@click.option("--reason", required=True, help="Why it may stay so; kept in the audit.")
@workspace_option
@json_option
def reconcile_close(route: str, key: str, reason: str, root: Path, as_json: bool) -> None:
    """Accept a difference as it is. It comes back when one of the sides changes, or when it comes up again."""
    words = {"reconcile": route, "key": key, "reason": reason}
    found = Gateway(root).post("/differences/close", words)
    (one,) = found["items"]
    if as_json:
        emit_json(found)
    else:
        click.echo(f"{key}: {one['result']}" + (f" ({one['why']})" if one["why"] else ""))
    if one["result"] == "skipped":
        raise SystemExit(exits.NO)
