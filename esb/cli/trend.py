"""``esb trend``: how the bus, a route or an indicator went."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from esb.cli import names
from esb.cli.gateway import Gateway, json_option, workspace_option
from esb.cli.output import emit_json, table

_OF_ROUTES = (
    ("ACCEPTED", "accepted"),
    ("DONE", "done"),
    ("FAILED", "failed"),
    ("DEAD", "dead"),
    ("OPEN", "open"),
    ("OLDEST", "oldest_seconds"),
    ("P50", "p50_seconds"),
    ("P95", "p95_seconds"),
)
_OF_KPIS = {
    "pair": (
        ("BEGAN", "started"),
        ("ENDED", "closed"),
        ("LATE", "late"),
        ("IN TIME", "on_time_percent"),
        ("P50", "p50_seconds"),
        ("P95", "p95_seconds"),
        ("OPEN", "open"),
        ("OVERDUE", "overdue"),
    ),
    "counter": (("COUNTED", "count"), ("OF", "of"), ("PERCENT", "percent")),
    "gauge": (("LEVEL", "level"), ("WEIGHT", "level_weight"), ("KEYS", "keys")),
}


@click.command()
@click.argument("route", required=False, shell_complete=names.routes)
@click.option("--kpi", help="Of an indicator instead of a route.")
@click.option(
    "--span", default="24h", show_default=True, help="`6h`, `24h` or `7d`; of an indicator `24h`, `7d` or `30d`."
)
@workspace_option
@json_option
def trend(route: str | None, kpi: str | None, span: str, root: Path, as_json: bool) -> None:
    """How the whole bus, ROUTE or an indicator went: what the charts of the pages show. Times are UTC, the oldest first."""
    if route and kpi:
        raise click.UsageError("Give a route, or --kpi, not both.")
    path, words = (f"/kpis/{quote(kpi)}/trend", {}) if kpi else ("/trends", {"route": route})
    found = Gateway(root).get(path, {**words, "span": span})
    if as_json:
        emit_json(found)
        return
    (item,) = found["items"]
    columns = _OF_KPIS[item["kind"]] if kpi else _OF_ROUTES
    table([_row(point) for point in item["points"]], [("FROM", "at"), *columns], empty="nothing yet")


def _row(point: dict[str, Any]) -> dict[str, Any]:
    """As people read it: times in their units; a stretch in which the bus did not run says nothing."""
    from esb.admin.charts import seconds

    times = {
        name: seconds(float(value)) for name, value in point.items() if name.endswith("_seconds") and value is not None
    }
    shown = {name: "–" if value is None else value for name, value in {**point, **times}.items()}
    return {**shown, "at": str(point["at"])[:16].replace("T", " ")}
