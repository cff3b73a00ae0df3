"""``resequence``: messages that come in any order go on in the order of their numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, Literal

from esb.errors import Invalid, Late
from esb.language import Expression
from esb.language.values import describe
from esb.message import Message
from esb.registry import step
from esb.spec import option
from esb.steps.base import Block, Context, HandOff, Step, Stop
from esb.steps.keys import key_text

#: The lane of a sequence that has no key.
WHOLE = "all"
_LARGEST = 10**18


@step("resequence", pattern="Resequencer")
@dataclass(frozen=True, slots=True)
class Resequence:
    """Let messages go on in the order of their numbers, without gaps, whatever the order in which they come.

    A member ends here as `done (resequenced)`, in one transaction with its part of the sequence, which is a message of its
    own: it waits in the store, over restarts and reloads, until every lower number has ended the steps behind this one. A
    number that is missing is waited for until `gap_timeout` has passed since the first message behind it came; then the
    sequence goes on without it. Each `key` has a sequence of its own; a counter that begins anew needs another key.
    A number that has passed already ends as `done (duplicate …)`; one that was given up comes too `late`. What ends `dead`
    holds up those behind it as `order: { on_dead }` of the route says. A message waits, and goes on, by the version of the route
    that it came under. `meta.resequence` has the `number`. A sequence that
    nothing came for in 30 days is forgotten, and begins as it did the first time.
    `{ by: body.seq, key: body.machine, gap_timeout: 5m }`
    """

    by: Expression = option(
        doc="The number: whole, and one more for each message.",
        example="body.seq",
        aliases=("number", "sequence", "order"),
    )
    key: Expression | None = option(
        default=None,
        doc="What the messages of a sequence have in common; without it the key of the message, or nothing at all.",
        example="body.machine",
        aliases=("group", "correlation"),
    )
    gap_timeout: timedelta = option(
        default=timedelta(minutes=5),
        doc="How long a missing number is waited for.",
        example="5m",
        aliases=("timeout", "wait", "gap"),
    )
    first: int | None = option(
        default=None,
        doc="The number that a sequence begins with; without it the lowest that has come within `gap_timeout` of the first.",
        example=1,
        aliases=("start", "from"),
    )
    late: Literal["reject", "pass", "drop"] = option(
        default="reject",
        doc="What becomes of a number that comes after it was given up: a dead letter (which holds up nobody), out of its order, or"
        " `done (late)`.",
        example="drop",
    )
    rest: Block = field(default_factory=Block)  #: what the loader makes of the steps behind: those that keep the order

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The steps that the messages go on with, in their order."""
        return (self.rest,)

    @property
    def head(self) -> tuple[str, Step]:
        """The first step of the messages that wait in the sequence."""
        return "line", Line(self)

    def apply(self, message: Message, context: Context) -> Stop:
        scope = context.scope(message)
        number = self._number(self.by(scope))
        key = message.meta.get("key")
        if self.key is not None:
            key = key_text(self.key(scope), "resequence.key")
            if key is None:
                raise Invalid(f"no sequence: `{self.key.text}` is null or empty", hint="guard the step with `if`")
        part = message.with_meta("resequence", {"step": context.step, "number": number})
        context.emit(HandOff("split", self.rest.id, part, f"{context.step}", key=key or WHOLE, keep_key=False))
        context.note(number=number, sequence=key or WHOLE)
        return Stop("resequenced")

    def _number(self, value: Any) -> int:
        if isinstance(value, str) and value.strip().lstrip("-").isdecimal():
            value = int(value)
        if isinstance(value, Decimal) and value == value.to_integral_value():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST:
            return value
        raise Invalid(f"`by: {self.by.text}` gives {describe(value)}, not a whole number")


@dataclass(frozen=True, slots=True)
class Line:
    """The first step of a message that waits in a sequence: lets it go on when it is its turn."""

    of: Resequence

    async def apply(self, message: Message, context: Context) -> Message | Stop:
        number = int(message.meta["resequence"]["number"])
        match await context.in_line(number, self.of.gap_timeout, self.of.first):
            case "duplicate":
                return Stop(f"duplicate of number {number}")
            case "late" if self.of.late == "drop":
                return Stop(f"late: number {number} was given up")
            case "late" if self.of.late == "reject":
                raise Late(
                    f"number {number} came after it was given up",
                    hint="later numbers have gone on; send what it changes anew, or retry it with `late: pass`",
                )
        return message
