"""How an indicator went: its hours as counted by the store, and what was open at their ends."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

from esb.config.kpis import Kpi
from esb.observe.kpis import Tally, amount, percentile
from esb.observe.trends import PER_HOUR, SLOT, Rows, stretches
from esb.store.indicators import Counted, Indicators


def series(kpi: Kpi, book: Indicators, rows: Rows, span: timedelta, step: timedelta, now: datetime) -> list[dict[str, Any]]:  # fmt: skip
    """The points of an indicator, oldest first; ``step`` is whole hours. What is open is as of the end of a point, null where unknown."""
    begins, each = stretches(span, step, now), int(step.total_seconds()) // SLOT
    since = datetime.fromtimestamp(begins[0] * SLOT, UTC)
    counted: dict[int, list[Counted]] = defaultdict(list)
    for hour, one in book.by_hour(kpi.name, since):
        counted[int(hour.timestamp()) // SLOT // each * each].append(one)
    levels: dict[int, list[int]] = {}
    for hour_number, row in sorted(rows.rows(f"kpi:{kpi.name}", since).items()) if kpi.kind != "counter" else ():
        for place, *level in row:
            levels[(hour_number * PER_HOUR + place) // each * each] = level
    return [
        {
            "at": datetime.fromtimestamp(begin * SLOT, UTC).isoformat(),
            **_numbers(kpi, Tally(_summed(counted[begin])), levels.get(begin)),
        }
        for begin in begins
    ]


def _summed(found: list[Counted]) -> list[Counted]:
    """One for each what: a tally keeps the last it sees."""
    n: dict[str, int] = defaultdict(int)
    weight: dict[str, int] = defaultdict(int)
    for one in found:
        n[one.what] += one.n
        weight[one.what] += one.weight
    return [Counted("", what, n[what], weight[what]) for what in n]


def _numbers(kpi: Kpi, tally: Tally, level: list[int] | None) -> dict[str, Any]:
    first, overdue, n, weight = level or (None, None, None, None)
    if kpi.kind == "gauge":
        return {
            "keys": first,
            "level": None if n is None else amount(n),
            "level_weight": None if weight is None else amount(weight),
        }
    if kpi.kind == "counter":
        count, of = tally.n("count"), tally.n("of") if kpi.options.of else None
        return {"count": count, "of": of, "percent": round(100 * count / of, 3) if of else None}
    closed, late, times = tally.n("closed"), tally.n("late"), tally.times()
    judged = closed if kpi.options.within is not None else 0
    return {
        "started": tally.n("started"),
        "closed": closed,
        "late": late,
        "on_time_percent": round(100 * (closed - late) / judged, 2) if judged else None,
        "p50_seconds": percentile(times, 0.5),
        "p95_seconds": percentile(times, 0.95),
        "open": first,
        "open_weight": None if weight is None else amount(weight),
        "overdue": overdue,
    }
