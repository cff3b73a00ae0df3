"""What other messages say of one that waits for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from esb.formats.content_types import by_content_type
from esb.message import Envelope, State
from esb.runtime.payload import JSON

if TYPE_CHECKING:
    from esb.registry import Registry
    from esb.runtime.run import MessageRun

#: States of a message that says nothing.
_SILENT = (State.DEAD, State.DISCARDED, State.SUPERSEDED)


def found_by(name: str, value: str, route: str, run: MessageRun) -> Any:
    """See :meth:`esb.steps.await_.AwaitContext.tracked`."""
    store = run.bench.store
    for seq in store.tracked(name, value, route, run.entry.seq):
        envelope, _ = store.payload(seq)
        stored = store.get(envelope.id, trace=False)
        if stored is not None and stored.state not in _SILENT:
            return _body_of(envelope, run.registry)
    return None


def _body_of(envelope: Envelope, registry: Registry) -> Any:
    if envelope.content == "raw":
        return envelope.payload()
    codec = None
    if envelope.content == "source":
        codec = by_content_type(registry, str(envelope.meta.get("content_type", "")), "")
    return (codec or JSON).decode(envelope.payload())


__all__ = ["found_by"]
