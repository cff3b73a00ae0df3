"""Compensations: what is kept of a message for them, and what becomes of that when it dies.

All of it stands in the ledger, so that it is there whatever ended the attempt. Per ``compensate`` step there is one entry
(the message as it was, and the steps that it covers); ``/saga`` counts the rounds: how often the message died with
compensations, and how often each step was undone. A step that was undone is sent under another delivery id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from esb.errors import MessageError
from esb.message import Message, State
from esb.steps.base import HandOff
from esb.steps.compensate import UNDO
from esb.store.base import Store, Stored

if TYPE_CHECKING:
    from esb.runtime.run import MessageRun

_KEPT = "/compensate"
_SAGA = "/saga"  #: the id of no step, which begins with no slash


def keep(run: MessageRun, message: Message) -> Sequence[str]:
    """Keep the message for the compensation of what was confirmed since the last call; the steps that it covers."""
    name = f"{run.step}{_KEPT}"
    covers, run.confirmed = run.confirmed, []
    known = run.recall(name)
    before = known["undoes"] if known is not None else ()
    if all(step in before for step in covers):
        return list(before)
    # an earlier attempt may have gone on without a delivery that this one has confirmed
    covers += [step for step in before if step not in covers]
    number = known["n"] if known is not None else len(_kept(run.ledger))
    whole = {"body": message.body, "headers": dict(message.headers), "vars": dict(message.vars)}
    how = {"n": number, "step": run.place, "undoes": covers, "version": run.spec.digest}
    kept = {**how, **whole, "meta": dict(message.meta)}
    run.remember(name, kept)
    return covers


def _kept(ledger: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Name of the step and what it keeps, the last first."""
    found = [(name, value) for name, value in ledger.items() if name.endswith(_KEPT) and value is not None]
    return [(name.removesuffix(_KEPT), value) for name, value in sorted(found, key=lambda one: -int(one[1]["n"]))]


def undoings(run: MessageRun, error: MessageError | None, error_class: str) -> list[HandOff]:
    """The compensations of a message that ends now, the last first; its trace says which, its ledger forgets them."""
    kept, envelope = _kept(run.ledger), run.envelope
    if not kept:
        return []
    saga = run.ledger.get(_SAGA) or {}
    before, undone = int(saga.get("round", 0)), dict(saga.get("undone", {}))
    why = {"class": error_class, "message": error.message if error is not None else "older than ttl"}
    found = []
    for step, value in kept:
        told = {"of": envelope.id, "step": value.get("step", step), "undoes": value["undoes"], "error": why}
        meta = {**value["meta"], "compensation": {**told, "reply": value["meta"].get("reply")}}
        message = Message(value["body"], value["headers"], value["vars"], meta)
        place = f"{step}/undo{_mark(before)}"
        key, version = f"compensate {envelope.id}", value.get("version", "")
        found.append(HandOff("split", UNDO, message, place, key=key, keep_key=False, version=version))
        for covered in value["undoes"]:
            undone[covered] = int(undone.get(covered, 0)) + 1
            run.remember(covered, None)
        run.remember(f"{step}{_KEPT}", None)
    run.remember(_SAGA, {"round": before + 1, "undone": undone})
    run.trace.append({"step": "compensate", "undoes": [step for _, value in kept for step in value["undoes"]]})
    return found


def generation(ledger: Mapping[str, Any], step: str) -> str:
    """What the name of a step's delivery ends with after it was undone; empty before."""
    saga = ledger.get(_SAGA)
    return _mark(int(saga["undone"].get(step, 0))) if saga is not None else ""


def rounds(ledger: Mapping[str, Any]) -> str:
    """The same for a message as a whole: its replay is not the delivery that was undone."""
    saga = ledger.get(_SAGA)
    return _mark(int(saga["round"])) if saga is not None else ""


def _mark(times: int) -> str:
    return f"~{times}" if times else ""


#: A compensation in one of these has come to its end.
_OVER = frozenset({State.DONE, State.DISCARDED, State.DUPLICATE, State.EXPIRED, State.SUPERSEDED})


def unfinished(store: Store, stored: Stored) -> str | None:
    """The id of a compensation of this message that has not come to its end, else None."""
    for child in store.children([stored.envelope.id]):
        if child.envelope.scope == UNDO and child.state not in _OVER:
            return child.envelope.id
    return None
