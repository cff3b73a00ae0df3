"""Five-field cron expressions with fixed rules for the nights when the clocks change."""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from esb.errors import Position
from esb.spec import Kind, Node, Reader, ScalarNode

_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)
#: no clock is put back further
_LONGEST_FOLD = timedelta(hours=3)
#: 29 February may be eight years away (2096 to 2104)
_FURTHEST = 366 * 8 + 2

_MONTHS = {name.upper(): number for number, name in enumerate(calendar.month_abbr) if name}
_DAYS = {name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"))}
_MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


class CronError(ValueError):
    """A text that is no cron expression; ``offset`` and ``length`` count characters."""

    def __init__(self, message: str, offset: int = 0, length: int = 1, hint: str = "") -> None:
        super().__init__(message)
        self.offset, self.length, self.hint = offset, length, hint


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    words: dict[str, int]


_FIELDS = (
    _Field("minute", 0, 59, {}),
    _Field("hour", 0, 23, {}),
    _Field("day of month", 1, 31, {}),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _DAYS),
)
_ITEM = re.compile(r"(?P<all>\*)|(?P<first>\w+)(?:-(?P<last>\w+))?")


class CronKind(Kind):
    label = "a cron expression (minute hour day month weekday)"

    def read(self, node: Node, reader: Reader) -> Any:
        if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
            return reader.wrong_type(node, self, hint='write it in quotes: "0 6 * * 1-5"')
        try:
            return Cron.parse(node.value)
        except CronError as error:
            at = node.position
            column = at.column + (1 if node.quoted else 0) + error.offset
            place = Position(at.path, at.line, column, max(1, error.length))
            return reader.problem("ESB106", str(error), place, hint=error.hint)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "examples": ["0 6 * * 1-5"]}


@dataclass(frozen=True, slots=True)
class Cron:
    """A compiled cron expression.

    Where day of month and day of week are both restricted, either is enough (as in Unix cron); a field that begins with
    ``*`` is not a restriction. A time that a change of the clocks leaves out runs once at the first minute that exists
    again; a time that happens twice runs the first time only.
    """

    kind = CronKind()
    text: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]  #: 0 is Sunday
    any_day: bool
    any_weekday: bool

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Raises CronError, also for a date that never comes (30 February)."""
        expanded = _MACROS.get(text.strip().lower(), text)
        fields = [(match[0], match.start()) for match in re.finditer(r"\S+", expanded)]
        if text.strip().startswith("@") and expanded is text:
            raise CronError(f"`{text}` is not known", 0, len(text), "known: " + ", ".join(_MACROS))
        if len(fields) != len(_FIELDS):
            hint = "write five fields: minute hour day-of-month month day-of-week, such as `0 6 * * 1-5`"
            if len(fields) in (6, 7):
                hint = "there is no field for seconds or years; for less than a minute use `every: 30s`"
            raise CronError(f"`{text}` has {len(fields)} fields, not five", 0, len(text), hint)
        sets = [_values(spec, part, offset) for spec, (part, offset) in zip(_FIELDS, fields, strict=True)]
        cron = cls(
            text=text,
            minutes=tuple(sorted(sets[0])),
            hours=tuple(sorted(sets[1])),
            days=sets[2],
            months=sets[3],
            weekdays=frozenset(day % 7 for day in sets[4]),
            any_day=fields[2][0].startswith("*"),
            any_weekday=fields[4][0].startswith("*"),
        )
        longest = max(29 if month == 2 else calendar.monthrange(2025, month)[1] for month in cron.months)
        if cron.any_weekday and min(cron.days) > longest:
            raise CronError(f"`{text}` is a date that never comes", fields[2][1], len(fields[2][0]), "correct the day")
        return cron

    def after(self, instant: datetime, zone: ZoneInfo) -> datetime | None:
        """The first slot later than ``instant``, in UTC; None where none comes within eight years."""
        return next(self.slots(instant, zone), None)

    def slots(self, after: datetime, zone: ZoneInfo) -> Iterator[datetime]:
        """Every slot later than ``after``, in order, in UTC."""
        local = after.astimezone(zone).replace(tzinfo=None)
        start, passed = local.date(), local - _LONGEST_FOLD
        last = after.astimezone(UTC)
        for offset in range(-1, _FURTHEST):
            try:
                day = start + timedelta(days=offset)
            except OverflowError:
                return
            if not self._on(day):
                continue
            for hour in self.hours:
                for minute in self.minutes:
                    wall = datetime.combine(day, time(hour, minute))
                    if wall < passed:
                        continue
                    slot = to_utc(wall, zone)
                    if slot > last:
                        last = slot
                        yield slot

    def _on(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        in_month = day.day in self.days
        in_week = (day.isoweekday() % 7) in self.weekdays
        if self.any_day or self.any_weekday:
            return in_month and in_week
        return in_month or in_week


def to_utc(wall: datetime, zone: ZoneInfo) -> datetime:
    """The instant of a time on the wall: the first of two, or the first minute after a gap that holds it."""
    instant = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == wall:
        return instant
    # in a gap: the clocks changed between the two readings of this time
    early = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    late, before = instant, early.astimezone(zone).utcoffset()
    while late - early > timedelta(seconds=1):
        middle = early + (late - early) / 2
        if middle.astimezone(zone).utcoffset() == before:
            early = middle
        else:
            late = middle
    first = late.replace(microsecond=0)
    return first if first.second == 0 else first.replace(second=0) + _MINUTE


def _values(field: _Field, text: str, offset: int) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        found.update(_range(field, part, offset))
        offset += len(part) + 1
    return frozenset(found)


def _range(field: _Field, part: str, offset: int) -> range:
    spec, slash, step_text = part.partition("/")
    match = _ITEM.fullmatch(spec)
    if match is None:
        hint = "write `*`" if spec == "?" else "write a number, a range `1-5`, a list `1,3`, or a step `*/15`"
        raise CronError(f"`{part}` is no {field.name}", offset, len(part), hint)
    end = 6 if field.words is _DAYS else field.high
    if match["all"]:
        low, high = field.low, end
    else:
        low = _number(field, match["first"], offset)
        high = _number(field, match["last"], offset) if match["last"] else (end if slash else low)
        if field.words is _DAYS and match["last"] and high == 0 < low:
            high = 7  # `FRI-SUN`
    if low > high:
        hint = f"write two ranges: `{low}-{field.high},{field.low}-{high}`"
        raise CronError(f"`{part}` ends before it begins", offset, len(part), hint)
    if slash and (not (step_text.isascii() and step_text.isdecimal()) or not 0 < int(step_text) <= field.high):
        raise CronError(f"`{part}` has no step from 1 to {field.high}", offset, len(part), "write a step like `*/15`")
    return range(low, high + 1, int(step_text) if slash else 1)


def _number(field: _Field, text: str, offset: int) -> int:
    word = field.words.get(text.upper())
    if word is not None:
        return word
    if not text.isdecimal() or not text.isascii():
        known = ", ".join(field.words) or f"{field.low} to {field.high}"
        raise CronError(f"`{text}` is no {field.name}", offset, len(text), f"known: {known}")
    if not field.low <= int(text) <= field.high:
        raise CronError(
            f"{field.name} {text} is not from {field.low} to {field.high}",
            offset,
            len(text),
            f"{field.low} to {field.high}",
        )
    return int(text)
