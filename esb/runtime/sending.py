"""The two ends of a delivery: what goes out, and what its answer means for the ledger and the trace of the attempt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from esb.endpoints.base import Delivery
from esb.errors import MessageError
from esb.formats.packed import packed as with_bytes
from esb.message import EMPTY, Message, delivery_id
from esb.pipeline import facts
from esb.runtime.origin import echo_of
from esb.runtime.sagas import generation
from esb.runtime.targets import timeout_for
from esb.steps.base import Reply, Target
from esb.store.facts import Fact

if TYPE_CHECKING:
    from esb.runtime.run import MessageRun

#: What `respond` answers is kept in the trace, for the repeat of a call, up to so many characters.
SHOWN_BODY = 256_000


def known(run: MessageRun, target: Target, message: Message, *, ledger: bool = True) -> Reply | None:
    """The answer where nothing is sent: the ledger has it, or the message would only come back to where it began."""
    kept = run.ledger.get(run.step) if ledger else None
    if kept is not None:
        run.note(from_ledger=True, status=kept.get("status"))
        _counts(run)
        return Reply(kept.get("status"), kept.get("headers") or EMPTY, kept.get("body"))
    origin = echo_of(run.spec, target, message)
    if not origin:
        return None
    run.note(target=target.name, echo_of=origin)
    return Reply()


def packed(run: MessageRun, target: Target, message: Message) -> tuple[Message, Delivery]:
    """What goes out, noted in the trace."""
    if run.bench.observer.emit is not None:
        id_ = delivery_id(run.envelope.origin, run.step)
        message = run.bench.observer.outgoing(message, run.envelope, id_, run.attempt)
    delivery = delivery_of(run, target, message)
    run.note(target=target.name, delivery_id=delivery.id)
    return message, delivery


def delivery_of(run: MessageRun, target: Target, message: Message, step: str = "") -> Delivery:
    """One attempt to send, under the id that stays the same on every other."""
    bench, entry = run.bench, run.entry
    return Delivery(
        delivery_id(run.envelope.origin, (step or run.step) + generation(run.ledger, run.step)),
        entry.attempts,
        timeout_for(target, run.timeout, bench.connectors),
        run.scope(message),
        bench.clock,
        bench.workspace,
        entry.id,
        run.envelope.correlation_id,
        entry.key,
        run.again,
    )


def refused(run: MessageRun, error: MessageError) -> None:
    """Note what the target answered."""
    if error.reply is not None:
        run.note(status=error.reply.get("status"), answered=facts(error.reply.get("body")))


def answered(run: MessageRun, reply: Reply, message: Message | None) -> Reply:
    """The delivery is confirmed; with the message that was sent it is kept in the ledger."""
    run.note(status=reply.status, answered=facts(reply.body))
    if message is not None:
        keep(run, reply, message)
    return reply


def keep(run: MessageRun, reply: Reply, message: Message) -> None:
    """The delivery of this step is confirmed: it is not sent again, and a `compensate` behind it may undo it."""
    _counts(run)
    observer, told = run.bench.observer, tuple[Fact, ...]()
    if "delivered" in observer.rules(run.envelope.route):
        said = message.with_meta("reply", reply.as_meta())
        told = observer.event("delivered", run.envelope, run.clock.now(), said, step=run.place)
    run.remember(run.step, {"status": reply.status, "headers": dict(reply.headers), "body": reply.body}, told)


def shown(status: int, headers: Mapping[str, str], body: Any) -> dict[str, Any]:
    """An answer as the trace has it; of one that is too large ``left_out`` is the length of its body."""
    if (length := len(body if isinstance(body, (bytes, str)) else str(body))) > SHOWN_BODY:
        return {"status": status, "left_out": length}
    return {"status": status, "headers": dict(headers), "body": with_bytes(body)}


def _counts(run: MessageRun) -> None:
    if run.kind == "to":
        run.confirmed.append(run.step)
