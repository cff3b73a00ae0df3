"""Direct dispatch: a message that would run at once is stored as one that runs already, so that its start needs no write of its own.

What is promised does not change: the attempt is in the store before its first effect, and a crash after the commit counts it.
A place at work is kept for the message until it is stored. It runs next, before what waits, also where its route is paused
meanwhile, as what has begun does. Where the store decides otherwise (a repeat, a lane that is held or busy) it waits as ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from esb.config.model import RouteSpec
from esb.errors import StoreError
from esb.message import State
from esb.runtime.births import Birth
from esb.runtime.lanes import Entry
from esb.runtime.verdicts import Verdicts
from esb.store.base import Accepted, Settlement

if TYPE_CHECKING:
    from esb.runtime.runner import RouteRunner


class Direct:
    """Stores the new messages of one route, as begun where they would begin at once."""

    def __init__(self, runner: RouteRunner, verdicts: Verdicts) -> None:
        self._runner = runner
        self._verdicts = verdicts
        self._known: RouteSpec | None = None  #: the version that `_fits` was read from
        self._fits = False
        self._begun: deque[Entry] = deque()

    def __len__(self) -> int:
        """Messages that have begun for the store, and wait for their turn of the loop."""
        return len(self._begun)

    def add(self, entry: Entry) -> None:
        """A message that was stored as running; its place is taken."""
        entry.running = entry.started = True
        self._begun.append(entry)

    def next(self, *, rests: bool) -> Entry | None:
        """The next message to run, with its place: one that has begun, or where nothing ``rests`` one that waits.

        Those that have begun and shall not run any more go back to the store, without an attempt.
        """
        runner = self._runner
        while self._begun:
            entry = self._begun.popleft()
            if not (entry.superseded or runner.stopping):
                return entry
            runner.places.leave()
            back = Settlement(entry.seq, State.QUEUED, entry.attempts, runner.bench.clock.now())
            self._verdicts.add(self._verdicts.again(entry, back))
        waiting = None if rests or not runner.has_place else runner.lanes.take()
        if waiting is not None:
            runner.places.take()
        return waiting

    def accept(self, birth: Birth, then: Callable[[Accepted | StoreError], None]) -> None:
        """Store a message; ``then`` hears of the commit. Raises what the store raises at once."""
        runner = self._runner
        if birth.ended is not None or not self._would_run(birth):
            runner.bench.store.accept_then(birth.new, then)
            return
        runner.places.take()
        try:
            runner.bench.store.accept_then(replace(birth.new, started=True), partial(self._landed, then))
        except BaseException:
            runner.places.leave()
            raise

    def _landed(self, then: Callable[[Accepted | StoreError], None], accepted: Accepted | StoreError) -> None:
        if isinstance(accepted, StoreError) or accepted.state is not State.RUNNING or accepted.known:
            self._runner.places.leave()
            self._runner.wake()
        then(accepted)

    def _would_run(self, birth: Birth) -> bool:
        """Whether nothing stands between this message and its first step but its commit."""
        runner, new, envelope = self._runner, birth.new, birth.new.envelope
        if runner.spec is not self._known:
            self._known, self._fits = runner.spec, has_effects(runner.spec)
        return (
            self._fits
            and birth.message is not None
            and new.state is State.QUEUED
            and not (envelope.scope or new.supersede)
            and envelope.version == runner.spec.digest
            and runner.has_place
            and not (runner.paused or runner.stopping or runner.lanes.waits)
            and (envelope.key is None or runner.lanes.is_free((envelope.scope, envelope.key)))
        )


def has_effects(spec: RouteSpec) -> bool:
    """Whether the steps of a route need a message that has begun; one that only computes is not told to the store."""
    return spec.priority != "low" and any(node.waits for node in spec.steps.nodes)


__all__ = ["Direct", "has_effects"]
