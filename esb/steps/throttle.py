"""``throttle``: no more messages per second than the steps behind it can take."""

from __future__ import annotations

from dataclasses import dataclass

from esb.durations import Rate
from esb.formats.unread import Unread
from esb.message import Message
from esb.registry import step
from esb.spec import option
from esb.steps.base import Context


@step("throttle", pattern="Throttler")
@dataclass(frozen=True, slots=True)
class Throttle:
    """Let messages go on at most at a rate, evenly spaced, in the order in which they come here.

    The rate is that of this step of this route in this process, over all keys, reloads and restarts; every attempt counts.
    Who has to wait for more than a second waits in the store: no worker is kept busy, no attempt is used up, other messages
    and routes go on, and nothing is dropped. The steps before it run again when the turn has come. To protect a system from
    all routes together, give its connector a `rate`.
    """

    rate: Rate = option(
        doc="How many per `s`, `m`, `h` or `d`.", example="50/s", shorthand=True, aliases=("limit", "per_second", "max")
    )

    def takes_unread(self, body: Unread) -> bool:
        """Always."""
        return True

    async def apply(self, message: Message, context: Context) -> Message:
        await context.turn(self.rate)
        return message
