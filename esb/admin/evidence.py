"""``/api/v1/evidence``: everything that the bus knows of a tracked value, for the archive that ``esb evidence`` makes of it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from pathlib import Path
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from esb import views
from esb.access.roles import Right
from esb.admin import wire
from esb.admin.actions import Actions
from esb.admin.answers import Gate, answer, body_of, listed, problem, who_of
from esb.admin.by import By
from esb.admin.sealing import KEY_FILE, SealKey, fingerprint
from esb.clock import Clock
from esb.operations import NotAllowed
from esb.secret import Secret
from esb.store.base import AuditEntry, Store, Stored

#: Messages of one archive.
MOST = 10_000
#: What holds payloads, of a message and of its trace.
_PAYLOADS = frozenset({"headers", "vars", "meta", "ledger", "payload_base64"})
_ANSWERS = frozenset({"answered", "response", "body", "body_base64"})


class SealFacts(Protocol):
    """What sealing needs of the bus."""

    @property
    def seal_key(self) -> Secret | None:
        """The key that signs the anchor of the audit, None where there is none."""
        ...

    @property
    def root(self) -> Path:
        """The workspace, in whose ``.esb`` the key of the seals lies."""
        ...


class Evidence:
    """The endpoints, for who may read the audit of the whole bus; payloads are told to who may see payloads, too."""

    def __init__(self, store: Store, bus: SealFacts, actions: Actions, gate: Gate, clock: Clock) -> None:
        self._store, self._bus, self._actions, self._gate, self._clock = store, bus, actions, gate, clock

    def routes(self) -> list[BaseRoute]:
        def read(path: str, endpoint: Any, words: frozenset[str] = frozenset()) -> BaseRoute:
            return Route(f"/api/v1/evidence{path}", self._gate.guarded(endpoint, Right.AUDIT, words=words))

        seal = self._gate.guarded(self.seal, Right.AUDIT, action=True)
        return [
            read("", self.found, frozenset({"track", "since", "until"})),
            read("/messages/{id}", self.message),
            read("/versions/{route}/{version}", self.version),
            Route("/api/v1/evidence/seal", seal, methods=["POST"]),
            read("/key", self.key),
            Route(
                "/api/v1/evidence/key", self._gate.guarded(self.key_made, Right.AUDIT, action=True), methods=["POST"]
            ),
        ]

    def _permit(self, request: Request) -> None:
        self._actions.permit_all(who_of(request), Right.AUDIT)

    async def found(self, request: Request) -> Response:
        """The messages that track the value, and those of the same correlation ids, oldest first."""
        self._permit(request)
        words: dict[str, Any] = dict(request.query_params)
        words["track"] = request.query_params.getlist("track")
        selection = wire.filter_of({**words, "limit": MOST}, self._clock.now())
        if not selection.track:
            raise wire.BadRequest("evidence of what?", hint="give `track`, such as `lot=4711`")
        own: list[Stored] = []
        for page in views.found(self._store, selection):
            own += page
            await asyncio.sleep(0)
        others: list[Stored] = []
        for page in views.related(self._store, own, MOST + 1):
            others += page
            await asyncio.sleep(0)
        if len(own) == MOST or len(own) + len(others) > MOST:
            raise wire.BadRequest(f"more than {MOST} messages", hint="narrow it with `since` and `until`")
        mine, who = {stored.envelope.id for stored in own}, who_of(request)
        ordered = sorted([*own, *others], key=lambda stored: stored.envelope.seq)
        pages = ([views.item(stored)] for stored in ordered)
        shown = (self._actions.seen(who, [{**item, "tracked": item["id"] in mine}]) for (item,) in pages)
        return await listed("EvidenceList", shown)

    async def message(self, request: Request) -> Response:
        """One message with its payload as it lies in the store."""
        self._permit(request)
        stored = self._store.get(request.path_params["id"])
        if stored is None:
            return problem(404, "not-found", f"no message {request.path_params['id']}")
        envelope, ledger = self._store.payload(stored.envelope.seq)
        payload = envelope.payload()
        item = {
            **stored.as_item(),
            "seq": envelope.seq,
            "version": envelope.version,
            "content": envelope.content,
            "headers": dict(envelope.headers),
            "vars": dict(envelope.vars),
            "meta": dict(envelope.meta),
            "trace": [dict(entry) for entry in stored.trace],
            "ledger": {step: value for step, value in ledger.items() if isinstance(value, dict)},
            "payload_bytes": len(payload),
            "payload_sha256": hashlib.sha256(payload).hexdigest(),
            "payload_base64": base64.b64encode(payload).decode("ascii"),
        }
        if not who_of(request).everywhere(Right.PAYLOAD):
            item = {name: value for name, value in item.items() if name not in _PAYLOADS}
            item["trace"] = [{k: v for k, v in entry.items() if k not in _ANSWERS} for entry in item["trace"]]
        return answer("EvidenceMessage", self._actions.seen(who_of(request), [item]))

    async def version(self, request: Request) -> Response:
        """The texts that a version of a route was made of, also of one that is long gone; null for one that never ran."""
        self._permit(request)
        route, version = request.path_params["route"], request.path_params["version"]
        files = self._store.version(route, version)
        texts = dict(files) if files is not None else None
        return answer("EvidenceVersion", [{"route": route, "version": version, "files": texts}])

    async def key(self, request: Request) -> Response:
        """The public key of the seals, none before the first one."""
        key = self._key
        return answer("EvidenceKey", [_told(key.public())] if key.exists else [])

    async def key_made(self, request: Request) -> Response:
        """The same; made where there is none yet, which the audit keeps."""
        self._permit(request)
        return answer("EvidenceKey", [_told(await self._public(By.of(request, await body_of(request))))])

    @property
    def _key(self) -> SealKey:
        return SealKey(self._bus.root / ".esb" / KEY_FILE)

    async def _public(self, by: By) -> str:
        key, who = self._key, by.who()
        if not key.exists:
            key.make()
            entry = AuditEntry(who.actor, "evidence.key", "made", who.reason, {"public_key": key.public()})
            await self._store.audit(entry, self._clock.now())
        return key.public()

    async def seal(self, request: Request) -> Response:
        """Enter an archive into the audit, and sign its hash; also with the key of the anchor, where there is one."""
        self._permit(request)
        words = await body_of(request)
        by, digest, subject = By.of(request, words), str(words.get("sha256") or ""), str(words.get("subject") or "")
        if len(digest) != 64 or not subject:
            raise wire.BadRequest("`sha256` and `subject` are needed")
        if not by.reason:
            raise NotAllowed("evidence needs a reason", hint='add --reason "customer complaint 17"')
        await self._public(by)
        now, who = self._clock.now(), by.who()
        detail = {"sha256": digest, "messages": wire.number(words.get("messages"), "messages") or 0}
        await self._store.audit(AuditEntry(who.actor, "evidence.export", subject, who.reason, detail), now)
        seq, entry = self._store.audit_head()
        seal: dict[str, Any] = {"manifest_sha256": digest, "audit_seq": seq, "audit_hash": entry, "at": now.isoformat()}
        if (key := self._bus.seal_key) is not None:
            seal["mac"] = seal_mac(key, seal)
        return answer("EvidenceSeal", [self._key.sign(seal)])


def _told(public: str) -> dict[str, str]:
    return {"public_key": public, "fingerprint": fingerprint(public)}


def seal_mac(key: Secret, seal: dict[str, Any]) -> str:
    """HMAC-SHA256 over what a seal says."""
    text = f"{seal['manifest_sha256']} {seal['audit_seq']} {seal['audit_hash']} {seal['at']}"
    return hmac.new(key.reveal().encode(), text.encode(), hashlib.sha256).hexdigest()
