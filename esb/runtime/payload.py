"""Bytes to a message: how an accepted or a kept payload is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

import msgspec

from esb.config.model import RouteSpec, Workspace
from esb.errors import InternalFault
from esb.formats.base import Codec
from esb.formats.content_types import by_content_type
from esb.formats.json import Json
from esb.formats.packed import KEPT
from esb.formats.unread import Unread
from esb.message import Envelope, Message
from esb.observe.indicators import Observer
from esb.registry import Registry

_encode = msgspec.json.Encoder().encode
JSON = Json()
#: How a workbook begins: a zip archive, or a compound file.
_PACKED = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


def codec_of(spec: RouteSpec | None, meta: Mapping[str, Any], registry: Registry) -> Codec:
    """The codec of what a source takes in: declared, where the route is still there, else by content type or file name, else JSON."""
    declared: Codec | None = getattr(spec.source.options, "format", None) if spec is not None else None
    if declared is not None:
        return declared
    content_type, name = str(meta.get("content_type", "")), str(meta.get("file_name", ""))
    if not content_type and not name:
        return JSON
    return by_content_type(registry, content_type, PurePath(name).suffix) or JSON


def reads_apart(spec: RouteSpec, data: bytes) -> bool:
    """Whether also a small payload is read in a worker process: its size does not say what it becomes."""
    declared = getattr(spec.source.options, "format", None)
    return bool(getattr(declared, "apart", False)) if declared is not None else data[:4] in _PACKED


def decode_body(envelope: Envelope, spec: RouteSpec | None, registry: Registry) -> Any:
    """The body of a stored message of a route. Raises Invalid where the payload does not parse (a stored dead letter)."""
    codec = KEPT.get(envelope.content)
    if codec is not None:
        return codec.decode(envelope.payload())
    match envelope.content:
        case "removed":
            raise InternalFault("retention has taken the payload away", hint="`retention: { payload: … }` in esb.yaml")
        case "source":
            return codec_of(spec, envelope.meta, registry).decode(envelope.payload())
    raise InternalFault(f"stored content {envelope.content!r} is not known to this version")


def unread_body(envelope: Envelope, spec: RouteSpec, registry: Registry) -> Unread | None:
    """The body of a message whose payload lies in a file, without reading it; None where it does not lie in one."""
    if envelope.blob is None:
        return None
    return Unread(envelope.blob, KEPT.get(envelope.content) or codec_of(spec, envelope.meta, registry))


def observe(observer: Observer, workspace: Workspace, log: Callable[..., None] | None = None) -> None:
    """Follow the indicators of a workspace, whose routes say how a payload is read."""

    def decode(envelope: Envelope) -> Message | None:
        spec = workspace.routes.get(envelope.route)
        return message_of(envelope, decode_body(envelope, spec, workspace.registry), 1) if spec is not None else None

    def site_of(route: str) -> Mapping[str, Any]:
        spec, bus = workspace.routes.get(route), workspace.settings.site
        return spec.site_values(bus) if spec is not None else bus

    observer.log, observer.marked = log or observer.log, workspace.marked
    observer.configure(workspace.kpis, site_of, decode)


def message_of(envelope: Envelope, body: Any, attempt: int) -> Message:
    """The message that the first step sees."""
    meta = {
        **envelope.meta,
        "message_id": envelope.id,
        "correlation_id": envelope.correlation_id,
        "route": envelope.route,
        "key": envelope.key,
        "received_at": instant_text(envelope.accepted_at),
        "attempt": attempt,
        "version": envelope.version,
    }
    return Message(body=body, headers=envelope.headers, vars=envelope.vars, meta=meta)


def instant_text(at: datetime) -> str:
    """RFC 3339 in UTC, which is also how JSON has it: its encoder writes that in a fifth of the time of ``isoformat``."""
    return _encode(at if at.tzinfo is UTC else at.astimezone(UTC))[1:-1].decode()
