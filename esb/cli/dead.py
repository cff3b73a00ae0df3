"""Operating commands that act on messages: dead letters and replay."""

from __future__ import annotations

import base64
from collections import Counter
from pathlib import Path
from typing import Any

import click

from esb.cli import exits
from esb.cli.gateway import Gateway, json_option, workspace_option
from esb.cli.operate import MESSAGE_COLUMNS, message_rows, show_message
from esb.cli.output import age, emit_json, table


@click.group()
def dlq() -> None:
    """Dead letters: list, group, show, retry, edit, discard."""


@dlq.command("ls")
@click.option("--route", help="Only this route.")
@click.option("--key", help="Only this key.")
@click.option("--group", help="Only this group (esb dlq groups).")
@click.option("--track", multiple=True, metavar="NAME=VALUE", help="Only with this tracked value.")
@click.option("--since", help="Accepted since: `24h` ago or an RFC 3339 time.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many.")
@workspace_option
@json_option
def dlq_ls(root: Path, as_json: bool, **words: Any) -> None:
    """Dead letters, newest first."""
    found = Gateway(root).get("/dlq", words)
    if as_json:
        emit_json(found)
    else:
        rows = [{**row, "desk": (row.get("error") or {}).get("dead_letter")} for row in message_rows(found["items"])]
        table(rows, [*MESSAGE_COLUMNS[:-1], ("DESK", "desk"), MESSAGE_COLUMNS[-1]], empty="no dead letters")


@dlq.command("groups")
@click.option("--route", help="Only this route.")
@workspace_option
@json_option
def dlq_groups(root: Path, as_json: bool, route: str | None) -> None:
    """Dead letters that look alike, by route, step and error."""
    found = Gateway(root).get("/dlq/groups", {"route": route})
    if as_json:
        emit_json(found)
        return
    rows = [{**item, "age": age(item["oldest"])} for item in found["items"]]
    columns = [
        ("GROUP", "group"),
        ("COUNT", "count"),
        ("OLDEST", "age"),
        ("ROUTE", "route"),
        ("STEP", "step"),
        ("CLASS", "class"),
        ("ERROR", "message"),
    ]
    table(rows, columns, empty="no dead letters")


@dlq.command("show")
@click.argument("id_", metavar="ID")
@workspace_option
@json_option
def dlq_show(id_: str, root: Path, as_json: bool) -> None:
    """One dead letter: original payload, step, error, every attempt."""
    found = Gateway(root).get(f"/messages/{id_}")
    if as_json:
        emit_json(found)
    else:
        show_message(found["items"][0])


def selection(command: Any) -> Any:
    """``ID… | --route R | --group G | --all``."""
    for decorate in reversed(
        [
            click.argument("ids", nargs=-1, metavar="[ID]..."),
            click.option("--route", help="All of this route."),
            click.option("--group", help="All of this group."),
            click.option("--key", help="All of this key."),
            click.option("--all", "everything", is_flag=True, help="All there are."),
            click.option("--reason", default="", help="Why; kept in the audit."),
            click.option("--dry-run", is_flag=True, help="Say what would be done."),
        ]
    ):
        command = decorate(command)
    return command


def _words(ids: tuple[str, ...], everything: bool, **words: Any) -> dict[str, Any]:
    meant = {name: value for name, value in words.items() if value not in (None, "", False)}
    if not ids and not everything and not any(meant.get(name) for name in ("route", "group", "key")):
        raise click.UsageError("Which messages? Give IDs, --route, --group, --key or --all.")
    return {**meant, "ids": list(ids), "all": everything}


def _report(found: dict[str, Any], as_json: bool) -> None:
    """Print results; exit 1 where nothing that was asked for could be done."""
    items = found["items"]
    if as_json:
        emit_json(found)
    else:
        for item in items[:50]:
            new = f" -> {item['new_id']}" if item.get("new_id") else ""
            click.echo(
                f"{item['result']:<12} {item['id']}{new}  {item['route']}"
                + (f"  ({item['why']})" if item.get("why") else "")
            )
        totals = Counter(item["result"] for item in items)
        click.echo(", ".join(f"{count} {result}" for result, count in totals.items()) or "nothing to do")
    if items and all(item["result"] == "skipped" for item in items):
        raise SystemExit(exits.NO)


@dlq.command("retry")
@selection
@click.option("--rate", metavar="N/s", help="Most per span, such as 20/s.")
@click.option(
    "--stale", is_flag=True, help="Also messages older than one already delivered for their key; needs a reason."
)
@workspace_option
@json_option
def dlq_retry(ids: tuple[str, ...], everything: bool, root: Path, as_json: bool, **words: Any) -> None:
    """Queue dead messages again, oldest first; they keep their id and delivery ids."""
    _report(Gateway(root).post("/dlq/retry", _words(ids, everything, **words), timeout=600), as_json)


@dlq.command("discard")
@selection
@workspace_option
@json_option
def dlq_discard(ids: tuple[str, ...], everything: bool, root: Path, as_json: bool, **words: Any) -> None:
    """Give up dead (or, by ID, waiting and queued) messages for good; needs a reason."""
    _report(Gateway(root).post("/dlq/discard", _words(ids, everything, **words), timeout=600), as_json)


@dlq.command("edit")
@click.argument("id_", metavar="ID")
@click.option("--data", "-d", help="The new payload, or @FILE. Without it $EDITOR opens.")
@click.option("--reason", required=True, help="Why; kept in the audit.")
@click.option("--retry", "then_retry", is_flag=True, help="Retry it at once.")
@workspace_option
@json_option
def dlq_edit(id_: str, data: str | None, reason: str, then_retry: bool, root: Path, as_json: bool) -> None:
    """Replace the payload of a dead message; the original is kept in its trace."""
    from esb.cli.operate import _payload

    gateway = Gateway(root)
    if data is None:
        before = gateway.get(f"/messages/{id_}")["items"][0]["body"]
        if not isinstance(before, str):
            raise exits.Exit("the payload is no UTF-8 text", exits.BAD_INPUT, hint="give the new one with --data @FILE")
        text = click.edit(before)
        if text is None:
            raise exits.Exit("nothing was changed", exits.NO)
        body = text.encode()
    else:
        body = _payload(data)
    words = {"id": id_, "body_base64": base64.b64encode(body).decode(), "reason": reason}
    found = gateway.post("/dlq/edit", words)
    if then_retry and found["items"][0]["result"] == "edited":
        found = gateway.post("/dlq/retry", {"ids": [id_], "reason": reason})
    _report(found, as_json)


@click.command()
@selection
@click.option("--from", "since", help="Accepted since: `24h` ago or an RFC 3339 time.")
@click.option("--to", "until", help="Accepted before.")
@click.option("--state", help="Only `done` or `dead`.")
@click.option("--rate", metavar="N/s", help="Most per span, such as 20/s.")
@workspace_option
@json_option
def replay(ids: tuple[str, ...], everything: bool, root: Path, as_json: bool, **words: Any) -> None:
    """Make new messages from done or dead ones, linked by replay_of, under the same delivery ids."""
    _report(Gateway(root).post("/replay", _words(ids, everything, **words), timeout=600), as_json)
