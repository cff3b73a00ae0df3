"""``to``: send the message to a system."""

from __future__ import annotations

from dataclasses import dataclass

from esb.message import Message
from esb.registry import step
from esb.spec import option
from esb.steps.base import Context, Target


@step("to", pattern="Message Endpoint")
@dataclass(frozen=True, slots=True)
class To:
    """Send the message to a connector's operation or to an inline endpoint, and wait for the answer.

    At least once, under one delivery id that stays the same on retry, restart and replay; a delivery that was confirmed is
    not sent again when a later step is tried again. The body stays as it is; the answer is `meta.reply` (`status`,
    `headers`, `body`) until the next `to`, or stays where `into:` beside the step puts it. `{ topic: … }` and
    `{ route: … }` hand the message on inside the bus and have no answer.
    """

    target: Target = option(
        doc="`connector.operation`, or an endpoint with its options.", example="erp.usage-decision", shorthand=True
    )

    async def apply(self, message: Message, context: Context) -> Message:
        handoff = getattr(self.target.sink, "handoff", None)
        if handoff is not None:
            context.emit(handoff(message, context.step, context))
            return message
        reply = await context.deliver(self.target, message)
        return message.with_meta("reply", reply.as_meta())
