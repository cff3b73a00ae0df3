"""The manners of a SAP Gateway: CSRF tokens bound to a session, ETags, OData V2 envelopes and errors."""

from __future__ import annotations

import secrets
import time
from typing import Any

from examples.demo.simulators.base import Answer, Call, Problem

SERVICE_ROOT = "/sap/opu/odata/sap"
SESSION_COOKIE = "SAP_SESSIONID_SIM_100"


def entity(kind: str, fields: dict[str, Any], *, status: int = 201, etag: str = "") -> Answer:
    """One entity as OData V2 answers it."""
    headers = {"ETag": etag} if etag else {}
    return Answer(status, {"d": {"__metadata": {"type": kind}, **fields}}, headers)


def error(status: int, code: str, text: str, headers: dict[str, str] | None = None) -> Answer:
    """An OData V2 error document."""
    return Answer(
        status,
        {
            "error": {
                "code": code,
                "message": {"lang": "en", "value": text},
                "innererror": {"errordetails": [{"code": code, "message": text, "severity": "error"}]},
            }
        },
        headers or {},
    )


def refuse(status: int, code: str, text: str) -> Problem:
    return Problem(error(status, code, text))


def bapi_return(kind: str, id_: str, number: str, text: str) -> dict[str, Any]:
    """A ``RETURN`` table with one row, as function modules give it under HTTP 200."""
    return {"RETURN": [{"TYPE": kind, "ID": id_, "NUMBER": number, "MESSAGE": text, "SYSTEM": "SIMCLNT100"}]}


def date(at: float | None = None) -> str:
    return f"/Date({int((time.time() if at is None else at) * 1000)})/"


class Sessions:
    """CSRF tokens: a token is valid with the cookie of the session that fetched it, and for nobody else."""

    def __init__(self) -> None:
        self._tokens: dict[str, str] = {}

    def forget(self) -> None:
        """Every session ends, as after a restart of the gateway."""
        self._tokens.clear()

    def fetch(self, call: Call) -> dict[str, str]:
        """The headers of an answer to ``X-CSRF-Token: Fetch``; empty where none was asked for."""
        if call.headers.get("x-csrf-token", "").lower() != "fetch":
            return {}
        session = _cookie(call)
        if session not in self._tokens:
            session = secrets.token_hex(12)
            self._tokens[session] = secrets.token_urlsafe(18)
        return {"X-CSRF-Token": self._tokens[session], "Set-Cookie": f"{SESSION_COOKIE}={session}; path=/; HttpOnly"}

    def check(self, call: Call) -> Answer | None:
        """A write needs token and cookie; otherwise 403 with ``X-CSRF-Token: Required``."""
        token = call.headers.get("x-csrf-token", "")
        known = self._tokens.get(_cookie(call))
        if known is not None and secrets.compare_digest(token, known):
            return None
        text = "CSRF token validation failed"
        return error(403, "/IWFND/CM_CSRF", text, {"X-CSRF-Token": "Required"})


def _cookie(call: Call) -> str:
    for part in call.headers.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == SESSION_COOKIE:
            return value
    return ""
