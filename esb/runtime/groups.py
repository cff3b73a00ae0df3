"""The messages that wait behind one in its lane, as a group: looked at, and taken into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esb.formats.packed import kept
from esb.message import Message
from esb.runtime.lanes import Entry
from esb.runtime.payload import decode_body, message_of
from esb.store.base import NewPayload

if TYPE_CHECKING:
    from esb.runtime.run import MessageRun


def peers(run: MessageRun) -> list[Message]:
    """What waits behind the message of ``run``, in its order; the entry remembers how many it saw."""
    entries = run.lanes.behind(run.entry)
    run.entry.seen = len(entries) + 1
    return [_message(run, entry) for entry in entries]


def _message(run: MessageRun, entry: Entry) -> Message:
    if entry.message is not None:
        return entry.message
    envelope, _ = run.bench.store.payload(entry.seq)
    return message_of(envelope, decode_body(envelope, run.spec, run.registry), 1)


async def absorb(run: MessageRun, count: int, message: Message) -> bool:
    """The message of ``run`` becomes ``message`` and the first ``count`` of its peers end, at the same instant; false: they changed."""
    await run.started()
    entry = run.entry
    others = [other.seq for other in run.lanes.behind(entry)[:count]]
    body, content = kept(message.body)
    payload = NewPayload(body, content, {**run.envelope.meta, "aggregate": message.meta["aggregate"]}, message.vars)
    if len(others) < count:
        return False
    done = await run.bench.store.absorb(entry.seq, entry.id, others, payload, run.clock.now())
    if done:
        entry.seen = 0
        entry.message = entry.envelope = None
        run.lanes.drop(others)
    return done
