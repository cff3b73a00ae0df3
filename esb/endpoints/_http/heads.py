"""What a route reads from the head of a request: how its body is read, what is passed on, and what tells a repeat."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from msgspec import Struct

from esb.endpoints._http.events import event_key
from esb.endpoints._http.media import codec_for, fits
from esb.endpoints.base import Request, Response
from esb.endpoints.carried import correlation_id, trace_of
from esb.endpoints.http_auth import Identity
from esb.endpoints.problem import problem
from esb.formats.base import Codec
from esb.formats.multipart import by_name

#: Headers of one hop, of the transport and of logins; a message never carries them.
NOT_PASSED_ON = frozenset(
    [
        "connection",
        "content-length",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "authorization",
        "x-api-key",
    ]
)
_OURS = ("esb-", "esb_")
_MAX_FIELDS = 200


class Head(Struct, frozen=True):
    """What a route reads from the head of a request, whatever its body and its length."""

    codec: Codec
    content_type: str
    key: str | None
    event: str | None
    passed: Mapping[str, str]
    meta: Mapping[str, Any]
    correlation_id: str


def read_head(request: Request, fixed: Codec | None, hidden: frozenset[str]) -> Head | Response:
    """The head, or the refusal. ``fixed`` is the only format that the route takes, ``hidden`` what it does not pass on.

    Its ``meta`` is that of a message of nobody in particular.
    """
    headers = request.headers
    content_type = headers.get("content-type", "")
    codec = _codec(content_type, fixed)
    if isinstance(codec, Response):
        return codec
    key = headers.get("idempotency-key")
    if key is not None:
        # a structured text, as the draft writes it
        key = key[1:-1] if len(key) > 2 and key[0] == key[-1] == '"' else key
        if not (0 < len(key) <= 255 and key.isascii() and key.isprintable()):
            return problem(400, "bad-idempotency-key", "an Idempotency-Key is 1 to 255 printable ASCII characters")
    try:
        query = read_query(request.query)
    except ValueError:
        return problem(400, "bad-query", f"the query is not UTF-8, or has more than {_MAX_FIELDS} fields")
    passed = passed_on(headers, hidden)
    traceparent = headers.get("traceparent", "")
    trace = trace_of(traceparent)
    meta: dict[str, Any] = {
        "params": dict(request.params),
        "query": query,
        "path": request.path,
        "client": request.client,
        "source": {"type": "http", "client": ""},
    }
    if trace:
        meta["traceparent"] = traceparent
    if content_type:
        meta["content_type"] = content_type
    return Head(codec, content_type, key, event_key(headers), passed, meta, correlation_id(passed, trace))


def _codec(content_type: str, fixed: Codec | None) -> Codec | Response:
    if fixed is None:
        words = "send JSON, XML, CSV or plain text, with its Content-Type"
        return codec_for(content_type) or problem(415, "content-type-not-taken", words)
    if not fits(fixed, content_type):
        return problem(415, "content-type-not-taken", f"this route takes {fixed.content_type}")
    return fixed


def passed_on(headers: Mapping[str, str], hidden: frozenset[str]) -> dict[str, str]:
    """The headers a message may carry: none of one hop, of a login, or that looks like one of the bus (``esb-…``).

    Values of CloudEvents attributes (``ce-…``) are percent-decoded, as their HTTP binding says.
    """
    hop = headers.get("connection", "keep-alive")
    if hop not in ("keep-alive", "close", "Keep-Alive"):
        hidden |= {name.strip().lower() for name in hop.split(",")}
    return {
        name: unquote(value) if name[:3] == "ce-" and "%" in value else value
        for name, value in headers.items()
        if name not in hidden and name[:4] not in _OURS
    }


def read_query(query: str) -> dict[str, Any]:
    """Fields by name, a list where a name is repeated. Raises ValueError."""
    if not query:
        return {}
    return by_name(parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict"))


def source_key(identity: Identity, key: str | None, event: str | None = None) -> str | None:
    """The identity of a request inside its route: its Idempotency-Key, its event, or a signature that is used once only."""
    if key is not None:
        return f"http:{len(identity.client)}:{identity.client}:{key}"
    if event is not None:
        return f"http-event:{len(identity.client)}:{identity.client}:{event}"
    return f"http-signature:{identity.proof}" if identity.proof else None


def fingerprint(request: Request) -> str:
    """The hash of what an Idempotency-Key stands for: path, query and body."""
    digest = hashlib.sha256(f"{request.method} {request.path}?{request.query}\n".encode())
    digest.update(request.body)
    return digest.hexdigest()
