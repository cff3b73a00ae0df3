"""How messages come into being: from a source's delivery, from a hand-off, from a replay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from esb.config.model import RouteSpec
from esb.endpoints.base import Incoming
from esb.errors import ErrorRecord, InternalFault, Invalid, MessageError, Overdue
from esb.formats.packed import kept
from esb.message import EMPTY, Envelope, Message, State, new_id
from esb.observe.indicators import REPLAY_OF, Observer
from esb.observe.spans import again_in
from esb.pipeline import Overtime, Watch
from esb.registry import Registry
from esb.runtime.payload import codec_of, decode_body, message_of
from esb.runtime.rules import ALERT, alert_of
from esb.runtime.settle import handler_for, record
from esb.steps.base import HandOff
from esb.steps.keys import key_text
from esb.store.base import DedupeKey, NewMessage
from esb.store.facts import Fact

if TYPE_CHECKING:
    from esb.runtime.verdicts import Verdict

#: How long a source's own identity (Idempotency-Key, file identity, timer slot) is remembered.
SOURCE_WINDOW = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Admission:
    """What a worker process found out about a payload that is about to be accepted."""

    key: str | None
    track: Mapping[str, str]
    overtakes: bool
    dedupe: tuple[str, datetime] | None
    error: ErrorRecord | None
    facts: tuple[Fact, ...] = ()


class Birth(Struct, frozen=True, gc=False):
    """A message about to be stored, with its decoded form for direct dispatch (None where it is stored dead or unread)."""

    new: NewMessage
    message: Message | None
    ended: Verdict | None = None  #: how it ended, where it was worked off before it is stored
    beside: Sequence[Birth] = ()  #: what tells of one that is stored dead


class Births:
    """Gives new messages their identity, key, dedupe and tracked values by the rules of their route."""

    def __init__(
        self,
        registry: Registry,
        site: Mapping[str, Any],
        watch: Watch | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._observer = observer or Observer()
        self._registry = registry
        self._site = site
        self._watch = watch

    # -- from a source ------------------------------------------------------------------------------------------------
    def of_incoming(self, spec: RouteSpec, incoming: Incoming, now: datetime) -> Birth:
        """The message for a delivery. Raises Invalid where the source refuses; else a bad payload is born dead."""
        envelope = self._envelope(spec, incoming, now)
        body: Any = None
        try:
            codec = incoming.codec or codec_of(spec, envelope.meta, self._registry)
            body = codec.decode(incoming.payload if incoming.blob is None else incoming.blob.read())
            if incoming.contract is not None:
                incoming.contract.check(body)
        except Invalid as error:
            if incoming.on_invalid == "refuse":
                raise
            told = message_of(envelope, body, 1) if body is not None else None
            envelope = replace(envelope, track=self._track_of_bad(spec, told))
            return self._observed(Birth(_dead(spec, envelope, error, _source_key(incoming, now)), None), told)
        source_key = None if incoming.source_key is None else _source_key(incoming, now)
        return self._admit(spec, envelope, body, source_key)

    def of_unread(self, spec: RouteSpec, incoming: Incoming, now: datetime, found: Admission) -> Birth:
        """The same for a payload that a worker process has read: with what it found, and without a decoded body."""
        envelope = self._envelope(spec, incoming, now)
        envelope = replace(envelope, track=found.track, key=found.key, overtakes=found.overtakes)
        new = NewMessage(envelope, source_key=_source_key(incoming, now), facts=found.facts)
        if found.error is not None:
            return Birth(replace(new, state=State.DEAD, error=found.error), None)
        dedupe = DedupeKey("dedupe", *found.dedupe) if found.dedupe is not None else None
        return Birth(replace(new, dedupe=dedupe, supersede=envelope.overtakes), None)

    def of_unseen(self, spec: RouteSpec, incoming: Incoming, now: datetime) -> Birth:
        """The same for a large payload that nobody has read; the rules of its route must not look into the body."""
        envelope = self._envelope(spec, incoming, now)
        return replace(self._admit(spec, envelope, None, _source_key(incoming, now)), message=None)

    def of_refused(self, spec: RouteSpec, incoming: Incoming, now: datetime, error: Invalid) -> Birth:
        """The dead letter for a payload that could not be read within its limits. Raises it where the source refuses."""
        if incoming.on_invalid == "refuse":
            raise error
        envelope = self._envelope(spec, incoming, now)
        return self._observed(Birth(_dead(spec, envelope, error, _source_key(incoming, now)), None), None)

    def with_alert(
        self, dead: Birth, spec: RouteSpec, now: datetime, receivers: Callable[[str, str], Iterable[RouteSpec]]
    ) -> Birth:
        """The same birth with the alert that tells of it, where the route names one: whatever ends the process, both are stored."""
        alert = self._alert(dead.new, spec, now)
        if alert is None:
            return dead
        beside = self.of_handoff(alert, dead.new.envelope, spec, now, receivers)
        return replace(dead, new=replace(dead.new, beside=[birth.new for birth in beside]), beside=beside)

    @staticmethod
    def too_old(spec: RouteSpec, envelope: Envelope, now: datetime) -> Birth | None:
        """The same message, dead, where all that could come of it is that it expires."""
        if spec.ttl is None or now < envelope.accepted_at + spec.ttl:
            return None
        return Birth(_dead(spec, envelope, Overdue(f"it is older than the `ttl` of route {spec.name}")), None)

    def once_more(self, spec: RouteSpec, envelope: Envelope) -> Birth:
        """What is to be stored of a message that was refused at the door, if it came now; dead again where it still is refused.

        Raises Overtime where the rules of the route take too long for the loop.
        """
        contract = getattr(spec.source.options, "contract", None)
        if envelope.content == "source":  # what a hand-off carries on stays
            envelope = replace(envelope, track=EMPTY)
        try:
            body = decode_body(envelope, spec, self._registry)
            if contract is not None:
                contract.check(body)
        except Invalid as error:
            return Birth(_dead(spec, envelope, error), None)
        with self._watched():
            return self._admit(spec, envelope, body)

    def _observed(self, birth: Birth, message: Message | None) -> Birth:
        """The same birth with what it says about indicators."""
        if not self._observer.rules(birth.new.envelope.route):
            return birth
        facts = self._observer.born(birth.new.envelope, message)
        return replace(birth, new=replace(birth.new, facts=facts)) if facts else birth

    @staticmethod
    def _envelope(spec: RouteSpec, incoming: Incoming, now: datetime) -> Envelope:
        """What is known of a new message before its payload is read."""
        id_, meta = new_id(), incoming.meta
        if incoming.content_type and "content_type" not in meta:
            meta = {**meta, "content_type": incoming.content_type}
        return Envelope(
            id_,
            spec.name,
            incoming.payload,
            "source",
            now,
            spec.digest,
            origin=id_,
            correlation_id=incoming.correlation_id or id_,
            priority=PRIORITY[spec.priority],
            headers=incoming.headers,
            meta=meta,
            blob=incoming.blob,
        )

    # -- from a hand-off ----------------------------------------------------------------------------------------------
    def of_handoff(
        self,
        handoff: HandOff,
        parent: Envelope,
        spec: RouteSpec,
        now: datetime,
        receivers: Callable[[str, str], Iterable[RouteSpec]],
    ) -> list[Birth]:
        """The children of one hand-off: one per subscribing route for a topic, else exactly one; and the alert of each that is born dead.

        ``receivers`` gives the routes that a kind of hand-off and the name of its target mean.
        """
        if handoff.kind in ("branch", "split"):
            return [self._inside(handoff, parent, spec, now)]
        births, found = [], tuple(receivers(handoff.kind, handoff.target))
        if not found and handoff.kind == "route":  # an older version names it; only a topic may have no reader
            raise InternalFault(
                f"there is no route `{handoff.target}` to hand the message to",
                hint="bring the route back, then `esb dlq retry`",
            )
        for receiver in found:
            place = handoff.place if handoff.kind == "route" else f"{handoff.place}>{receiver.name}"
            birth = self._across(handoff, place, parent, receiver, now)
            births.append(birth)
            if birth.new.error is not None and (alert := self._alert(birth.new, receiver, now)) is not None:
                births += self.of_handoff(alert, birth.new.envelope, receiver, now, receivers)
        return births

    def _alert(self, dead: NewMessage, spec: RouteSpec, now: datetime) -> HandOff | None:
        """What tells of a message that was refused at the door of its route."""
        error, envelope = dead.error, dead.envelope
        if error is None or str(envelope.meta.get("source", EMPTY).get("name", "")).startswith(ALERT):
            return None  # an alert that cannot be told is no reason for one
        handler = handler_for(spec.on_error, error.error_class, error.error_class)
        name = (handler.alert if handler is not None else "") or spec.alert
        return alert_of(name, envelope, error, now, self._observer.marked) if name else None

    def _inside(self, handoff: HandOff, parent: Envelope, spec: RouteSpec, now: datetime) -> Birth:
        body, content = kept(handoff.message.body)
        key = handoff.key if handoff.key is not None or not handoff.keep_key else parent.key
        branch = handoff.kind == "branch"
        envelope = replace(
            parent,
            id=new_id(),
            origin=f"{parent.origin}/{handoff.place}",
            body=body,
            content=content,
            accepted_at=now,
            version=handoff.version or spec.digest,
            blob=None,
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
            with self._watched():
                track = parent.track if branch else {**parent.track, **self._track(spec, message)}
        except (MessageError, Overtime):
            track = parent.track  # the item lacks what the route tracks; that is no fault of the item
        new = NewMessage(replace(envelope, track=track), dedupe=dedupe, supersede=envelope.overtakes)
        return self._observed(Birth(new, message), message)

    def _across(self, handoff: HandOff, place: str, parent: Envelope, receiver: RouteSpec, now: datetime) -> Birth:
        body, content = kept(handoff.message.body)
        envelope = Envelope(
            new_id(),
            receiver.name,
            body,
            content,
            now,
            receiver.digest,
            origin=f"{parent.origin}/{place}",
            correlation_id=parent.correlation_id,
            parent_id=parent.id,
            headers=handoff.message.headers,
            meta={
                **_carried(handoff.message.meta),
                "source": {"type": handoff.kind, "name": handoff.target, "route": parent.route},
            },
            track=parent.track,
            priority=PRIORITY[receiver.priority],
        )
        contract = getattr(receiver.source.options, "contract", None)
        if contract is not None:
            try:
                contract.check(handoff.message.body)
            except Invalid as error:
                dead = Birth(_dead(receiver, envelope, error), None)
                return self._observed(dead, message_of(envelope, handoff.message.body, 1))
        if self._watch is None or not (receiver.key or receiver.dedupe or receiver.track):
            return self._admit(receiver, envelope, handoff.message.body)
        try:
            with self._watched():
                return self._admit(receiver, envelope, handoff.message.body)
        except Overtime:
            slow = InternalFault(
                f"`key`, `dedupe` or `track` of route {receiver.name} takes too long",
                hint="work the value out in a step of the route that sends the message, and name its result here",
            )
            return self._observed(Birth(_dead(receiver, envelope, slow), None), None)

    # -- from a replay ------------------------------------------------------------------------------------------------
    @staticmethod
    def of_replay(original: Envelope, version: str, now: datetime) -> Birth:
        """A new message with the original's payload and delivery ids (SPEC: replay). Its dedupe key is not asked again."""
        id_ = new_id()
        envelope = replace(
            original,
            id=id_,
            accepted_at=now,
            version=version,
            replay_of=original.id,
            meta={**original.meta, REPLAY_OF: original.id, **again_in(original, id_)},
            duplicate_of=None,
            overtakes=False,  # it is the newest of its key now; what came after the original must not be outdated by it
            seq=0,
        )
        return Birth(NewMessage(envelope, supersede=False), None)

    # -- the route's own rules ----------------------------------------------------------------------------------------
    def _admit(self, spec: RouteSpec, envelope: Envelope, body: Any, source_key: DedupeKey | None = None) -> Birth:
        """Key, dedupe, tracked values and precedence of a new message; a fault in these rules makes it a dead letter."""
        message = message_of(envelope, body, 1)
        if spec.key is None and spec.dedupe is None and not spec.track:
            birth = Birth(NewMessage(envelope, source_key=source_key), message)
            return self._observed(birth, message) if self._observer.rules(spec.name) else birth
        dedupe = None
        try:
            scope = message.scope(spec.site_values(self._site))
            key = key_text(spec.key(scope), "key") if spec.key is not None else None
            if spec.dedupe is not None:
                value = key_text(spec.dedupe.key(scope), "dedupe")
                if value is not None:
                    dedupe = DedupeKey("dedupe", value, envelope.accepted_at + spec.dedupe.window)
            envelope = replace(envelope, key=key, track={**envelope.track, **self._track(spec, message)})
            if spec.order.overtake is not None and key is not None:
                envelope = replace(envelope, overtakes=spec.order.overtake.truth(scope))
        except MessageError as error:
            return self._observed(Birth(_dead(spec, envelope, error, source_key), None), message)
        new = NewMessage(envelope, dedupe=dedupe, source_key=source_key, supersede=envelope.overtakes)
        if envelope.key is not None:
            message = message.with_meta("key", envelope.key)
        return self._observed(Birth(new, message), message)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """The rules of a route run on the loop: what takes too long is interrupted (Overtime)."""
        if self._watch is None:
            yield
            return
        self._watch.arm()
        try:
            yield
        finally:
            self._watch.disarm()

    def _track_of_bad(self, spec: RouteSpec, message: Message | None) -> Mapping[str, str]:
        """What can be tracked of a payload that breaks its contract, so that it is found by its lot all the same."""
        try:
            return self._track(spec, message) if message is not None else EMPTY
        except MessageError:
            return EMPTY

    def _track(self, spec: RouteSpec, message: Message) -> dict[str, str]:
        scope = message.scope(spec.site_values(self._site))
        values = {name: key_text(expression(scope), f"track.{name}") for name, expression in spec.track.items()}
        return {name: value for name, value in values.items() if value is not None}


PRIORITY: Mapping[str, int] = {"low": 0, "normal": 1, "high": 2}


def _source_key(incoming: Incoming, now: datetime) -> DedupeKey | None:
    if incoming.source_key is None:
        return None
    apart = incoming.on_reused == "store"
    return DedupeKey("source", incoming.source_key, now + SOURCE_WINDOW, incoming.fingerprint, apart)


_BUS_META = frozenset({"message_id", "correlation_id", "route", "key", "received_at", "attempt", "version", "reply"})


def _carried(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What of ``meta`` goes on to a child: everything but what the bus writes anew for it."""
    return {name: value for name, value in meta.items() if name not in _BUS_META} if meta else dict(EMPTY)


def _dead(spec: RouteSpec, envelope: Envelope, error: MessageError, source_key: DedupeKey | None = None) -> NewMessage:
    handler = handler_for(spec.on_error, error.error_class, error.error_class)
    what = record(error, step="source", error_class=error.error_class, spec=spec, handler=handler)
    return NewMessage(envelope, state=State.DEAD, error=what, source_key=source_key)
