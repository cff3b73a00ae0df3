"""Messages that wait: for an instant, or, parked, for another version of their route."""

from __future__ import annotations

from esb.message import PARKED, State
from esb.runtime.lanes import Entry, Lanes
from esb.runtime.run import MessageRun
from esb.runtime.sequences import ranked
from esb.runtime.settle import record
from esb.runtime.versions import Versions, gathers, is_lost
from esb.steps.base import Wait
from esb.store.base import Pending, Settlement, Store


def suspended(entry: Entry, run: MessageRun, wait: Wait) -> Settlement:
    """The end of an attempt that a step asked to wait; it is none that counts."""
    entry.attempts -= 1
    reason, error = wait.reason, None
    if reason is not None:
        error = record(reason, step=run.step, error_class=reason.error_class, spec=run.spec)
        run.bench.log("info", "message.parked", route=run.route, message=entry.id, error=str(reason))
    why, now = f"{run.step} waits", run.clock.now()
    return Settlement(entry.seq, State.WAITING, entry.attempts, now, wait.until, error, why, run.trace, run.fresh)


def park(lanes: Lanes, entry: Entry, settlement: Settlement, versions: Versions) -> None:
    """Let the message wait. One that is parked ends with its `ttl`, and goes on at once where it ran on an old version."""
    due = settlement.due
    assert due is not None
    if due != PARKED and not entry.seen:
        lanes.park(entry, due)
        return
    if due == PARKED and settlement.error is not None:
        entry.bound = False  # what it waits for is in a newer version, whatever rule its group was complete by
    newest, own, ran_on = versions.newest[0], versions.spec_of(entry), entry.version
    lanes.park(entry, due if own.ttl is None else min(due, entry.accepted_at + own.ttl), parked=True)
    if not entry.bound and ran_on != newest.digest and not is_lost(entry, newest.blocks):  # it has missed the release
        lanes.release(newest.digest, newest.blocks)
    rouse(lanes, entry, versions)


def entry_of(row: Pending, versions: Versions, store: Store) -> Entry:
    """An open message from the store as lanes know it."""
    entry = Entry.of(row)
    spec = versions.bind(entry)
    ranked(entry, spec, store)
    if gathers(entry, spec):
        entry.due = None  # it is not known whether it waits for its group
    return entry


def rouse(lanes: Lanes, entry: Entry, versions: Versions) -> None:
    """A part has come, or its first one has just looked: look again where the group may be complete, by the first one's rule."""
    head = lanes.head(entry.lane) if entry.scope else None
    complete = gathers(head, versions.spec_of(head)) if head is not None else None
    if complete is not None:
        lanes.rouse(entry.lane, complete.may_be)
