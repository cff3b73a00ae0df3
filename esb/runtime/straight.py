"""Attempts without a task: steps that compute run at once, and a delivery whose sink tells of its end by a call needs none either.

What is promised does not change, and neither does the order of things: the start is in the store before the first effect,
an answer is in the ledger before the next one. Whatever is out of the ordinary (another step that waits, a fault, a target
that is not ready) goes on as a coroutine from where the message is.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, NoReturn

from esb.config.model import RouteSpec
from esb.errors import MessageError, StoreError
from esb.failpoints import delays, hit
from esb.formats.unread import Unread
from esb.message import Message
from esb.pipeline import (
    Course,
    Overtime,
    Withdrawn,
    advance,
    befell,
    falls_back_still,
    lets_in,
    relocated,
    run_on,
    seconds_for,
)
from esb.runtime import sending
from esb.runtime.endings import completed
from esb.runtime.lanes import Entry
from esb.runtime.ports import Errand
from esb.runtime.rules import block_of
from esb.runtime.run import MessageRun
from esb.steps.base import Answer, Reply, StepNode, Stop, Target
from esb.steps.to import To

if TYPE_CHECKING:
    from esb.runtime.runner import RouteRunner


class Straight:
    """The attempts of one route that have no task."""

    def __init__(self, runner: RouteRunner) -> None:
        self.runner = runner
        self.flights: set[Flight] = set()
        self._known: RouteSpec | None = None  #: the version that `_fits` was read from
        self._fits = False

    def __len__(self) -> int:
        """Attempts that wait for their start, or for an answer."""
        return len(self.flights)

    def takes(self, entry: Entry) -> bool:
        """Whether an attempt of this message may begin here."""
        spec = self.runner.spec
        if spec is not self._known:
            self._known = spec
            self._fits = spec.priority != "low" and not (delays("send.started") or delays("send.answered"))
        return self._fits and not entry.crashes

    def begin(self, entry: Entry, run: MessageRun) -> None:
        """Run an attempt up to its first wait. Never raises."""
        try:
            run.bench.store.at_work(entry.seq)
            course = Course(block_of(run.spec, entry.scope), run.first())
        except (Exception, Overtime) as error:  # noqa: BLE001 - judged as that of any attempt
            self.runner.carry_on(entry, run, _raised(error))
            return
        if run.unread or run.heavy or isinstance(course.message.body, Unread):
            self.runner.carry_on(entry, run, run_on(course, run))
        else:
            Flight(self, entry, run, course).go_on(None)

    def give_up(self) -> None:
        """The bus stops: nobody waits for what is still on its way."""
        for flight in list(self.flights):
            flight.give_up()


class Flight:
    """One attempt."""

    __slots__ = ("_course", "_end", "_entry", "_node", "_run", "_sent", "_straight")

    def __init__(self, straight: Straight, entry: Entry, run: MessageRun, course: Course) -> None:
        self._straight, self._entry, self._run, self._course = straight, entry, run, course
        self._node: StepNode | None = None  #: the step whose answer is awaited
        self._sent: Message | None = None
        self._end: Callable[[], None] | None = None  #: ends the delivery that is on its way

    def go_on(self, answer: Answer | MessageError | None) -> None:
        """Run steps up to the next wait, or to the end. ``answer`` is what the step that waited came to. Never raises."""
        run, course = self._run, self._course
        try:
            while isinstance(step := advance(course, run, answer), StepNode):
                if type(step.step) is not To or step.on_timeout is not None:
                    step = None
                    break
                if not run.start_then(self._begun):
                    self._straight.flights.add(self)
                    return
                answer = self._send(step, step.step)
                if answer is None:
                    if self._node is not None:
                        self._straight.flights.add(self)
                        return
                    step = None
                    break
        except (Exception, Overtime) as error:  # noqa: BLE001 - judged as that of any attempt
            self._leave(_raised(error))
            return
        if step is None:
            self._leave(run_on(course, run))
        elif run.handoffs:
            self._leave(_given(step))
        else:
            self._straight.flights.discard(self)
            self._straight.runner.end(completed(self._entry, run, step, (), run.bench.clock.now()))

    # -- one delivery -------------------------------------------------------------------------------------------------
    def _send(self, node: StepNode, step: To) -> Answer | MessageError | None:
        """What the step comes to where that is known at once; else the delivery is on its way, or must go as a task."""
        run, message = self._run, self._course.message
        run.begin(node)
        try:
            if node.guard is not None and not lets_in(node, message, run):
                run.end("skipped")
                return message
            if (instead := falls_back_still(node, message, run)) is not None:
                return instead
            run.timeout = seconds_for(node, run)
            target = step.target_of(message, run)
            if target is None:
                run.end()
                return message
            known = sending.known(run, target, message)
            if known is not None:
                return self._done(node, message, known)
            if target.on_timeout is None and self._sends(target, message):
                self._node = node
            else:
                run.undo()
        except Exception as error:  # noqa: BLE001 - as for any step
            return befell(node, error, run)
        return None

    def _sends(self, target: Target, message: Message) -> bool:
        run = self._run
        targets = run.bench.targets
        port = targets.ready(target)
        if port is None:
            return False
        run.save_ledger()
        self._sent, delivery = sending.packed(run, target, message)
        hit("send.started")
        self._end = targets.begin(port, Errand(target, self._sent, delivery, run.timeout + 1.0, self._answered))
        return self._end is not None

    def _answered(self, answer: Reply | Exception | None) -> None:
        node, run, message = self._node, self._run, self._course.message
        self._node = self._end = None
        assert node is not None
        if answer is None:
            run.undo()
            self._leave(run_on(self._course, run))
            return
        run.came_back()
        try:
            after = self._after(node, message, answer)
        except (Exception, Overtime) as error:  # noqa: BLE001 - judged as that of any attempt
            self._leave(_raised(error))
            return
        self.go_on(after)

    def _after(self, node: StepNode, message: Message, answer: Reply | Exception) -> Message | MessageError:
        run = self._run
        try:
            if not isinstance(answer, Reply):
                if isinstance(answer, MessageError):
                    sending.refused(run, answer)
                raise answer
            hit("send.answered")
            sending.answered(run, answer, self._sent)
            return self._done(node, message, answer)
        except Exception as error:  # noqa: BLE001 - as for any step
            return befell(node, error, run)

    def _done(self, node: StepNode, message: Message, reply: Reply) -> Message:
        after = To.answered(message, reply)
        if node.into:
            after = relocated(node, message, after)
        self._run.end()
        return after

    # -- the start ----------------------------------------------------------------------------------------------------
    def _begun(self, begun: bool | StoreError) -> None:
        """The store has the start, or has given the message another end."""
        if self not in self._straight.flights:
            return
        if isinstance(begun, StoreError):
            self._leave(_raised(begun))
        elif not begun:
            self._leave(_raised(Withdrawn()))
        else:
            self._run.has_started()
            self.go_on(None)

    # -- as a coroutine -----------------------------------------------------------------------------------------------
    def _leave(self, work: Coroutine[Any, Any, Message | Stop]) -> None:
        self._straight.flights.discard(self)
        self._straight.runner.carry_on(self._entry, self._run, work)

    def give_up(self) -> None:
        """The attempt is interrupted, as a task would be cancelled."""
        if self._end is not None:
            self._end()
        self._straight.flights.discard(self)
        self._straight.runner.interrupted(self._entry, self._run)


async def _given(result: Message | Stop) -> Message | Stop:
    return result


async def _raised(error: BaseException) -> NoReturn:
    raise error


__all__ = ["Straight"]
