"""CloudEvents 1.0 over HTTP: an envelope in the body (structured) becomes what the headers (binary) would have said."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from esb.endpoints._http.media import JSON
from esb.endpoints.base import Request, Response
from esb.endpoints.problem import problem
from esb.errors import Invalid
from esb.formats.content_types import parse_content_type

STRUCTURED = "application/cloudevents+json"
_NAME = re.compile(r"[a-z0-9]{1,64}")
_NEEDED = ("id", "source", "type")


def is_structured(headers: Mapping[str, str]) -> bool:
    """Whether the body holds an event together with its attributes."""
    content_type = headers.get("content-type", "")
    return content_type != JSON.content_type and parse_content_type(content_type)[0] == STRUCTURED


def unwrapped(request: Request) -> Request | Response:
    """The request in binary mode; itself where it holds no structured event, a refusal (400) where the event is none.

    ``data`` becomes the body with its ``datacontenttype``, JSON by default; every other attribute a ``ce-`` header.
    """
    if not is_structured(request.headers):
        return request
    try:
        event = JSON.decode(request.body)
    except Invalid as error:
        return problem(400, "undecodable", error.message, errors=error.violations)
    attributes = _attributes(event)
    if isinstance(attributes, str):
        return problem(400, "bad-cloudevent", attributes)
    kind = attributes.pop("datacontenttype", "application/json")
    headers = {name: value for name, value in request.headers.items() if name[:3] != "ce-"}
    headers |= {f"ce-{name}": value.replace("%", "%25") for name, value in attributes.items()}
    headers["content-type"] = kind
    if "traceparent" in attributes and "traceparent" not in headers:
        headers.pop("tracestate", None)
        headers |= {name: attributes[name] for name in ("traceparent", "tracestate") if name in attributes}
    try:
        return replace(request, headers=headers, body=_data(event, kind))
    except (binascii.Error, ValueError):
        return problem(400, "bad-cloudevent", "`data_base64` is no base64")


def _attributes(event: Any) -> dict[str, str] | str:
    """The attributes as texts, or what is wrong."""
    if not isinstance(event, dict):
        return "an event is a JSON object"
    if event.get("specversion") != "1.0":
        return "only CloudEvents of `specversion` 1.0 are taken"
    found: dict[str, str] = {}
    for name, value in event.items():
        if name in ("data", "data_base64") or value is None:
            continue
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if not _NAME.fullmatch(name) or not isinstance(value, (str, int)) or not text.isprintable():
            return f"the attribute `{name[:80]}` is not a text, number or boolean under a name of small letters"
        found[name] = text
    missing = [name for name in _NEEDED if not found.get(name)]
    if missing:
        return f"the event has no `{missing[0]}`"
    if "data" in event and "data_base64" in event:
        return "the event has both `data` and `data_base64`"
    return found


def _data(event: Mapping[str, Any], kind: str) -> bytes:
    if "data_base64" in event:
        return base64.b64decode(str(event["data_base64"]), validate=True)
    data = event.get("data")
    media = parse_content_type(kind)[0]
    if isinstance(data, str) and not (media.endswith(("/json", "+json"))):
        return data.encode()
    return JSON.encode(data)


def event_key(headers: Mapping[str, str]) -> str | None:
    """What tells an event from every other: its source and id. None where the headers hold no event."""
    source, id_ = headers.get("ce-source", ""), headers.get("ce-id", "")
    if headers.get("ce-specversion") != "1.0" or not source or not id_:
        return None
    return f"{len(source)}:{source}:{id_}"
