"""Working ahead: a message whose steps only compute is worked off before it is stored, and stored once, with its end.

What is promised does not change: it is acknowledged when it is in the store, and nothing of it was seen before. A step with an
effect, one that waits and one that may not be repeated never run here. Whatever goes wrong, and whatever the store decides
otherwise (a repeat, a lane that is held or busy), the message is stored as it came and goes the ordinary way.

A process that dies of such a step leaves nobody who counts its crashes: the next one does not work ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from msgspec.structs import replace

from esb.config.model import RouteSpec
from esb.errors import MessageError
from esb.failpoints import hit
from esb.message import Message, State
from esb.pipeline import Overtime, compute
from esb.runtime.births import Birth
from esb.runtime.endings import completed
from esb.runtime.lanes import Entry
from esb.runtime.large import is_large
from esb.runtime.run import MessageRun
from esb.runtime.streams import children_of
from esb.runtime.verdicts import event_of
from esb.steps.base import Block, StepNode, Stop
from esb.store.base import Accepted
from esb.store.suspect import AHEAD

if TYPE_CHECKING:
    from esb.runtime.runner import RouteRunner

#: Steps that compute from the message alone, and may be done twice.
PURE = frozenset(
    "choose filter format lookup map parse publish remove respond set transform validate".split()  # noqa: SIM905 - a list of words
)
#: Messages born of one another that are worked off together, and the seconds of the loop that all of them may take.
DEEPEST, SLICE = 3, 0.005


class NotAhead(Exception):
    """The message needs what there is only when it is stored."""


class AheadRun(MessageRun, eq=False):
    """An attempt that has no place in the store yet: it can neither wait nor leave the loop."""

    node: StepNode | None = None  #: the step that runs
    _passed: int = 0  #: microseconds from the first step to the one that runs; it begins where the last one ended

    async def elsewhere(self, *_: Any, **__: Any) -> NoReturn:
        raise NotAhead

    async def may_wait(self) -> NoReturn:
        raise NotAhead

    async def started(self) -> NoReturn:
        raise NotAhead

    def begin(self, node: StepNode) -> None:
        if self.watch is not None and id(node) in self.watch.slow:
            raise NotAhead
        self.node, self.step = node, node.id
        if not self._zero:
            self._zero = self.bench.clock.monotonic()
        self._record = {"step": node.id, "at": self._passed / 1000}
        self.trace.append(self._record)

    def end(self, note: str = "", error: MessageError | None = None) -> None:
        del error  # none goes on
        before = self._passed
        self._passed = int((self.bench.clock.monotonic() - self._zero) * 1e6)
        self._record["ms"] = (self._passed - before) / 1000
        if note:
            self._record["note"] = note


class Ahead:
    """Works off the messages of one route before they are stored."""

    def __init__(self, runner: RouteRunner) -> None:
        self._runner = runner
        self._known: RouteSpec | None = None  #: the version that `_pure` was read from
        self._pure = False

    def work(self, birth: Birth, depth: int = 0, until: float = 0.0) -> Birth:
        """The birth with its end where its steps could be worked off, else as it is.

        ``depth`` tells what is born of another message ahead of the store, for which there is time ``until`` then.
        """
        runner = self._runner
        if runner.spec is not self._known:
            self._known, self._pure = runner.spec, is_pure(runner.spec)
        if not (self._pure and birth.message is not None and self._is_its_turn(birth)):
            return birth
        now = runner.bench.clock.monotonic()
        if depth and now > until:
            return birth
        try:
            return self._worked_off(birth, depth, until if depth else now + SLICE)
        except (Exception, Overtime):  # noqa: BLE001 - the ordinary way meets it again, and says what it means
            return birth

    def _is_its_turn(self, birth: Birth) -> bool:
        """Whether the ordinary way would run it at once, here, on this version of the route."""
        new, envelope, runner = birth.new, birth.new.envelope, self._runner
        bench = runner.bench
        return (
            bench.store.works_ahead
            and new.state is State.QUEUED
            and not (envelope.scope or envelope.overtakes or new.supersede)
            and envelope.version == runner.spec.digest
            and not (runner.paused or runner.stopping)
            and envelope.blob is None
            and (bench.away is None or not bench.away.is_heavy(envelope.size))
            and (envelope.key is None or runner.lanes.is_free((envelope.scope, envelope.key)))
        )

    def _worked_off(self, birth: Birth, depth: int, until: float) -> Birth:
        runner, envelope, message = self._runner, birth.new.envelope, birth.message
        spec, bench, hub = runner.spec, runner.bench, runner.hub
        assert message is not None
        entry = Entry(AHEAD, envelope.id, envelope.scope, envelope.key, envelope.accepted_at, envelope.version, 1)
        run = AheadRun(bench, spec, runner.births, entry, envelope, {}, runner.lanes, runner.registry, hub, runner.bear)
        bench.store.at_work(AHEAD)
        result = (compute if run.watch is None else _watched)(spec.steps, message, run)
        hit("ahead.worked")
        now = bench.clock.now()
        children: Sequence[Birth] = ()
        if run.handoffs:
            children = children_of(run.handoffs, run, now)
            for child in children:
                if is_large(child.new.envelope, bench.store.blobs):
                    return birth
            if depth < DEEPEST:
                children = [hub.ahead(child, depth + 1, until) for child in children]
        if run.fresh:
            return birth
        verdict = completed(entry, run, result, children, now)
        rules = bench.observer.rules(spec.name)
        if rules and (on := event_of(verdict.settlement)) in rules:
            facts = bench.observer.event(on, envelope, now, message)
            verdict = replace(verdict, settlement=replace(verdict.settlement, facts=facts))
        # nothing but the store holds the decoded message while it waits for its commit
        return replace(birth, new=replace(birth.new, ending=verdict.settlement), message=None, ended=verdict)

    def done(self, birth: Birth, accepted: Accepted) -> None:
        """The message is in the store with its end: who counts, what was born of it and whoever waits hear of it."""
        runner, verdict = self._runner, birth.ended
        assert verdict is not None
        bench, settlement, envelope = runner.bench, verdict.settlement, birth.new.envelope
        observer, passed = bench.observer, (settlement.at - envelope.accepted_at).total_seconds()
        observer.meters.attempt(runner.spec.name, settlement, max(0.0, passed))
        if observer.emit is not None:
            observer.spans(envelope, settlement)
        if verdict.births:
            for child, one in zip(verdict.births, accepted.children, strict=False):
                runner.hub.arrived(child, one)
        runner.meter.count(bench.clock.monotonic())
        assert verdict.outcome is not None
        runner.outcomes.tell(accepted.id, verdict.outcome)


def _watched(block: Block, message: Message, run: AheadRun) -> Message | Stop:
    """The result of the steps, interrupted (Overtime) where all of them together take too long for the loop."""
    watch = run.watch
    assert watch is not None
    watch.arm_step()
    try:
        return compute(block, message, run)
    except Overtime:
        if run.node is not None:
            watch.was_slow(run.node)
        raise
    finally:
        watch.disarm()


def is_pure(spec: RouteSpec) -> bool:
    """Whether all steps of a route only compute."""
    return spec.priority != "low" and _is_pure(spec.steps)


def _is_pure(block: Block) -> bool:
    return all(
        node.kind in PURE
        and not (node.waits or node.apart)
        and all(_is_pure(inner) for inner in getattr(node.step, "blocks", ()))
        for node in block.nodes
    )


__all__ = ["Ahead", "is_pure"]
