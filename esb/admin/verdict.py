"""The answer at the top of the overview: is everything in time? From the indicators that have a target, as people say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from esb.admin.charts import seconds
from esb.observe.kpis import shown


def verdict(tiles: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """``word``, ``tone``, ``text`` and ``items`` (each with ``kpi text tone``, what is wrong first); None where no indicator has a target."""
    timed = [tile for tile in tiles if tile["kind"] == "pair" and tile["within_seconds"] is not None]
    if not timed:
        return None
    overdue = sum(tile["overdue"] for tile in timed)
    late, ended = sum(tile["late"] for tile in timed), sum(tile["closed"] for tile in timed)
    if overdue:
        word, tone, text = "No", "bad", f"{overdue} {'is' if overdue == 1 else 'are'} overdue now."
    elif late:
        word, tone, text = (
            "Yes, now",
            "warn",
            f"Nothing is overdue, but {late} of {ended} came late in the last 24 hours.",
        )
    elif ended:
        word, tone, text = "Yes", "good", f"Nothing is overdue, and all {ended} of the last 24 hours came in time."
    else:
        word, tone, text = "Yes", "good", "Nothing is overdue; in the last 24 hours nothing came to its end."
    items = sorted((_item(tile) for tile in timed), key=lambda item: _ORDER.index(item["tone"]))
    return {"word": word, "tone": tone, "text": text, "items": items}


_ORDER = ("bad", "warn", "good")


def _item(tile: Mapping[str, Any]) -> dict[str, Any]:
    unit = f" {tile['unit']}" if tile["unit"] else ""
    weight = f" ({shown(tile['overdue_weight'])}{unit})" if tile["overdue_weight"] else ""
    wanted = f"target {seconds(tile['within_seconds'])}"
    if tile["overdue"]:
        return {"kpi": tile["kpi"], "tone": "bad", "text": f"{tile['overdue']} overdue{weight}, {wanted}"}
    if tile["on_time_percent"] is None:
        return {"kpi": tile["kpi"], "tone": "good", "text": f"nothing ended, {wanted}"}
    tone = "warn" if tile["late"] else "good"
    return {"kpi": tile["kpi"], "tone": tone, "text": f"{shown(tile['on_time_percent'])} % in time, {wanted}"}
