"""Bulk retries at the command line: following one, listing them, stopping one."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from esb.cli import exits
from esb.cli.gateway import Gateway, json_option, workspace_option
from esb.cli.output import emit_json, table

#: Seconds between two looks at a job.
LOOK_EVERY = 0.5


def followed(gateway: Gateway, item: dict[str, Any]) -> dict[str, Any]:
    """Wait for a bulk retry, with its progress on stderr; gives what came of each message. Ctrl-C stops the job, and says so."""
    at, said = f"/dlq/bulk/{item['job']}", ""
    try:
        while item["state"] == "running":
            said = _told(item, said)
            time.sleep(LOOK_EVERY)
            (item,) = gateway.get(at)["items"]
        (whole,) = gateway.get(at, {"messages": 1})["items"]
    except KeyboardInterrupt:
        gateway.post(f"{at}/stop", {"reason": "interrupted at the command line"})
        (whole,) = gateway.get(at, {"messages": 1})["items"]
    except exits.Exit as fault:
        if fault.exit_code not in (exits.UNREACHABLE, exits.AGAIN):
            raise
        raise _away(str(item["job"]), fault) from None
    _told(whole, said)
    if sys.stderr.isatty():
        click.echo(err=True)
    if whole["state"] == "waiting":
        raise _away(str(whole["job"]), "the bus has stopped")
    if whole["state"] != "done":
        click.echo(f"{whole['state']}: {whole['done']} of {whole['total']}; the others are still dead", err=True)
    return {"kind": "RetryResult", "items": whole["messages"]}


def _away(job: str, why: object) -> exits.Exit:
    hint = f"the job goes on when the bus runs again: esb dlq bulk {job}"
    return exits.Exit(f"{job} cannot be followed any more: {why}", exits.AGAIN, hint=hint)


def _told(item: dict[str, Any], before: str) -> str:
    """Say how far it is, on a terminal in one line, elsewhere only what is new."""
    words = f"{item['job']}: {item['done']} of {item['total']}"
    if words != before:
        click.echo(f"\r{words}" if sys.stderr.isatty() else words, err=True, nl=not sys.stderr.isatty())
    return words


@click.command("bulk")
@click.argument("job", required=False)
@click.option("--stop", is_flag=True, help="Stop JOB: what it has not reached stays dead.")
@click.option("--reason", default="", help="Why; kept in the audit.")
@workspace_option
@json_option
def bulk(job: str | None, stop: bool, reason: str, root: Path, as_json: bool) -> None:
    """Bulk retries (`esb dlq retry --rate`): how far they are, also those that wait for the bus to run again; or stop one."""
    gateway = Gateway(root)
    if stop and not job:
        raise click.UsageError("Which one? Give JOB with --stop.")
    if stop:
        found = gateway.post(f"/dlq/bulk/{job}/stop", {"reason": reason}, timeout=120)
    else:
        found = gateway.get(f"/dlq/bulk/{job}" if job else "/dlq/bulk")
    if as_json:
        emit_json(found)
    else:
        rows = [{**item, "routes": ", ".join(item["routes"])} for item in found["items"]]
        columns = [(name.upper(), name) for name in ("job", "state", "done", "total", "rate", "routes", "by", "reason")]
        table(rows, columns, empty="no bulk retries")
    if stop and found["items"][0]["result"] == "skipped":
        raise SystemExit(exits.NO)
