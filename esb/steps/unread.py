"""Which steps take a large body that was not decoded, and what they need for it."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Protocol, runtime_checkable

from esb.formats.unread import Unread
from esb.language import Expression, TextTemplate
from esb.message import Message
from esb.steps.base import Answer, Block, Context, HandOff, StepNode


@runtime_checkable
class TakesUnread(Protocol):
    """A step that may meet an :class:`~esb.formats.unread.Unread` body."""

    def takes_unread(self, body: Unread) -> bool:
        """Whether it can do its work with this one; else the body is decoded before it."""
        ...


class StreamContext(Context, Protocol):
    """What such a step may do beside all others."""

    async def hand_on(self, handoffs: Sequence[HandOff], progress: Any, part: str = "") -> None:
        """Have messages born now, and keep ``progress`` for ``recall(step + part)`` at the same instant; both or none.

        Waits while too many messages of the route are open. Raises Wait where the bus stops meanwhile.
        """
        ...


@runtime_checkable
class Streams(Protocol):
    """A step that works through an unread body piece by piece; it may take as long as that takes."""

    def stream(self, message: Message, context: StreamContext) -> Awaitable[Answer]: ...


def touches_body(rule: Expression | TextTemplate | None) -> bool:
    """Whether an expression or a text may look into the body."""
    return rule is not None and ("body" in rule.text or "@" in rule.text or bool(rule.name))


def takes_unread(node: StepNode, body: Unread) -> bool:
    """Whether the step, with what stands beside it, leaves the body unread."""
    step = node.step
    if touches_body(node.guard) or node.into[:1] == ("body",):
        return False
    return isinstance(step, TakesUnread) and step.takes_unread(body)


def begins_unread(block: Block, body: Unread) -> bool:
    """Whether the first steps up to one that works through the body all leave it unread."""
    for node in block.nodes:
        if not takes_unread(node, body):
            return False
        if node.kind in CONSUMERS:
            return True
    return False


#: Steps for whose sake a body is left unread.
CONSUMERS = frozenset({"split", "to", "claim"})

__all__ = ["CONSUMERS", "StreamContext", "Streams", "TakesUnread", "begins_unread", "takes_unread", "touches_body"]
