"""Indicators: ``kpi:`` documents and the route field ``kpis``, compiled to rules that say what a message means for them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice, product
from typing import Annotated, Any, Literal

from esb.errors import Position, Problem
from esb.language import Expression
from esb.message import EMPTY
from esb.spec import MISSING, Kind, ListNode, MapNode, Node, Reader, ScalarNode, option, read_options
from esb.steps.keys import key_text

#: What may happen to a message.
EVENTS = ("accepted", "replayed", "duplicate", "delivered", "done", "filtered", "dead", "expired")
#: Events that count wherever in a route they happen; the others are those of the route's own message unless `scope` says more.
EVERYWHERE = frozenset({"delivered", "dead", "expired"})
ANY_SCOPE = "*"
#: Keys that one event may name.
MOST_KEYS = 1000
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_TRACKED = re.compile(r"[a-z][a-z0-9_]*")


class TrackedKind(Kind):
    """``by``: the name of a tracked value, or an expression; a list of them makes one key of several parts."""

    label = "the name of a tracked value, or an expression (JMESPath), or a list of them"

    def read(self, node: Node, reader: Reader) -> Any:
        if isinstance(node, ListNode) and node.items:
            parts = [self.read(item, reader) for item in node.items]
            return reader.unless_missing(_joined(parts) if MISSING not in parts else None, parts)
        if isinstance(node, ScalarNode) and isinstance(node.value, str) and _TRACKED.fullmatch(node.value):
            name = node.value
            return Expression(name, lambda scope: scope.get("track", EMPTY).get(name))
        return Expression.kind.read(node, reader)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}


def _joined(parts: Sequence[Expression]) -> Expression:
    """The parts joined by ``/``; one key for each combination where a part gives a list."""

    def evaluate(scope: Mapping[str, Any]) -> Any:
        columns = [value if isinstance(value, list) else [value] for value in (part(scope) for part in parts)]
        rows = [[key_text(one, "by") for one in row] for row in islice(product(*columns), MOST_KEYS)]
        return ["/".join(filter(None, row)) for row in rows if all(row)]

    names = frozenset[str]().union(*(part.names for part in parts))
    return Expression(", ".join(part.text for part in parts), evaluate, names)


By = Annotated[Expression, TrackedKind()]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens to messages of some routes. As a text: an event of this route, or the name of a route."""

    route: tuple[str, ...] = option(
        default=(),
        doc="The routes; in `kpis` of a route that route, else all but those of alerts.",
        example="stock-decisions",
        shorthand=True,
    )
    on: Literal["accepted", "replayed", "duplicate", "delivered", "done", "filtered", "dead", "expired"] | None = (
        option(
            default=None,
            doc="What happens; `accepted` unless said otherwise, `done` for the `end` of a pair, `delivered` where a `step` is given.",
            example="delivered",
            aliases=("event", "state"),
        )
    )
    step: str = option(default="", doc="The step whose delivery is confirmed.", example="to:erp.goods-movement")
    scope: str | None = option(
        default=None,
        doc="Only in this branch or `split`; `*` means everywhere. Without it the route's own messages, and everywhere"
        " for `delivered`, `dead` and `expired`.",
        example="fanout/erp",
    )
    if_: Expression | None = option(default=None, doc="Only messages for which this is true.", example="body.kind == 'HOLD'")  # fmt: skip
    by: By | None = option(default=None, doc="The key, where it differs from the indicator's `by`.", example="lot")
    at: Expression | None = option(
        default=None, doc="The instant, where it is not that of the bus.", example="body.detected_at"
    )
    weigh: Expression | None = option(
        default=None, doc="The weight, where it differs from the indicator's `weigh`.", example="body.value"
    )
    add: Expression | None = option(
        default=None, doc="By how much the level of a gauge rises; below zero it falls.", example="body.quantity"
    )
    set_: Expression | None = option(default=None, doc="The new level of a gauge.", example="body.stock")
    part: Expression | None = option(default=None, doc="Which of `parts` has ended.", example="body.system")


class EventsKind(Kind):
    """One event, or a list of them."""

    label = "an event or a list of events"

    def read(self, node: Node, reader: Reader) -> Any:
        nodes = node.items if isinstance(node, ListNode) else (node,)
        found = [read_options(Event, self._named(one), reader) for one in nodes]
        return reader.unless_missing(tuple(found), found)

    @staticmethod
    def _named(node: Node) -> Node:
        """A text that is an event's word stands for the event."""
        if isinstance(node, ScalarNode) and node.value in EVENTS:
            key = ScalarNode(node.position, "on", "on")
            return MapNode(node.position, ((key, node),))
        return node

    def schema(self) -> dict[str, Any]:
        from esb.spec.schema import options_schema  # noqa: PLC0415 - as in esb.spec.kinds

        one = options_schema(Event)
        return {"anyOf": [one, {"type": "array", "items": one}]}


Events = Annotated[tuple[Event, ...], EventsKind()]


@dataclass(frozen=True, slots=True)
class KpiOptions:
    """An indicator: a pair (`start`, `end`), a counter (`count`) or a gauge (`gauge`) over messages.

    It is kept in the transactions of the messages that it is about, so that no restart, retry or purge changes it; a replay
    repeats an effect and counts for `replayed` only, though it may end a pair. Expressions see the message as it was
    accepted; for `delivered` as it was sent, with `meta.reply`.
    """

    description: str = option(default="", doc="What it tells, in a sentence.", example="Holds that the ERP has in time")
    owner: str = option(default="", doc="Who answers for it.", example="quality-it")
    unit: str = option(default="", doc="Unit of the weight or level.", example="EUR")
    start: Events = option(default=(), doc="What begins a pair.", example="{ route: stock-decisions }")
    end: Events = option(default=(), doc="What ends it.", example="{ route: decision-effects }")
    by: By | None = option(
        default=None,
        doc="What the two events, or the changes of a level, have in common: a tracked value, an expression, or a list of"
        " them, which makes a key of several parts. An expression that gives a list gives a key for each item.",
        example="lot",
    )
    parts: tuple[str, ...] = option(
        default=(), doc="A pair ends when each of these has ended; see `part`.", example="[ERP, WMS, MES]"
    )
    within: timedelta | None = option(default=None, doc="Longest time of a pair; beyond it it is late.", example="5s")
    weigh: Expression | None = option(
        default=None, doc="What one message weighs, such as the value of the stock.", example="body.value"
    )
    count: Events = option(default=(), doc="What is counted.", example="{ on: dead }")
    of: Events = option(default=(), doc="What the count is a share of.", example="accepted")
    gauge: Events = option(default=(), doc="What changes the level of a key: events with `add` or `set`.")
    per: Expression | None = option(
        default=None, doc="Told apart by this, up to 50 values, such as the plant.", example="body.plant"
    )
    ages: tuple[timedelta, ...] = option(
        default=(timedelta(days=1), timedelta(days=7), timedelta(days=30)),
        doc="Edges of the ages by which what is open is told apart.",
        example="[1d, 7d, 30d]",
    )

    def check(self, node: Node, reader: Reader) -> None:
        kinds = [name for name, given in (("start", self.start or self.end), ("count", self.count), ("gauge", self.gauge)) if given]  # fmt: skip
        if len(kinds) != 1:
            hint = "write `start` and `end`, or `count`, or `gauge`"
            reader.problem("ESB107", "an indicator is exactly one of a pair, a counter and a gauge", node, hint=hint)
        elif (self.start and not self.end) or (self.end and not self.start):
            missing = "end" if self.start else "start"
            reader.problem("ESB102", f"the pair has no `{missing}`", node, hint=f"add `{missing}: {{ route: … }}`")
        elif kinds != ["count"] and any(event.by is None and self.by is None for event in self._events()):
            reader.problem("ESB102", "the indicator needs `by`", node, hint="name what its events have in common: `by: lot`")  # fmt: skip
        for event in self.gauge:
            if (event.add is None) == (event.set_ is None):
                reader.problem("ESB107", "an event of a gauge has `add` or `set`", node, hint="add: body.quantity")

    def _events(self) -> Sequence[Event]:
        return (*self.start, *self.end, *self.gauge)


@dataclass(frozen=True, slots=True)
class KpiDocument(KpiOptions):
    """A ``kpi:`` document."""

    kpi: str = option(doc="Name: small letters, digits and `-`.", example="hold-propagation")


@dataclass(frozen=True, slots=True)
class Rule:
    """What one event means for one indicator. ``routes`` None: every route but those of alerts."""

    kpi: Kpi
    part: Literal["start", "end", "count", "of", "add", "set"]
    on: str
    routes: frozenset[str] | None
    event: Event
    scope: str

    @property
    def reads_body(self) -> bool:
        """Whether the payload must be known."""
        event, kpi = self.event, self.kpi.options
        given = (event.if_, event.by or kpi.by, event.at, event.weigh or kpi.weigh, event.add, event.set_, event.part, kpi.per)  # fmt: skip
        return any(name.partition(".")[0].partition("[")[0] == "body" for one in given if one for name in one.names)


@dataclass(frozen=True, slots=True, eq=False)
class Kpi:
    """An indicator of the workspace."""

    name: str
    options: KpiOptions
    position: Position
    text: str  #: the document, so that two versions can be compared
    route: str = ""  #: the route whose field it is

    @property
    def kind(self) -> Literal["pair", "counter", "gauge"]:
        return "pair" if self.options.start else "counter" if self.options.count else "gauge"

    def reads(self, what: Literal["by", "per"], marked: Collection[str]) -> bool:
        """Whether its keys (``by``) or labels (``per``) come out of a marked member of a payload."""
        options = self.options
        events = (*options.start, *options.end, *options.gauge)
        given = [options.per] if what == "per" else [options.by, *(event.by for event in events)]
        names = {part for one in given if one is not None for name in one.names for part in re.split(r"[.\[\]]", name)}
        return not names.isdisjoint(marked)

    def rules(self) -> Iterator[Rule]:
        options = self.options
        for events, part, default in (
            (options.start, "start", "accepted"),
            (options.end, "end", "done"),
            (options.count, "count", "accepted"),
            (options.of, "of", "accepted"),
            (options.gauge, "", "accepted"),
        ):
            for event in events:
                word = part or ("add" if event.add is not None else "set")
                yield self._rule(event, word, default)

    def _rule(self, event: Event, part: Any, default: str) -> Rule:
        on = event.on or ("delivered" if event.step else default)
        named = event.route or ((self.route,) if self.route else ())
        scope = event.scope if event.scope is not None else ANY_SCOPE if on in EVERYWHERE else ""
        return Rule(self, part, on, frozenset(named) if named else None, event, scope)


def read_kpi(node: MapNode, reader: Reader, text: str) -> Kpi | None:
    """A ``kpi:`` document, None after its problems were reported."""
    before = len(reader.problems)
    with reader.inside("kpi"):
        options = read_options(KpiDocument, node, reader)
    given = node.get("kpi")
    if options is MISSING or given is None or not _named(given, reader) or len(reader.problems) > before:
        return None
    return Kpi(options.kpi, options, given.position, text)


def kpis_of_route(route: str, given: Mapping[str, KpiOptions], node: Node | None, text: str) -> list[Kpi]:
    """The indicators of the field ``kpis``."""
    found = []
    for name, options in given.items():
        key = node.key(name) if isinstance(node, MapNode) else None
        found.append(Kpi(name, options, key.position if key is not None else Position(""), text, route))
    return found


def _named(node: Node, reader: Reader) -> bool:
    value = node.value if isinstance(node, ScalarNode) else None
    if not isinstance(value, str):
        return False
    if not _NAME.fullmatch(value):
        from esb.config.connectors import kebab  # noqa: PLC0415 - connectors know the model, which knows indicators

        hint = f"use small letters, digits and `-`: `{kebab(value)}`"
        reader.problem("ESB110", f"`{value}` is no name for an indicator", node, hint=hint)
        return False
    return True


def check_kpis(kpis: Sequence[Kpi], routes: Iterable[str], complete: bool, nearest: Any) -> Iterator[Problem]:
    """Names that stand twice, and routes that do not exist."""
    first: dict[str, Position] = {}
    known = set(routes)
    for kpi in kpis:
        other = first.setdefault(kpi.name, kpi.position)
        if other is not kpi.position:
            words = f"two indicators are called `{kpi.name}`, the other one in {other}"
            yield Problem("ESB109", words, kpi.position, hint="give each indicator a name of its own")
        for rule in kpi.rules() if complete else ():
            for name in sorted((rule.routes or frozenset()) - known):
                hint = nearest(name, known) or "the routes are listed by `esb routes ls`"
                yield Problem("ESB306", f"route `{name}` does not exist", kpi.position, hint=hint)


def by_name(kpis: Iterable[Kpi]) -> dict[str, Kpi]:
    return {kpi.name: kpi for kpi in sorted(kpis, key=lambda kpi: kpi.name)}


__all__ = ["EVENTS", "Kpi", "KpiDocument", "KpiOptions", "Rule", "check_kpis", "kpis_of_route", "read_kpi"]
