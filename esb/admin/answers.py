"""What the API answers with, how it reads what it is asked, and the gate before each of its calls."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from esb.access.roles import Principal, Right
from esb.admin import wire
from esb.admin.access import Access
from esb.admin.faults import fault_of, known
from esb.endpoints.problem import MAX_ERRORS
from esb.errors import EsbError, Invalid, Violation
from esb.formats.json import Json

#: Largest body of an action.
MAX_BODY = 20_000_000
#: Browsers take an answer for what it says it is, keep none, and show none inside of a page of somebody else.
SAFE = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}
_JSON = Json()

Endpoint = Callable[[Request], Awaitable[Response]]


class Gate:
    """Stands before every call: who asks, whether they may, and what becomes of an error."""

    def __init__(self, access: Access, log: Callable[..., None]) -> None:
        self._access = access
        self._log = log

    def guarded(
        self, endpoint: Endpoint, right: Right, *, action: bool = False, words: frozenset[str] | None = frozenset()
    ) -> Endpoint:
        """``action``: a session's cookie is not enough, since a browser sends it by itself. ``words`` are those that it knows
        behind the `?`, where it is no action: None for all, of what other programs add words to."""

        async def guard(request: Request) -> Response:
            response = await answered(request)
            response.headers.update(SAFE)
            return response

        async def answered(request: Request) -> Response:
            refusal = self._access.refuse(request, right, action=action)
            if refusal is not None:
                if hasattr(request.state, "who"):  # somebody known, who may not
                    path, actor = request.url.path, request.state.who.actor
                    self._log("info", "access.refused", actor=actor, right=str(right), path=path)
                return Response(refusal.body, refusal.status, dict(refusal.headers))
            try:
                if not action and words is not None:
                    wire.only(request.query_params, words)
                return await endpoint(request)
            except Exception as error:  # noqa: BLE001 - the last place that can answer; the client gets a number, the log the rest
                if (ours := known(error)) is not None:
                    return _fault(ours)
                incident = str(uuid.uuid4())
                self._log("error", "admin.failed", incident=incident, path=request.url.path, error=repr(error))
                return problem(500, "internal", f"the bus could not handle this request (incident {incident})")

        return guard


def who_of(request: Request) -> Principal:
    """The one who asks, as the gate found."""
    found: Principal = request.state.who
    return found


async def body_of(request: Request, known: frozenset[str] | None = None) -> dict[str, Any]:
    """The JSON object of an action, with the ``known`` words and those of every action. Raises BadRequest."""
    if request.query_params:
        raise wire.BadRequest("what an action means stands in its body", hint="take out what is behind the `?`")
    size, parts = 0, []
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY:
            raise wire.BadRequest("the request is too large", hint=f"at most {MAX_BODY} bytes")
        parts.append(chunk)
    try:
        words = _JSON.decode(b"".join(parts) or b"{}")
    except Invalid as error:
        raise wire.BadRequest(f"the request is no JSON: {error.message}", hint=error.hint) from None
    if not isinstance(words, dict):
        raise wire.BadRequest("the request must be a JSON object")
    if known is not None:
        wire.only(words, known | wire.ACTION)
    return words


class ExactJson(JSONResponse):
    """JSON whose decimals are exact: payloads and replies hold them."""

    def render(self, content: Any) -> bytes:
        return _JSON.encode(content)


def answer(kind: str, items: list[dict[str, Any]], status: int = 200) -> Response:
    return ExactJson(wire.listing(kind, items), status)


async def listed(kind: str, pages: Iterable[Sequence[Mapping[str, Any]]]) -> Response:
    """An answer of any length, read and encoded a page at a time: everything else goes on between two of them."""
    parts = []
    for page in pages:
        if page:
            parts.append(_JSON.encode(list(page))[1:-1])
        await asyncio.sleep(0)
    head = _JSON.encode({"kind": kind, "items": []})[:-2]
    return Response(b"".join((head, b",".join(parts), b"]}")), media_type="application/json")


def _fault(error: EsbError) -> Response:
    fault = fault_of(error)
    return problem(
        fault.status, fault.code, fault.detail, hint=fault.hint, headers=fault.headers, violations=fault.violations
    )


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    hint: str = "",
    headers: Mapping[str, str] | None = None,
    violations: Sequence[Violation] = (),
) -> Response:
    """An error as ``application/problem+json`` (RFC 9457)."""
    body = {"type": "about:blank", "title": code.replace("-", " "), "status": status, "code": code, "detail": detail}
    if hint:
        body["hint"] = hint
    errors = [violation.as_dict() for violation in violations[:MAX_ERRORS]]
    return JSONResponse(
        {**body, "errors": errors}, status, headers=dict(headers or {}), media_type="application/problem+json"
    )


async def not_served(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if status == 405:
        return problem(status, "method-not-allowed", f"this path takes {headers.get('Allow', '')}", headers=headers)
    return problem(status, "not-found" if status == 404 else "failed", "no such resource", headers=headers)
