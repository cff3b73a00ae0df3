"""What messages say about the indicators of the workspace: rules and a message in, facts for the store out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol

from esb.config.alerts import PREFIX
from esb.config.kpis import ANY_SCOPE, MOST_KEYS, Kpi, Rule
from esb.errors import EsbError, InternalFault
from esb.message import EMPTY, Envelope, Message
from esb.observe.meters import Meters
from esb.observe.spans import Span, outgoing, spans_of
from esb.steps.keys import key_text
from esb.store.base import Settlement
from esb.store.facts import Fact
from esb.store.indicators import MILLION
from esb.store.values import micros

#: Mark of a replay in `meta`, which its children inherit.
REPLAY_OF = "replay_of"
#: Weights beyond this, in millionths, are no plausible value of stock and would not fit into the store.
LARGEST = 10**18
_BIRTH = ("accepted", "replayed", "duplicate", "dead")


class Exporting(Protocol):
    """Where spans go."""

    def __call__(self, span: Span) -> None: ...

    def close(self) -> None:
        """Send what is left."""
        ...


Rules = Mapping[str, tuple[Rule, ...]]
Decode = Callable[[Envelope], Message | None]


@dataclass(slots=True)
class Observer:
    """Turns events into facts. One for the whole bus; a reload changes its rules, never the numbers."""

    log: Callable[..., None] = lambda *_, **__: None
    site_of: Callable[[str], Mapping[str, Any]] = lambda _: EMPTY  #: the values of the site of a route
    faults: Counter[str] = field(default_factory=Counter)  #: by indicator, since the start
    meters: Meters = field(default_factory=Meters)
    marked: frozenset[str] = frozenset()  #: members of payloads that contracts mark as sensitive
    emit: Exporting | None = None  #: where spans go; None where nobody wants them
    _decode: Decode = lambda _: None
    _kpis: tuple[Kpi, ...] = ()
    _rules: dict[str, Rules] = field(default_factory=dict)

    def configure(self, kpis: Mapping[str, Kpi], site_of: Callable[[str], Mapping[str, Any]], decode: Decode) -> None:
        """Follow the indicators of a workspace; ``decode`` reads the payload of a message as its route does."""
        self._kpis, self.site_of, self._decode, self._rules = tuple(kpis.values()), site_of, decode, {}

    def only(self, kpi: Kpi) -> Observer:
        """One that looks at a single indicator, and reads payloads in the same way; it counts faults of its own."""
        self.rules("")  # what is read late is read by now
        return Observer(self.log, self.site_of, _decode=self._decode, _kpis=(kpi,))

    def rules(self, route: str) -> Rules:
        """The rules for a route, by event."""
        known = self._rules.get(route)
        if known is None:
            found: dict[str, list[Rule]] = {}
            for kpi in self._kpis:
                for rule in kpi.rules():
                    if route in rule.routes if rule.routes is not None else not route.startswith(PREFIX):
                        found.setdefault(rule.on, []).append(rule)
            known = self._rules[route] = {on: tuple(rules) for on, rules in found.items()}
        return known

    # -- events -------------------------------------------------------------------------------------------------------
    def born(self, envelope: Envelope, message: Message | None) -> tuple[Fact, ...]:
        """The facts of everything that may become of a new message at its birth; the store takes those that do."""
        rules = self.rules(envelope.route)
        if not rules:
            return ()
        found: list[Fact] = []
        for on in _BIRTH:
            if on in rules and (on != "replayed" or envelope.replay_of is not None):
                found += self._facts(rules[on], envelope, envelope.accepted_at, message)
        return tuple(found)

    def replayed(self, envelope: Envelope) -> tuple[Fact, ...]:
        """The facts of a replay at its birth."""
        if not self.rules(envelope.route):
            return ()
        return self.born(envelope, self._read(envelope))

    def event(
        self, on: str, envelope: Envelope, at: datetime, message: Message | None, *, step: str = ""
    ) -> tuple[Fact, ...]:
        """The facts of something that happens later. Without ``message`` it is read where a rule needs it."""
        rules = self.rules(envelope.route).get(on, ())
        rules = tuple(rule for rule in rules if not rule.event.step or rule.event.step == step)
        if not rules:
            return ()
        if message is None and any(rule.reads_body for rule in rules):
            message = self._read(envelope)
        return tuple(self._facts(rules, envelope, at, message))

    # -- spans --------------------------------------------------------------------------------------------------------
    def outgoing(self, message: Message, envelope: Envelope, delivery: str, attempt: int) -> Message:
        """The message as a target gets it: under the span of its delivery, where spans are made."""
        return message if self.emit is None else outgoing(message, envelope, delivery, attempt)

    def spans(self, envelope: Envelope, settlement: Settlement) -> None:
        """Hand over the spans of an attempt."""
        if self.emit is not None:
            for span in spans_of(envelope, settlement):
                self.emit(span)

    def _read(self, envelope: Envelope) -> Message | None:
        try:
            return self._decode(envelope)
        except (EsbError, ValueError) as error:
            self.log("warning", "kpi.fault", route=envelope.route, message=envelope.id, error=str(error))
            return None

    # -- rules --------------------------------------------------------------------------------------------------------
    def _facts(self, rules: tuple[Rule, ...], envelope: Envelope, at: datetime, message: Message | None) -> list[Fact]:
        found: list[Fact] = []
        scope: dict[str, Any] | None = None
        again = envelope.replay_of is not None or REPLAY_OF in envelope.meta
        for rule in rules:
            if (again and rule.part != "end" and rule.on != "replayed") or not _in_scope(rule, envelope):
                continue
            if message is None and rule.reads_body:
                continue  # the payload could not be read: nobody knows what it would say
            if scope is None:
                scope = self._scope(envelope, message)
            try:
                found += self._of(rule, scope, at)
            except EsbError as error:
                self._fault(rule, envelope, error)
        return found

    def _scope(self, envelope: Envelope, message: Message | None) -> dict[str, Any]:
        given = message or Message(None, envelope.headers, envelope.vars, envelope.meta)
        return {**given.scope(self.site_of(envelope.route)), "track": envelope.track}

    def _of(self, rule: Rule, scope: Mapping[str, Any], at: datetime) -> list[Fact]:
        event, options = rule.event, rule.kpi.options
        if event.if_ is not None and not event.if_.truth(scope):
            return []
        instant = micros(at if event.at is None else _instant(event.at(scope)))
        label = (key_text(options.per(scope), "per") or "") if options.per is not None else ""
        weigh = event.weigh or options.weigh
        n, weight = 1, self._weight(rule, weigh, scope) if weigh is not None else 0
        if rule.part in ("add", "set"):
            level = event.add or event.set_
            assert level is not None
            n = _millionths(level(scope))
            if n == 0 and rule.part == "add":
                return []
        element = (key_text(event.part(scope), "part") or "") if event.part is not None else ""
        within = int(options.within.total_seconds() * MILLION) if options.within is not None else None
        return [
            Fact(
                rule.kpi.name, rule.part, rule.on, instant, key, label[:200], n, weight, within, element, options.parts
            )
            for key in self._keys(rule, scope)
        ]

    def _weight(self, rule: Rule, weigh: Any, scope: Mapping[str, Any]) -> int:
        """What the message weighs; 0, and a fault in the log, where that cannot be worked out: the event counts all the same."""
        try:
            return _millionths(weigh(scope))
        except EsbError as error:
            self.faults[rule.kpi.name] += 1
            self.log("warning", "kpi.fault", kpi=rule.kpi.name, of="weigh", error=str(error))
            return 0

    @staticmethod
    def _keys(rule: Rule, scope: Mapping[str, Any]) -> list[str]:
        if rule.part in ("count", "of"):
            return [""]
        by = rule.event.by or rule.kpi.options.by
        assert by is not None
        value = by(scope)
        values = value[:MOST_KEYS] if isinstance(value, list) else [value]
        return [key[:500] for one in values if (key := key_text(one, "by")) is not None]

    def _fault(self, rule: Rule, envelope: Envelope, error: Exception) -> None:
        self.faults[rule.kpi.name] += 1
        self.log("warning", "kpi.fault", kpi=rule.kpi.name, route=envelope.route, message=envelope.id, error=str(error))


def _in_scope(rule: Rule, envelope: Envelope) -> bool:
    return rule.scope in (ANY_SCOPE, envelope.scope)


def _millionths(value: Any) -> int:
    """A number in millionths, exact up to there; null is 0. Raises InternalFault for anything else."""
    if value is None:
        return 0
    try:
        number = Decimal(value) if isinstance(value, (int, Decimal, str)) and not isinstance(value, bool) else None
    except InvalidOperation:
        number = None
    if number is None or not number.is_finite() or abs(number) * MILLION > LARGEST:
        raise InternalFault(f"{str(value)[:100]!r} is no number that can be summed")
    return int((number * MILLION).to_integral_value())


def _instant(value: Any) -> datetime:
    """An instant out of a message: RFC 3339, UTC where it names no zone. Raises InternalFault."""
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise InternalFault(f"`at` gives {str(value)[:100]!r}, which is no instant") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
