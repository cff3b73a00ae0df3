"""``compensate``: what undoes deliveries that were confirmed, where a later step ends the message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from esb.errors import InternalFault
from esb.message import Message
from esb.registry import step
from esb.spec import Node, Reader, option
from esb.steps.base import Block, Context, Enter

#: The scope of compensations: every one of a message is in it, so that one lane keeps their order.
UNDO = "compensate/undo"


@step("compensate", pattern="Saga")
@dataclass(frozen=True, slots=True)
class Compensate:
    """Say how the deliveries before this step are undone, in case the message ends `dead` (or `expired`) later on.

    It stands behind the `to` that it undoes, and covers what was confirmed since the last `compensate`; nothing runs where
    nothing was. The message is kept as it is here, `meta.reply` included. When it dies, each `compensate` that it reached
    becomes a message of its own, in one transaction with the death: the last first, one after the other, each with the
    route's retries and a dead letter of its own, which holds up the others as `order: { on_dead }` says. The route's `ttl`,
    `when_down` and `on_error` steps are not for it: what was delivered is undone however late. `meta.compensation`
    has `of` (id of the dead message), `step`, `undoes` (the steps) and `error` (`class`, `message`).
    The message, and what undoes it, stay on the version of the route that was live here, over reloads and restarts.
    A retry of the dead message waits until its compensation has ended, and sends what was undone anew, under new delivery
    ids. A message that is discarded or superseded is not compensated.
    `[ { to: erp.reserve }, { compensate: [ { to: erp.cancel-reservation } ] }, { to: mes.start } ]`
    """

    steps: Block = option(
        doc="The steps that undo.", example="[ { to: erp.cancel-reservation } ]", shorthand=True, aliases=("do", "with")
    )

    def check(self, node: Node, reader: Reader) -> None:
        if not self.steps.nodes:
            reader.problem("ESB201", "`compensate` has no steps", node, hint="put at least one under it")

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The steps that undo."""
        return (self.steps,)

    async def apply(self, message: Message, context: Context) -> Message:
        context.note(undoes=list(await context.compensable(message)))
        return message


@dataclass(frozen=True, slots=True)
class Undo:
    """The only step of a compensation: goes into the steps of the ``compensate`` that it is of, by step id."""

    of: Mapping[str, Block]

    def apply(self, message: Message, context: Context) -> Enter:
        told = message.meta["compensation"]
        context.note(undoes=told["undoes"], of=told["of"])
        if told["step"] not in self.of:
            raise InternalFault(
                f"the route has no `{told['step']}` any more, which says how this is undone",
                hint="put the step back and retry it, or undo it by hand and discard it",
            )
        return Enter(self.of[told["step"]], message.with_meta("reply", told["reply"]) if told.get("reply") else message)


__all__ = ["UNDO", "Compensate", "Undo"]
