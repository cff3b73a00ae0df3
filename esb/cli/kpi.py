"""``esb kpi``: the numbers of the indicators, and what is open."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from esb.cli.gateway import Gateway, json_option, workspace_option
from esb.cli.output import age, clock, emit_json, safe, table

since_option = click.option("--since", help="Counted since: `24h` ago (the default), or an RFC 3339 time; whole hours.")
site_option = click.option("--site", help="Only this value of `per`, such as a plant.")


@click.command()
@workspace_option
@json_option
def alerts(root: Path, as_json: bool) -> None:
    """What the rules of the alerts hold for now, the longest first; empty while the bus is stopped."""
    found = Gateway(root).get("/alerts")
    if as_json:
        emit_json(found)
        return
    rows = [
        {**one, "age": age(one["since"]), "what": "; ".join(f"{item['name']}: {item['text']}" for item in one["items"])}
        for one in found["items"]
    ]
    table(
        rows,
        [("ALERT", "alert"), ("RULE", "rule"), ("FOR", "age"), ("WHAT", "what")],
        empty="no rule of an alert holds",
    )


@click.group()
def kpi() -> None:
    """Indicators: their numbers, and what is open."""


@kpi.command("ls")
@since_option
@site_option
@workspace_option
@json_option
def kpi_ls(since: str | None, site: str | None, root: Path, as_json: bool) -> None:
    """Every indicator with its numbers. Works with the bus stopped, too."""
    found = Gateway(root).get("/kpis", {"since": since})
    if site is not None:
        found["items"] = [_of_site(item, site) for item in found["items"]]
    if as_json:
        emit_json(found)
        return
    from esb.observe.kpis import headline

    rows = [
        {**item, **({"value": "–", "words": "–"} if site is not None else headline(item))} for item in found["items"]
    ]
    if site is not None:
        rows = [{**row, "words": _words_of(row)} for row in rows]
    columns = [("KPI", "kpi"), ("VALUE", "value"), ("", "words"), ("WHAT", "description")]
    table(rows, columns, empty="no indicators; write one into kpis/, or `kpis:` into a route")


def _of_site(item: dict[str, Any], site: str) -> dict[str, Any]:
    """The indicator with the numbers of one label alone."""
    return {**item, "labels": [label for label in item["labels"] if label["label"] == site]}


def _words_of(item: dict[str, Any]) -> str:
    parts = [f"{name} {value}" for label in item["labels"] for name, value in label.items() if name != "label"]
    return ", ".join(parts) or "nothing"


@kpi.command("show")
@click.argument("name")
@since_option
@site_option
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many open.")
@workspace_option
@json_option
def kpi_show(name: str, since: str | None, site: str | None, limit: int, root: Path, as_json: bool) -> None:
    """One indicator: its numbers, and what is open, the oldest first."""
    words = {"since": since, "label": site, "limit": limit}
    found = Gateway(root).get(f"/kpis/{quote(name, safe='')}", words)
    if as_json:
        emit_json(found)
        return
    (item,) = found["items"]
    click.echo(f"{item['kpi']}: {safe(item['description'])}")
    for field, value in item.items():
        if value is not None and field not in ("kpi", "description", "items", "labels", "parts", "ages", "backfill"):
            click.echo(f"  {field}: {safe(value)}")
    if item.get("backfill"):
        click.echo("  backfill: " + safe(", ".join(f"{field} {value}" for field, value in item["backfill"].items())))
    for part in item.get("parts", ()):
        click.echo("  " + safe(", ".join(f"{field} {value}" for field, value in part.items() if value is not None)))
    if item.get("ages"):
        table(
            [{**one, "age": f"{one['from'] or '0'} to {one['to'] or '…'}"} for one in item["ages"]],
            [("AGE", "age"), ("COUNT", "count"), ("WEIGHT", "weight")],
            empty="",
        )
    rows = [{**one, "age": age(one["since"]), "at": clock(one["since"])} for one in item["items"]]
    columns = [("OPEN", "key"), ("PER", "label"), ("SINCE", "at"), ("AGE", "age"), ("WEIGHT", "weight")]
    columns += [("LEVEL", "level")] if item["kind"] == "gauge" else [("OVERDUE", "overdue"), ("MISSING", "missing")]
    table(rows, columns, empty="nothing is open")


@kpi.command("close")
@click.argument("name")
@click.argument("key")
@click.option("--reason", required=True, help="Why no message will end it; kept in the audit.")
@workspace_option
@json_option
def kpi_close(name: str, key: str, reason: str, root: Path, as_json: bool) -> None:
    """Close an open pair by hand."""
    found = Gateway(root).post(f"/kpis/{quote(name, safe='')}/close", {"key": key, "reason": reason})
    if as_json:
        emit_json(found)
        return
    (item,) = found["items"]
    click.echo(f"{item['key']}: {item['result']}" + (f" ({item['why']})" if item["why"] else ""))


@kpi.command("backfill")
@click.argument("name")
@click.option(
    "--since",
    help="Only of messages accepted since: `30d` ago, or an RFC 3339 time. Without it of all that are stored.",
)
@click.option("--reason", required=True, help="Why; kept in the audit.")
@workspace_option
@json_option
def kpi_backfill(name: str, since: str | None, reason: str, root: Path, as_json: bool) -> None:
    """Work the numbers of a new or changed indicator out from the messages that are stored, as if it had been there.

    They take the place of the numbers of now, together and at the end. A running bus does it in the background, also over restarts: `esb kpi
    show NAME --json` says how far it is. Rules about deliveries (`delivered`, `step`) cannot be filled: what was sent is not stored.
    """
    words = {"since": since, "reason": reason}
    found = Gateway(root).post(f"/kpis/{quote(name, safe='')}/backfill", words, timeout=24 * 3600)
    if as_json:
        emit_json(found)
    else:
        click.echo(f"{name}: {found['items'][0]['result']}")
