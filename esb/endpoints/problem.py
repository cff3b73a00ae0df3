"""Errors as ``application/problem+json`` (RFC 9457): short words and a code, never a stack, a path or SQL."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from math import ceil
from typing import Any

from esb.endpoints.base import Response
from esb.errors import Violation
from esb.message import EMPTY

CONTENT_TYPE = "application/problem+json"

#: Most violations that one answer lists; a payload with more has more to fix than anybody reads at once.
MAX_ERRORS = 200


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    errors: Sequence[Violation] = (),
    retry_after: timedelta | None = None,
    headers: Mapping[str, str] = EMPTY,
    **members: Any,
) -> Response:
    """The answer for an error: ``code`` is for programs, ``detail`` for people; ``members`` left empty are left out.

    ``retry_after`` becomes ``Retry-After`` in whole seconds, at least one.
    """
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": _title(status),
        "status": status,
        "code": code,
        "detail": detail,
    }
    document.update((name, value) for name, value in members.items() if value)
    document["errors"] = [violation.as_dict() for violation in errors[:MAX_ERRORS]]
    fields = {"content-type": CONTENT_TYPE, "cache-control": "no-store", **headers}
    if retry_after is not None:
        fields["retry-after"] = str(max(1, ceil(retry_after.total_seconds())))
    return Response(status, json.dumps(document).encode(), fields)


def raw_problem(status: int, code: str, detail: str, *, retry_after: timedelta | None = None) -> bytes:
    """A whole HTTP/1.1 answer that closes the connection, for requests that never reach an application."""
    response = problem(status, code, detail, retry_after=retry_after)
    lines = [f"HTTP/1.1 {status} {_title(status)}", "connection: close", f"content-length: {len(response.body)}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + response.body


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
