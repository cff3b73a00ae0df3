"""Operating commands that act on messages: dead letters and replay."""

from __future__ import annotations

import base64
import hashlib
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import click

from esb.cli import exits, names
from esb.cli.bulk import bulk, followed
from esb.cli.gateway import Gateway, json_option, workspace_option
from esb.cli.operate import AT_MOST, MESSAGE_COLUMNS, message_rows, say_more, show_message
from esb.cli.output import age, emit_json, safe, table

#: Messages that one action is about; the API takes no more.
MOST = 10_000


@click.group()
def dlq() -> None:
    """Dead letters: list, group, show, retry, edit, discard."""


@dlq.command("ls")
@click.option("--route", help="Only this route.", shell_complete=names.routes)
@click.option("--key", help="Only this key.")
@click.option("--group", help="Only this group (esb dlq groups).")
@click.option("--track", multiple=True, metavar="NAME=VALUE", help="Only with this tracked value.")
@click.option("--since", help="Accepted since: `24h` ago or an RFC 3339 time.")
@AT_MOST
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
        say_more(found["items"], words["limit"])


@dlq.command("groups")
@click.option("--route", help="Only this route.", shell_complete=names.routes)
@workspace_option
@json_option
def dlq_groups(root: Path, as_json: bool, route: str | None) -> None:
    """Dead letters that look alike, by route, step and error."""
    found = Gateway(root).get("/dlq/groups", {"route": route})
    if as_json:
        emit_json(found)
        return
    rows = [{**item, "age": age(item["oldest"]), "about": _about(item), "look": _look(item)} for item in found["items"]]
    columns = [
        ("GROUP", "group"),
        ("COUNT", "count"),
        ("OLDEST", "age"),
        ("ROUTE", "route"),
        ("STEP", "step"),
        ("CLASS", "class"),
        ("ABOUT", "about"),
        ("LOOK OUT", "look"),
        ("BY", "assigned"),
        ("ERROR", "message"),
    ]
    table(rows, columns, empty="no dead letters")


def _about(item: dict[str, Any]) -> str:
    """What the messages of a group are about, and what of it an indicator weighs."""
    words = [f"{one['count']} {name}" for name, one in item["tracked"].items()]
    return ", ".join([*words, *(f"{one['weight']} {one['unit']}".strip() for one in item["affected"])])


def _look(item: dict[str, Any]) -> str:
    """What stands in the way of a retry."""
    words = [f"{name}: {why}" for name, why in item["troubled"].items()]
    return ", ".join([*words, *([f"{item['stale']} stale"] if item["stale"] else [])])


@dlq.command("note")
@click.argument("group")
@click.option("--to", help="Who looks after it from now on; empty for nobody.")
@click.option("--note", required=True, help="What there is to say; kept in the audit.")
@workspace_option
@json_option
def dlq_note(group: str, to: str | None, note: str, root: Path, as_json: bool) -> None:
    """Write a note on a group of dead letters, and who looks after it."""
    found = Gateway(root).post("/dlq/groups/note", {"group": group, "note": note, "to": to})
    if as_json:
        emit_json(found)
    else:
        click.echo(f"noted; {found['items'][0]['assigned'] or 'nobody'} looks after {group}")


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
            click.option("--route", help="All of this route.", shell_complete=names.routes),
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
    if len(items) >= MOST:
        click.echo(f"at most {MOST} messages at a time: say it again for the others", err=True)
    if items and all(item["result"] == "skipped" for item in items):
        raise SystemExit(exits.NO)
    if any(item["result"] == "waits" for item in items):
        raise SystemExit(exits.AGAIN)  # nothing was done yet


@dlq.command("retry")
@selection
@click.option("--rate", metavar="N/s", help="Most per span, such as 20/s.")
@click.option(
    "--stale", is_flag=True, help="Also messages older than one delivered for their key, or overtaken; needs a reason."
)
@workspace_option
@json_option
def dlq_retry(ids: tuple[str, ...], everything: bool, root: Path, as_json: bool, **words: Any) -> None:
    """Queue dead messages again, oldest first; they keep their id and delivery ids.

    With --rate a running bus does it in the background: the progress is on stderr and on the page of dead letters, Ctrl-C or `esb dlq
    bulk JOB --stop` stops it, and what it had not reached stays dead.
    """
    gateway, meant = Gateway(root), _words(ids, everything, **words)
    if meant.get("rate") and not meant.get("dry_run"):
        meant["background"] = True
    found = gateway.post("/dlq/retry", meant, timeout=600)
    if found["kind"] == "BulkRetryList":
        found = followed(gateway, found["items"][0])
    _report(found, as_json)


dlq.add_command(bulk)


@dlq.command("discard")
@selection
@workspace_option
@json_option
def dlq_discard(ids: tuple[str, ...], everything: bool, root: Path, as_json: bool, **words: Any) -> None:
    """Give up dead (or, by ID, waiting and queued) messages for good; needs a reason."""
    _report(Gateway(root).post("/dlq/discard", _words(ids, everything, **words), timeout=600), as_json)


@dlq.command("edit")
@click.argument("id_", metavar="ID")
@click.option(
    "--data",
    "-d",
    help="The new payload, as UTF-8, or @FILE with its bytes as they are. Without it $EDITOR opens, for UTF-8.",
)
@click.option("--reason", default="", help="Why; needed, and kept in the audit.")
@click.option("--retry", "then_retry", is_flag=True, help="Retry it at once.")
@click.option("--dry-run", is_flag=True, help="Show what each target would get of it; change and send nothing.")
@workspace_option
@json_option
def dlq_edit(
    id_: str, data: str | None, reason: str, then_retry: bool, dry_run: bool, root: Path, as_json: bool
) -> None:
    """Replace the payload of a dead message; the original is kept in its trace.

    With --dry-run the new payload runs through the route as its files stand, its contract first, against stubs: exit code 1 where
    it would not end done.
    """
    from esb.cli.operate import _payload

    gateway = Gateway(root)
    if data is None and not (reason or dry_run):
        raise exits.Exit("edit needs a reason", exits.NOT_ALLOWED, hint='add --reason "…"; it is kept in the audit')
    body, replaces = (_payload(data), "") if data is not None else _typed(gateway, id_)
    words = {"id": id_, "body_base64": base64.b64encode(body).decode(), "reason": reason}
    if dry_run:
        _show_tried(gateway.post("/dlq/rehearse", words, timeout=600), as_json)
        return
    done = False
    try:
        found = gateway.post("/dlq/edit", {**words, "replaces": replaces})
        done = found["items"][0]["result"] != "skipped"
    finally:
        if data is None and not done:
            _keep(body)
    if then_retry and found["items"][0]["result"] == "edited":
        found = gateway.post("/dlq/retry", {"ids": [id_], "reason": reason})
    _report(found, as_json)


def _typed(gateway: Gateway, id_: str) -> tuple[bytes, str]:
    """What somebody makes of the payload in an editor, and the SHA-256 of the one that they saw."""
    before = gateway.get(f"/messages/{id_}")["items"][0]["body"]
    if not isinstance(before, str):
        why = "is too large to be shown" if isinstance(before, dict) and "blob" in before else "is no UTF-8 text"
        raise exits.Exit(f"the payload {why}", exits.BAD_INPUT, hint="give the new one with --data @FILE")
    if not (sys.stdin.isatty() or os.environ.get("VISUAL") or os.environ.get("EDITOR")):
        raise click.UsageError("No terminal to edit it in: give --data.")
    text = click.edit(before)
    if text is None:
        raise exits.Exit("nothing was changed", exits.NO)
    return text.encode(), hashlib.sha256(before.encode()).hexdigest()


def _keep(body: bytes) -> None:
    """What was typed and could not be saved is not typed again."""
    handle, name = tempfile.mkstemp(prefix="esb-edit-")
    with os.fdopen(handle, "wb") as file:
        file.write(body)
    click.echo(f"what you wrote is in {name}, for --data @{name}", err=True)


def _show_tried(found: dict[str, Any], as_json: bool) -> None:
    from esb.cli.traffic import show_rehearsed

    (item,) = found["items"]
    if as_json:
        emit_json(found)
    else:
        show_rehearsed(item)
        for one in (item["error"] or {}).get("errors", ()):
            click.echo(safe("  " + ": ".join(word for word in (one["pointer"], one["detail"]) if word)))
        click.echo("nothing was changed or sent")
    if item["state"] != "done":
        raise SystemExit(exits.NO)


@click.command()
@selection
@click.option("--from", "since", help="Accepted since: `24h` ago or an RFC 3339 time.")
@click.option("--to", "until", help="Accepted before.")
@click.option("--state", help="Only `done` or `dead`.")
@click.option("--rate", metavar="N/s", help="Most per span, such as 20/s.")
@click.option("--to-stub", is_flag=True, help="Show what each target would get; send and store nothing.")
@workspace_option
@json_option
def replay(ids: tuple[str, ...], everything: bool, to_stub: bool, root: Path, as_json: bool, **words: Any) -> None:
    """Make new messages from done or dead ones, linked by replay_of, under the same delivery ids.

    A superseded message only by its id and with --reason: it becomes the newest state of its key again.
    With --to-stub the messages run through the route as its files stand, against the answers that the connectors' `stub` gives, else
    those that targets gave then: exit code 1 where one would not end done.
    """
    if to_stub:
        _to_stub(root, _words(ids, everything, **words), as_json)
        return
    _report(Gateway(root).post("/replay", _words(ids, everything, **words), timeout=600), as_json)


def _to_stub(root: Path, words: dict[str, Any], as_json: bool) -> None:
    from esb.cli.traffic import replay_to_stub, show_rehearsed

    gateway = Gateway(root)
    meant = gateway.post("/replay", {**words, "dry_run": True}, timeout=600)["items"]
    found = replay_to_stub(gateway, root, [item for item in meant if item["result"] == "would replay"])
    if as_json:
        emit_json({"kind": "ReplayToStub", "items": found})
    else:
        for item in found:
            show_rehearsed(item)
        states = Counter(item["state"] for item in found)
        click.echo(
            ", ".join(f"{count} {state}" for state, count in states.items()) + "; nothing was sent"
            if found
            else "nothing to do"
        )
    if any(item["state"] != "done" for item in found):
        raise SystemExit(exits.NO)
