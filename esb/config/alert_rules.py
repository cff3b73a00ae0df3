"""``when:`` of an alert in esb.yaml: conditions that the bus looks at by itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

from esb.errors import Position, Problem
from esb.spec import MISSING, MapNode, Node, Reader, option, read_options

#: Keys of an alert beside its target.
OWN = ("window", "repeat", "when")
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_CONDITIONS = ("dead", "lane_age", "silence", "overdue", "kpi")


@dataclass(frozen=True, slots=True)
class AlertRule:
    """One condition: exactly one of `dead`, `lane_age`, `silence`, `overdue` and `kpi`."""

    name: str = option(default="", doc="What it is called in the alert.", example="receipts have stopped")
    dead: int | None = option(default=None, doc="At least so many dead letters are there.", example=1, minimum=1)
    lane_age: timedelta | None = option(
        default=None, doc="The oldest open message of a route is older.", example="10m", aliases=("age", "lag")
    )
    silence: timedelta | None = option(
        default=None, doc="A route has accepted nothing for so long.", example="2h", aliases=("quiet", "idle")
    )
    overdue: str = option(default="", doc="The indicator (a pair) has overdue pairs.", example="hold-propagation")
    kpi: str = option(
        default="",
        doc="The number of the indicator is `above` or `below` a bound: percent in time of a pair, percent or count of a"
        " counter, weight or level of a gauge.",
        example="exception-rate",
    )
    above: Decimal | None = option(default=None, doc="Bound for `kpi`.", example=5)
    below: Decimal | None = option(default=None, doc="Bound for `kpi`.", example=99)
    route: tuple[str, ...] = option(
        default=(), doc="Only these routes, for `dead`, `lane_age` and `silence`.", example="[goods-receipts]"
    )
    for_: timedelta = option(default=timedelta(0), doc="It must hold for so long.", example="1m")
    hours: str = option(
        default="", doc="Only at this time of the day, in the time zone of the bus.", example='"06:00-22:00"'
    )

    def check(self, node: Node, reader: Reader) -> None:
        given = [word for word in _CONDITIONS if getattr(self, word)]
        if len(given) != 1:
            reader.problem("ESB107", "a rule has exactly one condition", node, hint="one of: " + ", ".join(_CONDITIONS))
        elif self.kpi and (self.above is None) == (self.below is None):
            reader.problem("ESB102", "`kpi` needs `above` or `below`", node, hint="above: 5")
        elif self.silence and not self.route:
            reader.problem("ESB102", "`silence` needs `route`", node, hint="name the routes that should hear something")
        if self.hours and not _HOURS.fullmatch(self.hours):
            reader.problem("ESB104", f"`{self.hours}` is no span of a day", node, hint='write `"06:00-22:00"`')

    @property
    def kind(self) -> str:
        return next(word for word in _CONDITIONS if getattr(self, word))

    def holds_at(self, clock_time: str) -> bool:
        """Whether the rule is looked at, at ``HH:MM``."""
        found = _HOURS.fullmatch(self.hours)
        if found is None:
            return True
        begin, end = self.hours.split("-")
        return begin <= clock_time < end if begin <= end else clock_time >= begin or clock_time < end


@dataclass(frozen=True, slots=True)
class AlertOptions:
    """What stands beside the target of an alert."""

    window: timedelta = option(
        default=timedelta(minutes=5), doc="Within it what belongs together is one alert.", example="5m"
    )
    repeat: timedelta = option(
        default=timedelta(hours=4), doc="A condition that goes on is told again after it.", example="4h"
    )
    when: tuple[AlertRule, ...] = option(default=(), doc="Conditions that raise the alert.", example="[ { dead: 1 } ]")


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert of esb.yaml with its rules."""

    name: str
    options: AlertOptions
    position: Position
    rules: Mapping[str, AlertRule] = field(default_factory=dict)  #: by an id that outlives a reload


def read_alerts(settings: Node | None, reader: Reader) -> list[Alert]:
    """The alerts with rules, as far as they can be read."""
    alerts = settings.get("alerts") if isinstance(settings, MapNode) else None
    found = []
    for key, node in alerts.entries if isinstance(alerts, MapNode) else ():
        own = MapNode(node.position, tuple(e for e in node.entries if e[0].text in OWN)) if isinstance(node, MapNode) else None  # fmt: skip
        if own is None or not own.entries:
            continue
        with reader.inside(key.text):
            options = read_options(AlertOptions, own, reader)
        if options is not MISSING:
            rules = {f"{key.text}/{_id(rule)}": rule for rule in options.when}
            found.append(Alert(key.text, options, key.position, rules))
    return found


def _id(rule: AlertRule) -> str:
    """What a rule is known by over reloads: its condition and what it is about, not its bounds."""
    return "/".join(filter(None, (rule.kind, rule.name or rule.overdue or rule.kpi, ",".join(rule.route))))


def check_alerts(
    alerts: Iterable[Alert], routes: Iterable[str], kpis: Mapping[str, Any], complete: bool, nearest: Any
) -> Iterator[Problem]:
    """Routes and indicators that do not exist."""
    known = set(routes)
    for alert in alerts if complete else ():
        for rule in alert.options.when:
            for name in rule.route:
                if name not in known:
                    words, hint = f"route `{name}` does not exist", nearest(name, known)
                    yield Problem("ESB306", words, alert.position, hint=hint or "esb routes ls")
            name = rule.overdue or rule.kpi
            if name and name not in kpis:
                words, hint = f"indicator `{name}` does not exist", nearest(name, kpis)
                yield Problem("ESB306", words, alert.position, hint=hint or "declare it in kpis/")
            elif rule.overdue and kpis[name].kind != "pair":
                words = f"indicator `{name}` is a {kpis[name].kind}: only a pair can be overdue"
                yield Problem("ESB107", words, alert.position, hint="use `kpi` with `above` or `below`")


__all__ = ["OWN", "Alert", "AlertOptions", "AlertRule", "check_alerts", "read_alerts"]
