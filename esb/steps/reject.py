"""``reject``: a business no."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from esb.errors import Rejected
from esb.language import TextTemplate
from esb.message import Message
from esb.registry import step
from esb.spec import option
from esb.steps.base import Context


@step("reject")
@dataclass(frozen=True, slots=True)
class Reject:
    """Refuse the message for a reason that people understand.

    It ends as a dead letter of class `rejected` (or where `on_error` sends it) and is not tried again by itself. For
    messages that simply do not matter use `filter`. Put it into a branch of `choose`, or guard it with `if`.
    """

    reason: TextTemplate = option(
        doc="Why.", example="lot {{ body.lot.id }} is unknown", shorthand=True, aliases=("message", "text", "because")
    )

    def apply(self, message: Message, context: Context) -> NoReturn:
        reason = self.reason.render(context.scope(message)).strip()
        raise Rejected(reason or "rejected without a reason")
