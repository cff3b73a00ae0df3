"""What people see of the bus: the one query module behind command line, API and pages.

Every function gives plain JSON-able items; instants are RFC 3339 UTC.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from esb.message import State
from esb.store.base import DeadGroup, Filter, RouteCounts, Store, Stored

STATES = tuple(state.value for state in State)


class RouteFacts(Protocol):
    """What only the running bus knows of a route."""

    def facts(self, route: str) -> Mapping[str, Any]:
        """``state version throughput_per_minute source …``; empty for a route that it does not run."""
        ...

    def names(self) -> list[str]: ...


def instant(value: datetime | None) -> str | None:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if value is not None else None


def status(store: Store, now: datetime, live: RouteFacts | None = None) -> list[dict[str, Any]]:
    """Per route its state, version, ``accepted``, one count per message state, ``purged``, oldest age, throughput."""
    counts = {count.route: count for count in store.counts()}
    names = sorted(set(counts) | set(live.names() if live is not None else ()))
    return [_status_item(name, counts.get(name), now, live.facts(name) if live is not None else {}) for name in names]


def _status_item(name: str, counts: RouteCounts | None, now: datetime, facts: Mapping[str, Any]) -> dict[str, Any]:
    states = {state: (counts.states.get(state, 0) if counts is not None else 0) for state in STATES}
    oldest = counts.oldest_open if counts is not None else None
    age = round((now - oldest).total_seconds(), 3) if oldest is not None else None
    within = facts.get("within_seconds")
    return {
        "route": name,
        "state": "stopped",
        "version": "",
        "throughput_per_minute": 0,
        **facts,
        "accepted": counts.accepted if counts is not None else 0,
        **states,
        "states": states,
        "purged": counts.purged if counts is not None else 0,
        "oldest": instant(oldest),
        "oldest_age_seconds": age,
        "late": age is not None and within is not None and age > within,
    }


def messages(store: Store, filter_: Filter) -> list[dict[str, Any]]:
    return [item(stored) for stored in store.find(filter_)]


def item(stored: Stored) -> dict[str, Any]:
    return stored.as_item()


def message(store: Store, id_: str) -> dict[str, Any] | None:
    """One message with payload, headers, trace and its relatives."""
    stored = store.get(id_)
    if stored is None:
        return None
    envelope, _ = store.payload(stored.envelope.seq)
    return {
        **stored.as_item(),
        "headers": dict(envelope.headers),
        "vars": dict(envelope.vars),
        "meta": dict(envelope.meta),
        "body": _body(envelope.body, envelope.content),
        "trace": [dict(entry) for entry in stored.trace],
        "children": [
            {
                "id": child.envelope.id,
                "route": child.envelope.route,
                "scope": child.envelope.scope,
                "state": child.state.value,
            }
            for child in store.children([id_])
        ],
    }


def _body(body: bytes, content: str) -> Any:
    """The payload for people: text where it is text, else base64."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(body).decode("ascii"), "content": content}


def trace(store: Store, word: str) -> list[dict[str, Any]]:
    """Everything that belongs to an id, key, tracked value or correlation id, in the order of acceptance."""
    found = store.find(Filter(text=word, limit=1000))
    correlations = {stored.envelope.correlation_id for stored in found}
    related = {stored.envelope.id: stored for stored in found}
    for correlation in correlations:
        for stored in store.find(Filter(correlation_id=correlation, limit=1000)):
            related.setdefault(stored.envelope.id, stored)
    ordered = sorted(related.values(), key=lambda stored: stored.envelope.seq)
    items = []
    for stored in ordered[:1000]:
        full = store.get(stored.envelope.id)
        items.append({**stored.as_item(), "trace": [dict(entry) for entry in (full or stored).trace]})
    return items


def groups(store: Store, filter_: Filter) -> list[dict[str, Any]]:
    return [_group(group) for group in store.groups(filter_)]


def _group(group: DeadGroup) -> dict[str, Any]:
    return {
        "group": group.id,
        "route": group.route,
        "step": group.step,
        "class": group.error_class,
        "message": group.message,
        "count": group.count,
        "oldest": instant(group.oldest),
        "newest": instant(group.newest),
    }
