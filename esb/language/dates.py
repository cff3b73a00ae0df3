"""Dates and instants as text. A pure date never gets a zone; an instant is UTC unless a function is asked for another."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from esb.clock import Clock
from esb.durations import parse_duration
from esb.language.declare import UNKNOWN, function
from esb.language.values import describe, is_number, need_text, text_of

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?\s?(?:[Zz]|[+-]\d{2}(?::?\d{2})?)?")
_SAP = re.compile(r"/?Date\((-?\d{1,15})(?:[+-]\d{1,4})?\)/?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: letters of a pattern (``dd.MM.yyyy HH:mm``) and what they are for strptime and strftime
_LETTERS = {
    "yyyy": "%Y", "yy": "%y", "MMMM": "%B", "MMM": "%b", "MM": "%m", "dd": "%d", "DDD": "%j", "HH": "%H", "hh": "%I",
    "mm": "%M", "ss": "%S", "SSSSSS": "%f", "SSS": "%f", "a": "%p", "EEE": "%a", "EEEE": "%A", "XXX": "%z", "XX": "%z",
    "Z": "%z", "z": "%Z",
}  # fmt: skip
_TOKEN = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|[^A-Za-z']+")
#: the year within what strftime is given
_YEARS = re.compile(r"%([%YyGF])")
_KNOWN = frozenset("aAbBdHIjmMpSfyYzZGVuUWw%T FR".replace(" ", ""))
_TIME = frozenset("HIMSfpTR")
#: formats of digits without separators must match in length: strptime would read 2026131 as January 31st
_COMPACT = re.compile(r"(?:%[YmdHMSyj])+")
_WIDTH = {"Y": 4, "j": 3}
_ISO = ("iso", "ISO", "iso8601", "rfc3339")


@lru_cache(maxsize=256)
def zone_of(name: str) -> ZoneInfo:
    """The time zone of that name. Raises ValueError."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise ValueError(f"unknown time zone {name!r}; write it like 'Europe/Vienna' or 'UTC'") from None


@lru_cache(maxsize=1024)
def directives(pattern: str) -> str:
    """A format in the words of strftime; a pattern of letters is translated. Raises ValueError for unknown parts."""
    if "%" in pattern:
        for letter in re.findall(r"%(.?)", pattern, re.DOTALL):
            if letter not in _KNOWN or not letter:
                raise ValueError(f"unknown part `%{letter}` in the date format '{pattern}'")
        return pattern.replace("%T", "%H:%M:%S").replace("%F", "%Y-%m-%d").replace("%R", "%H:%M")
    parts = []
    for match in _TOKEN.finditer(pattern):
        part = match[0]
        if match[1] is not None:
            parts.append(match[1].replace("''", "'") if match[1] else "'")
        elif match[2] and part == "T":
            parts.append(part)
        elif match[2]:
            if part not in _LETTERS:
                raise ValueError(
                    f"unknown part `{part}` in the date format '{pattern}'; write it like dd.MM.yyyy HH:mm:ss or"
                    " %d.%m.%Y %H:%M:%S"
                )
            # three S are milliseconds, which strftime does not know: date_format cuts them to this length
            parts.append("%3f" if part == "SSS" else _LETTERS[part])
        else:
            parts.append(part)
    if not any(found.startswith("%") for found in parts):
        raise ValueError(f"the date format '{pattern}' names no part of a date")
    return "".join(parts)


def _readable(pattern: str) -> str:
    """The format for strptime. Raises ValueError where it names no full date."""
    form = directives(pattern).replace("%3f", "%f")
    named = set(re.findall(r"%(.)", form))
    if not (named & set("YyG") and ((named & set("mbB") and "d" in named) or named & set("j") or "V" in named)):
        raise ValueError(f"the date format '{pattern}' names no full date (year, month, day)")
    return form


def _has_time(pattern: str) -> bool:
    return any(letter in _TIME for letter in re.findall(r"%3?(.)", pattern))


def as_text(moment: datetime) -> str:
    """An aware instant as ISO 8601; ``Z`` for UTC, fractions only where there are some."""
    text = moment.isoformat()
    return f"{text[:-6]}Z" if text.endswith("+00:00") else text


def _as_utc(local: datetime, zone: ZoneInfo, text: str) -> datetime:
    """A wall-clock time as an instant; in the hour that a clock change repeats, the first one."""
    moment = local.replace(tzinfo=zone)
    back = moment.astimezone(UTC).astimezone(zone)
    if back.replace(tzinfo=None) != local:
        raise ValueError(f"'{text}' does not exist in {zone.key}: the clocks are set forward then")
    return moment.astimezone(UTC)


def moment_of(value: Any, name: str, zone: ZoneInfo) -> datetime | date:
    """An instant (aware) or a pure date out of a value. A text with a time but no offset is read in ``zone``."""
    if isinstance(value, datetime):
        return value if value.tzinfo else _as_utc(value, zone, str(value))
    if isinstance(value, date):
        return value
    if isinstance(value, str):
        text = value.strip()
        try:
            if _DATE.fullmatch(text):
                return date.fromisoformat(text)
            if _INSTANT.fullmatch(text):
                moment = datetime.fromisoformat(_tidy(text))
                return moment if moment.tzinfo else _as_utc(moment, zone, text)
        except ValueError as error:
            raise ValueError(f"{name}: '{text}' is not a date or instant: {error}") from None
    raise ValueError(f"{name}: {describe(value)} is not a date or instant; write it like 2026-01-31 or"
                     " 2026-01-31T09:30:00Z, or use date_parse first")  # fmt: skip


def _tidy(text: str) -> str:
    """What fromisoformat does not take: a blank before the offset, more than six decimals."""
    text = text.replace(",", ".").upper().replace(" ", "T", 1).replace(" ", "")
    return re.sub(r"(\.\d{6})\d+", r"\1", text)


class DateFunctions:
    """The functions on dates, bound to a clock and the time zone of the workspace."""

    def __init__(self, clock: Clock, timezone_name: str) -> None:
        self._clock = clock
        self._zone = zone_of(timezone_name)

    # -- checks of literal arguments ----------------------------------------------------------------------------------
    def check_format(self, _: Any, pattern: Any = UNKNOWN, zone: Any = UNKNOWN) -> str:
        try:
            if isinstance(pattern, str) and pattern not in (*_ISO, "unix", "unix_ms"):
                directives(pattern)
        except ValueError as error:
            return str(error)
        return self.check_zone(_, zone)

    def check_parse(self, _: Any, pattern: Any = UNKNOWN, zone: Any = UNKNOWN) -> str:
        try:
            if isinstance(pattern, str) and pattern not in (*_ISO, "unix", "unix_ms"):
                _readable(pattern)
        except ValueError as error:
            return str(error)
        return self.check_zone(_, zone)

    def check_zone(self, _: Any, zone: Any = UNKNOWN) -> str:
        try:
            if isinstance(zone, str):
                zone_of(zone)
        except ValueError as error:
            return str(error)
        return ""

    def check_duration(self, _: Any, duration: Any) -> str:
        try:
            if isinstance(duration, str):
                _signed_duration(duration)
        except ValueError as error:
            return str(error)
        return ""

    # -- functions ----------------------------------------------------------------------------------------------------
    def _zone_for(self, zone: Any, name: str) -> ZoneInfo:
        return self._zone if zone is None else zone_of(need_text(zone, name, "zone"))

    @function(
        "now()",
        doc="The present instant, UTC.",
        example="now() > '2000-01-01T00:00:00Z'",
        gives="`true`",
    )
    def now(self) -> str:
        return as_text(self._clock.now())

    @function(
        "date_parse(text, format, zone?)",
        doc="Read a date or an instant: `format` is like `dd.MM.yyyy HH:mm` or `%d.%m.%Y %H:%M`, or `iso`, `unix`, `unix_ms`."
        " A time without an offset is local to `zone` (default: the workspace's) and becomes UTC; a pure date stays one.",
        example="date_parse('31.01.2026 10:30', 'dd.MM.yyyy HH:mm', 'Europe/Vienna')",
        gives="'2026-01-31T09:30:00Z'",
        check="check_parse",
    )
    def date_parse(self, text: Any, format_: Any, zone: Any = None) -> str | None:
        if text is None:
            return None
        pattern = need_text(format_, "date_parse", "format")
        if pattern in ("unix", "unix_ms"):
            return as_text(_from_epoch(text, "date_parse", 1000 if pattern == "unix_ms" else 1))
        home = self._zone_for(zone, "date_parse")
        if pattern in _ISO:
            return _iso(moment_of(text, "date_parse", home))
        whole = text_of(text, "date_parse", "text").strip()
        form = _readable(pattern)
        try:
            if _COMPACT.fullmatch(form) and len(whole) != sum(_WIDTH.get(letter, 2) for letter in form[1::2]):
                raise ValueError("too short or too long")
            moment = datetime.strptime(whole, form)  # noqa: DTZ007 - the zone is added below
        except ValueError:
            raise ValueError(f"date_parse: '{whole[:60]}' is not a date of the form {pattern}") from None
        if not _has_time(form):
            return moment.date().isoformat()
        aware = moment.astimezone(UTC) if moment.tzinfo else _as_utc(moment, home, whole)
        return as_text(aware)

    @function(
        "date_format(instant, format, zone?)",
        doc="Write a date or an instant: `format` is like `dd.MM.yyyy` or `%d.%m.%Y`. An instant is shown in `zone` (default:"
        " the workspace's).",
        example="date_format('2026-01-31T23:30:00Z', 'yyyy/MM/dd HH:mm', 'Europe/Vienna')",
        gives="'2026/02/01 00:30'",
        check="check_format",
    )
    def date_format(self, instant: Any, format_: Any, zone: Any = None) -> str | None:
        if instant is None:
            return None
        pattern = need_text(format_, "date_format", "format")
        moment = moment_of(instant, "date_format", self._zone_for(zone, "date_format"))
        if isinstance(moment, datetime):
            moment = moment.astimezone(self._zone_for(zone, "date_format"))
        if pattern in _ISO:
            return _iso(moment)
        if pattern in ("unix", "unix_ms"):
            if not isinstance(moment, datetime):
                raise ValueError(f"date_format: {moment} is a date without a time")
            return str((moment - _EPOCH) // timedelta(milliseconds=1 if pattern == "unix_ms" else 1000))
        form = directives(pattern)
        if not isinstance(moment, datetime) and (_has_time(form) or "%z" in form):
            raise ValueError(f"date_format: {moment} is a date without a time; the format '{pattern}' asks for one")
        return _write(moment, form)

    @function(
        "in_zone(instant, zone?)",
        doc="An instant with the offset of a time zone (default: the workspace's); a pure date stays as it is.",
        example="in_zone('2026-07-01T08:00:00Z', 'Europe/Vienna')",
        gives="'2026-07-01T10:00:00+02:00'",
        check="check_zone",
    )
    def in_zone(self, instant: Any, zone: Any = None) -> str | None:
        if instant is None:
            return None
        home = self._zone_for(zone, "in_zone")
        moment = moment_of(instant, "in_zone", home)
        return as_text(moment.astimezone(home)) if isinstance(moment, datetime) else moment.isoformat()

    @function(
        "date_add(instant, duration)",
        doc="A date or instant moved by a duration such as `36h`, `7d` or `-30d`; a pure date moves by whole days.",
        example="date_add('2026-02-27', '3d')",
        gives="'2026-03-02'",
        check="check_duration",
    )
    def date_add(self, instant: Any, duration: Any) -> str | None:
        if instant is None:
            return None
        moment = moment_of(instant, "date_add", self._zone)
        step = _signed_duration(need_text(duration, "date_add", "duration"))
        if not isinstance(moment, datetime) and step % timedelta(days=1):
            raise ValueError(f"date_add: {moment} is a date without a time; `{duration}` is not whole days")
        try:
            return _iso(moment + step)
        except OverflowError:
            raise ValueError("date_add: the result is no date of this calendar") from None

    @function(
        "sap_date(text)",
        doc="The instant of `/Date(1767225600000)/` (OData 2) as UTC text; a pure date of eight digits (`20260131`) as a date.",
        example="sap_date('/Date(1767225600000)/')",
        gives="'2026-01-01T00:00:00Z'",
    )
    def sap_date(self, text: Any) -> str | None:
        if text is None:
            return None
        whole = text_of(text, "sap_date", "text").strip()
        match = _SAP.fullmatch(whole)
        if match is not None:
            return as_text(_from_epoch(match[1], "sap_date", 1000))
        if len(whole) == 8 and whole.isascii() and whole.isdigit():
            try:
                return date(int(whole[:4]), int(whole[4:6]), int(whole[6:])).isoformat()
            except ValueError:
                pass
        raise ValueError(f"sap_date: {describe(text)} is neither /Date(…)/ nor a date of eight digits")


def _iso(moment: datetime | date) -> str:
    return as_text(moment.astimezone(UTC)) if isinstance(moment, datetime) else moment.isoformat()


def _signed_duration(text: str) -> timedelta:
    sign = -1 if text.startswith("-") else 1
    try:
        return sign * parse_duration(text.lstrip("+-"))
    except (ValueError, OverflowError):
        raise ValueError(f"'{text}' is not a duration; write it like 36h, 7d or -30d") from None


def _from_epoch(value: Any, name: str, per_second: int) -> datetime:
    try:
        number = Decimal(value) if is_number(value) or isinstance(value, str) else None
        if number is not None and number.is_finite() and abs(number) < 10**15:
            return _EPOCH + timedelta(microseconds=int(number * 1_000_000 / per_second))
    except (ArithmeticError, ValueError, OverflowError):
        pass
    raise ValueError(
        f"{name}: {describe(value)} is not a number of {'milli' if per_second > 1 else ''}seconds since 1970"
    )


def _write(moment: datetime | date, form: str) -> str:
    if "%3f" in form and isinstance(moment, datetime):
        form = form.replace("%3f", f"{moment.microsecond // 1000:03d}")
    if moment.year < 1900:  # Linux writes the year of `0001-01-01` as `1`, and Windows knows no `%y` of these
        form = _YEARS.sub(lambda found: _year(moment, found[1]), form)
    return moment.strftime(form)


def _year(moment: datetime | date, letter: str) -> str:
    if letter == "y":
        return f"{moment.year % 100:02d}"
    if letter == "G":
        return f"{moment.isocalendar().year:04d}"
    return {"Y": f"{moment.year:04d}", "F": f"{moment.year:04d}-%m-%d"}.get(letter, "%%")
