"""``esb audit`` and ``esb db``."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import click

from esb.cli import exits
from esb.cli.gateway import Gateway, json_option, workspace_option
from esb.cli.output import clock, emit_json, table


@click.group()
def audit() -> None:
    """Who did what and why; verify the chain."""


@audit.command("ls")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many.")
@workspace_option
@json_option
def audit_ls(limit: int, root: Path, as_json: bool) -> None:
    """The newest entries."""
    found = Gateway(root).get("/audit", {"limit": limit})
    if as_json:
        emit_json(found)
        return
    rows = [{**item, "when": clock(item["at"])} for item in found["items"]]
    table(
        rows,
        [
            ("SEQ", "seq"),
            ("WHEN", "when"),
            ("WHO", "actor"),
            ("WHAT", "action"),
            ("OBJECT", "object"),
            ("WHY", "reason"),
        ],
        empty="no entries",
    )


@audit.command("export")
@workspace_option
def audit_export(root: Path) -> None:
    """Every entry as JSON lines on stdout, with its hash."""
    gateway, after = Gateway(root), 0
    while items := gateway.get("/audit", {"limit": 10_000, "after": str(after)})["items"]:
        for item in items:
            click.echo(json.dumps(item, ensure_ascii=False))
        after = items[-1]["seq"]


@audit.command("verify")
@workspace_option
@json_option
def audit_verify(root: Path, as_json: bool) -> None:
    """Recompute the hash chain; exit code 1 where an entry was edited, deleted, inserted or moved.

    A cut end and a rewrite of the whole chain leave no trace inside; that needs a copy of the last hash kept elsewhere.
    """
    found = Gateway(root).get("/audit/verify")
    if as_json:
        emit_json(found)
    else:
        for item in found["items"]:
            click.echo(f"✗ {item['fault']}")
        if not found["items"]:
            click.echo("the chain is whole")
    sys.exit(exits.NO if found["items"] else exits.DONE)


@click.group()
def db() -> None:
    """Verify the store."""


@db.command("verify")
@workspace_option
def db_verify(root: Path) -> None:
    """Check the files and the conservation of messages (accepted = sum of states + purged) of a stopped bus."""
    faults = asyncio.run(_verify(root.resolve()))
    for fault in faults:
        click.echo(f"✗ {fault}")
    if not faults:
        click.echo("the store is whole: every accepted message is in exactly one state")
    sys.exit(exits.NO if faults else exits.DONE)


async def _verify(root: Path) -> list[str]:
    from esb.cli.offline import store_url
    from esb.clock import SystemClock
    from esb.store import open_store
    from esb.store.lock import StoreLock

    lock = StoreLock(root / ".esb")
    lock.acquire()
    try:
        store = await open_store(store_url(root), root, clock=SystemClock())
        try:
            return [*store.verify_file(), *store.verify_conservation(), *store.verify_audit()]
        finally:
            await store.close()
    finally:
        lock.release()
