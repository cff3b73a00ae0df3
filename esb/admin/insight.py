"""``/api/v1/kpis``: the numbers of the indicators, and closing an open pair by hand."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from esb.access.roles import Principal, Right
from esb.admin import render, wire
from esb.admin.actions import Actions
from esb.admin.answers import Gate, answer, body_of, who_of
from esb.admin.by import By
from esb.clock import Clock
from esb.config.kpis import Kpi
from esb.observe import kpis
from esb.observe.meters import Meters
from esb.operations import NotAllowed, signed
from esb.runtime.backfill import Backfills
from esb.store.base import AuditEntry, Store

if TYPE_CHECKING:
    from esb.admin.shell import Shell
    from esb.admin.trends import TrendCharts

#: Open pairs that one answer lists.
LISTED = 100


class KpiFacts(Protocol):
    """What the running bus knows of its indicators."""

    @property
    def kpis(self) -> Mapping[str, Kpi]: ...

    @property
    def marked(self) -> frozenset[str]:
        """The names of members that contracts mark as sensitive."""
        ...

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """What alerts' rules hold for now."""
        ...

    @property
    def meters(self) -> Meters:
        """Attempts and deliveries since the start."""
        ...

    @property
    def kpi_faults(self) -> Mapping[str, int]:
        """Faults of rules since the start, by indicator."""
        ...


def families(facts: KpiFacts, store: Store, now: datetime) -> list[kpis.Family]:
    """What Prometheus scrapes of indicators, differences and alerts."""
    counted = store.differences.counts()
    numbers: list[kpis.Sample] = [({"route": name}, count) for name, count, _, _ in counted]
    ages: list[kpis.Sample] = [({"route": n}, round((now - old).total_seconds(), 3)) for n, _, old, _ in counted]
    firing: list[kpis.Sample] = [({"alert": one["alert"], "rule": one["rule"]}, 1) for one in facts.alerts]
    faults: list[kpis.Sample] = [({"kpi": name}, n) for name, n in sorted(facts.kpi_faults.items())]
    return [
        *kpis.families(facts.kpis, store.indicators, now, facts.marked),
        ("esb_kpi_faults_total", "counter", "Messages that a rule of an indicator failed on.", faults),
        ("esb_differences", "gauge", "Open differences between systems.", numbers),
        ("esb_differences_oldest_seconds", "gauge", "Age of the oldest open difference.", ages),
        ("esb_alert_firing", "gauge", "Rules of alerts that hold now.", firing),
    ]


class Insight:
    """The indicators over a store. They are of the bus as a whole: who may not see all of its routes does not see them."""

    def __init__(
        self,
        store: Store,
        bus: KpiFacts,
        actions: Actions,
        gate: Gate,
        clock: Clock,
        backfills: Backfills,
        *,
        running: bool = True,
    ) -> None:
        self._store = store
        self._bus = bus
        self._actions = actions
        self._gate = gate
        self._clock = clock
        self._backfills, self._running = backfills, running

    def routes(self) -> list[BaseRoute]:
        read, act = self._gate.guarded, "/api/v1/kpis/{name}/close"
        fill = "/api/v1/kpis/{name}/backfill"
        return [
            Route("/api/v1/kpis", read(self.listed, Right.READ, words=frozenset({"since"}))),
            Route("/api/v1/kpis/{name}", read(self.shown, Right.READ, words=frozenset({"since", "limit", "label"}))),
            Route("/api/v1/alerts", read(self.alerts, Right.READ)),
            Route(act, read(self.closed, Right.DISCARD, action=True), methods=["POST"]),
            Route(fill, read(self.filled, Right.RELOAD, action=True), methods=["POST"]),
        ]

    # -- numbers ------------------------------------------------------------------------------------------------------
    def items(self, who: Principal, since: datetime | None = None) -> list[dict[str, Any]]:
        """Raises Forbidden."""
        self._actions.permit_every_route(who, Right.READ)
        now, faults = self._clock.now(), self._bus.kpi_faults
        found = kpis.items(self._bus.kpis, self._store.indicators, now, since or now - kpis.SPAN, faults)
        hidden = self._hidden_from(who)
        return [kpis.masked(item, self._bus.kpis[item["kpi"]], hidden) for item in found]

    def _hidden_from(self, who: Principal) -> frozenset[str]:
        """The marked members whose values somebody may not see."""
        return frozenset() if self._actions.every_route(who, Right.PAYLOAD) else self._bus.marked

    def tiles(self, who: Principal) -> list[dict[str, Any]]:
        """The indicators of the last day with the one number of each; none for who may not see them."""
        if not self._actions.every_route(who, Right.READ):
            return []
        return [{**item, **kpis.headline(item)} for item in self.items(who)]

    def firing(self, who: Principal) -> list[dict[str, Any]]:
        """The alerts that hold now; none for who may not see them."""
        return self._bus.alerts if self._actions.every_route(who, Right.READ) else []

    def differences(self, who: Principal) -> int:
        """Open differences between systems; 0 for who may not see all."""
        seen = self._actions.every_route(who, Right.READ)
        return sum(count for _, count, _, _ in self._store.differences.counts()) if seen else 0

    def one(
        self, who: Principal, name: str, since: datetime | None = None, limit: int = LISTED, label: str | None = None
    ) -> dict[str, Any]:
        """An indicator with what is open. Raises UnknownKpi and Forbidden."""
        self._actions.permit_every_route(who, Right.READ)
        kpi, now, book = self._known(name), self._clock.now(), self._store.indicators
        found = kpis.item(kpi, book, now, since or now - kpis.SPAN, self._bus.kpi_faults.get(name, 0))
        hidden = self._hidden_from(who)
        # who may not see labels may not try them either
        items = kpis.open_items(kpi, book, now, limit, None if kpi.reads("per", hidden) else label)
        found = {**found, "items": items, "backfill": self._backfills.progress(name)}
        return kpis.masked(found, kpi, hidden)

    def _known(self, name: str) -> Kpi:
        known = self._bus.kpis
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise wire.UnknownRoute(
                f"no indicator {name}", hint=f"did you mean `{close[0]}`?" if close else "esb kpi ls"
            )
        return known[name]

    # -- endpoints ----------------------------------------------------------------------------------------------------
    def _since(self, request: Request) -> datetime | None:
        return wire.moment(request.query_params.get("since"), self._clock.now())

    async def listed(self, request: Request) -> Response:
        return answer("KpiList", self.items(who_of(request), self._since(request)))

    async def alerts(self, request: Request) -> Response:
        self._actions.permit_every_route(who_of(request), Right.READ)
        return answer("AlertList", self._bus.alerts)

    async def shown(self, request: Request) -> Response:
        words = request.query_params
        limit = wire.number(words.get("limit"), "limit")
        name = request.path_params["name"]
        found = self.one(
            who_of(request), name, self._since(request), LISTED if limit is None else limit, words.get("label")
        )
        return answer("Kpi", [found])

    async def closed(self, request: Request) -> Response:
        """Close an open pair that no message will ever end."""
        words, name = await body_of(request), request.path_params["name"]
        by, key = By.of(request, words), str(words.get("key") or "")
        self._actions.permit_every_route(by.principal, Right.DISCARD)
        self._known(name)
        if not by.reason:
            raise NotAllowed("closing needs a reason", hint='add --reason "why no message will end it"')
        who = await self._actions.sign(by, Right.DISCARD)
        detail = {"key": key, **signed(who, {"kpi": name, "key": key})}
        entry = AuditEntry(who.actor, "kpi.close", name, who.reason, detail)
        done = await self._store.indicators.close(name, key, entry, self._clock.now())
        found = {"kpi": name, "key": key, "result": "closed" if done else "skipped", "why": "" if done else "not open"}
        return answer("KpiResult", [found])

    async def filled(self, request: Request) -> Response:
        """Work the numbers of an indicator out again, from what is stored: in the background, or at once where the bus does not run."""
        words, name = await body_of(request, frozenset({"since"})), request.path_params["name"]
        by, since = By.of(request, words), wire.moment(str(words.get("since") or "") or None, self._clock.now())
        self._actions.permit_every_route(by.principal, Right.RELOAD)
        self._known(name)
        if not by.reason:
            raise NotAllowed("a backfill needs a reason", hint='add --reason "the rule was changed"')
        who = await self._actions.sign(by, Right.RELOAD)
        asked = {"since": since.isoformat() if since is not None else None}
        detail = {**asked, **signed(who, {"kpi": name, **asked})}
        await self._backfills.start(
            name, since, who.actor, AuditEntry(who.actor, "kpi.backfill", name, who.reason, detail)
        )
        if self._running:
            self._backfills.begin(name)
        else:
            await self._backfills.run(name)
        return answer("KpiBackfill", [{"kpi": name, "result": "started" if self._running else "filled"}])


class InsightPages:
    """The pages of the indicators."""

    def __init__(self, insight: Insight, trends: TrendCharts, shell: Shell) -> None:
        self._insight = insight
        self._trends = trends
        self._shell = shell

    def routes(self) -> list[BaseRoute]:
        return [self._shell.read("/kpis", self.listed), self._shell.read("/kpis/{name}", self.shown)]

    async def listed(self, request: Request) -> Response:
        items = self._insight.tiles(who_of(request))
        cli = render.command("kpi", "ls")
        return self._shell.page(request, "kpis.html", items=items, twin="/api/v1/kpis", cli=cli)

    async def shown(self, request: Request) -> Response:
        name = request.path_params["name"]
        item = self._insight.one(who_of(request), name)
        twin, cli = f"/api/v1/kpis/{quote(name)}", render.command("kpi", "show", name)
        look = self._trends.kpi(request, name)
        return self._shell.page(request, "kpi.html", item=item, look=look, twin=twin, cli=cli)
