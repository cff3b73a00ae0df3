"""Steps of ``on_error`` that stand in for what failed: the message does not go to its target as well, whatever ends the attempt.

That the step was given up is in the ledger before the first of them has an effect. The next attempt goes straight on to them.
A person's retry is for the target again, unless something was delivered instead of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from esb.config.model import OnError
from esb.errors import GAVE_UP, MessageError
from esb.pipeline import has_delivered
from esb.runtime.rules import fallback_of
from esb.runtime.settle import handler_for
from esb.steps.base import Block
from esb.steps.nested import steps_in

if TYPE_CHECKING:
    from esb.runtime.run import MessageRun


async def stand_in(run: MessageRun, handler: OnError, steps: Block, error: MessageError, error_class: str) -> None:
    """Note, before they run, that ``steps`` stand in for the step that failed. Raises StoreError.

    Where the message is a dead letter all the same, or nothing is sent, there is nothing to note.
    """
    name = run.step + GAVE_UP
    if handler.dead_letter or error.gave_up or not any(node.waits for node in steps_in(steps)):
        return
    about = {"class": error_class, "cause": error.error_class, "message": error.message, "hint": error.hint}
    run.remember(name, {**about, "begun_on": run.spec.digest, "earlier": run.entry.earlier})
    await run.bench.store.confirm(run.entry.seq, run.fresh[-1])


def recall_stand_ins(run: MessageRun) -> None:
    """At the begin of an attempt: what a person's retry brings to its target again is given up no longer."""
    for name, kept in list(run.ledger.items()):
        if name.endswith(GAVE_UP) and kept["earlier"] != run.entry.earlier:
            handler = handler_for(run.spec.on_error, kept["class"], kept["cause"])
            steps = fallback_of(handler, run.spec, run.entry.scope)
            if steps is None or not any(has_delivered(node, run) for node in steps_in(steps)):
                del run.ledger[name]


__all__ = ["recall_stand_ins", "stand_in"]
