"""Operating commands that look: status, routes, messages, trace; and send."""

from __future__ import annotations

import base64
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from esb.cli import exits, names
from esb.cli.gateway import Gateway, json_option, workspace_option
from esb.cli.output import age, clock, compact, emit_json, safe, table
from esb.durations import parse_duration

#: Messages that are asked for at a time.
PAGE = 200


def filter_options(limit: Any) -> Callable[[Any], Any]:
    """The options that say which messages are meant, the last of them ``limit``."""
    options = [
        click.option("--route", help="Only this route.", shell_complete=names.routes),
        click.option("--state", help="Only these states, with commas; `open` means all that have work to do."),
        click.option("--key", help="Only this key."),
        click.option("--track", multiple=True, metavar="NAME=VALUE", help="Only with this tracked value."),
        click.option("--correlation", help="Only this correlation id."),
        click.option("--since", help="Accepted since: `24h` ago or an RFC 3339 time."),
        click.option("--until", help="Accepted before."),
        limit,
    ]

    def decorated(command: Any) -> Any:
        for decorate in reversed(options):
            command = decorate(command)
        return command

    return decorated


#: Of a list for people.
AT_MOST = click.option(
    "--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many."
)


def say_more(items: Sequence[Any], limit: int) -> None:
    """A list that ends at its limit must not look like all that there is."""
    if len(items) >= limit:
        click.echo(f"these are the newest {limit}; there may be more: --limit, --until, or a narrower filter", err=True)


@click.command()
@workspace_option
@json_option
def status(root: Path, as_json: bool) -> None:
    """Every route with its state, counts per message state, and its oldest open message. Works with the bus stopped."""
    gateway = Gateway(root)
    words = gateway.get("/status")
    if as_json:
        emit_json(words)
        return
    rows = [
        {
            **item,
            "open": item["queued"] + item["running"] + item["waiting"],
            "other": item["expired"] + item["duplicate"] + item["superseded"] + item["discarded"],
            "age": age(item["oldest"]),
            "rate": f"{item['throughput_per_minute']}/min",
            "shown": f"{item['own_version']} ({item['version']})" if item["own_version"] else item["version"],
        }
        for item in words["items"]
    ]
    columns = [
        ("ROUTE", "route"),
        ("STATE", "state"),
        ("ACCEPTED", "accepted"),
        ("DONE", "done"),
        ("OPEN", "open"),
        ("HELD", "held"),
        ("DEAD", "dead"),
        ("OTHER", "other"),
        ("OLDEST", "age"),
        ("RATE", "rate"),
        ("VERSION", "shown"),
    ]
    table(rows, columns, empty="no routes")
    for item in words["items"]:
        if (window := item.get("expect")) is not None and window["state"] == "missed":
            click.echo(f"! {item['route']}: too little has come, it was expected by {window['missed_at']}", err=True)
        for one in item.get("left_behind", ()):
            files = ", ".join(one["files"]) or "what it had in hand"
            click.echo(f"! {item['route']}: left behind at {one['place']}: {files} ({one['why']})", err=True)
    about = gateway.get("")["items"][0] if gateway.is_running else {}  # a stopped bus has no files that are not live
    for problem in about.get("problems", []):
        if problem["severity"] == "error":
            place = f"{problem['path']}:{problem['line']}:{problem['column']}"
            click.echo(f"! files on disk are not live: {place}: {problem['code']} {problem['message']}", err=True)


@click.group()
def messages() -> None:
    """Find, show and export messages."""


MESSAGE_COLUMNS = [
    ("ACCEPTED", "at"),
    ("ID", "id"),
    ("ROUTE", "where"),
    ("STATE", "state"),
    ("KEY", "key"),
    ("TRIES", "attempts"),
    ("WHY", "why"),
]


def message_rows(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            **item,
            "at": clock(item["accepted_at"]),
            "where": item["route"] + (f"/{item['scope']}" if item.get("scope") else ""),
            "why": f"{item['error']['class']} at {item['error']['step']}: {item['error']['message']}"
            if item.get("error")
            else item.get("reason", ""),
        }
        for item in items
    ]


@messages.command("ls")
@filter_options(AT_MOST)
@workspace_option
@json_option
def messages_ls(root: Path, as_json: bool, **words: Any) -> None:
    """Messages, newest first."""
    found = Gateway(root).get("/messages", words)
    if as_json:
        emit_json(found)
    else:
        table(message_rows(found["items"]), MESSAGE_COLUMNS, empty="no such messages")
        say_more(found["items"], words["limit"])


@messages.command("show")
@click.argument("id_", metavar="ID")
@workspace_option
@json_option
def messages_show(id_: str, root: Path, as_json: bool) -> None:
    """One message: payload, headers, what every step did, relatives."""
    found = Gateway(root).get(f"/messages/{id_}")
    if as_json:
        emit_json(found)
        return
    show_message(found["items"][0])


@messages.command("steps")
@click.argument("id_", metavar="ID")
@workspace_option
@json_option
def messages_steps(id_: str, root: Path, as_json: bool) -> None:
    """What each step made of a message: before, after and what differs, recomputed on stubs. Sends and stores nothing.

    It runs again on the version that it ran on, where that can still be read, else on the files as they stand.
    """
    found = Gateway(root).get(f"/messages/{id_}/steps", timeout=600)
    if as_json:
        emit_json(found)
        return
    items = found["items"]
    for item in items[:1]:
        on = (
            "the version that it ran on"
            if item["its_version"]
            else "the files as they stand, not the version it ran on"
        )
        click.echo(f"recomputed on {on} ({item['version']})")
        click.echo(safe(item["before"] if item["before"] is not None else "payloads are hidden from you"))
    for item in items:
        scope = f"{item['message']}: " if item["message"] else ""
        said = (
            f"ended: {item['ended']}"
            if item["ended"]
            else ""
            if item["diff"] or item["diff"] is None
            else "changed nothing"
        )
        click.echo(safe(f"== {scope}{item['step']}  {said}".rstrip()))
        for line in (item["diff"] or "").splitlines()[2:]:
            click.echo(safe(line))
    if not items:
        click.echo("no step ran: it was refused where it came in")
    elif items[0]["more"]:
        click.echo("there was too much to be written down: the last steps are missing")


def show_message(item: dict[str, Any]) -> None:
    """One message for people."""
    from esb.views import sender

    for name in (
        "id",
        "route",
        "scope",
        "state",
        "reason",
        "key",
        "correlation_id",
        "parent_id",
        "replay_of",
        "duplicate_of",
        "accepted_at",
        "finished_at",
        "due",
        "attempts",
        "version",
    ):
        if item.get(name) not in (None, ""):
            click.echo(f"{name:<15} {safe(item[name])}")
    if sent_by := sender(item.get("meta", {})):
        click.echo(f"{'sent_by':<15} {safe(sent_by)}")
    for name, value in item["track"].items():
        click.echo(f"{'track':<15} {safe(name)}={safe(value)}")
    if item.get("error"):
        error = item["error"]
        place = f" ({safe(error['at'])})" if error.get("at") else ""
        click.echo(f"{'error':<15} {error['class']} at {error['step']}{place}: {safe(error['message'])}")
        for violation in error.get("errors", []):
            click.echo(f"{'':<15}   {safe(violation['pointer'])}: {safe(violation['detail'])}")
        if error.get("hint"):
            click.echo(f"{'':<15} = help: {safe(error['hint'])}")
    for name, value in item.get("headers", {}).items():
        click.echo(f"{'header':<15} {safe(name)}: {safe(value)}")
    print_trace(item.get("trace", []))
    print_actions(item.get("actions", []))
    for child in item.get("children", []):
        scope = f"/{child['scope']}" if child["scope"] else ""
        click.echo(f"{'child':<15} {child['id']}  {child['route']}{scope}  {child['state']}")
    body = item.get("body")
    click.echo("body")
    click.echo(safe(body if isinstance(body, str) else compact(body)))


#: Facts of a trace entry that stand in columns of their own, or are for machines.
_QUIET = frozenset({"step", "at", "ms", "attempt", "answered", "delivery_id", "ended_at", "state"})


def print_trace(entries: list[dict[str, Any]]) -> None:
    """Step by step, one block for each attempt."""
    for number, group in itertools.groupby(entries, key=lambda entry: entry.get("attempt", 1)):
        steps = list(group)
        last = steps[-1]
        if last.get("ended_at"):
            click.echo(f"  attempt {number}, ended {clock(last['ended_at'])}: {last.get('state', '')}")
        for entry in steps:
            _print_step(entry)


def print_actions(actions: list[dict[str, Any]]) -> None:
    """What people did to a message, and why."""
    for one in actions:
        new = f" -> {one['new']}" if one.get("new") else ""
        why = f": {safe(one['reason'])}" if one["reason"] else ", no reason given"
        click.echo(f"  {one['action']}{new} {clock(one['at'])} by {safe(one['actor'])}{why}")


def _print_step(entry: dict[str, Any]) -> None:
    if "step" not in entry:
        click.echo(f"    {safe(compact(entry))[:200]}")
        return
    facts = [f"{name}={safe(value)}" for name, value in entry.items() if name not in _QUIET and value is not None]
    line = (
        f"    {entry.get('at', 0):>9.1f} ms  {entry['step']:<32} {entry.get('ms', 0):>8.2f} ms  {' '.join(facts)[:160]}"
    )
    answered = f"  answered={compact(entry['answered'])}" if entry.get("answered") is not None else ""
    click.echo(f"{line}{safe(answered[:160])}".rstrip())


@messages.command("export")
@filter_options(click.option("--limit", type=click.IntRange(1), help="At most so many, the newest; all without it."))
@workspace_option
@json_option
def messages_export(root: Path, as_json: bool, **words: Any) -> None:
    """Messages with payload as JSON lines on stdout, newest first: all that the options mean.

    What retention removes meanwhile, and what comes, is not in it.
    """
    words |= {name: _instant(words[name]) for name in ("since", "until")}
    found = _whole(Gateway(root), words, words.pop("limit"))
    if as_json:
        emit_json({"kind": "MessageList", "items": list(found)})
        return
    for item in found:
        click.echo(compact(item))


def _instant(text: str | None) -> str | None:
    """`24h` as the instant that it is now: it means the same with every page."""
    try:
        return (datetime.now(UTC) - parse_duration(text)).isoformat() if text else text
    except (ValueError, OverflowError):
        return text  # an instant, or what the bus refuses in its own words


def _whole(gateway: Gateway, words: Mapping[str, Any], limit: int | None) -> Iterator[dict[str, Any]]:
    left, before = limit, None
    while left is None or left > 0:
        asked = {**words, "whole": 1, "before": before, "limit": min(left or PAGE, PAGE)}
        items = gateway.get("/messages", asked, timeout=600)["items"]
        yield from items
        if not items:
            return
        left, before = None if left is None else left - len(items), items[-1]["seq"]


@click.command()
@click.argument("word", metavar="KEY|ID")
@workspace_option
@json_option
def trace(word: str, root: Path, as_json: bool) -> None:
    """Everything that happened to a message id, key, tracked value or correlation id, in order, over all routes.

    Of more than a thousand messages the newest.
    """
    import urllib.parse

    from esb.views import TRACED

    found = Gateway(root).get(f"/trace/{urllib.parse.quote(word, safe='')}")
    if as_json:
        emit_json(found)
    if not found["items"]:
        raise exits.Exit(
            f"nothing is known of {word}",
            exits.MISSING,
            hint="esb messages ls; a lot is found by its tracked value, a whole id, a key",
        )
    if as_json:
        return
    for item in found["items"]:
        scope = f"/{item['scope']}" if item["scope"] else ""
        error = f"  {item['error']['class']}: {safe(item['error']['message'])[:120]}" if item.get("error") else ""
        reason = f"  ({safe(item['reason'])})" if item.get("reason") else ""
        due = f" until {clock(item['due'])}" if item["state"] == "waiting" else ""
        click.echo(
            f"{clock(item['accepted_at'])}  {item['route']}{scope} {item['version']}  {item['state']}{due}{reason}  {item['id']}{error}"
        )
        print_trace(item["trace"])
        print_actions(item.get("actions", []))
    if len(found["items"]) >= TRACED:
        click.echo(f"these are the newest {TRACED}; the others: esb messages ls --until TIME", err=True)


@click.command()
@click.argument("route", shell_complete=names.routes)
@click.option("--data", "-d", required=True, help="The payload, or @FILE (@- for standard input).")
@click.option("--header", "-H", "header", multiple=True, metavar="K=V", help="A header of the message.")
@click.option(
    "--wait", is_flag=True, help="Wait for the end of the message; exit code 1 unless it is done (or a duplicate)."
)
@click.option("--timeout", default="60s", show_default=True, help="How long to wait.")
@workspace_option
@json_option
def send(route: str, data: str, header: tuple[str, ...], wait: bool, timeout: str, root: Path, as_json: bool) -> None:
    """Give a message to ROUTE as its source would: under the same format, contract, key and dedupe."""
    from esb.durations import parse_duration

    headers = {}
    for pair in header:
        name, equals, value = pair.partition("=")
        if not equals:
            raise click.BadParameter(f"`{pair}`: write NAME=VALUE", param_hint="--header")
        headers[name] = value
    try:
        seconds = parse_duration(timeout).total_seconds()
    except ValueError:
        raise click.BadParameter(f"`{timeout}` is no duration; write 30s", param_hint="--timeout") from None
    words: dict[str, Any] = {"body_base64": base64.b64encode(_payload(data)).decode(), "headers": headers}
    if wait:
        words["wait"] = timeout
    found = Gateway(root).post(f"/routes/{route}/send", words, timeout=seconds + 15)
    item = found["items"][0]
    if as_json:
        emit_json(found)
    else:
        click.echo(
            f"{item['state']}  {item['message_id']}"
            + (f"  duplicate of {item['duplicate_of']}" if item.get("duplicate_of") else "")
        )
        if item.get("error"):
            click.echo(f"  {item['error']['class']} at {item['error']['step']}: {safe(item['error']['message'])}")
    if wait and item["state"] not in ("done", "duplicate", "known"):
        sys.exit(exits.NO)


def _payload(data: str) -> bytes:
    if not data.startswith("@"):
        return data.encode()
    if data == "@-":
        return sys.stdin.buffer.read()
    try:
        return Path(data[1:]).read_bytes()
    except OSError as error:
        raise exits.Exit(f"cannot read {data[1:]}: {error.strerror}", exits.MISSING) from None
