"""``/api/v1/trends``: how bus, routes and indicators went, and the charts of the pages, which are drawn from the same points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlencode

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from esb.access.roles import Principal, Right
from esb.admin import charts, render, wire
from esb.admin.actions import Actions
from esb.admin.answers import Gate, answer, who_of
from esb.admin.charts import Line, Target
from esb.clock import Clock
from esb.config.kpis import Kpi
from esb.config.model import Workspace
from esb.durations import format_duration
from esb.message import short_version
from esb.observe import kpi_trends, trends
from esb.runtime.history import turns_of
from esb.store.base import Store

#: Seconds for which points and charts are shared by all who look, and how many are remembered.
SHARED, MOST_SHARED = 5.0, 200

Points = Sequence[Mapping[str, Any]]
Columns = Sequence[tuple[str, str, charts.Shown]]
T = TypeVar("T")


class TrendFacts(Protocol):
    """What the trends need of the bus."""

    @property
    def kpis(self) -> Mapping[str, Kpi]: ...

    @property
    def trends(self) -> trends.Rows: ...

    def names(self) -> list[str]: ...

    def described(self) -> tuple[Workspace, str]: ...


@dataclass(frozen=True, slots=True)
class Look:
    """What a page shows of the past: its span, those there are, its charts and the table of their numbers."""

    span: str
    spans: tuple[str, ...]
    charts: tuple[Markup, ...]
    numbers: Markup


class TrendCharts:
    """Points and charts. Those of the bus and of indicators are for who may see all routes."""

    def __init__(self, store: Store, bus: TrendFacts, actions: Actions, gate: Gate, clock: Clock) -> None:
        self._store, self._bus, self._actions, self._gate, self._clock = store, bus, actions, gate, clock
        self._known: dict[tuple[str, str], tuple[int, Any]] = {}

    def routes(self) -> list[BaseRoute]:
        read = self._gate.guarded
        return [
            Route("/api/v1/trends", read(self.listed, Right.READ, words=frozenset({"route", "span"}))),
            Route("/api/v1/kpis/{name}/trend", read(self.of_kpi, Right.READ, words=frozenset({"span"}))),
        ]

    # -- points -------------------------------------------------------------------------------------------------------
    async def listed(self, request: Request) -> Response:
        """Of the bus, or of ``route``."""
        route, span = request.query_params.get("route", ""), span_of(request, trends.SPANS)
        who = who_of(request)
        if not route:
            self._actions.permit_every_route(who, Right.READ)
            return answer("Trend", [self._item("", span)])
        known = {name for name in self._bus.names() if self._actions.sees(who, name)}
        known |= {one.route for one in self._store.counts() if self._actions.sees(who, one.route)}
        if route not in known:
            raise wire.UnknownRoute(f"no route {route}", hint=wire.nearest_route(route, known))
        return answer("Trend", [self._item(route, span)])

    async def of_kpi(self, request: Request) -> Response:
        self._actions.permit_every_route(who_of(request), Right.READ)
        name, span = request.path_params["name"], span_of(request, trends.KPI_SPANS)
        kpi = self._bus.kpis.get(name)
        if kpi is None:
            raise wire.UnknownRoute(f"no indicator {name}", hint="esb kpi ls")
        _, step = trends.KPI_SPANS[span]
        found = {"kpi": name, "kind": kpi.kind, "span": span, "step_seconds": step.total_seconds()}
        return answer("KpiTrend", [{**found, "points": self._of_kpi(kpi, span)}])

    def _item(self, route: str, span: str) -> dict[str, Any]:
        _, step = trends.SPANS[span]
        return {
            "route": route or None,
            "span": span,
            "step_seconds": step.total_seconds(),
            "points": self._points(route, span),
        }

    def _points(self, route: str, span: str) -> Points:
        name = f"route:{route}" if route else trends.BUS
        rows, now = self._bus.trends, self._clock.now()
        return self._shared((name, span), lambda: trends.series(rows, name, *trends.SPANS[span], now))

    def _of_kpi(self, kpi: Kpi, span: str) -> Points:
        book, rows, now = self._store.indicators, self._bus.trends, self._clock.now()
        made = lambda: kpi_trends.series(kpi, book, rows, *trends.KPI_SPANS[span], now)  # noqa: E731 - read like the one above
        return self._shared((f"kpi:{kpi.name}", span), made)

    def _shared(self, what: tuple[str, str], make: Callable[[], T]) -> T:
        """What was made in this stretch of ``SHARED`` seconds, or is made now: ten people who look cost as much as one.

        All stretches end together, so that a chart is never of other numbers than the answer of the API beside it.
        """
        stretch, made = int(self._clock.monotonic() // SHARED), self._known.get(what)
        if made is None or made[0] != stretch:
            if len(self._known) >= MOST_SHARED:
                self._known.clear()
            made = self._known[what] = (stretch, make())
        found: T = made[1]
        return found

    # -- pages --------------------------------------------------------------------------------------------------------
    def overview(self, request: Request, who: Principal) -> Look | None:
        """Whether decisions are in time, traffic, and what is stuck; None for who may not see all of it."""
        span = span_of(request, trends.SPANS)
        if not self._actions.every_route(who, Right.READ):
            return None
        return self._shared(("overview", span), lambda: self._overview(span))

    def _overview(self, span: str) -> Look:
        points, step = self._points("", span), trends.SPANS[span][1]
        found = [
            _throughput(points, step, "Messages"),
            charts.chart("stuck", "Dead letters and failed attempts", points, _FAILURES, step=step),
        ]
        kpi = self._most_urgent()
        if kpi is not None and span in trends.KPI_SPANS:
            found.insert(0, _times_of(kpi, self._of_kpi(kpi, span), trends.KPI_SPANS[span][1], "in-time"))
        else:
            found.append(_ages(points, step, None))
        twin = f"/api/v1/trends?span={span}"
        cli = render.command("trend", span=span)
        numbers = charts.table(f"All routes, the last {span}", points, _COLUMNS, step, twin, cli)
        return Look(span, tuple(trends.SPANS), tuple(found), numbers)

    def _most_urgent(self) -> Kpi | None:
        """The indicator with a target that has most overdue, else the one with the shortest target."""
        timed = [kpi for kpi in self._bus.kpis.values() if kpi.kind == "pair" and kpi.options.within is not None]
        overdue, now = self._store.indicators.overdue, self._clock.now()
        return min(timed, key=lambda kpi: (-overdue(kpi.name, now)[0], kpi.options.within), default=None)

    def route(self, request: Request, name: str, within: float | None) -> Look:
        """Of a route that the one who asks may see."""
        span = span_of(request, trends.SPANS)
        return self._shared((f"page:{name}", span), lambda: self._route(name, span, within))

    def _route(self, name: str, span: str, within: float | None) -> Look:
        step, points = trends.SPANS[span][1], self._points(name, span)
        marks = [
            (datetime.fromisoformat(turn["at"]), f"version {short_version(turn['digest'])}")
            for turn in turns_of(self._store, name)
        ]
        target = None if within is None else Target(within, f"at most {charts.seconds(within)}")
        found = (
            _throughput(points, step, "Throughput", marks),
            charts.chart(
                "times", "From acceptance to the end", points, _TIMES, step=step, shown=charts.seconds, target=target
            ),
            charts.chart("failures", "Failures", points, _FAILURES, step=step, marks=marks),
            _ages(points, step, target),
        )
        twin = f"/api/v1/trends?{urlencode({'route': name, 'span': span})}"
        cli = render.command("trend", name, span=span)
        numbers = charts.table(f"{name}, the last {span}", points, _COLUMNS, step, twin, cli)
        return Look(span, tuple(trends.SPANS), found, numbers)

    def kpi(self, request: Request, name: str) -> Look:
        """Of an indicator that is known, for who may see indicators."""
        kpi, span = self._bus.kpis[name], span_of(request, trends.KPI_SPANS)
        return self._shared((f"page-kpi:{name}", span), lambda: self._kpi(kpi, span))

    def _kpi(self, kpi: Kpi, span: str) -> Look:
        step, points = trends.KPI_SPANS[span][1], self._of_kpi(kpi, span)
        found, columns = _CHARTS[kpi.kind](kpi, points, step, self._bound(kpi.name))
        twin = f"/api/v1/kpis/{quote(kpi.name)}/trend?span={span}"
        cli = render.command("trend", kpi=kpi.name, span=span)
        numbers = charts.table(f"{kpi.name}, the last {span}", points, columns, step, twin, cli)
        return Look(span, tuple(trends.KPI_SPANS), tuple(found), numbers)

    def _bound(self, name: str) -> Target | None:
        """The level at which somebody is told of an indicator; the first there is."""
        workspace, _ = self._bus.described()
        rules = [rule for alert in workspace.alerts for rule in alert.rules.values() if rule.kpi == name]
        for rule in rules:
            if rule.above is not None:
                return Target(float(rule.above), f"alert above {rule.above}")
            if rule.below is not None:
                return Target(float(rule.below), f"alert below {rule.below}")
        return None

    def sparks(self) -> dict[str, Markup]:
        """What each route accepted in each of the last 24 hours, as a small picture."""
        return self._shared(("sparks", ""), self._sparks)

    def _sparks(self) -> dict[str, Markup]:
        counted = trends.accepted_by_hour(self._bus.trends, self._clock.now())
        return {
            route: charts.spark(numbers, f"{sum(numbers)} accepted in 24 hours, most {max(numbers)} in one")
            for route, numbers in counted.items()
        }


def span_of(request: Request, spans: Mapping[str, Any]) -> str:
    """The span in the URL. Raises BadRequest."""
    span = request.query_params.get("span", "") or trends.SPAN
    if span not in spans:
        raise wire.BadRequest(f"`{span}` is no span", hint=f"one of: {', '.join(spans)}")
    return span


# -- charts ---------------------------------------------------------------------------------------------------------------
_TIMES = (Line("95 % within", "p95_seconds"), Line("half within", "p50_seconds", "second"))
_FAILURES = (Line("failed attempts", "failed", "bad", bars=True, counts=True), Line("dead letters", "dead", "second"))
_COLUMNS: Columns = (
    ("Accepted", "accepted", charts.whole),
    ("Done", "done", charts.whole),
    ("Failed attempts", "failed", charts.whole),
    ("Dead", "dead", charts.whole),
    ("Open", "open", charts.whole),
    ("Oldest open", "oldest_seconds", charts.seconds),
    ("Half within", "p50_seconds", charts.seconds),
    ("95 % within", "p95_seconds", charts.seconds),
)


def _throughput(points: Points, step: timedelta, title: str, marks: Sequence[tuple[datetime, str]] = ()) -> Markup:
    lines = (Line("accepted", "accepted", bars=True, counts=True), Line("done", "done", "second", counts=True))
    return charts.chart("throughput", f"{title} per {format_duration(step)}", points, lines, step=step, marks=marks)


def _ages(points: Points, step: timedelta, target: Target | None) -> Markup:
    lines = (Line("oldest open message", "oldest_seconds"),)
    return charts.chart(
        "queue", "Age of the oldest open message", points, lines, step=step, shown=charts.seconds, target=target
    )


def _times_of(kpi: Kpi, points: Points, step: timedelta, id_: str) -> Markup:
    within = kpi.options.within
    limit = within.total_seconds() if within is not None else 0.0
    target = Target(limit, f"target {charts.seconds(limit)}") if within is not None else None
    title = f"{kpi.name}: how long it takes"
    return charts.chart(id_, title, points, _TIMES, step=step, shown=charts.seconds, target=target)


def _pair(kpi: Kpi, points: Points, step: timedelta, bound: Target | None) -> tuple[list[Markup], Columns]:
    lines = (Line("open", "open"), Line("overdue", "overdue", "bad"))
    found = [_times_of(kpi, points, step, "times"), charts.chart("open", "Open", points, lines, step=step)]
    columns: list[tuple[str, str, charts.Shown]] = [
        ("Began", "started", charts.whole),
        ("Ended", "closed", charts.whole),
        ("Late", "late", charts.whole),
        ("Half within", "p50_seconds", charts.seconds),
        ("95 % within", "p95_seconds", charts.seconds),
        ("Open", "open", charts.whole),
        ("Overdue", "overdue", charts.whole),
    ]
    if kpi.options.within is not None:
        share = (Line("in time", "on_time_percent"),)
        found.insert(1, charts.chart("share", "In time", points, share, step=step, shown=charts.percent, target=bound))
        columns.insert(3, ("In time", "on_time_percent", charts.percent))
    if kpi.options.weigh is not None:
        unit = f", {kpi.options.unit}" if kpi.options.unit else ""
        weight = (Line("weight", "open_weight"),)
        found.append(charts.chart("weight", f"What is open{unit}", points, weight, step=step))
        columns.append(("Weight", "open_weight", charts.whole))
    return found, columns


def _gauge(kpi: Kpi, points: Points, step: timedelta, bound: Target | None) -> tuple[list[Markup], Columns]:
    unit = f", {kpi.options.unit}" if kpi.options.unit else ""
    weighed = any(point["level_weight"] for point in points)
    member, title = ("level_weight", f"Weight{unit}") if weighed else ("level", f"Level{unit}")
    found = [
        charts.chart("level", title, points, (Line(title.lower(), member),), step=step, target=bound),
        charts.chart("keys", "Keys with a level", points, (Line("keys", "keys", "second"),), step=step),
    ]
    columns = [
        ("Level", "level", charts.whole),
        ("Weight", "level_weight", charts.whole),
        ("Keys", "keys", charts.whole),
    ]
    return found, columns


def _counter(kpi: Kpi, points: Points, step: timedelta, bound: Target | None) -> tuple[list[Markup], Columns]:
    counted = (Line("counted", "count", bars=True, counts=True),)
    found = [charts.chart("count", f"Counted per {format_duration(step)}", points, counted, step=step)]
    columns: list[tuple[str, str, charts.Shown]] = [("Counted", "count", charts.whole)]
    if kpi.options.of:
        share = (Line("share", "percent"),)
        found.insert(0, charts.chart("share", "Share", points, share, step=step, shown=charts.percent, target=bound))
        columns += [("Of", "of", charts.whole), ("Share", "percent", charts.percent)]
    return found, columns


_CHARTS = {"pair": _pair, "gauge": _gauge, "counter": _counter}
