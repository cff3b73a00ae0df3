"""Durations and sizes as people write them: ``30s``, ``2s..5m``, ``10MB``, ``50/s``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_WHOLE = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|TB)", re.IGNORECASE)
_SIZE_UNITS = {"B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4}
_RATE = re.compile(r"(\d+)/(s|m|h|d)")

UNITS = "ms, s, m, h, d, w"
#: Beyond these a value is a slip, and sums of it with an instant or a float would fail far from where it is written.
LONGEST = timedelta(days=365_000)
LARGEST, FASTEST = 1000**6, 1_000_000_000


class TooMuchError(ValueError):
    """A value of the right form that is larger than anything can be; its text says the bound."""


def parse_duration(text: str) -> timedelta:
    """Read ``30s``, ``1h30m`` or ``250ms``. Raises ValueError where the unit is missing or unknown, or beyond a thousand years."""
    text = text.strip()
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if seconds > LONGEST.total_seconds():
        raise TooMuchError("the longest duration is 365000d, a thousand years")
    return timedelta(seconds=seconds)


def format_duration(value: timedelta) -> str:
    """Write a duration as ``1h30m``; the reverse of :func:`parse_duration`, to the millisecond."""
    left = round(value.total_seconds() * 1000)
    if left == 0:
        return "0s"
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def parse_size(text: str) -> int:
    """Read ``10MB`` as bytes (powers of 1000). Raises ValueError where the unit is missing or unknown."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size")
    size = float(match[1]) * _SIZE_UNITS[match[2].upper()]
    if size > LARGEST:
        raise TooMuchError("the largest size is 1000000TB")
    return int(size)


def format_size(value: int) -> str:
    """Write bytes as ``10MB``; exact for the values that :func:`parse_size` gives."""
    for unit in ("TB", "GB", "MB", "KB"):
        if value >= _SIZE_UNITS[unit] and value % (_SIZE_UNITS[unit] // 1000) == 0:
            return f"{value / _SIZE_UNITS[unit]:g}{unit}"
    return f"{value}B"


@dataclass(frozen=True, slots=True)
class Rate:
    """So many per span: ``50/s``."""

    count: int
    span: timedelta

    @property
    def per_second(self) -> float:
        return self.count / self.span.total_seconds()


def parse_rate(text: str) -> Rate:
    """Read ``50/s``, ``600/m``. Raises ValueError."""
    match = _RATE.fullmatch(text.strip())
    if match is None or int(match[1]) == 0:
        raise ValueError(f"{text!r} is not a rate")
    if int(match[1]) > FASTEST:
        raise TooMuchError("the highest rate is 1000000000 per s, m, h or d")
    return Rate(int(match[1]), timedelta(seconds=_UNITS[match[2]]))


@dataclass(frozen=True, slots=True)
class Backoff:
    """First and longest wait of an exponential backoff: ``2s..5m``."""

    first: timedelta
    longest: timedelta


def parse_backoff(text: str) -> Backoff:
    """Read ``2s..5m`` (or ``2s`` alone for a constant wait). Raises ValueError."""
    first, dots, longest = text.partition("..")
    start = parse_duration(first)
    end = parse_duration(longest) if dots else start
    if end < start:
        raise ValueError(f"{text!r}: the longest wait is shorter than the first")
    return Backoff(start, end)


def millis(seconds: float) -> float:
    """Milliseconds to three places; half the price of `round`."""
    return int(seconds * 1e6 + 0.5) / 1000
