"""``filter``: only messages that fit go on."""

from __future__ import annotations

from dataclasses import dataclass

from esb.language import Expression
from esb.message import Message
from esb.registry import step
from esb.spec import option
from esb.steps.base import Context, Stop


@step("filter", pattern="Message Filter")
@dataclass(frozen=True, slots=True)
class Filter:
    """Let a message go on where an expression is true; every other one ends here.

    It ends as `done` with the reason `filtered` and the expression, so nothing disappears unseen. Null, false, empty text
    and empty lists are false; 0 is true.
    """

    when: Expression = option(
        doc="The message goes on where this is true.",
        example="body.status == 'REL'",
        shorthand=True,
        aliases=("if", "condition", "expression", "keep", "test"),
    )

    def apply(self, message: Message, context: Context) -> Message | Stop:
        if self.when.truth(context.scope(message)):
            return message
        return Stop(f"filtered: {self.when.text}")
