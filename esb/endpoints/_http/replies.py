"""What a route answers over HTTP: to a stored message, to its end, and to what was not stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from esb.endpoints._http.media import JSON, codec_for
from esb.endpoints.base import Incoming, KeyConflict, Outcome, Receipt, Response
from esb.endpoints.problem import problem
from esb.errors import Invalid, MessageError, StoreBusy, StoreError, Unavailable, Violation

_ASCII = "".join(map(chr, range(32, 127)))
_BAD_HEADER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
#: Texts that JSON and a header write as they are.
_UNQUOTED = re.compile(r"[A-Za-z0-9 ._:/+=-]+")
WAIT = timedelta(seconds=5)
#: Error classes that are the caller's to mend; the words of the others stay inside.
_CALLERS = frozenset({"invalid", "unmapped", "rejected"})


def accepted_answer(receipt: Receipt, reply: str) -> Response | None:
    """The answer to a stored message; None where its end is waited for."""
    if reply == "none":
        return Response(204, b"", _headers(receipt))
    if reply == "accepted" and (answer := _in_one_piece(202, receipt, receipt.state)) is not None:
        return answer
    if reply == "accepted" or receipt.state == "duplicate":
        return _json(202 if reply == "accepted" else 200, _facts(receipt), _headers(receipt))
    return None


def _in_one_piece(status: int, receipt: Receipt, state: str) -> Response | None:
    """What nearly every request is answered, written at once; None where it takes more than that."""
    correlation = receipt.correlation_id
    if receipt.state != "queued" or not (correlation == receipt.message_id or _UNQUOTED.fullmatch(correlation)):
        return None
    body = f'{{"message_id":"{receipt.message_id}","correlation_id":"{correlation}","state":"{state}"}}'.encode()
    return Response(status, body, {"content-type": "application/json", "x-correlation-id": correlation})


def ended_answer(receipt: Receipt, outcome: Outcome | None) -> Response:
    """The answer to a message that has ended, or has not ended in time."""
    if outcome is None:
        return problem(
            504,
            "not-yet",
            "the message was accepted and is still being worked on",
            message_id=receipt.message_id,
            headers=_headers(receipt),
        )
    if outcome.response is None and outcome.left_out is None and outcome.error is None:
        answer = _in_one_piece(200, receipt, outcome.state)
        if answer is not None:
            return answer
    return outcome_answer(outcome, _facts(receipt), _headers(receipt))


def _headers(receipt: Receipt) -> dict[str, str]:
    headers = {"x-correlation-id": receipt.correlation_id} if _plain(receipt.correlation_id) else {}
    if receipt.state == "known":
        headers["idempotent-replayed"] = "true"
    return headers


def _facts(receipt: Receipt) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "message_id": receipt.message_id,
        "correlation_id": receipt.correlation_id,
        "state": receipt.state,
    }
    if receipt.state == "duplicate" and receipt.duplicate_of is not None:
        facts["duplicate_of"] = receipt.duplicate_of
    return facts


def refusal_of(error: KeyConflict | StoreError | MessageError, incoming: Incoming) -> Response:
    """Why a message was not accepted: nothing was stored."""
    match error:
        case KeyConflict():
            return problem(
                409,
                "idempotency-key-reused",
                "this Idempotency-Key was used before with other content",
                message_id=error.message_id,
            )
        case StoreBusy():
            return problem(503, "busy", error.message, retry_after=error.retry_after)
        case StoreError():
            return problem(503, "store-down", "the bus cannot store messages now", retry_after=WAIT)
        case Invalid() if _undecodable(incoming):
            return problem(400, "undecodable", error.message, errors=error.violations)
        case Invalid():
            return problem(422, "invalid", error.message, errors=error.violations)
        case Unavailable():
            status = (error.reply or {}).get("status", 503)
            status = status if isinstance(status, int) and 400 <= status <= 599 else 503
            return problem(
                status, "unavailable", "the route takes no messages now", retry_after=error.retry_after or WAIT
            )
        case _:
            return problem(422, error.error_class, error.message, errors=error.violations)


def _undecodable(incoming: Incoming) -> bool:
    """Tells a body that cannot be read from one that breaks its contract; only asked once it was refused."""
    if incoming.codec is None:
        return False
    if getattr(incoming.codec, "apart", False):  # it must not be read here
        return incoming.contract is None
    try:
        incoming.codec.decode(incoming.payload)
    except Invalid:
        return True
    return False


def outcome_answer(outcome: Outcome, facts: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    """The synchronous answer: what `respond` set, else the state, else the error in words that may leave the bus."""
    if outcome.response is not None:
        return _respond(*outcome.response, headers)
    if outcome.left_out is not None:
        return problem(
            410,
            "answer-not-kept",
            f"the message has ended, and its answer ({outcome.left_out}) was too large to be kept for a repeat",
            headers=headers,
            message_id=facts["message_id"],
            state=outcome.state,
        )
    if outcome.error is None:
        return _json(200, {**facts, "state": outcome.state}, headers)
    error_class = str(outcome.error.get("class", "internal"))
    detail = str(outcome.error.get("message", "")) if error_class in _CALLERS else "the message could not be delivered"
    status = 422 if error_class in _CALLERS else 500 if error_class == "internal" else 502
    faults = outcome.error.get("errors", ()) if error_class in _CALLERS else ()
    return problem(
        status,
        error_class,
        detail[:500],
        errors=[Violation(str(fault["pointer"]), str(fault["detail"])) for fault in faults],
        headers=headers,
        message_id=facts["message_id"],
        state=outcome.state,
    )


def _respond(status: int, own: Mapping[str, str], body: Any, headers: Mapping[str, str]) -> Response:
    fields = {**headers, **{name.lower(): str(value) for name, value in own.items()}}
    for name in ("content-length", "transfer-encoding", "connection"):
        fields.pop(name, None)
    if any(_BAD_HEADER.search(value) for value in fields.values()):
        raise Invalid("the answer of `respond` has a header with a control character")
    # the message is done: what a header cannot hold is written as an address would write it, not answered with an error
    fields = {name: value if value.isascii() else quote(value, safe=_ASCII) for name, value in fields.items()}
    if body is None:
        return Response(status, b"", fields)
    if isinstance(body, bytes):
        return Response(status, body, {"content-type": "application/octet-stream", **fields})
    if isinstance(body, str):
        return Response(status, body.encode(), {"content-type": "text/plain; charset=utf-8", **fields})
    codec = codec_for(fields.get("content-type", "")) or JSON
    try:
        return Response(status, codec.encode(body), {"content-type": codec.content_type, **fields})
    except Invalid:  # an object under `text/plain`, two roots under XML: it goes out as what it is
        return Response(status, JSON.encode(body), {**fields, "content-type": JSON.content_type})


def _json(status: int, document: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    return Response(status, JSON.encode(document), {"content-type": "application/json", **headers})


def _plain(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable()
