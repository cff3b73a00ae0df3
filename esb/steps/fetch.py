"""``fetch``: bring back what ``claim`` has put aside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from esb.formats.text import Raw
from esb.formats.unread import Unread
from esb.message import Message
from esb.registry import step
from esb.spec import option
from esb.steps.base import set_path
from esb.steps.claims import ClaimContext, part_at, part_of, ticket_in
from esb.steps.paths import PathKind

_RAW = Raw()
#: A whole body of raw bytes beyond this is not read: a `to` that writes a file takes it as it lies.
_READ = 1_000_000


@step("fetch", pattern="Claim Check")
@dataclass(frozen=True, slots=True)
class Fetch:
    """Put back the part that a claim check stands for, in the same route or in another one.

    What is no claim check stays as it is, so that a part which was too small for `claim` is no fault. A claim check that this message
    did not come by (nobody put it aside, or retention has removed it) is `invalid`. A whole body of raw bytes that follows into a
    `file` or `sftp` target is written piece by piece and never held in memory; any other part has at most `limits.in_memory`.
    """

    part: Annotated[Any, PathKind()] = option(
        doc="Where the claim check stands: `body`, `body.x.y` or `vars.x`.",
        example="body.drawing",
        shorthand=True,
        aliases=("path", "what", "field"),
    )

    @property
    def writes(self) -> tuple[tuple[str, ...], ...]:
        """The place that this step sets."""
        return (self.part,)

    async def apply(self, message: Message, context: ClaimContext) -> Message:
        ticket = ticket_in(part_at(message, self.part))
        if ticket is None:
            return message
        sha256, content = ticket
        blob = await context.aside.bring_back(sha256)
        context.note(fetched=blob.size)
        if self.part == ("body",) and content == "raw" and blob.size > _READ:
            return message.derive(body=Unread(blob, _RAW))
        return set_path(message, self.part, part_of(await context.aside.whole(blob), content))
