"""Looks at the rules of the alerts and tells when one begins to hold, goes on, or ends: once each, whatever ends the process.

What belongs to one rule is one alert: routes or indicators that join while it holds are told with it, after its window. What
was told is kept in the store; each notice has a key of its own, so that a repeat after a crash is known as one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from esb.clock import Clock
from esb.config.alert_rules import Alert, AlertRule
from esb.durations import format_duration
from esb.observe import kpis
from esb.runtime.notices import Readers, tell
from esb.runtime.rounds import Rounds
from esb.store.base import RouteCounts, Store

#: Seconds between two looks.
ROUND = 10.0
#: Where the store keeps what was told, and when a route was last heard.
TOLD, HEARD = "alert", "alert-heard"
#: Members that one notice lists.
LISTED = 50


@dataclass(slots=True)
class Alerting:
    """One quiet task. A round that fails is logged, and the next one tries again."""

    store: Store
    clock: Clock
    routes: Readers
    log: Callable[..., None]
    _rounds: Rounds | None = None
    _firing: dict[str, dict[str, Any]] = field(default_factory=dict)

    def start(self) -> None:
        self._rounds = Rounds("alerting", ROUND, self.round, self.clock, self.log, store=self.store, rested=True)
        self._rounds.start()

    async def stop(self) -> None:
        if self._rounds is not None:
            await self._rounds.stop()

    @property
    def firing(self) -> list[dict[str, Any]]:
        """What holds now, the longest first."""
        return sorted(self._firing.values(), key=lambda item: str(item["since"]))

    # -- a round ------------------------------------------------------------------------------------------------------
    async def round(self) -> None:
        """Look at every rule once."""
        alerts = self.routes.workspace.alerts
        if not alerts:
            self._firing.clear()
            return
        now, counts = self.clock.now(), {count.route: count for count in self.store.counts()}
        zone = ZoneInfo(self.routes.workspace.settings.timezone)
        heard = await self._heard(alerts, counts, now)
        known: set[str] = set()
        for alert in alerts:
            for id_, rule in alert.rules.items():
                known.add(id_)
                members = self._members(rule, counts, heard, now) if rule.holds_at(now.astimezone(zone).strftime("%H:%M")) else {}  # fmt: skip
                await self._follow(alert, rule, id_, members, now)
        for gone in set(self._firing) - known:
            del self._firing[gone]
            await self.store.put_state(TOLD, gone, None)

    async def _heard(
        self, alerts: tuple[Alert, ...], counts: Mapping[str, RouteCounts], now: datetime
    ) -> dict[str, datetime]:
        """When each route that should hear something last did; a route that never did counts from the first look."""
        found: dict[str, datetime] = {}
        for name in {name for alert in alerts for rule in alert.options.when if rule.silence for name in rule.route}:
            accepted = counts[name].accepted if name in counts else 0
            before = self.store.get_state(HEARD, name)
            later = before is not None and datetime.fromisoformat(before["at"]) > now  # the clock was set back
            if before is None or later or before["accepted"] != accepted:
                await self.store.put_state(HEARD, name, {"accepted": accepted, "at": now.isoformat()})
                found[name] = now
            else:
                found[name] = datetime.fromisoformat(before["at"])
        return found

    def _members(
        self, rule: AlertRule, counts: Mapping[str, RouteCounts], heard: Mapping[str, datetime], now: datetime
    ) -> dict[str, str]:
        """Who the rule holds for, each with words."""
        found: dict[str, str] = {}
        if rule.overdue or rule.kpi:
            name = rule.overdue or rule.kpi
            return {name: words} if (words := self._indicator(rule, name, now)) else {}
        for name in rule.route or sorted(counts):
            count = counts.get(name)
            if rule.silence is not None:
                quiet = now - heard[name]
                if quiet >= rule.silence:
                    found[name] = f"nothing accepted for {format_duration(_whole(quiet))}"
            elif rule.dead is not None:
                dead = count.states.get("dead", 0) if count is not None else 0
                if dead >= rule.dead:
                    found[name] = f"{dead} dead letter{'s' if dead != 1 else ''}"
            elif rule.lane_age is not None and count is not None and count.oldest_open is not None:
                age = now - count.oldest_open
                if age >= rule.lane_age:
                    found[name] = f"the oldest open message is {format_duration(_whole(age))} old"
        return found

    def _indicator(self, rule: AlertRule, name: str, now: datetime) -> str:
        kpi = self.routes.workspace.kpis.get(name)
        if kpi is None:
            return ""
        if rule.overdue:
            count, weight = self.store.indicators.overdue(name, now)
            unit = f", {kpis.amount(weight)} {kpi.options.unit}".rstrip() if weight else ""
            return f"{count} overdue{unit}" if count else ""
        item = kpis.item(kpi, self.store.indicators, now, now - kpis.SPAN)
        value = kpis.number(item)
        if value is None:
            return ""
        if rule.above is not None and value > rule.above:
            return f"{value} is above {rule.above}"
        return f"{value} is below {rule.below}" if rule.below is not None and value < rule.below else ""

    # -- telling ------------------------------------------------------------------------------------------------------
    async def _follow(self, alert: Alert, rule: AlertRule, id_: str, members: dict[str, str], now: datetime) -> None:
        before = self.store.get_state(TOLD, id_)
        if not members:
            if before is not None:
                if before["told"] and not await self._tell(alert, rule, id_, "resolved", before, members, now):
                    return
                await self.store.put_state(TOLD, id_, None)
                self._firing.pop(id_, None)
            return
        state = before or {"since": now.isoformat(), "told": "", "members": [], "notices": 0}
        since = datetime.fromisoformat(state["since"])
        self._firing[id_] = {"alert": alert.name, "rule": id_, "since": state["since"], "items": _items(members)}
        # what was noted later than now was noted before the clock was set back: nobody waits until it is as late again
        due = not timedelta(0) <= now - since < rule.for_ and self._is_due(alert, state, members, now)
        if due and await self._tell(alert, rule, id_, "firing", state, members, now):
            state = {**state, "told": now.isoformat(), "members": sorted(members), "notices": state["notices"] + 1}
        if state != before:
            await self.store.put_state(TOLD, id_, state)

    @staticmethod
    def _is_due(alert: Alert, state: Mapping[str, Any], members: Mapping[str, str], now: datetime) -> bool:
        if not state["told"]:
            return True
        passed = now - datetime.fromisoformat(state["told"])
        if passed < timedelta(0):
            return True
        joined = not set(members) <= set(state["members"])
        return passed >= alert.options.repeat or (joined and passed >= alert.options.window)

    async def _tell(
        self,
        alert: Alert,
        rule: AlertRule,
        id_: str,
        what: str,
        state: Mapping[str, Any],
        members: dict[str, str],
        now: datetime,
    ) -> bool:
        """Hand a notice to everybody who reads the alert; false where one of them cannot take it now."""
        name = rule.name or rule.kind
        listed = "; ".join(f"{member}: {words}" for member, words in list(members.items())[:5])
        more = f" and {len(members) - 5} more" if len(members) > 5 else ""
        text = f"{name}: {listed}{more}" if what == "firing" else f"{name}: over, it began {state['since']}"
        # one key for each notice: the same after a crash between the notice and the note of it
        incident = f"{id_}@{state['since']}#{state['notices']}" + ("" if what == "firing" else "/resolved")
        body = {
            "alert": alert.name,
            "state": what,
            "incident": incident,
            "rule": id_,
            "class": rule.kind,
            "route": next(iter(members), ",".join(state["members"]) or "bus"),
            "step": "",
            "text": text,
            "items": _items(members),
            "since": state["since"],
            "at": now.isoformat(),
        }
        if not await tell(self.routes, alert.name, incident, body, self.log):
            return False
        self.log("warning" if what == "firing" else "info", f"alert.{what}", alert=alert.name, rule=id_, text=text)
        return True


def _items(members: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "text": words} for name, words in list(members.items())[:LISTED]]


def _whole(span: timedelta) -> timedelta:
    return timedelta(seconds=int(span.total_seconds()))


__all__ = ["Alerting"]
