"""What a message did as spans of W3C Trace Context and OpenTelemetry: made from its trace, with ids by rule.

A span id is a hash of what it stands for: so a target gets the id of the very span that is exported later, and a repeat after a
crash makes the same span again. Names follow the messaging conventions of OpenTelemetry (semantic conventions 1.44).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from esb.message import EMPTY, Envelope, Message, State
from esb.store.base import Settlement
from esb.store.values import micros

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
TRACEPARENT = "traceparent"
#: The trace of the message that a replay repeats, in `meta`.
REPLAYED_TRACE = "replayed_trace"


@dataclass(frozen=True, slots=True)
class Link:
    """Another span that this one goes back to."""

    trace: int
    span: int


@dataclass(frozen=True, slots=True)
class Span:
    """A span that has ended; instants in nanoseconds since 1970 UTC."""

    name: str
    kind: Literal["consumer", "producer", "internal"]
    trace: int
    span: int
    parent: int | None
    start: int
    end: int
    attributes: Mapping[str, Any] = field(default=EMPTY)
    error: str = ""
    links: tuple[Link, ...] = ()


def parsed(traceparent: Any) -> tuple[int, int, bool] | None:
    """Trace, parent and whether it is sampled; None for what is no valid header: the trace begins anew."""
    found = _PARENT.fullmatch(traceparent) if isinstance(traceparent, str) else None
    if found is None or found[1] == "ff" or (found[1] == "00" and len(traceparent) != 55):
        return None
    trace, span = int(found[2], 16), int(found[3], 16)
    return (trace, span, bool(int(found[4], 16) & 1)) if trace and span else None


def place_of(envelope: Envelope) -> tuple[int, int | None, bool]:
    """The trace of a message, its parent span, and whether it is sampled."""
    given = parsed(envelope.meta.get(TRACEPARENT))
    if given is not None:
        trace, outside, sampled = given
        if envelope.parent_id:
            return trace, message_span(envelope.parent_id), sampled
        return trace, None if envelope.replay_of is not None else outside, sampled
    parent = message_span(envelope.parent_id) if envelope.parent_id else None
    return _hash(f"trace:{envelope.correlation_id or envelope.id}", 16), parent, True


def again_in(original: Envelope, id_: str) -> dict[str, str]:
    """What of ``meta`` puts a replay, and everything born of it, into a trace of its own that goes back to the original's."""
    trace, _, sampled = place_of(original)
    header = f"00-{_hash(f'trace:{id_}', 16):032x}-{_hash(f'replay:{id_}', 8):016x}-{'01' if sampled else '00'}"
    return {TRACEPARENT: header, REPLAYED_TRACE: f"{trace:032x}"}


def message_span(id_: str) -> int:
    return _hash(f"message:{id_}", 8)


def delivery_span(delivery: str, attempt: int) -> int:
    return _hash(f"delivery:{delivery}/{attempt}", 8)


def outgoing(message: Message, envelope: Envelope, delivery: str, attempt: int) -> Message:
    """The message with the header that a target gets: the same trace, and the span of this delivery as parent."""
    trace, _, sampled = place_of(envelope)
    header = f"00-{trace:032x}-{delivery_span(delivery, attempt):016x}-{'01' if sampled else '00'}"
    return message.with_meta(TRACEPARENT, header)


def spans_of(envelope: Envelope, settlement: Settlement) -> Iterator[Span]:
    """The steps and deliveries of an attempt, and the message itself where it has come to an end."""
    trace, parent, sampled = place_of(envelope)
    if not sampled:
        return
    own = message_span(envelope.id)
    end = _nanos(settlement.at)
    steps = settlement.trace
    begin = end - int(max((entry.get("at", 0) + entry.get("ms", 0) for entry in steps), default=0) * 1_000_000)
    common = {"esb.route": envelope.route, "messaging.message.id": envelope.id}
    for number, entry in enumerate(steps):
        if "step" in entry:
            yield _step(entry, number, envelope, settlement.attempts, begin, (trace, own), common)
    if settlement.state in (State.WAITING, State.QUEUED):
        return
    links: tuple[Link, ...] = ()
    if envelope.replay_of is not None:
        first = int(str(envelope.meta.get(REPLAYED_TRACE, "0")), 16)
        links = (Link(first, message_span(envelope.replay_of)),) if first else ()
    attributes = {
        **common,
        "messaging.system": "esb",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": envelope.route,
        "messaging.message.conversation_id": envelope.correlation_id,
        "esb.state": settlement.state.value,
        "esb.attempts": settlement.attempts,
        "esb.version": envelope.version,
    }
    error = settlement.error.error_class if settlement.error is not None else ""
    if error:
        attributes["error.type"] = error
    start = _nanos(envelope.accepted_at)
    yield Span(
        f"process {envelope.route}", "consumer", trace, own, parent, start, max(start, end), attributes, error, links
    )


def _step(
    entry: Mapping[str, Any],
    number: int,
    envelope: Envelope,
    attempt: int,
    begin: int,
    place: tuple[int, int],
    common: Mapping[str, Any],
) -> Span:
    start = begin + int(entry.get("at", 0) * 1_000_000)
    end = start + int(entry.get("ms", 0) * 1_000_000)
    error = str(entry.get("error", "")).partition(":")[0]
    attributes = {**common, "esb.step": entry["step"], "esb.attempt": attempt}
    if error:
        attributes["error.type"] = error
    delivery, target = entry.get("delivery_id"), entry.get("target")
    if delivery is None or target is None:
        own = _hash(f"step:{envelope.id}/{attempt}/{number}", 8)
        return Span(str(entry["step"]), "internal", place[0], own, place[1], start, end, attributes, error)
    attributes |= {
        "messaging.operation.type": "send",
        "messaging.operation.name": "send",
        "messaging.destination.name": str(target),
        "esb.delivery_id": str(delivery),
    }
    if isinstance(entry.get("status"), int):
        attributes["http.response.status_code"] = entry["status"]
    own = delivery_span(str(delivery), attempt)
    return Span(f"send {target}", "producer", place[0], own, place[1], start, end, attributes, error)


def _nanos(instant: datetime) -> int:
    return micros(instant) * 1000


def _hash(text: str, size: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:size], "big") or 1
