"""Large payloads on their way into the store and out of it: which are kept in files, and which are never read as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from esb.blob import Blob, Spool
from esb.config.model import Limits, RouteSpec
from esb.config.whole import Reads, rule_that_reads, step_that_reads
from esb.endpoints.base import Incoming
from esb.errors import Invalid
from esb.formats.unread import Unread
from esb.message import Envelope, Message
from esb.registry import Registry
from esb.runtime.away import Away, envelope_out
from esb.runtime.births import Birth
from esb.runtime.lanes import Entry
from esb.runtime.parcels import of_message
from esb.runtime.payload import codec_of, message_of, reads_apart, unread_body
from esb.runtime.rules import block_of
from esb.steps.unread import begins_unread


def stays_unread(spec: RouteSpec, incoming: Incoming, registry: Registry, limits: Limits) -> bool:
    """Whether the route takes this payload without reading it as a whole now: neither its rules nor its first steps do.

    Raises Invalid for one that is too large to be read as a whole where the route does so, now or later.
    """
    if incoming.blob is None:
        return False
    meta = {**incoming.meta, "content_type": incoming.content_type} if incoming.content_type else incoming.meta
    body = Unread(incoming.blob, incoming.codec or codec_of(spec, meta, registry))
    reads = rule_that_reads(spec, incoming.contract)
    at_once = incoming.on_invalid == "refuse"
    if body.blob.size > limits.in_memory:
        reads = reads or step_that_reads(spec.steps, body)
        if reads is not None or at_once:
            raise too_large(body.blob.size, limits, reads)
    return reads is None and not at_once and begins_unread(spec.steps, body)


def too_large(size: int, limits: Limits, reads: Reads | None = None) -> Invalid:
    """What is said of a payload that would have to be held in memory as a whole, for what needs it like that."""
    needs = f", and {reads.what} needs all of it" if reads is not None and reads.what else ""
    hint = reads.hint if reads is not None else "send smaller files"
    return Invalid(
        f"the payload has {size} bytes, more than can be held in memory as a whole ({limits.in_memory}){needs}",
        hint=f"{hint}; or raise `limits: {{ in_memory: … }}` in esb.yaml",
    )


def is_for(away: Away, envelope: Envelope, spec: RouteSpec, entry: Entry) -> bool:
    """Whether a worker shall read the payload of a message, which is not in a file."""
    if away.is_heavy(envelope.size):
        return True
    return entry.message is None and envelope.content == "source" and reads_apart(spec, envelope.body)


def as_it_lies(envelope: Envelope, spec: RouteSpec, entry: Entry, registry: Registry, away: Away | None) -> Message:
    """The first message of a large payload: undecoded where the first steps take it like this, else only to be read.

    Raises Invalid where it is too large for a step, before any of them has had an effect.
    """
    body, block = unread_body(envelope, spec, registry), block_of(spec, entry.scope)
    if body is None:
        return Message(None)
    limits = away.limits if away is not None and envelope.size > away.limits.in_memory else None
    if limits is not None and (reads := step_that_reads(block, body)) is not None:
        raise too_large(envelope.size, limits, reads)
    return message_of(envelope, body, entry.attempts) if begins_unread(block, body) else Message(None)


def work_out(envelope: Envelope | None, message: Message, limits: Limits) -> dict[str, Any]:
    """What a worker works on: the message, or the payload of ``envelope`` that it reads before. Raises Invalid where it is too large."""
    if envelope is None:
        return {"message": of_message(message)}
    if envelope.size > limits.in_memory:
        raise too_large(envelope.size, limits)
    work: dict[str, Any] = {"envelope": envelope_out(envelope)}
    if isinstance(message.body, Unread):
        work["message"] = of_message(message.derive(body=None))
    return work


def is_large(envelope: Envelope, spool: Spool) -> bool:
    """Whether its payload lies, or is to lie, in a file."""
    return envelope.blob is not None or len(envelope.body) > spool.above


async def put_aside(birth: Birth, spool: Spool) -> tuple[Birth, Blob | None]:
    """The birth with its large payload in a file, and that file, pinned until it is released. Raises StoreBusy."""
    envelope = birth.new.envelope
    if envelope.blob is not None:
        spool.pin(envelope.blob)
        return birth, envelope.blob
    if not is_large(envelope, spool):
        return birth, None
    blob = await asyncio.to_thread(spool.put, [envelope.body], len(envelope.body))
    return _in_file(birth, envelope, blob), blob


async def put_all_aside(births: Sequence[Birth], spool: Spool) -> tuple[list[Birth], list[Blob]]:
    """The same for the children of a message."""
    found, pinned = [], []
    try:
        for birth in births:
            fresh, blob = await put_aside(birth, spool)
            found.append(fresh)
            if blob is not None:
                pinned.append(blob)
    except BaseException:
        release_all(spool, pinned)
        raise
    return found, pinned


def release_all(spool: Spool, pinned: Sequence[Blob], *_: Any) -> None:
    for blob in pinned:
        spool.release(blob)


def _in_file(birth: Birth, envelope: Envelope, blob: Blob) -> Birth:
    return replace(birth, new=replace(birth.new, envelope=replace(envelope, body=b"", blob=blob)))


__all__ = ["is_large", "put_all_aside", "put_aside", "release_all", "stays_unread", "too_large"]
