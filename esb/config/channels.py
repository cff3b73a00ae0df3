"""What is known of the messages that one route gives to another, by a topic or by a hand-off (`to: { route: … }`): what those who
send them know of them, where every one of them knows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from esb.config.checks import has_own_steps, topic_read
from esb.config.routes import RouteDoc, steps_of, targets_of, topics_of
from esb.errors import Position
from esb.language.shapes import UNKNOWN, Shape, either
from esb.steps.base import StepNode

#: The places that say what a message is, with words for each.
Said = tuple[tuple[Position, str], ...]
#: The bus itself publishes to these.
_OF_THE_BUS = "alert."
_WORDS = {"topic": "publishes it here", "route": "hands it over here"}


class Channel(NamedTuple):
    """A topic, or the hand-offs to a route."""

    kind: str
    name: str


class Channels:
    """Collects what is sent. ``whole`` is False where a route or system could not be read: it may send what it likes."""

    def __init__(self, docs: Sequence[RouteDoc], *, whole: bool) -> None:
        self._docs = [doc for doc in docs if doc.spec is not None]
        own = any(doc.spec is not None and has_own_steps(doc.spec) for doc in docs)
        self._whole = whole and len(self._docs) == len(docs) and not own
        self._shapes: dict[Channel, list[Shape]] = {}
        self._said: dict[Channel, Said] = {}
        self._walked: dict[Channel, set[Position]] = {}
        #: those with a message of which nothing is known
        self._open: set[Channel] = set()
        self._takers = {_taken(doc): doc for doc in self._docs}
        self._sent = {doc.name: sorted({one for step in _steps(doc) for one in sent_by(step)}) for doc in self._docs}

    def in_order(self) -> Iterator[RouteDoc]:
        """Every route, those that send before those that take; what goes round in a circle is of unknown messages."""
        left = self._docs
        waits_for: dict[Channel, set[str]] = {}
        for doc in left:
            for channel in self._sent[doc.name]:
                waits_for.setdefault(channel, set()).add(doc.name)
        while left:
            ready = [doc for doc in left if not waits_for.get(_taken(doc))]
            later = [doc for doc in left if waits_for.get(_taken(doc))]
            if not ready:
                self._open.update(map(_taken, left))
                ready, later = left, []
            for doc in ready:
                yield doc
                self._ended(doc)
                for channel in self._sent[doc.name]:
                    waits_for[channel].discard(doc.name)
            left = later

    def sends(self, channel: Channel, shape: Shape, at: Position, route: str) -> None:
        """What a step sends."""
        self._walked.setdefault(channel, set()).add(at)
        if shape is UNKNOWN:
            self._open.add(channel)
        else:
            self._shapes.setdefault(channel, []).append(shape)
            said = (at, f"the route `{route}` {_WORDS[channel.kind]}")
            self._said[channel] = tuple(dict.fromkeys((*self._said.get(channel, ()), said)))

    def heard(self, doc: RouteDoc) -> tuple[Shape, Said]:
        """What is known of the messages that a route takes from others."""
        channel = _taken(doc)
        shapes = self._shapes.get(channel)
        if not self._whole or not shapes or channel in self._open or channel.name.startswith(_OF_THE_BUS):
            return UNKNOWN, ()
        return either(shapes), self._said[channel]

    def wanted(self, channel: Channel) -> tuple[Any, Position] | None:
        """The contract that what is handed over must keep, and where the route that takes it says so."""
        doc = self._takers.get(channel) if channel.kind == "route" else None
        if doc is None or doc.spec is None:
            return None
        contract = getattr(doc.spec.source.options, "contract", None)
        return (contract, doc.spec.source.position) if contract is not None else None

    def _ended(self, doc: RouteDoc) -> None:
        """What a route sends at a place that nobody has looked at (a fallback) is unknown."""
        for step in _steps(doc) if self._sent[doc.name] else ():
            self._open.update(one for one in sent_by(step) if step.position not in self._walked.get(one, set()))


def sent_by(step: StepNode) -> list[Channel]:
    """Where a step sends to other routes, as far as it is fixed."""
    handed = [target.sink.route for target in targets_of(step) if target.protocol == "route"]
    return [Channel("topic", name) for name in topics_of(step)] + [Channel("route", name) for name in handed]


def _steps(doc: RouteDoc) -> Iterator[StepNode]:
    assert doc.spec is not None
    return steps_of(doc.spec.blocks)


def _taken(doc: RouteDoc) -> Channel:
    assert doc.spec is not None
    if doc.spec.source.protocol == "route":
        return Channel("route", doc.spec.name)
    return Channel("topic", topic_read(doc.spec))


__all__ = ["Channel", "Channels", "Said", "sent_by"]
