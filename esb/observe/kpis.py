"""The numbers of an indicator, as command line, API, pages and metrics show them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from esb.config.kpis import Kpi
from esb.durations import format_duration
from esb.observe.hiding import HIDDEN
from esb.store.facts import OTHER, bound
from esb.store.indicators import MILLION, Counted, Indicators, Open

#: The span that is shown where nobody asks for another one.
SPAN = timedelta(hours=24)
#: How long hours are kept.
KEPT = timedelta(days=400)


class Tally:
    """Counted numbers by what and label."""

    def __init__(self, counted: Iterable[Counted]) -> None:
        self._n: dict[str, dict[str, int]] = defaultdict(dict)
        self._weight: dict[str, dict[str, int]] = defaultdict(dict)
        for one in counted:
            self._n[one.what][one.label] = one.n
            self._weight[one.what][one.label] = one.weight

    def n(self, what: str, label: str | None = None) -> int:
        found = self._n.get(what, {})
        return sum(found.values()) if label is None else found.get(label, 0)

    def weight(self, what: str, label: str | None = None) -> Decimal:
        found = self._weight.get(what, {})
        return amount(sum(found.values()) if label is None else found.get(label, 0))

    def millionths(self, what: str) -> int:
        return sum(self._weight.get(what, {}).values())

    def labels(self) -> list[str]:
        found = {label for what, by in self._n.items() if what != "label" for label in by if label}
        return sorted(found, key=lambda label: (label == OTHER, label))

    def times(self, part: str = "") -> dict[int, int]:
        """Number by step of the distribution of times."""
        suffix = f":{part}" if part else ""
        found: dict[int, int] = {}
        for what, by in self._n.items():
            head, _, tail = what.partition(":")
            if head[:1] == "t" and head[1:].isdigit() and tail == part and what.endswith(suffix):
                found[int(head[1:])] = sum(by.values())
        return found


def amount(millionths: int) -> Decimal:
    """A weight or level as people read it: exact, without needless zeros."""
    value = (Decimal(millionths) / MILLION).normalize()
    return value.quantize(Decimal(1)) if value == value.to_integral_value() else value


def percentile(times: Mapping[int, int], share: float) -> float | None:
    """The time in seconds that a share of the pairs did not exceed, at most 12 % above the true one; None where none ended."""
    total = sum(times.values())
    if not total:
        return None
    seen = 0
    for step in sorted(times):
        seen += times[step]
        if seen >= share * total:
            break
    return round(bound(step), 6)


def items(
    kpis: Mapping[str, Kpi], book: Indicators, now: datetime, since: datetime, faults: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Every indicator with its numbers."""
    return [item(kpi, book, now, since, faults.get(kpi.name, 0)) for kpi in kpis.values()]


def item(kpi: Kpi, book: Indicators, now: datetime, since: datetime, faults: int = 0) -> dict[str, Any]:
    """One indicator: what is so now, and what was counted since the hour of ``since``."""
    options, window, current = kpi.options, Tally(book.since(kpi.name, since)), Tally(book.now(kpi.name))
    found: dict[str, Any] = {
        "kpi": kpi.name,
        "kind": kpi.kind,
        "description": options.description,
        "owner": options.owner,
        "unit": options.unit,
        "route": kpi.route or None,
        "file": kpi.position.path,
        "since": since.isoformat(),
        "parts": [],
        "ages": [],
    }
    if kpi.kind == "pair":
        found |= _pair(kpi, book, now, window, current)
    elif kpi.kind == "counter":
        found |= _counter(kpi, window)
    else:
        found |= _gauge(kpi, book, now, current)
    return {**found, "faults": faults}


def _pair(kpi: Kpi, book: Indicators, now: datetime, window: Tally, current: Tally) -> dict[str, Any]:
    within = kpi.options.within
    overdue, overdue_weight = book.overdue(kpi.name, now)
    times, closed, late = window.times(), window.n("closed"), window.n("late")
    judged = closed + overdue
    on_time = round(100 * (closed - late) / judged, 2) if within is not None and judged else None
    return {
        "within_seconds": within.total_seconds() if within is not None else None,
        "open": current.n("open"),
        "open_weight": current.weight("open"),
        "overdue": overdue,
        "overdue_weight": amount(overdue_weight),
        "started": window.n("started"),
        "closed": closed,
        "late": late,
        "unmatched": window.n("unmatched"),
        "closed_by_hand": window.n("closed-by-hand"),
        "on_time_percent": on_time,
        "p50_seconds": percentile(times, 0.5),
        "p95_seconds": percentile(times, 0.95),
        "max_seconds": percentile(times, 1.0),
        "parts": [_part(name, window) for name in kpi.options.parts],
        "ages": _ages(kpi, book, now, levels=False),
        "labels": [
            {
                "label": label,
                "open": current.n("open", label),
                "open_weight": current.weight("open", label),
                "closed": window.n("closed", label),
                "late": window.n("late", label),
            }
            for label in current.labels()
        ],
    }


def _part(name: str, window: Tally) -> dict[str, Any]:
    times = window.times(name)
    return {
        "part": name,
        "ended": sum(times.values()),
        "late": window.n(f"late:{name}"),
        "p50_seconds": percentile(times, 0.5),
        "p95_seconds": percentile(times, 0.95),
        "max_seconds": percentile(times, 1.0),
    }


def _counter(kpi: Kpi, window: Tally) -> dict[str, Any]:
    of = window.n("of") if kpi.options.of else None
    return {
        "count": window.n("count"),
        "count_weight": window.weight("count"),
        "of": of,
        "percent": round(100 * window.n("count") / of, 3) if of else None,
        "labels": [
            {"label": label, "count": window.n("count", label), "of": window.n("of", label) if kpi.options.of else None}
            for label in window.labels()
        ],
    }


def _gauge(kpi: Kpi, book: Indicators, now: datetime, current: Tally) -> dict[str, Any]:
    return {
        "keys": current.n("keys"),
        "level": amount(current.n("level")),
        "level_weight": current.weight("level"),
        "ages": _ages(kpi, book, now, levels=True),
        "labels": [
            {
                "label": label,
                "keys": current.n("keys", label),
                "level": amount(current.n("level", label)),
                "level_weight": current.weight("level", label),
            }
            for label in current.labels()
        ],
    }


def _ages(kpi: Kpi, book: Indicators, now: datetime, *, levels: bool) -> list[dict[str, Any]]:
    edges = sorted(kpi.options.ages)
    if not edges:
        return []
    counted = book.ages(kpi.name, [now - edge for edge in edges], levels=levels)
    names = ["", *(format_duration(edge) for edge in edges), ""]
    return [
        {"from": names[place], "to": names[place + 1], "count": count, "weight": amount(weight)}
        for place, (count, weight) in enumerate(counted)
    ]


def open_items(kpi: Kpi, book: Indicators, now: datetime, limit: int, label: str | None = None) -> list[dict[str, Any]]:
    """What is open, oldest first: pairs that have not ended, or keys with a level."""
    levels = kpi.kind == "gauge"
    if kpi.kind == "counter":
        return []
    return [
        _open_item(one, kpi, now, levels=levels) for one in book.oldest(kpi.name, limit, levels=levels, label=label)
    ]


def _open_item(one: Open, kpi: Kpi, now: datetime, *, levels: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "key": one.key,
        "label": one.label,
        "since": one.since.isoformat(),
        "age_seconds": round(max(0.0, (now - one.since).total_seconds()), 3),
        "weight": amount(one.weight),
    }
    if levels:
        return {**found, "level": amount(one.n)}
    missing = [part for part in kpi.options.parts if part not in one.seen]
    return {
        **found,
        "due": one.due.isoformat() if one.due is not None else None,
        "overdue": one.due is not None and one.due <= now,
        "missing": missing,
    }


def shown(value: Any) -> str:
    """A weight as people read it: `1,110` and `12.5`, whatever it came as."""
    number = Decimal(str(value)).normalize()
    return f"{number:,f}"


def headline(found: Mapping[str, Any]) -> dict[str, Any]:
    """The one number of an indicator for a tile, with the words under it and whether it needs a person."""
    unit = f" {found['unit']}" if found["unit"] else ""
    if found["kind"] == "gauge":
        weighed = found["level_weight"] or not found["level"]
        value = f"{shown(found['level_weight'])}{unit}" if weighed else shown(found["level"])
        return {"value": value, "words": f"{found['keys']} open", "bad": False}
    if found["kind"] == "counter":
        if found["percent"] is not None:
            return {
                "value": f"{shown(found['percent'])} %",
                "words": f"{found['count']} of {found['of']}",
                "bad": False,
            }
        words = "counted" if found["of"] is None else f"of {found['of']}"
        return {"value": str(found["count"]), "words": words, "bad": False}
    weight = f", {shown(found['open_weight'])}{unit}" if found["open_weight"] else ""
    words = f"{found['open']} open{weight}"
    if found["within_seconds"] is None:
        return {"value": str(found["open"]), "words": f"open{weight}", "bad": False}
    on_time = found["on_time_percent"]
    value = f"{shown(on_time)} %" if on_time is not None else "–"
    late = f", {found['overdue']} overdue" if found["overdue"] else ""
    return {"value": value, "words": f"in time; {words}{late}", "bad": bool(found["overdue"])}


def number(found: Mapping[str, Any]) -> Decimal | None:
    """The one number of an indicator, for a bound: percent in time, percent or count, weight or level; None where there is none."""
    if found["kind"] == "pair":
        value = found["on_time_percent"]
    elif found["kind"] == "counter":
        value = found["percent"] if found["of"] is not None else found["count"]
    else:
        value = found["level_weight"] or found["level"]
    return None if value is None else Decimal(str(value))


Sample = tuple[Mapping[str, str], float | int]
Family = tuple[str, str, str, Sequence[Sample]]


def masked(found: dict[str, Any], kpi: Kpi, marked: Collection[str]) -> dict[str, Any]:
    """An item without keys and labels that come out of marked members: for who may not see payloads."""
    hidden = [*(["key"] if kpi.reads("by", marked) else ()), *(["label"] if kpi.reads("per", marked) else ())]
    if not hidden:
        return found
    lists = {name: found[name] for name in ("items", "labels") if name in found}
    return {**found, **{name: [_masked(one, hidden) for one in some] for name, some in lists.items()}}


def _masked(one: Mapping[str, Any], hidden: Collection[str]) -> dict[str, Any]:
    return {name: HIDDEN if name in hidden and value else value for name, value in one.items()}


def families(kpis: Mapping[str, Kpi], book: Indicators, now: datetime, marked: Collection[str] = ()) -> list[Family]:
    """(name, type, words, samples) of what Prometheus scrapes; one label of an indicator is at most 50 values, none that comes out of
    a marked member."""
    samples: dict[str, list[Sample]] = {name: [] for name, _, _ in _FAMILIES}
    for kpi in kpis.values():
        current, labels = Tally(book.now(kpi.name)), {"kpi": kpi.name}
        told_apart = kpi.options.per is not None and not kpi.reads("per", marked)
        for name in [*current.labels(), ""] if told_apart else [""]:
            more = {**labels, "label": name} if name else labels
            whose = name if told_apart else None
            if kpi.kind == "pair":
                samples["esb_kpi_open_pairs"].append((more, current.n("open", whose)))
                samples["esb_kpi_open_weight"].append((more, float(current.weight("open", whose))))
                samples["esb_kpi_started_total"].append((more, current.n("started", whose)))
                samples["esb_kpi_closed_total"].append((more, current.n("closed", whose)))
                samples["esb_kpi_late_total"].append((more, current.n("late", whose)))
            elif kpi.kind == "counter":
                samples["esb_kpi_count_total"].append((more, current.n("count", whose)))
                samples["esb_kpi_of_total"].append((more, current.n("of", whose)))
            else:
                samples["esb_kpi_level"].append((more, float(amount(current.n("level", whose)))))
                samples["esb_kpi_level_weight"].append((more, float(current.weight("level", whose))))
        if kpi.kind == "pair":
            overdue, weight = book.overdue(kpi.name, now)
            samples["esb_kpi_overdue"].append((labels, overdue))
            samples["esb_kpi_overdue_weight"].append((labels, float(amount(weight))))
    return [(name, kind, words, samples[name]) for name, kind, words in _FAMILIES]


_FAMILIES = (
    ("esb_kpi_open_pairs", "gauge", "Open pairs of an indicator."),
    ("esb_kpi_open_weight", "gauge", "Weight of the open pairs, in the unit of the indicator."),
    ("esb_kpi_overdue", "gauge", "Open pairs whose time has passed."),
    ("esb_kpi_overdue_weight", "gauge", "Weight of the overdue pairs."),
    ("esb_kpi_started_total", "counter", "Pairs that began."),
    ("esb_kpi_closed_total", "counter", "Pairs that ended."),
    ("esb_kpi_late_total", "counter", "Pairs that ended late."),
    ("esb_kpi_count_total", "counter", "What a counter counted."),
    ("esb_kpi_of_total", "counter", "What a counter is a share of."),
    ("esb_kpi_level", "gauge", "Sum of the levels of a gauge."),
    ("esb_kpi_level_weight", "gauge", "Weight of the levels, in the unit of the indicator."),
)
