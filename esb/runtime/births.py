"""How messages come into being: from a source's delivery, from a hand-off, from a replay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from esb.config.model import RouteSpec
from esb.endpoints.base import Incoming
from esb.errors import Invalid, MessageError
from esb.message import EMPTY, Envelope, Message, State, new_id
from esb.registry import Registry
from esb.runtime.payload import codec_of, encode_body, first_message, message_of
from esb.runtime.settle import handler_for, record
from esb.steps.base import HandOff
from esb.steps.keys import key_text
from esb.store.base import DedupeKey, NewMessage

#: How long a source's own identity (Idempotency-Key, file identity, timer slot) is remembered.
SOURCE_WINDOW = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Birth:
    """A message about to be stored, with its decoded form for direct dispatch (None where it is stored dead)."""

    new: NewMessage
    message: Message | None


class Births:
    """Gives new messages their identity, key, dedupe and tracked values by the rules of their route."""

    def __init__(self, registry: Registry, site: Mapping[str, Any]) -> None:
        self._registry = registry
        self._site = site

    # -- from a source ------------------------------------------------------------------------------------------------
    def of_incoming(self, spec: RouteSpec, incoming: Incoming, now: datetime) -> Birth:
        """The message for a delivery. Raises Invalid where the source refuses; else a bad payload is born dead."""
        id_ = new_id()
        meta = dict(incoming.meta)
        if incoming.content_type:
            meta["content_type"] = incoming.content_type
        base: dict[str, Any] = {
            "id": id_,
            "origin": id_,
            "route": spec.name,
            "body": incoming.payload,
            "content": "source",
            "accepted_at": now,
            "version": spec.digest,
            "correlation_id": incoming.correlation_id or id_,
            "headers": incoming.headers,
            "meta": meta,
            "priority": PRIORITY[spec.priority],
        }
        source_key = None
        if incoming.source_key is not None:
            source_key = DedupeKey("source", incoming.source_key, now + SOURCE_WINDOW, incoming.fingerprint)
        body: Any = None
        try:
            codec = incoming.codec or codec_of(spec, meta, self._registry)
            body = codec.decode(incoming.payload)
            if incoming.contract is not None:
                incoming.contract.check(body)
        except Invalid as error:
            if incoming.on_invalid == "refuse":
                raise
            base["track"] = self._track_of_bad(spec, base, body)
            return Birth(_dead(spec, Envelope(**base), error, source_key), None)
        return self._admit(spec, base, body, source_key)

    # -- from a hand-off ----------------------------------------------------------------------------------------------
    def of_handoff(
        self,
        handoff: HandOff,
        parent: Envelope,
        spec: RouteSpec,
        now: datetime,
        receivers: Callable[[str], Iterable[RouteSpec]],
    ) -> list[Birth]:
        """The children of one hand-off: one per subscribing route for a topic, else exactly one."""
        if handoff.kind in ("branch", "split"):
            return [self._inside(handoff, parent, spec, now)]
        births = []
        for receiver in receivers(handoff.target):
            place = handoff.place if handoff.kind == "route" else f"{handoff.place}>{receiver.name}"
            births.append(self._across(handoff, place, parent, receiver, now))
        return births

    def _inside(self, handoff: HandOff, parent: Envelope, spec: RouteSpec, now: datetime) -> Birth:
        body, content = encode_body(handoff.message.body)
        key = handoff.key if handoff.key is not None or not handoff.keep_key else parent.key
        branch = handoff.kind == "branch"
        envelope = replace(
            parent,
            id=new_id(),
            origin=f"{parent.origin}/{handoff.place}",
            body=body,
            content=content,
            accepted_at=now,
            version=spec.digest,
            scope=handoff.target,
            key=key,
            parent_id=parent.id,
            replay_of=None,
            duplicate_of=None,
            overtakes=parent.overtakes and branch,
            headers=handoff.message.headers,
            vars=handoff.message.vars,
            meta=_carried(handoff.message.meta),
            seq=0,
        )
        dedupe = None
        if handoff.dedupe is not None:
            window = handoff.dedupe_window or timedelta(days=7)
            dedupe = DedupeKey(f"dedupe:{handoff.target}", handoff.dedupe, now + window)
        message = message_of(envelope, handoff.message.body, 1)
        try:
            track = parent.track if branch else {**parent.track, **self._track(spec, message)}
        except MessageError:
            track = parent.track  # the item lacks what the route tracks; that is no fault of the item
        new = NewMessage(replace(envelope, track=track), dedupe=dedupe, supersede=envelope.overtakes)
        return Birth(new, message)

    def _across(self, handoff: HandOff, place: str, parent: Envelope, receiver: RouteSpec, now: datetime) -> Birth:
        body, content = encode_body(handoff.message.body)
        base: dict[str, Any] = {
            "id": new_id(),
            "origin": f"{parent.origin}/{place}",
            "route": receiver.name,
            "body": body,
            "content": content,
            "accepted_at": now,
            "version": receiver.digest,
            "correlation_id": parent.correlation_id,
            "parent_id": parent.id,
            "headers": handoff.message.headers,
            "meta": {
                **_carried(handoff.message.meta),
                "source": {"type": handoff.kind, "name": handoff.target, "route": parent.route},
            },
            "track": parent.track,
            "priority": PRIORITY[receiver.priority],
        }
        contract = getattr(receiver.source.options, "contract", None)
        if contract is not None:
            try:
                contract.check(handoff.message.body)
            except Invalid as error:
                return Birth(_dead(receiver, Envelope(**base), error), None)
        return self._admit(receiver, base, handoff.message.body)

    # -- from a replay ------------------------------------------------------------------------------------------------
    @staticmethod
    def of_replay(original: Envelope, version: str, now: datetime) -> Birth:
        """A new message with the original's payload and delivery ids (SPEC: replay). Its dedupe key is not asked again."""
        envelope = replace(
            original,
            id=new_id(),
            accepted_at=now,
            version=version,
            replay_of=original.id,
            duplicate_of=None,
            overtakes=False,  # it is the newest of its key now; what came after the original must not be outdated by it
            seq=0,
        )
        return Birth(NewMessage(envelope, supersede=False), None)

    # -- the route's own rules ----------------------------------------------------------------------------------------
    def _admit(self, spec: RouteSpec, base: dict[str, Any], body: Any, source_key: DedupeKey | None = None) -> Birth:
        """Key, dedupe, tracked values and precedence of a new message; a fault in these rules makes it a dead letter."""
        message = first_message(base, body)
        try:
            dedupe = None
            if spec.key is not None or spec.dedupe is not None or spec.track:
                scope = message.scope(self._site)
                key = key_text(spec.key(scope), "key") if spec.key is not None else None
                if spec.dedupe is not None:
                    value = key_text(spec.dedupe.key(scope), "dedupe")
                    if value is not None:
                        dedupe = DedupeKey("dedupe", value, base["accepted_at"] + spec.dedupe.window)
                base["track"] = {**base.get("track", EMPTY), **self._track(spec, message)}
                base["key"] = key
                base["overtakes"] = (
                    spec.order.overtake is not None and key is not None and spec.order.overtake.truth(scope)
                )
        except MessageError as error:
            return Birth(_dead(spec, Envelope(**base), error, source_key), None)
        envelope = Envelope(**base)
        new = NewMessage(envelope, dedupe=dedupe, source_key=source_key, supersede=envelope.overtakes)
        if envelope.key is not None:
            message = message.with_meta("key", envelope.key)
        return Birth(new, message)

    def _track_of_bad(self, spec: RouteSpec, base: dict[str, Any], body: Any) -> Mapping[str, str]:
        """What can be tracked of a payload that breaks its contract, so that it is found by its lot all the same."""
        try:
            return self._track(spec, first_message(base, body)) if body is not None else EMPTY
        except MessageError:
            return EMPTY

    def _track(self, spec: RouteSpec, message: Message) -> dict[str, str]:
        scope = message.scope(self._site)
        values = {name: key_text(expression(scope), f"track.{name}") for name, expression in spec.track.items()}
        return {name: value for name, value in values.items() if value is not None}


PRIORITY: Mapping[str, int] = {"low": 0, "normal": 1, "high": 2}

_BUS_META = ("message_id", "correlation_id", "route", "key", "received_at", "attempt", "version", "reply")


def _carried(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What of ``meta`` goes on to a child: everything but what the bus writes anew for it."""
    return {name: value for name, value in meta.items() if name not in _BUS_META} if meta else dict(EMPTY)


def _dead(spec: RouteSpec, envelope: Envelope, error: MessageError, source_key: DedupeKey | None = None) -> NewMessage:
    handler = handler_for(spec.on_error, error.error_class, error.error_class)
    what = record(error, step="source", error_class=error.error_class, handler=handler)
    return NewMessage(envelope, state=State.DEAD, error=what, source_key=source_key)
