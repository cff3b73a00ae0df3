"""``aggregate``: many messages become one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any

from esb.errors import Invalid
from esb.language import Expression
from esb.message import PARKED, Message
from esb.registry import step
from esb.spec import Node, Reader, option, part_of
from esb.steps.base import Block, Context, HandOff, Step, Stop, Wait, set_path
from esb.steps.keys import key_text
from esb.steps.paths import Path, PathKind

#: A group is complete when it has this many members, whatever else it waits for.
LARGEST = 10_000


@dataclass(frozen=True, slots=True)
class Complete:
    """When a group is complete: at the first of these."""

    size: int | None = option(default=None, doc="Number of members.", example=10, minimum=1, maximum=LARGEST)
    timeout: timedelta | None = option(
        default=None, doc="Time since the first member came.", example="5m", aliases=("after", "within")
    )
    when: Expression | None = option(
        default=None, doc="True of the aggregate that the members would make.", example="length(body) == body[0].count"
    )

    def check(self, node: Node, reader: Reader) -> None:
        if self.size is None and self.timeout is None and self.when is None:
            reader.problem("ESB102", "`complete` never comes", node, hint="give `size`, `timeout` or `when`")

    def may_be(self, count: int) -> bool:
        """Whether so many members can complete the group before its time."""
        return count >= (self.size or LARGEST) or self.when is not None


@step("aggregate", pattern="Aggregator")
@dataclass(frozen=True, slots=True)
class Aggregate:
    """Collect messages of one group until it is complete; the steps behind this one see one message, the aggregate.

    A member ends here as `done (aggregated)`, in one transaction with its part of the group, which is a message of its own: it
    waits in the store, over restarts and reloads, until the group is complete. Then, in one transaction too, the first part
    becomes the aggregate and the others end as `aggregated into <id>`. So nothing is lost and nothing counts twice, whenever
    the process dies. Parts keep the order in which they came; what comes after the group is complete begins the next one,
    whose turn is when the aggregate has ended. The aggregate has the headers and vars of its first member, and
    `meta.aggregate` (`group`, `count`). A group ends by the rule and on the steps of the version of the route that it was opened
    under, also where the route was changed meanwhile; the next group is of the newest version. At 10 000 members a group is complete in any case.
    `{ by: body.order, complete: { size: 10, timeout: 5m } }`
    """

    by: Expression = option(
        doc="What the members of a group have in common.",
        example="body.order",
        aliases=("key", "group", "correlation", "correlate"),
    )
    complete: Complete = option(doc="When the group is complete.", example="{ size: 10, timeout: 5m }")
    into: Annotated[Path, PathKind()] = option(
        default=("body",), doc="Where the list of the members' bodies goes.", example="body.lines"
    )
    rest: Block = field(default_factory=Block)  #: what the loader makes of the steps behind: the aggregate's

    def check(self, node: Node, reader: Reader) -> None:
        if self.into[0] == "headers":
            reader.problem("ESB103", "a header is no list", part_of(node, "into"), hint="write `into: body.lines`")

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The steps of the aggregate."""
        return (self.rest,)

    @property
    def head(self) -> tuple[str, Step]:
        """The first step of the parts."""
        return "gather", Gather(self)

    @property
    def writes(self) -> tuple[Path, ...]:
        """The place that this step sets."""
        return (self.into,)

    def apply(self, message: Message, context: Context) -> Stop:
        group = key_text(self.by(context.scope(message)), "aggregate.by")
        if group is None:
            raise Invalid(f"no group: `{self.by.text}` is null or empty", hint="guard the step with `if`")
        meta = {name: value for name, value in message.meta.items() if name != "aggregate"}
        part = message.derive(meta=meta)
        context.emit(HandOff("split", self.rest.id, part, context.step, key=group, keep_key=False))
        context.note(group=group)
        return Stop("aggregated")


@dataclass(frozen=True, slots=True)
class Gather:
    """The first step of an aggregate: its message is the first part of the group, and waits for the others."""

    of: Aggregate

    async def apply(self, message: Message, context: Context) -> Message:
        known = message.meta.get("aggregate")
        if known is not None and known.get("step") == context.step:
            return message
        parts = [message, *context.peers()]
        complete = self.of.complete
        count, due = self._complete(parts, context), PARKED
        if complete.timeout is not None:
            due = context.accepted_at + complete.timeout
            count = count or (len(parts) if due <= context.clock.now() else 0)
        if not count:
            context.note(members=len(parts))
            raise Wait(due)
        aggregate = self._of(parts[:count], context)
        if not await context.absorb(count - 1, aggregate):
            raise Wait(context.clock.now())  # one of them was taken away a moment ago
        context.note(members=count)
        return aggregate

    def _complete(self, parts: Sequence[Message], context: Context) -> int:
        """How many of the first parts make a complete group; 0 for none."""
        complete = self.of.complete
        most = min(len(parts), complete.size or LARGEST)
        if complete.when is not None:
            seen = context.recall(context.step) or 0
            for count in range(min(seen, most - 1) + 1, most + 1):
                if complete.when.truth(context.scope(self._of(parts[:count], context))):
                    return count
            context.remember(context.step, most)
        return most if most == (complete.size or LARGEST) else 0

    def _of(self, parts: Sequence[Message], context: Context) -> Message:
        first = parts[0]
        made = set_path(first, self.of.into, [part.body for part in parts])
        facts: dict[str, Any] = {"step": context.step, "group": first.meta.get("key"), "count": len(parts)}
        return made.with_meta("aggregate", facts)
