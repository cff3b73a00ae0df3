"""What each step of a route makes of a message: the message is written down between the steps while it is tried on the stage.

The steps that write it down are put between the others when the workspace is read (``weave``). They change nothing, and what a
`split` only tries has no place in the book.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from esb.errors import MessageError, Position
from esb.formats.json import Json
from esb.message import Message
from esb.runtime.run import MessageRun
from esb.steps.base import LOOK, Context, StepNode
from esb.store.base import Stored

#: Most states of messages in a book, characters of one of them, and of all together.
MOST, LONGEST, MOST_TEXT = 200, 64_000, 4_000_000
_JSON = Json()


@dataclass(frozen=True, slots=True)
class State:
    """A message as it was, and the step that came next in its list."""

    text: str
    next: StepNode | None


@dataclass(frozen=True, slots=True)
class Look:
    """Writes the message down as it is behind the first ``place`` steps of a list."""

    book: Book
    block: str
    place: int
    next: StepNode | None  #: the step that follows in the list

    def apply(self, message: Message, context: Context) -> Message:
        if isinstance(context, MessageRun):
            self.book.note(context.message_id, (self.block, self.place), State(_text(message), self.next))
        return message


@dataclass(slots=True)
class Book:
    """The states of every message of one trial, by list of steps and place in it; of a retry or a wait only the last run."""

    cut: bool = False  #: something did not fit into the book
    _states: dict[str, dict[tuple[str, int], State]] = field(default_factory=dict)
    _ends: list[Stored] = field(default_factory=list)

    def weave(self, nodes: list[StepNode], block: str) -> list[StepNode]:
        """A list of steps with a look before the first and behind each of them."""
        woven: list[StepNode] = []
        for place, node in enumerate(nodes):
            woven += [self._look(block, place, node, node.position), node]
        return [*woven, self._look(block, len(nodes), None, nodes[-1].position)] if nodes else nodes

    def _look(self, block: str, place: int, node: StepNode | None, at: Position) -> StepNode:
        return StepNode(f"{block}/look[{place}]", LOOK, Look(self, block, place, node), at)

    def note(self, id_: str, at: tuple[str, int], state: State) -> None:
        """Write a state down. A place that comes again begins the run anew: what followed it is taken out."""
        states = self._states.setdefault(id_, {})
        if at in states:
            for old in list(states)[list(states).index(at) :]:
                del states[old]
        every = [one.text for known in self._states.values() for one in known.values()]
        if len(every) >= MOST or sum(map(len, every)) + len(state.text) > MOST_TEXT:
            self.cut = True
        else:
            states[at] = state

    def ended(self, stored: Stored) -> None:
        """How a message was left; the trial's own comes first."""
        self._ends.append(stored)

    def items(self) -> list[dict[str, Any]]:
        """``message step kind before after diff ended``, in the order in which the steps began, one message after the other.

        ``message`` is empty for the one that was tried, else the scope of one that came of it. ``after`` is None behind a step that
        was the last one; ``ended`` says then how the message ended there.
        """
        return [item for place, stored in enumerate(self._ends) for item in self._of(stored, own=not place)]

    def _of(self, stored: Stored, *, own: bool) -> Iterator[dict[str, Any]]:
        states = self._states.get(stored.envelope.id, {})
        last = next((at for at in reversed(states) if states[at].next and (at[0], at[1] + 1) not in states), None)
        for (block, place), state in states.items():
            node, behind = state.next, states.get((block, place + 1))
            if node is None:
                continue
            ended = ""
            if behind is None:
                ended = self._end(stored) if (block, place) == last else "a step inside of it was the last one"
            yield {
                "message": "" if own else stored.envelope.scope,
                "step": node.id,
                "kind": node.kind,
                "before": state.text,
                "after": behind.text if behind is not None else None,
                "diff": difference(state.text, behind.text) if behind is not None else "",
                "ended": ended,
            }

    def _end(self, stored: Stored) -> str:
        if self.cut:
            return "what followed was not written down: it is too much"
        said = f"{stored.error.error_class}: {stored.error.message}" if stored.error is not None else stored.reason
        return f"{stored.state.value}: {said}" if said else stored.state.value


def difference(before: str, after: str) -> str:
    """The lines that differ between two states, with three around each; empty where none does."""
    if before == after:
        return ""
    return "\n".join(difflib.unified_diff(before.splitlines(), after.splitlines(), "before", "after", lineterm=""))


def _text(message: Message) -> str:
    """Body and variables for people, cut where they are long."""
    body: Any = message.body
    parts: Mapping[str, Any] = {"body": body, **({"vars": dict(message.vars)} if message.vars else {})}
    try:
        text = msgspec.json.format(_JSON.encode(parts), indent=2).decode()
    except (MessageError, msgspec.DecodeError, RecursionError):  # bytes, say
        text = "\n".join(f"{name}: {value!r}" for name, value in parts.items())
    return text if len(text) <= LONGEST else text[:LONGEST] + "\n… cut"


__all__ = ["Book", "Look", "difference"]
