"""Which steps take a large body that was not decoded, and what they need for it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Generator, Sequence
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


#: Seconds of the loop that are used at a time before others have their turn.
SLICE = 0.002
#: Texts in an expression, which read nothing, and names in quotes.
_QUOTED = re.compile(r"""'(?:\\.|[^'\\])*'|`(?:\\.|[^`\\])*`|("(?:\\.|[^"\\])*")""", re.DOTALL)
#: The name `body` where it is not a member of something else, and what stands for all that an expression sees.
_BODY = re.compile(r"""(?<![\w.])(?<!\.")body(?!\w)|@|\$(?!\.(?!body\b)[A-Za-z_])""")


def touches_body(rule: Expression | TextTemplate | None) -> bool:
    """Whether an expression or a text may look into the body."""
    if rule is None or rule.name:
        return rule is not None
    if isinstance(rule, Expression):
        return _BODY.search(_QUOTED.sub(_unquoted, rule.text)) is not None
    return "body" in rule.text


def _unquoted(found: re.Match[str]) -> str:
    """Nothing for a text, and of the names in quotes those that may be `body`."""
    return '"body"' if found[1] and (found[1] == '"body"' or "\\" in found[1]) else '""'


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
        if node.kind in CONSUMERS or _replaces(node):
            return True
    return False


def first_reader(block: Block, body: Unread) -> StepNode | None:
    """The first step that needs the body as a whole; None where none does, also because something else takes its place."""
    for node in block.nodes:
        if not takes_unread(node, body):
            return node
        if _replaces(node):
            return None
    return None


def _replaces(node: StepNode) -> bool:
    """Whether the body behind the step is a small one."""
    return bool(getattr(node.step, "cuts_body", False)) and not node.into


async def to_end(work: Generator[None, None, Any]) -> Any:
    """What comes of the work, with pauses in which the loop does other work."""
    since = time.perf_counter()
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value
        if time.perf_counter() - since > SLICE:
            await asyncio.sleep(0)
            since = time.perf_counter()


#: Steps for whose sake a body is left unread.
CONSUMERS = frozenset({"split", "to", "claim"})

__all__ = [
    "CONSUMERS",
    "StreamContext",
    "Streams",
    "TakesUnread",
    "begins_unread",
    "first_reader",
    "takes_unread",
    "to_end",
    "touches_body",
]
