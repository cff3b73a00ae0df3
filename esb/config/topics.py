"""What is known of the messages of a topic: what the routes that publish to it know of them, where every one of them knows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from esb.config.checks import has_own_steps, topic_read
from esb.config.routes import RouteDoc, steps_of, topics_of
from esb.errors import Position
from esb.language.shapes import UNKNOWN, Shape, either

#: The places that say what a message is, with words for each.
Said = tuple[tuple[Position, str], ...]
#: The bus itself publishes to these.
_OF_THE_BUS = "alert."


class Topics:
    """Collects what is published. ``whole`` is False where a route or system could not be read: it may publish what it likes."""

    def __init__(self, docs: Sequence[RouteDoc], *, whole: bool) -> None:
        self._docs = [doc for doc in docs if doc.spec is not None]
        own = any(doc.spec is not None and has_own_steps(doc.spec) for doc in docs)
        self._whole = whole and len(self._docs) == len(docs) and not own
        self._shapes: dict[str, list[Shape]] = {}
        self._said: dict[str, Said] = {}
        self._walked: dict[str, set[Position]] = {}
        #: topics with a message of which nothing is known
        self._open: set[str] = set()

    def in_order(self) -> Iterator[RouteDoc]:
        """Every route, those that publish before those that read it; what goes round in a circle is of unknown topics."""
        left = self._docs
        waits_for: dict[str, set[str]] = {}
        for doc in left:
            for topic in _topics(doc):
                waits_for.setdefault(topic, set()).add(doc.name)
        while left:
            ready = [doc for doc in left if not waits_for.get(_read(doc))]
            later = [doc for doc in left if waits_for.get(_read(doc))]
            if not ready:
                self._open.update(map(_read, left))
                ready, later = left, []
            for doc in ready:
                yield doc
                self._ended(doc)
                for topic in _topics(doc):
                    waits_for[topic].discard(doc.name)
            left = later

    def published(self, topic: str, shape: Shape, at: Position, route: str) -> None:
        """What a step publishes."""
        self._walked.setdefault(topic, set()).add(at)
        if shape is UNKNOWN:
            self._open.add(topic)
        else:
            self._shapes.setdefault(topic, []).append(shape)
            said = (at, f"the route `{route}` publishes it here")
            self._said[topic] = tuple(dict.fromkeys((*self._said.get(topic, ()), said)))

    def heard(self, doc: RouteDoc) -> tuple[Shape, Said]:
        """What is known of the messages that a route reads from its topic."""
        topic = _read(doc)
        shapes = self._shapes.get(topic)
        if not self._whole or not shapes or topic in self._open or topic.startswith(_OF_THE_BUS):
            return UNKNOWN, ()
        return either(shapes), self._said[topic]

    def _ended(self, doc: RouteDoc) -> None:
        """What a route publishes at a place that nobody has looked at (a fallback) is unknown."""
        assert doc.spec is not None
        for step in steps_of(doc.spec.blocks) if doc.spec.topics else ():
            self._open.update(topic for topic in topics_of(step) if step.position not in self._walked.get(topic, set()))


def _read(doc: RouteDoc) -> str:
    assert doc.spec is not None
    return topic_read(doc.spec)


def _topics(doc: RouteDoc) -> Sequence[str]:
    assert doc.spec is not None
    return doc.spec.topics


__all__ = ["Said", "Topics"]
