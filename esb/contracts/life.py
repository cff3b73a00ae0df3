"""The life of a contract: deprecated since, over after, replaced by. Written in the schema with words of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Self

DEPRECATED, SUNSET, SUCCESSOR = "x-esb-deprecated", "x-esb-sunset", "x-esb-successor"


@dataclass(frozen=True, slots=True)
class Life:
    """When a contract was deprecated and when it is over (UTC), and the name of the one that takes its place."""

    deprecated: datetime | None = None
    sunset: datetime | None = None
    successor: str = ""

    @classmethod
    def of(cls, schema: Any) -> Self | None:
        """What a schema says of its life, None where it says nothing. ``deprecated: true`` alone has no date."""
        if not isinstance(schema, Mapping):
            return None
        since, over = _instant(schema.get(DEPRECATED)), _instant(schema.get(SUNSET))
        if since is None and schema.get("deprecated") is True:
            since = datetime.fromtimestamp(0, UTC)
        if since is None and over is None:
            return None
        successor = schema.get(SUCCESSOR)
        return cls(since, over, successor if isinstance(successor, str) else "")

    def is_over(self, now: datetime) -> bool:
        return self.sunset is not None and self.sunset <= now

    @property
    def headers(self) -> dict[str, str]:
        """What the answers of a route say: ``Deprecation`` (RFC 9745), ``Sunset`` (RFC 8594)."""
        found: dict[str, str] = {}
        if self.deprecated is not None:
            found["deprecation"] = f"@{int(self.deprecated.timestamp())}"
        if self.sunset is not None:
            found["sunset"] = format_datetime(self.sunset, usegmt=True)
        return found


def life_problems(schema: Any) -> list[tuple[str, str]]:
    """The keyword and what is wrong with it, for words that cannot be read."""
    if not isinstance(schema, Mapping):
        return []
    return [
        (word, f"`{word}` is a date such as `2027-01-31`")
        for word in (DEPRECATED, SUNSET)
        if word in schema and _instant(schema[word]) is None
    ]


def _instant(value: Any) -> datetime | None:
    """A date, or an instant with its zone, in UTC."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
