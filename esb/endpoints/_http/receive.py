"""A route's HTTP source at work: from a request to an accepted message, and from its outcome to the answer."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote

from msgspec.structs import replace

from esb.endpoints._http.events import event_key, unwrapped
from esb.endpoints._http.media import JSON, codec_for, fits
from esb.endpoints.base import Incoming, KeyConflict, Outcome, Receipt, Request, Response, SourceContext
from esb.endpoints.carried import correlation_id, trace_of
from esb.endpoints.http_auth import Gate, Identity, name_of
from esb.endpoints.limits import Buckets, Guesses
from esb.endpoints.problem import problem
from esb.errors import Invalid, MessageError, StoreBusy, StoreError, Unavailable, Violation
from esb.failpoints import pause as failpoint
from esb.formats.base import Codec
from esb.message import EMPTY

if TYPE_CHECKING:
    from esb.endpoints.http import HttpSource

_ASCII = "".join(map(chr, range(32, 127)))
#: Headers of one hop, of the transport and of logins; a message never carries them.
_NOT_PASSED_ON = frozenset(
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
_BAD_HEADER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_MAX_FIELDS = 200
_WAIT = timedelta(seconds=5)
_CLIENT = "client "
#: Error classes that are the caller's to mend; the words of the others stay inside.
_CALLERS = frozenset({"invalid", "unmapped", "rejected"})


class HttpReceiver:
    """One mounted route (:class:`esb.endpoints.base.RunningSource`)."""

    #: the next version of a route mounts before this one unmounts, so that no request finds nobody
    overlaps = True

    def __init__(self, source: HttpSource, context: SourceContext) -> None:
        self._source = source
        self._context = context
        self._gate = Gate(source.auth, context.clock) if source.auth is not None else None
        self._guesses = Guesses(context.clock)
        self._buckets = Buckets(source.rate, context.clock) if source.rate is not None else None
        clients = source.auth.clients if source.auth is not None else ()
        rates = {name_of(one): one.quota for one in clients if one.quota is not None}
        self._quotas = context.ingress.quotas.of(rates, context.clock)
        self._logins = source.auth.headers if source.auth is not None else frozenset()
        life = getattr(source.contract, "life", None)
        self._life: Mapping[str, str] = life.headers if life is not None else EMPTY
        self._hidden = _NOT_PASSED_ON | self._logins
        self._token: object = None
        self._working = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        source = self._source
        self._token = self._context.ingress.mount(
            source.method, source.path, self._handle, admit=self._admit, max_body=source.max_body
        )

    async def stop(self) -> None:
        self._context.ingress.unmount(self._token)
        await self._idle.wait()

    # -- before the body ----------------------------------------------------------------------------------------------
    def _admit(self, request: Request) -> Response | None:
        refusal = self._refusal(request)
        return self._told(refusal) if refusal is not None else None

    def _told(self, answer: Response) -> Response:
        """An answer with what the sender must know of the contract."""
        return replace(answer, headers={**self._life, **answer.headers}) if self._life else answer

    def _refusal(self, request: Request) -> Response | None:
        if self._gate is not None:
            if (early := self._guesses.refusal(request.client)) is not None:
                return early
            if (refusal := self._gate.admit(request)) is not None:
                self._note_guess(request)
                return refusal
        payer = self._payer(request) if self._buckets is not None or self._quotas else ""
        if refusal := self._quotas.refusal(payer.removeprefix(_CLIENT)) if payer.startswith(_CLIENT) else None:
            return refusal
        if self._buckets is None or (wait := self._buckets.take(payer)) is None:
            return None
        return problem(429, "too-many-requests", "this client sends more than the route takes", retry_after=wait)

    def _note_guess(self, request: Request) -> None:
        """Who shows nothing has guessed nothing: that is a client that was set up wrong, and it is told so each time."""
        if not self._logins.isdisjoint(request.headers):
            self._guesses.note(request.client)

    def _payer(self, request: Request) -> str:
        """Who is charged for a request: the client by its credentials, else its address. A signature is checked later."""
        if self._gate is not None and not self._gate.needs_body:
            identity = self._gate.identify(request)
            if isinstance(identity, Identity):
                return f"{_CLIENT}{identity.client}"
        return request.client

    # -- the message --------------------------------------------------------------------------------------------------
    async def _handle(self, request: Request) -> Response:
        self._working += 1
        self._idle.clear()
        try:
            return self._told(await self._receive(request))
        finally:
            self._working -= 1
            if not self._working:
                self._idle.set()

    async def _receive(self, request: Request) -> Response:
        identity = self._gate.identify(request) if self._gate is not None else Identity("")
        if isinstance(identity, Response):
            self._note_guess(request)
            return identity
        if self._gate is not None and self._gate.needs_body and (used := self._quotas.refusal(identity.client)):
            return used
        unpacked = unwrapped(request)
        incoming = self._incoming(unpacked, identity) if isinstance(unpacked, Request) else unpacked
        if isinstance(incoming, Response):
            return incoming
        if self._gate is not None:
            self._gate.remember(identity)
        accepted = False
        try:
            await failpoint("http.read")
            receipt = await self._context.intake.accept(incoming)
            accepted = True
        except (KeyConflict, StoreError, MessageError) as error:
            return refusal_of(error, incoming)
        finally:
            if not accepted and self._gate is not None:
                self._gate.forget(identity)
        await failpoint("http.accepted")
        return await self._answer(receipt)

    def _incoming(self, request: Request, identity: Identity) -> Incoming | Response:
        headers = request.headers
        content_type = headers.get("content-type", "")
        codec = self._codec(content_type)
        if isinstance(codec, Response):
            return codec
        payload = request.body
        if not payload and request.method in ("GET", "DELETE") and self._source.format in (None, JSON):
            payload, codec, content_type = b"null", JSON, ""
        key = headers.get("idempotency-key")
        if key is not None:
            key = (
                key[1:-1] if len(key) > 2 and key[0] == key[-1] == '"' else key
            )  # a structured text, as the draft writes it
            if not (0 < len(key) <= 255 and key.isascii() and key.isprintable()):
                return problem(400, "bad-idempotency-key", "an Idempotency-Key is 1 to 255 printable ASCII characters")
        event = event_key(headers)
        if identity.proof and not identity.fresh and (key is not None or event is not None):
            # what tells a repeat is not under the signature here, and what was seen before the start is not known any more
            return problem(
                503,
                "signed-too-early",
                "this was signed before the route was started; sign it again",
                retry_after=_WAIT,
            )
        try:
            query = read_query(request.query)
        except ValueError:
            return problem(400, "bad-query", f"the query is not UTF-8, or has more than {_MAX_FIELDS} fields")
        passed = passed_on(headers, self._hidden)
        traceparent = headers.get("traceparent", "")
        trace = trace_of(traceparent)
        meta: dict[str, Any] = {
            "params": dict(request.params),
            "query": query,
            "path": request.path,
            "client": request.client,
            "source": {"type": "http", "client": identity.client},
        }
        if trace:
            meta["traceparent"] = traceparent
        return Incoming(
            payload=payload,
            codec=codec,
            content_type=content_type,
            headers=passed,
            meta=meta,
            contract=self._source.contract,
            source_key=source_key(identity, key, event),
            fingerprint=fingerprint(request) if key is not None or (identity.proof and event is None) else "",
            correlation_id=correlation_id(passed, trace),
            on_invalid="refuse",
        )

    def _codec(self, content_type: str) -> Codec | Response:
        fixed: Codec | None = self._source.format
        if fixed is None:
            words = "send JSON, XML, CSV or plain text, with its Content-Type"
            return codec_for(content_type) or problem(415, "content-type-not-taken", words)
        if not fits(fixed, content_type):
            return problem(415, "content-type-not-taken", f"this route takes {fixed.content_type}")
        return fixed

    # -- the answer ---------------------------------------------------------------------------------------------------
    async def _answer(self, receipt: Receipt) -> Response:
        headers = {"x-correlation-id": receipt.correlation_id} if _plain(receipt.correlation_id) else {}
        if receipt.state == "known":
            headers["idempotent-replayed"] = "true"
        if self._source.reply == "none":
            return Response(204, b"", headers)
        facts: dict[str, Any] = {
            "message_id": receipt.message_id,
            "correlation_id": receipt.correlation_id,
            "state": receipt.state,
        }
        if receipt.state == "duplicate" and receipt.duplicate_of is not None:
            facts["duplicate_of"] = receipt.duplicate_of
        if self._source.reply == "accepted" or receipt.state == "duplicate":
            return _json(202 if self._source.reply == "accepted" else 200, facts, headers)
        outcome = receipt.outcome or await self._context.intake.outcome(
            receipt.message_id, self._source.timeout.total_seconds(), receipt.seq
        )
        await failpoint("http.answering")
        if outcome is None:
            return problem(
                504,
                "not-yet",
                "the message was accepted and is still being worked on",
                message_id=receipt.message_id,
                headers=headers,
            )
        return outcome_answer(outcome, facts, headers)


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
            return problem(503, "store-down", "the bus cannot store messages now", retry_after=_WAIT)
        case Invalid() if _undecodable(incoming):
            return problem(400, "undecodable", error.message, errors=error.violations)
        case Invalid():
            return problem(422, "invalid", error.message, errors=error.violations)
        case Unavailable():
            status = (error.reply or {}).get("status", 503)
            status = status if isinstance(status, int) and 400 <= status <= 599 else 503
            return problem(
                status, "unavailable", "the route takes no messages now", retry_after=error.retry_after or _WAIT
            )
        case _:
            return problem(422, error.error_class, error.message, errors=error.violations)


def _undecodable(incoming: Incoming) -> bool:
    """Tells a body that cannot be read from one that breaks its contract; only asked once it was refused."""
    if incoming.codec is None:
        return False
    try:
        incoming.codec.decode(incoming.payload)
    except Invalid:
        return True
    return False


def outcome_answer(outcome: Outcome, facts: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    """The synchronous answer: what `respond` set, else the state, else the error in words that may leave the bus."""
    if outcome.response is not None:
        return _respond(*outcome.response, headers)
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


# -- parts of a request ---------------------------------------------------------------------------------------------------


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
    found: dict[str, Any] = {}
    if not query:
        return found
    for name, value in parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict"):
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    return found


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
