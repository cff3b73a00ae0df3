"""What other messages say of one that waits for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from esb.message import Envelope, State
from esb.runtime.payload import decode_body

if TYPE_CHECKING:
    from esb.runtime.run import MessageRun

#: States of a message that says nothing.
_SILENT = (State.DEAD, State.DISCARDED, State.SUPERSEDED)


def found_by(name: str, value: str, route: str, run: MessageRun) -> Any:
    """See :meth:`esb.steps.await_.AwaitContext.tracked`."""
    store = run.bench.store
    for seq in store.tracked(name, value, route, _since(run), run.envelope.route):
        envelope, _ = store.payload(seq)
        stored = store.get(envelope.id, trace=False)
        if stored is not None and stored.state not in _SILENT:
            return _body_of(envelope, run)
    return None


def _since(run: MessageRun) -> int:
    """Where an answer may begin: a part of a message is born after what was sent, and the answer may be there before it."""
    seq, envelope = run.entry.seq, run.envelope
    while envelope.scope and envelope.parent_id:
        parent = run.bench.store.get(envelope.parent_id, trace=False)
        if parent is None:
            break
        seq, envelope = parent.envelope.seq, parent.envelope
    return seq


def _body_of(envelope: Envelope, run: MessageRun) -> Any:
    """The body as its own route reads it."""
    spec = next(iter(run.hub.receivers("route", envelope.route)), None)
    return decode_body(envelope, spec, run.registry)


__all__ = ["found_by"]
