"""``expect`` of a route: when messages should have come."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from esb.endpoints.cron import Cron, CronError
from esb.spec import Node, Reader, option, part_of

_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_SHORTEST = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Expect:
    """An arrival window: exactly one of `every` and `by`. One in which too little came is missed, and raises the alert."""

    every: timedelta | None = option(
        default=None, doc="Something comes at least once in each such span, counted from the last.", example="1h"
    )
    by: tuple[str, ...] = option(
        default=(),
        doc="Times of the day by which something has come since the time before.",
        example="'06:00'",
        aliases=("at", "until", "before"),
    )
    days: tuple[str, ...] = option(
        default=(), doc="Days of the week that `by` is about; without it every day.", example="mon-fri"
    )
    at_least: int = option(
        default=1, doc="So many messages.", example=1, minimum=1, maximum=10_000, aliases=("min", "count")
    )
    timezone: str | None = option(
        default=None,
        doc="Time zone of `by`; without it that of the route's site or of the bus.",
        example="Europe/Vienna",
    )
    alert: str | None = option(
        default=None, doc="Alert of esb.yaml to raise; without it that of the route.", example="supplier-desk"
    )

    def check(self, node: Node, reader: Reader) -> None:
        if (self.every is None) == (not self.by):
            hint = "write `every: 1h`, or `by: '06:00'` and `days: mon-fri`"
            reader.problem("ESB107", "`expect` needs exactly one of `every`, `by`", node, hint=hint)
            return
        if self.every is not None and self.every < _SHORTEST:
            reader.problem("ESB106", "`every` must be at least 1m", part_of(node, "every"), hint="write `every: 5m`")
        for name in ("days", "timezone"):
            if self.every is not None and getattr(self, name):
                reader.problem("ESB107", f"`{name}` goes with `by`", part_of(node, name), hint="take it out")
        if wrong := [text for text in self.by if not _TIME.fullmatch(text)]:
            hint = "write hours and minutes: `06:00`"
            reader.problem("ESB104", f"`{wrong[0]}` is no time of the day", part_of(node, "by"), hint=hint)
            return
        try:
            self.crons()
        except CronError as error:
            reader.problem("ESB105", str(error), part_of(node, "days"), hint="write `mon-fri`, or `[mon, wed, fri]`")
        if self.timezone is not None and not _is_zone(self.timezone):
            hint = "write a name like `Europe/Vienna` or `UTC`"
            reader.problem("ESB105", f"`{self.timezone}` is not a time zone", part_of(node, "timezone"), hint=hint)

    def crons(self) -> list[Cron]:
        """The times of `by`. Raises CronError for days that are none."""
        days = ",".join(self.days) or "*"
        times = [text.split(":") for text in self.by]
        return [Cron.parse(f"{int(minute)} {int(hour)} * * {days}") for hour, minute in times]

    def due(self, since: datetime, zone: ZoneInfo) -> datetime:
        """When the window that begins at ``since`` ends."""
        if self.every is not None:
            return since + self.every
        zone = ZoneInfo(self.timezone) if self.timezone is not None else zone
        found = [cron.after(since, zone) for cron in self.crons()]
        return min(one for one in found if one is not None)

    @property
    def rule(self) -> str:
        """What the window is, as text: another one begins anew."""
        return f"{self.every} {self.by} {self.days} {self.at_least} {self.timezone}"


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
