"""Ends of a message that no step gives it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from esb.config.model import RouteSpec
from esb.endpoints.base import Outcome
from esb.message import Message, State
from esb.runtime.births import Birth
from esb.runtime.lanes import Entry
from esb.runtime.sagas import undoings
from esb.runtime.streams import born
from esb.runtime.verdicts import Verdict
from esb.steps.base import Stop
from esb.steps.compensate import UNDO
from esb.store.base import Settlement

if TYPE_CHECKING:
    from esb.runtime.run import MessageRun


def expires_at(spec: RouteSpec, entry: Entry) -> datetime | None:
    """When the message is too old. Never for a compensation: what was delivered is undone however late. And never after the
    retry of a person, who saw how old it is: it would expire before it is sent, and be lost to them."""
    if spec.ttl is None or entry.scope == UNDO or entry.earlier:
        return None
    return entry.accepted_at + spec.ttl


def completed(
    entry: Entry, run: MessageRun, result: Message | Stop, children: Sequence[Birth], now: datetime
) -> Verdict:
    """The good end of an attempt whose steps came to ``result``."""
    settlement = Settlement(
        entry.seq,
        State.DONE,
        entry.attempts,
        now,
        reason=result.reason if isinstance(result, Stop) else "",
        trace=run.trace,
        children=[birth.new for birth in children] if children else (),
        told=[one for one in run.fresh if one.facts] if run.fresh else (),
    )
    return Verdict(entry, settlement, children, Outcome("done", response=run.response))


async def expired(entry: Entry, run: MessageRun, now: datetime) -> Verdict:
    """The message is older than its `ttl`; what it did so far is undone where the route says how."""
    run.bench.log("info", "message.expired", route=run.spec.name, message=entry.id, key=entry.key)
    children = await born(undoings(run, None, "expired"), run, now)
    ending = Settlement(
        entry.seq,
        State.EXPIRED,
        entry.attempts,
        now,
        reason="older than ttl",
        trace=run.trace,
        ledger=run.fresh,
        children=[birth.new for birth in children],
    )
    return Verdict(entry, ending, children)
