"""The messages that wait behind one in its lane, as a group: looked at, and taken into it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from esb.config.model import RouteSpec
from esb.formats.packed import kept
from esb.message import Envelope, Message
from esb.runtime.lanes import Entry
from esb.runtime.payload import decode_body, message_of
from esb.store.base import NewPayload

if TYPE_CHECKING:
    from esb.runtime.run import MessageRun


def peers(run: MessageRun) -> list[Message]:
    """The parts that wait behind the message of ``run``, in their order; the entry remembers how many messages it saw.

    An aggregate among them (a person's retry or replay) is none of the open group.
    """
    entries = run.lanes.behind(run.entry)
    run.entry.seen = len(entries) + 1
    found = [(entry.seq, _message(run, entry)) for entry in entries]
    found = [(seq, message) for seq, message in found if not _is_of(message.meta, run.step)]
    run.peers_seen = [seq for seq, _ in found]
    return [message for _, message in found]


def is_aggregate(envelope: Envelope, spec: RouteSpec) -> bool:
    """Whether a message of a group is the aggregate already, as the replay of one is."""
    block = spec.blocks.get(envelope.scope)
    return block is not None and bool(block.nodes) and _is_of(envelope.meta, block.nodes[0].id)


def _is_of(meta: Mapping[str, Any], step: str) -> bool:
    known = meta.get("aggregate")
    return isinstance(known, Mapping) and known.get("step") == step


def _message(run: MessageRun, entry: Entry) -> Message:
    if entry.message is not None:
        return entry.message
    envelope, _ = run.bench.store.payload(entry.seq)
    return message_of(envelope, decode_body(envelope, run.spec, run.registry), 1)


async def absorb(run: MessageRun, count: int, message: Message) -> bool:
    """The message of ``run`` becomes ``message`` and the first ``count`` of the peers that it saw end, at the same instant; false:
    they changed."""
    await run.started()
    entry = run.entry
    others = run.peers_seen[:count]
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
