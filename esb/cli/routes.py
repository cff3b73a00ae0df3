"""``esb routes``: which routes there are, their versions, and the way back to an older one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from esb.cli import exits, names
from esb.cli.gateway import Gateway, json_option, workspace_option
from esb.cli.output import clock, emit_json, safe, table


@click.group()
def routes() -> None:
    """List, pause and resume routes; their versions, and the way back to an older one."""


@routes.command("ls")
@workspace_option
@json_option
def routes_ls(root: Path, as_json: bool) -> None:
    """Every route with its source, owner and criticality."""
    words = Gateway(root).get("/routes")
    if as_json:
        emit_json(words)
        return
    columns = [
        ("ROUTE", "route"),
        ("STATE", "state"),
        ("FROM", "source"),
        ("OWNER", "owner"),
        ("CRITICALITY", "criticality"),
        ("FILE", "file"),
    ]
    table(words["items"], columns, empty="no routes")


def _route_action(verb: str, doc: str) -> click.Command:
    @routes.command(verb, help=doc)
    @click.argument("name", shell_complete=names.routes)
    @click.option("--reason", default="", help="Why; kept in the audit.")
    @workspace_option
    @json_option
    def act(name: str, reason: str, root: Path, as_json: bool) -> None:
        words = Gateway(root).post(f"/routes/{name}/{verb}", {"reason": reason})
        if as_json:
            emit_json(words)
        else:
            click.echo(f"{name}: {words['items'][0]['result']}")

    command: click.Command = act
    return command


_route_action("pause", "Stop taking and working off messages of a route; kept over restarts.")
_route_action("resume", "Go on with a paused route.")


@routes.command("reload")
@click.option("--reason", default="", help="Why; kept in the audit.")
@workspace_option
@json_option
def routes_reload(reason: str, root: Path, as_json: bool) -> None:
    """Read the files of the workspace again, now; a regulated bus (`regulated: true`) does so only when it is asked."""
    found = Gateway(root).post("/reload", {"reason": reason}, timeout=120)
    item = found["items"][0]
    if as_json:
        emit_json(found)
    else:
        click.echo(item["result"])
        for problem in item["problems"]:
            click.echo(
                f"  {problem['path']}:{problem['line']}:{problem['column']}: {problem['code']} {problem['message']}"
            )
    if item["result"] == "refused":
        sys.exit(exits.NO)


@routes.command("versions")
@click.argument("name", metavar="ROUTE", shell_complete=names.routes)
@workspace_option
@json_option
def routes_versions(name: str, root: Path, as_json: bool) -> None:
    """Versions of ROUTE that were live, the newest first: since when, who brought them in, why."""
    found = Gateway(root).get(f"/routes/{name}/versions")
    if as_json:
        emit_json(found)
        return
    rows = [
        {**item, "since": clock(item["at"]), "now": "live" if item["live"] else "", "own": item["own_version"]}
        for item in found["items"]
    ]
    columns = [("VERSION", "version"), ("OWN", "own"), ("SINCE", "since"), ("", "now"), ("WHO", "actor"), ("WHY", "reason"), ("FILE", "file")]  # fmt: skip
    table(rows, columns, empty="no version was live yet")


def _texts(gateway: Gateway, name: str, version: str) -> dict[str, Any]:
    item: dict[str, Any] = gateway.get(f"/routes/{name}/versions/{version}")["items"][0]
    return item


def _two(gateway: Gateway, name: str, versions: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two versions that are named, one against the live one, or the live one against the one before."""
    known = gateway.get(f"/routes/{name}/versions")["items"]
    if len(versions) < 2 and len(known) < (1 if versions else 2):
        raise exits.Exit(f"route {name} has {len(known)} version(s), so there is nothing to compare", exits.MISSING)
    before = versions[0] if versions else known[1]["digest"]
    after = versions[1] if len(versions) > 1 else known[0]["digest"]
    return _texts(gateway, name, before), _texts(gateway, name, after)


@routes.command("diff")
@click.argument("name", metavar="ROUTE", shell_complete=names.routes)
@click.argument("versions", nargs=-1, metavar="[VERSION [VERSION]]")
@workspace_option
@json_option
def routes_diff(name: str, versions: tuple[str, ...], root: Path, as_json: bool) -> None:
    """What two versions of ROUTE differ in, as a unified diff of its file and the files that it uses.

    Without VERSION the live version against the one before it; with one, that one against the live version.
    """
    from esb.versions import unified

    if len(versions) > 2:
        raise click.UsageError("At most two versions.")
    before, after = _two(Gateway(root), name, versions)
    text = unified(before["files"], after["files"], (before["version"], after["version"]))
    if as_json:
        item = {"route": name, "before": before["digest"], "after": after["digest"], "diff": text}
        emit_json({"kind": "RouteDiff", "items": [item]})
        return
    click.echo(
        safe(text)
        if text
        else f"{before['version']} and {after['version']}: the same files (a setting, secret or preset differs)"
    )


@routes.command("rollback")
@click.argument("name", metavar="ROUTE", shell_complete=names.routes)
@click.argument("version", required=False)
@click.option("--reason", default="", help="Why; needed, and kept in the audit.")
@click.option("--dry-run", is_flag=True, help="Show the difference, and write nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--shared", is_flag=True, help="Also files that other routes use.")
@workspace_option
@json_option
def routes_rollback(
    name: str, version: str | None, reason: str, dry_run: bool, yes: bool, shared: bool, root: Path, as_json: bool
) -> None:
    """Write the files of an older VERSION (the one before the live one without it) of ROUTE back into the workspace.

    Shows the difference first, and asks where somebody can answer. The running bus takes the files over as any other edit; a stopped
    one at its next start. Files that other routes use as well are left as they are without --shared.
    """
    gateway = Gateway(root)
    if version is None:
        known = gateway.get(f"/routes/{name}/versions")["items"]
        if len(known) < 2:
            raise exits.Exit(f"route {name} has no version before the live one", exits.MISSING)
        version = known[1]["digest"]
    words = {"version": version, "reason": reason, "shared": shared}
    found = gateway.post(f"/routes/{name}/rollback", {**words, "dry_run": True})
    item = found["items"][0]
    if not as_json:
        click.echo(safe(item["diff"]) if item["diff"] else "the files say that already")
        for path in item["left"]:
            click.echo(f"{path} differs, too, and is left as it is: other routes use it (--shared)", err=True)
    if not dry_run and item["files"]:
        if not (yes or as_json) and sys.stdin.isatty() and not click.confirm(f"Write {', '.join(item['files'])}?"):
            raise exits.Exit("nothing was written", exits.NO)
        found = gateway.post(f"/routes/{name}/rollback", words)
        item = found["items"][0]
    if as_json:
        emit_json(found)
    elif item["result"] != "unchanged":
        click.echo(f"{item['result']}: {', '.join(item['files'])}")
