"""Messages that are born while their parent runs: the items of a payload that is worked through piece by piece."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from esb.blob import Spool
from esb.failpoints import hit
from esb.pipeline import Withdrawn
from esb.runtime.births import Birth
from esb.runtime.large import is_large, put_all_aside, release_all
from esb.steps.base import HandOff, Wait
from esb.store.base import Confirmed

if TYPE_CHECKING:
    from esb.runtime.run import MessageRun
    from esb.runtime.runner import RouteRunner

#: Open messages of a route beyond which a payload rests.
MOST_OPEN = 500
#: Seconds between two looks whether there is room.
LOOK = 0.05
#: Seconds of the loop that are used at a time, and of the pause between two batches at most.
SLICE, LONGEST_REST = 0.002, 0.05


async def born(handoffs: Sequence[HandOff], run: MessageRun, now: datetime) -> list[Birth]:
    """The children of a message that has come to its end; their payload files are pinned until :func:`committed`."""
    children: list[Birth] = []
    for first in range(0, len(handoffs), 200):
        if first:
            await asyncio.sleep(0)  # a large split must not hold up the other routes
        children += children_of(handoffs[first : first + 200], run, now)
    spool = run.bench.store.blobs
    if any(is_large(child.new.envelope, spool) for child in children):
        await run.may_wait()
        return (await put_all_aside(children, spool))[0]
    return children


def children_of(handoffs: Sequence[HandOff], run: MessageRun, now: datetime) -> list[Birth]:
    """The same for a few hand-offs, whose payloads stay in memory."""
    children: list[Birth] = []
    of_handoff, parent, spec, receivers = run.births.of_handoff, run.envelope, run.spec, run.hub.receivers
    for handoff in handoffs:
        hit("split.child")
        children += of_handoff(handoff, parent, spec, now, receivers)
    return children


def committed(births: Iterable[Birth], spool: Spool) -> None:
    """The children are in the store, which keeps their payload files from now on."""
    release_all(spool, [blob for birth in births if (blob := birth.new.envelope.blob) is not None])


async def hand_on(runner: RouteRunner, run: MessageRun, handoffs: Sequence[HandOff], progress: Any, part: str) -> None:
    """Store the children of a running message together with how far it is; see :class:`esb.steps.unread.StreamContext`.

    The rest of them is for the same version, which is kept with it.
    """
    await run.started()
    await _room(runner)
    store, now = run.bench.store, run.clock.now()
    children: list[Birth] = []
    since = began = time.perf_counter()
    for handoff in handoffs:
        hit("split.child")
        children.extend(run.births.of_handoff(handoff, run.envelope, run.spec, now, lambda *_: ()))
        if time.perf_counter() - since > SLICE:
            await asyncio.sleep(0)
            since = time.perf_counter()
    children, pinned = await put_all_aside(children, store.blobs)
    if not part:
        progress = {**progress, "begun_on": run.spec.digest}
    try:
        entry = Confirmed(run.step + part, progress)
        accepted = await store.bear(run.entry.seq, [child.new for child in children], entry)
    finally:
        release_all(store.blobs, pinned)
    if accepted is None:
        raise Withdrawn
    run.ledger[run.step + part] = progress
    for birth, one in zip(children, accepted, strict=True):
        runner.arrived(birth, one)
    if children:
        hit("split.batch")
    # half of the time at most: what else there is to do has the other half
    await asyncio.sleep(min(time.perf_counter() - began, LONGEST_REST))


async def _room(runner: RouteRunner) -> None:
    """Wait, without a place at work, until few enough messages of the route are open."""
    if len(runner.lanes) < MOST_OPEN:
        return
    with runner.places.left():
        while len(runner.lanes) >= MOST_OPEN // 2:
            runner.wake()
            if runner.stopping:
                raise Wait(runner.bench.clock.now())
            await runner.bench.clock.sleep(LOOK)


__all__ = ["born", "children_of", "committed", "hand_on"]
