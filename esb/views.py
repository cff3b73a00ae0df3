"""What people see of the bus: the one query module behind command line, API and pages.

Every function gives plain JSON-able items; instants are RFC 3339 UTC. What may be long comes a page at a time, and some pages may
be empty: who reads on the loop of the bus lets everything else go on between two of them.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

from esb.message import Envelope, State
from esb.runtime.expectations import SPACE, shown
from esb.runtime.leftovers import left_behind
from esb.store.base import DeadGroup, Filter, RouteCounts, Store, Stored

STATES = tuple(state.value for state in State)
#: Messages of a page, which is some milliseconds of work.
PAGE = 100
#: Messages that a trace has at most, the newest.
TRACED = 1000
#: Payloads that one answer with payloads holds, in bytes.
ANSWER_BYTES = 8_000_000
#: Whether the one who asks may see messages of a route; None where all may be seen.
Sees = Callable[[str], bool] | None


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
    behind = left_behind(store)
    names = sorted(set(counts) | set(live.names() if live is not None else ()) | set(behind))
    return [
        {
            **_status_item(name, counts.get(name), now, live.facts(name) if live is not None else {}),
            "expect": shown(store.get_state(SPACE, name)),
            "left_behind": behind.get(name, []),
        }
        for name in names
    ]


def _status_item(name: str, counts: RouteCounts | None, now: datetime, facts: Mapping[str, Any]) -> dict[str, Any]:
    states = {state: (counts.states.get(state, 0) if counts is not None else 0) for state in STATES}
    oldest = counts.oldest_open if counts is not None else None
    age = round((now - oldest).total_seconds(), 3) if oldest is not None else None
    within = facts.get("within_seconds")
    return {
        "route": name,
        "state": "stopped",
        "version": "",
        "digest": "",
        "own_version": "",
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


def messages(store: Store, filter_: Filter, sees: Sees = None) -> Iterator[list[dict[str, Any]]]:
    """The filter's messages, newest first; ``seq`` of the last one is where the next call goes on (``before_seq``)."""
    return ([item(stored) for stored in page] for page in found(store, filter_, sees))


def found(store: Store, filter_: Filter, sees: Sees = None) -> Iterator[list[Stored]]:
    """As :meth:`Store.find`, newest first. What goes away meanwhile is not there; what comes after the first page is not looked for.

    With ``sees`` the limit is of those that may be seen, however many others lie between them.
    """
    left, before = filter_.limit, filter_.before_seq
    while left > 0:
        most = left if filter_.ids else min(left, PAGE) if sees is None else PAGE  # ids have no order to go on in
        page = store.find(replace(filter_, limit=most, before_seq=before))
        shown = page if sees is None else [stored for stored in page if sees(stored.envelope.route)][:left]
        yield shown
        if filter_.ids or len(page) < most:
            return
        left, before = left - len(shown), page[-1].envelope.seq


def item(stored: Stored) -> dict[str, Any]:
    return {**stored.as_item(), "seq": stored.envelope.seq}


def message(store: Store, id_: str) -> dict[str, Any] | None:
    """One message with payload, headers, trace and its relatives."""
    stored = store.get(id_)
    if stored is None:
        return None
    envelope, _ = store.payload(stored.envelope.seq)
    return {
        **item(stored),
        "headers": dict(envelope.headers),
        "vars": dict(envelope.vars),
        "meta": dict(envelope.meta),
        "body": _body(envelope),
        "trace": [dict(entry) for entry in stored.trace],
        "actions": _actions(store, [id_])[id_],
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


def sender(meta: Mapping[str, Any]) -> str:
    """Who sent a message, in a line: the kind of its source, and who or what it was there (client, address, file, queue, topic)."""
    source = meta.get("source")
    about = dict(source) if isinstance(source, Mapping) else {}
    kind = str(about.pop("type", ""))
    about |= {"address": meta.get("client"), "file": meta.get("file_path") or meta.get("file_name")}
    return " ".join([*([kind] if kind else []), *(f"{name}={value}" for name, value in about.items() if value)])


def whole(store: Store, filter_: Filter, sees: Sees = None) -> Iterator[list[dict[str, Any]]]:
    """The filter's messages as :func:`message` shows them, newest first. Stops behind ``ANSWER_BYTES`` of payload; ``seq`` of the last item
    is where the next call goes on (``before_seq``)."""
    size = 0
    for page in found(store, filter_, sees):
        if not page:
            yield []  # whoever reads on the loop lets others go on, also where nothing may be seen
        for stored in page:
            if (one := message(store, stored.envelope.id)) is None:
                continue
            yield [one]
            size += len(one["body"] if isinstance(one["body"], str) else one["body"].get("base64", ""))
            if size > ANSWER_BYTES:
                return


def _body(envelope: Envelope) -> Any:
    """The payload for people: text where it is text, else base64; of one in a file its size and hash."""
    if envelope.content == "removed":
        return {"removed": "retention has taken the payload away"}
    if envelope.blob is not None:
        return {"blob": envelope.blob.sha256, "bytes": envelope.blob.size, "content": envelope.content}
    body = envelope.body
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(body).decode("ascii"), "content": envelope.content}


def _actions(store: Store, ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """What people did to messages: who, when, what and why, as the audit has it; ``new`` is the message that a replay made."""
    found: dict[str, list[dict[str, Any]]] = {id_: [] for id_ in ids}
    for entry in store.audit_of(ids):
        new = entry["detail"].get("new") if entry["action"] == "replay" else None
        action = {name: entry[name] for name in ("at", "actor", "action", "reason")}
        found[entry["object"]].append({**action, **({"new": new} if new is not None else {})})
    return found


def trace(store: Store, word: str) -> Iterator[list[dict[str, Any]]]:
    """Everything that belongs to an id, key, tracked value or correlation id, in the order of acceptance; of more than ``TRACED``
    messages the newest."""
    some: list[Stored] = []
    for page in found(store, Filter(text=word, limit=TRACED)):
        some += page
        yield []
    for page in related(store, tuple(some), TRACED):
        some += page
        yield []
    ordered = sorted(some, key=lambda stored: stored.envelope.seq)[-TRACED:]
    for start in range(0, len(ordered), PAGE // 4):
        page = ordered[start : start + PAGE // 4]
        actions = _actions(store, [stored.envelope.id for stored in page])
        yield [_traced(store, stored, actions[stored.envelope.id]) for stored in page]


def _traced(store: Store, stored: Stored, actions: list[dict[str, Any]]) -> dict[str, Any]:
    steps = (store.get(stored.envelope.id) or stored).trace
    return {**item(stored), "trace": [dict(entry) for entry in steps], "actions": actions}


def related(store: Store, own: Sequence[Stored], most: int) -> Iterator[list[Stored]]:
    """The other messages of the same correlations, at most ``most`` of each hundred of them."""
    seen = {stored.envelope.id for stored in own}
    wanted = sorted({stored.envelope.correlation_id for stored in own})
    for start in range(0, len(wanted), PAGE):
        for page in found(store, Filter(correlations=tuple(wanted[start : start + PAGE]), limit=most)):
            yield [stored for stored in page if stored.envelope.id not in seen]


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


def traffic(store: Store, filter_: Filter) -> Iterator[list[dict[str, Any]]]:
    """Messages as they were accepted, with their payloads and what targets said, to be tried against another version.

    A larger payload is left out. Stops at ``ANSWER_BYTES`` of payload; ``seq`` of the last item is where the next call goes on (``before_seq``).
    """
    size, first = 0, True
    for stored in (stored for page in found(store, filter_) for stored in page):
        envelope, _ = store.payload(stored.envelope.seq)
        if envelope.size > ANSWER_BYTES:
            continue
        body = envelope.payload()
        size += len(body)
        if not first and size > ANSWER_BYTES:
            return
        first = False
        yield [
            {
                **item(stored),
                "origin": envelope.origin,
                "content": envelope.content,
                "body_base64": base64.b64encode(body).decode("ascii"),
                "headers": dict(envelope.headers),
                "vars": dict(envelope.vars),
                "meta": dict(envelope.meta),
                "replies": _replies(store, envelope.id, 3),
            }
        ]


def _replies(store: Store, id_: str, depth: int) -> dict[str, list[Any]]:
    """What each target answered to a message and the messages inside of its route that came of it."""
    stored = store.get(id_)
    if stored is None:
        return {}
    _, ledger = store.payload(stored.envelope.seq)
    found: dict[str, list[Any]] = {}
    for entry in stored.trace:
        reply = ledger.get(str(entry.get("step")))
        if not entry.get("target"):
            continue
        if entry.get("error"):
            said = {"status": entry.get("status"), "body": entry.get("answered"), "error": str(entry["error"])}
            found.setdefault(str(entry["target"]), []).append(said)
        elif isinstance(reply, dict) and "status" in reply:
            found.setdefault(str(entry["target"]), []).append(reply)
        elif "status" in entry or "answered" in entry:  # a message that ended well left no ledger, but its trace
            answered = entry.get("answered")
            cut = isinstance(answered, str) and answered.endswith("…")
            said = {"status": entry.get("status"), "body": None if cut else answered}
            found.setdefault(str(entry["target"]), []).append(said)
    for child in store.children([id_]) if depth else ():
        if child.envelope.scope:
            for target, replies in _replies(store, child.envelope.id, depth - 1).items():
                found.setdefault(target, []).extend(replies)
    return found
