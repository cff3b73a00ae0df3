"""``on_timeout: { verify }``: the target is asked whether it has the message, before it is sent again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esb.errors import MessageError, Unavailable
from esb.message import EMPTY, Message
from esb.runtime.sagas import generation
from esb.runtime.sending import delivery_of
from esb.steps.base import OnTimeout, Reply

if TYPE_CHECKING:
    from esb.runtime.run import MessageRun


async def verified(run: MessageRun, policy: OnTimeout, message: Message) -> Reply | None:
    """The target's word that it has the message already, where an earlier attempt may have brought it there.

    Raises MessageError where it gives no word: then nothing is sent, and the next attempt asks again.
    """
    begun = f"{run.step}/begun{generation(run.ledger, run.step)}"
    if run.recall(begun) is None:
        run.remember(begun, True)  # kept by whatever ends this attempt; a crash is counted as an attempt
        if not run.again or generation(run.ledger, run.step):
            return None
    delivery = delivery_of(run, policy.verify, message, f"{run.step}/verify")
    try:
        reply = await run.bench.targets.send(policy.verify, message, delivery)
    except MessageError as error:
        told = error.reply or {}
        if told.get("status") not in (404, 410):
            raise Unavailable(
                f"cannot tell whether an earlier attempt arrived: {error.message}", retry_after=error.retry_after
            ) from error
        reply = Reply(told.get("status"), told.get("headers") or EMPTY, told.get("body"))
    done = policy.done_when.truth(run.scope(message.with_meta("reply", reply.as_meta())))
    run.note(asked=policy.verify.name, told=reply.status, verified=done)
    return reply if done else None
