"""``claim``: put a large part of a message aside and keep a claim check in its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from esb.formats.packed import kept
from esb.formats.unread import Unread
from esb.message import Message
from esb.registry import step
from esb.spec import option
from esb.spec.kinds import Size
from esb.steps.base import set_path
from esb.steps.claims import ClaimContext, kept_as, part_at, ticket_in, ticket_of
from esb.steps.paths import PathKind


@step("claim", pattern="Claim Check")
@dataclass(frozen=True, slots=True)
class Claim:
    """Put a large part of the message aside and leave a claim check (a small object) in its place; `fetch` brings it back.

    The part lies beside the store. It is kept as long as any message of the bus holds the claim check in its body or its `vars`: the
    message itself, and what `split`, `fanout`, `publish` and `to: { topic: … }` make of it, in this route or another; also one that
    comes back from outside with it. A part that is null or a claim check already stays as it is.
    `{ part: body.drawing, above: 100KB }`
    """

    part: Annotated[Any, PathKind()] = option(
        doc="What to put aside: `body`, `body.x.y` or `vars.x`.",
        example="body.drawing",
        shorthand=True,
        aliases=("path", "what", "field"),
    )
    above: Size = option(default=0, doc="A part of no more bytes stays where it is.", example="100KB")

    @property
    def writes(self) -> tuple[tuple[str, ...], ...]:
        """The place that this step sets."""
        return (self.part,)

    @property
    def cuts_body(self) -> bool:
        """Whether a claim check stands for the body behind it."""
        return bool(self.part == ("body",))

    def takes_unread(self, body: Unread) -> bool:
        """Whether the body, or a part that is not in it, can be put aside without reading the body."""
        return self.part[0] != "body" or (
            self.part == ("body",) and kept_as(body) is not None and body.blob.size > self.above
        )

    async def apply(self, message: Message, context: ClaimContext) -> Message:
        part = part_at(message, self.part)
        if part is None or ticket_in(part) is not None:
            return message
        if isinstance(part, Unread) and (content := kept_as(part)) is not None:
            blob = await context.aside.put_aside(part.blob)
        else:
            data, content = kept(part)
            if len(data) <= self.above:
                return message
            blob = await context.aside.put_aside(data)
        context.note(claimed=blob.size, sha256=blob.sha256)
        return set_path(message, self.part, ticket_of(blob, content))
