"""``dedupe``: go on once per key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from esb.language import Expression
from esb.message import Message
from esb.registry import step
from esb.spec import Node, Reader, option, part_of
from esb.steps.base import Context, Stop
from esb.steps.keys import key_text


@step("dedupe", pattern="Idempotent Receiver")
@dataclass(frozen=True, slots=True)
class Dedupe:
    """Let the first message of a key go on; every other one within the window ends here as `done (duplicate)`.

    The key belongs to this step of this route and is kept in the store, over restarts. The message that owns it still owns it
    when it is tried again, and gives it back when it is discarded. A key that is null or empty identifies nothing: the message
    goes on. To refuse repeats at the door, with a link to the first, give the route a `dedupe`.
    `{ key: "join(':', [body.order, body.status])", window: 1d }`
    """

    key: Expression = option(
        doc="What identifies a repeat.", example="body.event_id", shorthand=True, aliases=("by", "id", "on")
    )
    window: timedelta = option(
        default=timedelta(days=7), doc="How long a key is remembered.", example="1d", aliases=("ttl", "for", "expire")
    )

    def check(self, node: Node, reader: Reader) -> None:
        if self.window <= timedelta(0):
            reader.problem(
                "ESB106", "`window` must be longer than nothing", part_of(node, "window"), hint="for example `7d`"
            )

    async def apply(self, message: Message, context: Context) -> Message | Stop:
        key = key_text(self.key(context.scope(message)), "dedupe")
        if key is None:
            context.note(dedupe="no key")
            return message
        return message if await context.claim(key, self.window) else Stop("duplicate")
