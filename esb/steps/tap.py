"""``tap``: a copy on the side."""

from __future__ import annotations

from dataclasses import dataclass

from esb.errors import MessageError
from esb.message import Message
from esb.registry import step
from esb.spec import option
from esb.steps.base import Context, Target


@step("tap", pattern="Wire Tap")
@dataclass(frozen=True, slots=True)
class Tap:
    """Send a copy of the message as it is now, and go on whatever comes of it.

    It is not tried again by itself; a failure stands in the trace and never fails the message. What must not get lost is
    for `to`.
    """

    target: Target = option(
        doc="`connector.operation`, or an endpoint with its options.",
        example="{ file: { path: 'audit/{{ meta.message_id }}.json' } }",
        shorthand=True,
    )

    async def apply(self, message: Message, context: Context) -> Message:
        handoff = getattr(self.target.sink, "handoff", None)
        if handoff is None:
            await context.copy(self.target, message)
            return message
        try:
            context.emit(handoff(message, context.step, context))
        except MessageError as error:
            context.note(failed=f"{error.error_class}: {error.message}")
        return message
