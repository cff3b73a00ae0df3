"""``to``: send the message to a system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from esb.formats.unread import Unread
from esb.message import Message
from esb.registry import step
from esb.spec import option
from esb.steps.base import Context, Reply, Target
from esb.steps.recipients import AnyOf, ToKind


@step("to", pattern="Message Endpoint")
@dataclass(frozen=True, slots=True)
class To:
    """Send the message to a connector's operation or to an inline endpoint, and wait for the answer.

    At least once, under one delivery id that stays the same on retry, restart and replay; a delivery that was confirmed is
    not sent again when a later step is tried again. The body stays as it is; the answer is `meta.reply` (`status`,
    `headers`, `body`) until the next `to`, or stays where `into:` beside the step puts it. `{ topic: … }` and
    `{ route: … }` hand the message on inside the bus and have no answer.
    `{ any_of: [erp.order, mes.order], by: vars.system }` sends to the one that `by` names: by its operation, or by its connector
    where only one of them is of it. Every one is checked at load; a name that is none of them ends as `unmapped`.
    """

    target: Annotated[Target | AnyOf, ToKind()] = option(
        doc="`connector.operation`, an endpoint with its options, or `any_of` several operations with `by`.",
        example="erp.usage-decision",
        shorthand=True,
    )

    def takes_unread(self, body: Unread) -> bool:
        """Whether the system takes a large payload as it lies there."""
        return (
            body.is_raw and isinstance(self.target, Target) and bool(getattr(self.target.sink, "takes_unread", False))
        )

    async def apply(self, message: Message, context: Context) -> Message:
        target = self.target_of(message, context)
        return message if target is None else self.answered(message, await context.deliver(target, message))

    def target_of(self, message: Message, context: Context) -> Target | None:
        """Whom the message is sent to; None where it was handed on inside the bus. Raises Unmapped."""
        target = self.target if isinstance(self.target, Target) else self.target.of(context.scope(message))
        handoff = getattr(target.sink, "handoff", None)
        if handoff is None:
            return target
        context.emit(handoff(message, context.step, context))
        return None

    @staticmethod
    def answered(message: Message, reply: Reply) -> Message:
        """The message with the answer of its target."""
        return message.with_meta("reply", reply.as_meta())
