"""What travels along with a message on every protocol: correlation, trace, and values that may stand in a header."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from esb.errors import Invalid

#: the system in which a change began
ORIGIN = "x-esb-origin"
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?P<trace>(?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
#: Characters of a ``tracestate`` that everybody passes on, by W3C Trace Context.
_LONGEST_STATE = 512
#: attributes of an event that have a place of their own on every protocol
_TRAVEL = frozenset({"traceparent", "tracestate", "datacontenttype"})
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def trace_of(traceparent: str) -> str:
    """The trace id of a ``traceparent``; empty where it is none."""
    found = _TRACEPARENT.fullmatch(traceparent)
    return found["trace"] if found is not None else ""


def trace_of_message(scope: Mapping[str, Any]) -> dict[str, str]:
    """``traceparent`` and, with it, ``tracestate`` for a target. A replay has a trace of its own: the state is another one's."""
    meta = scope.get("meta", {})
    if not (parent := meta.get("traceparent", "")):
        return {}
    state = "" if "replayed_trace" in meta else str(scope.get("headers", {}).get("tracestate", ""))
    usable = 0 < len(state) <= _LONGEST_STATE and state.isascii() and state.isprintable()
    return {"traceparent": parent, "tracestate": state} if usable else {"traceparent": parent}


def correlation_id(headers: Mapping[str, str], trace: str) -> str:
    """From ``X-Correlation-ID``, the CloudEvents extension, or the trace; empty where none is usable."""
    for name in ("x-correlation-id", "ce-correlationid"):
        value = headers.get(name, "")
        if 0 < len(value) <= 128 and value.isprintable():
            return value
    return trace


def event_of(scope: Mapping[str, Any]) -> dict[str, str]:
    """The attributes of the CloudEvent that a message came as, by name without ``ce-``; empty where it came as none.

    An item of a `split` and an aggregate are other events than the one whose headers they have: many would go out under one
    ``id``, of which a receiver keeps the first. The trace and the type of the content travel by themselves.
    """
    headers, meta = scope.get("headers", {}), scope.get("meta", {})
    if headers.get("ce-specversion") != "1.0" or "split" in meta or "aggregate" in meta:
        return {}
    if not all(headers.get(f"ce-{name}") for name in ("id", "source", "type")):
        return {}
    return {name[3:]: str(value) for name, value in headers.items() if name[:3] == "ce-" and name[3:] not in _TRAVEL}


def header_value(name: str, value: str) -> str:
    """``value``, unless it would end the header or is not Unicode: then Invalid, and nothing is sent."""
    if _BAD_VALUE.search(value):
        raise Invalid(f"the value of the header `{name}` holds a control character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Invalid(f"the value of the header `{name}` is not valid Unicode") from None
    return value
