"""``delay``: wait in the store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from esb.errors import Invalid, Violation
from esb.formats.unread import Unread
from esb.language import Expression
from esb.language.values import describe
from esb.message import Message
from esb.registry import step
from esb.spec import Node, Reader, option, part_of
from esb.steps.base import Context, Wait
from esb.steps.unread import touches_body

_LONGEST = timedelta(days=3660)


@step("delay")
@dataclass(frozen=True, slots=True)
class Delay:
    """Hold the message back for a time, or until an instant, then go on.

    It waits in the store, not in memory: restarts do not shorten or lengthen the wait, no worker is kept busy and no attempt
    is used up. Later messages of the same key wait behind it. The steps before it run again when the time has come;
    deliveries that were confirmed are not sent again. An instant in the past, or null, does not wait.
    `{ until: body.release_at }`
    """

    for_: timedelta | None = option(
        default=None, doc="How long, from the first time the message comes here.", example="5s", shorthand=True
    )
    until: Expression | None = option(
        default=None, doc="An ISO 8601 instant with its offset.", example="body.release_at"
    )

    def check(self, node: Node, reader: Reader) -> None:
        if (self.for_ is None) == (self.until is None):
            said = "neither" if self.for_ is None else "both"
            reader.problem(
                "ESB107",
                f"`delay` needs either `for` or `until`, not {said}",
                node,
                hint="write `delay: 5s` or `delay: { until: body.release_at }`",
            )
        if self.for_ is not None and self.for_ > _LONGEST:
            reader.problem("ESB106", "`delay` waits for at most 3660 days", part_of(node, "for"), hint="check the unit")

    def takes_unread(self, body: Unread) -> bool:
        """Whether the instant is no part of the body."""
        return not touches_body(self.until)

    def apply(self, message: Message, context: Context) -> Message:
        now = context.clock.now()
        known = context.recall(context.step)
        due = datetime.fromisoformat(known) if isinstance(known, str) else self._due(message, context, now)
        if self.for_ is not None and due is not None and due - now > self.for_:  # the clock was set back meanwhile
            due, known = now + self.for_, None
        if due is None or due <= now:
            return message
        if known is None:
            context.remember(context.step, due.isoformat())
        raise Wait(due)

    def _due(self, message: Message, context: Context, now: datetime) -> datetime | None:
        if self.for_ is not None:
            return now + self.for_
        assert self.until is not None
        value = self.until(context.scope(message))
        if value is None or value == "":
            context.note(delay="no instant")
            return None
        return instant(value, self.until.text)


def instant(value: object, what: str) -> datetime:
    """An ISO 8601 text as an instant in UTC. Raises Invalid where it is none, or has no offset."""
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(value)  # type: ignore[arg-type]  # TypeError is caught
    except (TypeError, ValueError):
        raise _no_instant(f"`{what}` is {describe(value)}, not an instant such as 2026-03-01T06:00:00Z") from None
    if found.tzinfo is None:
        raise _no_instant(f"`{what}` is {found.isoformat()}, which has no offset: it may be any time zone")
    try:
        return found.astimezone(UTC)
    except OverflowError:
        raise _no_instant(f"`{what}` is {found.isoformat()}, which is out of range") from None


def _no_instant(detail: str) -> Invalid:
    return Invalid(
        f"cannot wait: {detail}",
        hint="bring it into form with `date_parse(text, format)`",
        violations=[Violation("", detail)],
    )
