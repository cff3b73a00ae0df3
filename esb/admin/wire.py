"""How operating requests look on the wire: the words that the API reads and the command line writes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from esb.durations import Rate, parse_duration, parse_rate
from esb.errors import EsbError
from esb.message import OPEN_STATES, State
from esb.store.base import Filter

_NUMBER = re.compile(r"[0-9]{1,15}")


class BadRequest(EsbError):
    """A request that cannot be understood; says what to write instead."""


class UnknownRoute(BadRequest):
    """A route that neither runs nor has messages."""


def nearest_route(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is no route: its branch was written along, or it was mistyped."""
    route, slash, _ = name.partition("/")
    known = sorted(known)
    if slash and route in known:
        return f"write the route without its branch: {route}"
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean `{close[0]}`?" if close else "esb routes ls"


#: The words of a filter, and those that every action may have.
FILTER = frozenset(
    {"ids", "route", "state", "key", "track", "correlation", "since", "until", "before", "limit", "group", "text"}
)
ACTION = frozenset({"actor", "reason", "signature"})


def only(words: Mapping[str, Any], known: frozenset[str]) -> None:
    """Raises BadRequest for a word that nobody reads: with a mistyped one more would be done, or shown, than was meant."""
    for word in words:
        if word not in known:
            close = difflib.get_close_matches(word.replace("-", "_").lower(), known, n=1, cutoff=0.7)
            hint = f"did you mean `{close[0]}`?" if close else f"known here: {', '.join(sorted(known))}"
            raise BadRequest(f"`{word}` is not known here", hint=hint)


def flag(words: Mapping[str, Any], name: str) -> bool:
    """A yes or no of an action, no where it is left out. Raises BadRequest: `"false"` must not mean yes."""
    value = words.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise BadRequest(f"`{name}` is neither true nor false", hint=f'write `"{name}": true`')


def asked(words: Mapping[str, str], name: str) -> bool:
    """A yes or no of a query, no where it is left out. Raises BadRequest."""
    known = {"": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}
    value = words.get(name, "")
    if value not in known:
        raise BadRequest(f"`{name}` is neither true nor false", hint=f"write `{name}=1`")
    return known[value]


def filter_of(words: Mapping[str, Any], now: datetime, *, limit: int = 100) -> Filter:
    """A filter from ``ids route state key track correlation since until limit group text``. Raises BadRequest."""
    return Filter(
        ids=tuple(_many(words.get("ids"))),
        route=str(words.get("route") or ""),
        states=states_of(_many(words.get("state"))),
        key=str(words.get("key") or "") or None,
        track=tuple(_pair(text) for text in _many(words.get("track"))),
        correlations=tuple([str(words["correlation"])] if words.get("correlation") else ()),
        text=str(words.get("text") or ""),
        group=str(words.get("group") or ""),
        since=moment(words.get("since"), now),
        until=moment(words.get("until"), now),
        before_seq=number(words.get("before"), "before"),
        limit=_limit(words.get("limit"), limit),
    )


def _many(value: Any) -> list[str]:
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [part for part in value.split(",") if part]
    if isinstance(value, Sequence):
        return [str(part) for part in value]
    raise BadRequest(f"{value!r} is not a list")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise BadRequest(f"`{text}` is not a tracked value", hint="write it like `lot=4711`")
    return name, value


def _limit(value: Any, default: int) -> int:
    limit = number(value, "limit")
    return max(1, min(default if limit is None else limit, 10_000))


def number(value: Any, name: str) -> int | None:
    """A whole number of a query or a request, None where it is left out. Raises BadRequest."""
    if value in (None, ""):
        return None
    text = str(value)
    if not _NUMBER.fullmatch(text):
        raise BadRequest(f"`{name}` is not a number", hint="write a whole number from 0 to 999999999999999")
    return int(text)


def states_of(words: Sequence[str]) -> tuple[State, ...]:
    """States by name; ``open`` stands for all that still have work to do."""
    found: list[State] = []
    for word in words:
        if word == "open":
            found.extend(sorted(OPEN_STATES))
            continue
        try:
            found.append(State(word))
        except ValueError:
            known = ", ".join(state.value for state in State)
            raise BadRequest(f"`{word}` is no state", hint=f"one of: open, {known}") from None
    return tuple(found)


def moment(text: Any, now: datetime) -> datetime | None:
    """An instant: RFC 3339, or a duration ago (``24h``)."""
    if text in (None, ""):
        return None
    try:
        return now - parse_duration(str(text))
    except (ValueError, OverflowError):
        pass
    try:
        parsed = datetime.fromisoformat(str(text))
    except ValueError:
        raise BadRequest(f"`{text}` is no time", hint="write `24h` (ago) or `2026-05-31T06:00:00Z`") from None
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)


def rate_of(text: Any) -> Rate | None:
    if text in (None, ""):
        return None
    try:
        return parse_rate(str(text))
    except ValueError:
        raise BadRequest(f"`{text}` is no rate", hint="write `20/s`") from None


def seconds_of(text: Any, default: float) -> float:
    if text in (None, ""):
        return default
    try:
        return parse_duration(str(text)).total_seconds()
    except (ValueError, OverflowError):
        raise BadRequest(f"`{text}` is no duration", hint="write `30s`") from None


def listing(kind: str, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The one form of every machine answer."""
    return {"kind": kind, "items": list(items)}


LONGEST_WAIT = timedelta(minutes=10)
