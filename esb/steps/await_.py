"""``await``: wait until another message says what became of this one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from esb.durations import format_duration
from esb.errors import Invalid, Overdue, Rejected
from esb.language import Expression, TextTemplate
from esb.message import Message
from esb.registry import step
from esb.spec import Node, Reader, option, part_of
from esb.steps.base import Context, Reply, Wait
from esb.steps.keys import key_text

#: It is looked for again after a tenth of the time waited so far, but not more often and not less often than this.
OFTENEST, RAREST = timedelta(seconds=5), timedelta(minutes=5)


class AwaitContext(Context, Protocol):
    """What the step may do beside all others."""

    def tracked(self, name: str, value: str, route: str) -> Any:
        """The body of the newest message of ``route`` (empty: of any) that was accepted after this one and is tracked with the value.

        None where there is none; dead and discarded ones say nothing. Raises Invalid where its body cannot be read.
        """
        ...


@step("await", pattern="Correlation Identifier")
@dataclass(frozen=True, slots=True)
class Await:
    """Wait until another message says what became of what was sent: a CONTRL, 997 or TA1, a confirmation file, a callback.

    The other one is found by a value that its route tracks (`track: { acknowledged: body.interchange }`), in the store, so that it
    may also come before this step, and no restart loses it. One that was accepted before this message (a part: before the
    whole) is not meant, nor is a part of a message of the same route.
    The message waits in the store and uses up no attempt: it looks again after a tenth of the time waited so far, after five
    seconds at first and five minutes at most. The steps before it run again then; deliveries that were confirmed are not sent
    again. Later messages of the same key wait behind it.
    The body of the other one, as its route took it in, is `meta.reply.body`; `into:` puts that reply elsewhere. Where
    `accepted_when` is false the message is `rejected`; what has not come `within` the time is `expired`. Both are dead letters
    with the route's alert, unless `on_error` says more.
    `{ track: { acknowledged: vars.reference }, within: 4h, accepted_when: "meta.reply.body.state == 'ACCEPTED'" }`
    """

    track: Mapping[str, Expression] = option(
        doc="One tracked value of the other message, and what it must be.",
        example="{ acknowledged: vars.reference }",
        aliases=("correlation", "by", "key"),
    )
    within: timedelta = option(doc="Longest wait.", example="4h", aliases=("timeout", "deadline", "for"))
    route: str = option(default="", doc="Route of the other message; by default any.", example="acknowledgements")
    accepted_when: Expression | None = option(
        default=None,
        doc="Whether what was said (`meta.reply.body`) is good news.",
        example="meta.reply.body.state == 'ACCEPTED'",
        aliases=("success_when", "done_when", "ok"),
    )
    reason: TextTemplate | None = option(
        default=None, doc="Why it is rejected else.", example="it says {{ meta.reply.body.state }}"
    )

    def check(self, node: Node, reader: Reader) -> None:
        if len(self.track) != 1:
            hint = "write `track: { acknowledged: vars.reference }`"
            reader.problem("ESB107", "`await` needs exactly one tracked value", part_of(node, "track"), hint=hint)
        if self.within <= timedelta(0):
            reader.problem("ESB106", "`within` must be more than 0s", part_of(node, "within"), hint="write `4h`")

    async def apply(self, message: Message, context: AwaitContext) -> Message:
        ((name, expression),) = self.track.items()
        value = key_text(expression(context.scope(message)), f"await.track.{name}")
        if value is None:
            raise Invalid(f"`track: {expression.text}` gives nothing to wait for")
        said = context.tracked(name, value, self.route)
        if said is None:
            raise self._wait(f"{name} = {value}", context)
        told = message.with_meta("reply", Reply(body=said).as_meta())
        context.note(answered_by=f"{name} = {value}")
        if self.accepted_when is not None and not self.accepted_when.truth(context.scope(told)):
            why = self.reason.render(context.scope(told)) if self.reason is not None else "it was not accepted"
            raise Rejected(f"{name} = {value}: {why}", reply=Reply(body=said).as_meta())
        return told

    def _wait(self, what: str, context: Context) -> Wait:
        """Until the next look. Raises Overdue."""
        now, known = context.clock.now(), context.recall(context.step)
        since = datetime.fromisoformat(known) if isinstance(known, str) else now
        if known is None or since > now:  # the clock was set back meanwhile: nobody waits until it is as late again
            since = now
            context.remember(context.step, now.isoformat())
        due = since + self.within
        if now >= due:
            hint = "ask the partner whether it arrived; a retry waits no longer, a replay sends it again"
            raise Overdue(f"{what} has not come within {format_duration(self.within)}", hint=hint)
        return Wait(min(due, now + min(max((now - since) / 10, OFTENEST), RAREST)))
