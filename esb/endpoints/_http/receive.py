"""A route's HTTP source at work: from a request to an accepted message, and from its outcome to the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from esb.endpoints._http.events import is_structured, unwrapped
from esb.endpoints._http.heads import NOT_PASSED_ON, Head, fingerprint, read_head, source_key
from esb.endpoints._http.media import JSON
from esb.endpoints._http.replies import WAIT, accepted_answer, ended_answer, refusal_of
from esb.endpoints.base import (
    Incoming,
    KeyConflict,
    Outcome,
    Receipt,
    Request,
    Response,
    SourceContext,
    Tell,
)
from esb.endpoints.http_auth import Gate, Identity, name_of
from esb.endpoints.limits import Buckets, Guesses
from esb.endpoints.problem import problem
from esb.errors import MessageError, StoreError
from esb.failpoints import hit
from esb.failpoints import pause as failpoint
from esb.message import EMPTY

if TYPE_CHECKING:
    from esb.endpoints.http import HttpSource

_CLIENT = "client "
_NOBODY = Identity("")


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
        self._hidden = NOT_PASSED_ON | self._logins
        self._token: object = None
        self._working = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        source = self._source
        self._token = self._context.ingress.mount(
            source.method,
            source.path,
            self._handle,
            admit=self._admit if self._gate is not None or self._buckets is not None else None,
            max_body=source.max_body,
            soon=self._soon,
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
    def _enter(self) -> None:
        self._working += 1
        self._idle.clear()

    def _leave(self) -> None:
        self._working -= 1
        if not self._working:
            self._idle.set()

    async def _handle(self, request: Request) -> Response:
        self._enter()
        try:
            begun = self._begin(request)
            if isinstance(begun, Response):
                return self._told(begun)
            identity, incoming = begun
            try:
                await failpoint("http.read")
            except BaseException:
                self._forget(identity)
                raise
            return await self._accept(identity, incoming)
        finally:
            self._leave()

    def _soon(self, request: Request, tell: Tell) -> Response | Awaitable[Response] | None:
        """The same without a task: the answer is written from the commit itself."""
        begun = self._begin(request)
        if isinstance(begun, Response):
            return self._told(begun)
        identity, incoming = begun
        try:
            hit("http.read")
            soon = self._context.intake.accept_soon(incoming, partial(self._landed, identity, incoming, tell))
        except (KeyConflict, StoreError, MessageError) as error:
            self._forget(identity)
            return self._told(refusal_of(error, incoming))
        except BaseException:
            self._forget(identity)
            raise
        if soon:
            self._enter()
            return None
        return self._later(identity, incoming)

    async def _later(self, identity: Identity, incoming: Incoming) -> Response:
        """What is large, or slow to read, after all in a task."""
        self._enter()
        try:
            return await self._accept(identity, incoming)
        finally:
            self._leave()

    async def _accept(self, identity: Identity, incoming: Incoming) -> Response:
        accepted = False
        try:
            receipt = await self._context.intake.accept(incoming)
            accepted = True
        except (KeyConflict, StoreError, MessageError) as error:
            return self._told(refusal_of(error, incoming))
        finally:
            if not accepted:
                self._forget(identity)
        await failpoint("http.accepted")
        answer = accepted_answer(receipt, self._source.reply)
        if answer is None:
            outcome = receipt.outcome or await self._context.intake.outcome(
                receipt.message_id, self._source.timeout.total_seconds(), receipt.seq
            )
            await failpoint("http.answering")
            answer = ended_answer(receipt, outcome)
        return self._told(answer)

    def _landed(self, identity: Identity, incoming: Incoming, tell: Tell, answer: Receipt | Exception) -> None:
        """The commit is through, or has failed."""
        response: Response | Exception | None
        try:
            if isinstance(answer, Receipt):
                hit("http.accepted")
                response = accepted_answer(answer, self._source.reply)
                if response is None and answer.outcome is None:
                    timeout, told = self._source.timeout.total_seconds(), partial(self._ended, answer, tell)
                    self._context.intake.outcome_then(answer.message_id, timeout, answer.seq, told)
                    return
                if response is None:
                    hit("http.answering")
                    response = ended_answer(answer, answer.outcome)
                response = self._told(response)
            else:
                self._forget(identity)
                known = isinstance(answer, (KeyConflict, StoreError, MessageError))
                response = self._told(refusal_of(answer, incoming)) if known else answer  # type: ignore[arg-type]  # as `known` says
        except Exception as error:  # noqa: BLE001 - whoever waits for the answer must hear of it
            response = error
        self._leave()
        tell(response)

    def _ended(self, receipt: Receipt, tell: Tell, outcome: Outcome | None) -> None:
        """The message has ended, or the caller has waited for long enough."""
        response: Response | Exception
        try:
            hit("http.answering")
            response = self._told(ended_answer(receipt, outcome))
        except Exception as error:  # noqa: BLE001 - as above
            response = error
        self._leave()
        tell(response)

    def _forget(self, identity: Identity) -> None:
        """Nothing was stored, so the same signed request may come again."""
        if self._gate is not None:
            self._gate.forget(identity)

    def _begin(self, request: Request) -> tuple[Identity, Incoming] | Response:
        """Who sends, and what goes to the intake; or the refusal."""
        gate = self._gate
        if gate is None:
            incoming = self._incoming(request, _NOBODY)
            return incoming if isinstance(incoming, Response) else (_NOBODY, incoming)
        identity = gate.identify(request)
        if isinstance(identity, Response):
            self._note_guess(request)
            return identity
        if gate.needs_body and (used := self._quotas.refusal(identity.client)):
            return used
        incoming = self._incoming(request, identity)
        if isinstance(incoming, Response):
            return incoming
        gate.remember(identity)
        return identity, incoming

    def _incoming(self, request: Request, identity: Identity) -> Incoming | Response:
        memo = request.memo
        head: Head | Response | None = memo.value if memo is not None and memo.owner is self else self._head_of(request)
        if head is None:
            unpacked = unwrapped(request)
            if isinstance(unpacked, Response):
                return unpacked
            request = unpacked
            head = read_head(request, self._source.format, self._hidden)
        if isinstance(head, Response):
            return head
        payload, codec, content_type, meta = request.body, head.codec, head.content_type, head.meta
        if not payload and request.method in ("GET", "DELETE") and self._source.format in (None, JSON):
            payload, codec, content_type = b"null", JSON, ""
            meta = {name: value for name, value in meta.items() if name != "content_type"}
        if identity.client:
            meta = {**meta, "source": {"type": "http", "client": identity.client}}
        key, event = head.key, head.event
        if identity.proof and not identity.fresh and (key is not None or event is not None):
            # what tells a repeat is not under the signature here, and what was seen before the start is not known any more
            return problem(
                503,
                "signed-too-early",
                "this was signed before the route was started; sign it again",
                retry_after=WAIT,
            )
        return Incoming(
            payload,
            codec,
            content_type,
            head.passed,
            meta,
            self._source.contract,
            source_key(identity, key, event) if key is not None or event is not None or identity.proof else None,
            fingerprint(request) if key is not None or (identity.proof and event is None) else "",
            head.correlation_id,
            "refuse",
        )

    # -- the head -----------------------------------------------------------------------------------------------------
    def _head_of(self, request: Request) -> Head | Response | None:
        """What the head says, kept for when the sender repeats it; None where the body may say it instead."""
        memo = request.memo
        head = None if is_structured(request.headers) else read_head(request, self._source.format, self._hidden)
        if memo is not None:
            memo.owner, memo.value = self, head
        return head
