"""The compiled route at work: runs the steps of a block over one message and applies what stands beside a step.

Guards, ``into``, ``timeout``, ``when_down`` and ``continue_on_error`` are policies around a step, never inside it; they are
applied here, in this order, and nowhere else. What fails is raised as :class:`StepFailed` with the step's node, so that
the caller can decide by the step's own retry policy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from esb.clock import Deadlines
from esb.errors import GAVE_UP, InternalFault, MessageError, StoreError, Timeout, Unavailable, given_up
from esb.formats.unread import Unread
from esb.message import Message
from esb.steps.base import Answer, Block, Enter, StepNode, Stop, Wait, WhenDown, set_path
from esb.steps.claims import ClaimContext
from esb.steps.nested import is_in, steps_in
from esb.steps.unread import StreamContext, Streams, takes_unread


class StepFailed(Exception):
    """A step raised ``error``; the message stays as it was before the step."""

    def __init__(self, error: MessageError, node: StepNode, message: Message) -> None:
        super().__init__(f"{node.id}: {error}")
        self.error = error
        self.node = node
        self.message = message


class Withdrawn(Exception):
    """A person or an overtaking message was faster: the message is no longer this attempt's, and nothing was sent."""


class Overtime(BaseException):
    """Raised into a step that keeps the loop busy for too long; its work starts again where it harms nobody.

    No ``Exception``, so that no step takes it for a fault of its own.
    """


class Watch(Protocol):
    """Raises :class:`Overtime` in what runs too long between ``arm`` and ``disarm``, and nowhere else."""

    slow: dict[int, StepNode]  #: steps, by ``id``, that were too slow when they ran last: they do not begin here again

    def arm(self) -> None: ...

    def arm_step(self) -> None:
        """As ``arm``, for work that may begin elsewhere again: less of it is too long."""

    def was_slow(self, node: StepNode) -> None:
        """It was interrupted: it belongs to :attr:`slow`."""

    def was_quick(self, node: StepNode) -> None:
        """It was quick elsewhere: it may begin here again, unless it was slow too often."""

    def disarm(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What a worker process made of some steps: ``place`` is the node that was the last one, or the next one for None."""

    place: int
    message: Message
    answer: Answer | MessageError | None


class Run(StreamContext, ClaimContext, Protocol):
    """A :class:`~esb.steps.base.Context` that the pipeline itself may ask for more."""

    unread: bool  #: the payload is large and not decoded yet: the first steps run where it is
    heavy: bool  #: the message is large: plain steps run in a worker process
    watch: Watch | None
    timeout: float  #: seconds the running step may take in total
    when_down: WhenDown | None  #: what an outage means where the step does not say it itself

    @property
    def retried(self) -> bool:
        """Whether a person retried the message: it is not dropped in an outage then, but a dead letter again."""
        ...

    @property
    def step_limit(self) -> float:
        """Seconds for a waiting step without a timeout of its own."""
        ...

    @property
    def deadlines(self) -> Deadlines: ...

    async def may_wait(self) -> None:
        """Called before a step that waits."""
        ...

    def begin(self, node: StepNode) -> None: ...

    def end(self, note: str = "", error: MessageError | None = None) -> None: ...

    def undo(self) -> None:
        """Forget what the step that runs has handed off, answered and noted."""
        ...

    def stand_in(self, block: Block) -> None:
        """``block``, a fallback that several steps share, runs instead of the step that runs: what it delivers is named after both."""
        ...

    def name_of(self, node: StepNode, instead_of: str = "") -> str:
        """The name of a step's deliveries, or of those that it makes in a shared fallback instead of another one's."""
        ...

    async def elsewhere(self, block: Block, place: int, message: Message, *, single: bool = False) -> Elsewhere:
        """Run the plain steps from ``place`` on (or this one alone) in a worker process. Raises MessageError, Wait."""
        ...


async def run_block(block: Block, message: Message, run: Run, place: int = 0) -> Message | Stop:
    """Run the steps of a block in order, from a place on; the message as the last step left it, or the Stop that ended it.

    Raises StepFailed and Wait.
    """
    nodes = block.nodes
    while place < len(nodes) or run.unread:
        unread = isinstance(message.body, Unread)
        if not (unread or run.heavy or run.unread):
            answer = (
                await _run_waiting(nodes[place], message, run)
                if nodes[place].waits
                else _here(nodes[place], message, run)
            )
            if answer is None:
                done = await run.elsewhere(block, place, message, single=True)
                answer = done.answer or done.message
        elif unread and (place == len(nodes) or takes_unread(nodes[place], message.body)):
            if place == len(nodes):
                return message
            answer = await _run_unread(nodes[place], message, run)
            if type(answer) is Message and not isinstance(answer.body, Unread):
                run.unread = run.heavy = False  # a claim check stands for it now
        elif unread and not run.unread:
            # bytes that `fetch` has left where they lie, or no worker to read the payload
            whole = await run.aside.whole(message.body.blob)
            message = message.derive(body=message.body.codec.decode(whole))
            continue
        elif run.unread or (run.heavy and not nodes[place].waits):
            done = await run.elsewhere(block, place, message)
            place, message = done.place, done.message
            if done.answer is None:
                continue
            answer = done.answer
        else:
            answer = await _run_waiting(nodes[place], message, run)
        if type(answer) is Message:
            message = answer
            place += 1
            continue
        if isinstance(answer, MessageError):
            answer = _after(nodes[place], message, run, answer)
            if type(answer) is Message:
                message = answer
        place += 1
        if isinstance(answer, Enter):
            inner = await run_block(answer.block, answer.message, run)
            if isinstance(inner, Stop):
                return inner
            message = inner
            continue
        if isinstance(answer, Stop):
            return answer
    return message


class Course:
    """How far a message is: the blocks that it is in, the innermost last, each with the place of its next step."""

    __slots__ = ("blocks", "message", "places")

    def __init__(self, block: Block, message: Message) -> None:
        self.blocks, self.places = [block], [0]
        self.message = message


def advance(course: Course, run: Run, answer: Answer | MessageError | None = None) -> StepNode | Message | Stop | None:
    """Run steps as :func:`run_block` does, up to the next one that waits, which is given; or the end, which is given.

    ``answer`` is what the step that was given last came to. None: the next step must not run here, and :func:`run_on` goes
    on. Raises StepFailed and Wait.
    """
    while True:
        nodes, place = course.blocks[-1].nodes, course.places[-1]
        if answer is None:
            if place == len(nodes):
                if len(course.blocks) == 1:
                    return course.message
                course.blocks.pop()
                course.places.pop()
                continue
            if nodes[place].waits:
                return nodes[place]
            answer = _here(nodes[place], course.message, run)
            if answer is None:
                return None
        course.places[-1] += 1
        if isinstance(answer, MessageError):
            answer = _after(nodes[place], course.message, run, answer)
        if type(answer) is Message:
            course.message = answer
        elif isinstance(answer, Enter):
            course.blocks.append(answer.block)
            course.places.append(0)
            course.message = answer.message
        else:
            assert isinstance(answer, Stop)
            return answer
        answer = None


async def run_on(course: Course, run: Run) -> Message | Stop:
    """Run the rest of the steps, whatever they need."""
    while course.blocks:
        result = await run_block(course.blocks.pop(), course.message, run, course.places.pop())
        if isinstance(result, Stop):
            return result
        course.message = result
    return course.message


def compute(block: Block, message: Message, run: Run) -> Message | Stop:
    """The same for plain steps whose message can still go the ordinary way: whatever is out of the ordinary is raised."""
    for node in block.nodes:
        run.begin(node)
        if node.guard is not None and not node.guard.truth(run.scope(message)):
            run.end("skipped")
            continue
        answer: Answer = node.step.apply(message, run)  # type: ignore[assignment]  # as above: none of them waits
        if node.into and type(answer) is Message:
            answer = relocated(node, message, answer)
        run.end()
        if type(answer) is Message:
            message = answer
            continue
        if isinstance(answer, Enter):
            answer = compute(answer.block, answer.message, run)
        if isinstance(answer, Stop):
            return answer
        message = answer
    return message


def _here(node: StepNode, message: Message, run: Run) -> Answer | MessageError | None:
    """Run one step that does not wait on the loop; None where it takes too long for it."""
    watch = run.watch
    if watch is None:
        return run_plain(node, message, run)
    if node.apart or id(node) in watch.slow:
        return None
    try:
        watch.arm_step()
        try:
            return run_plain(node, message, run)
        finally:
            watch.disarm()
    except Overtime:
        run.undo()
        watch.was_slow(node)
        return None


async def _run_unread(node: StepNode, message: Message, run: Run) -> Answer | MessageError:
    """Run a step that leaves a large body undecoded, or works through it piece by piece."""
    if isinstance(node.step, Streams):
        return await _run_waiting(node, message, run, endless=True)
    return await _run_waiting(node, message, run) if node.waits else run_plain(node, message, run)


def run_plain(node: StepNode, message: Message, run: Run) -> Answer | MessageError:
    """Run one step that does not wait; what befell the message is given back, not raised. Raises Wait."""
    run.begin(node)
    try:
        if node.guard is not None and not node.guard.truth(run.scope(message)):
            run.end("skipped")
            return message
        answer: Answer = node.step.apply(message, run)  # type: ignore[assignment]  # `waits` tells awaitables and plain answers apart
        if node.into and type(answer) is Message:
            answer = relocated(node, message, answer)
    except Exception as error:  # noqa: BLE001 - a step's own bug is the fate of this message, not of the process
        return befell(node, error, run)
    run.end()
    return answer


def befell(node: StepNode, error: Exception, run: Run) -> MessageError:
    """What befell the message in a step, noted in its trace. Raises what is no fault of the message: Wait, Withdrawn, StoreError."""
    if isinstance(error, Wait):
        run.end("waits")
        raise error
    if isinstance(error, (Withdrawn, StoreError)):
        raise error  # it is given back and tried again
    told = error if isinstance(error, MessageError) else _fault(node, error)
    run.end(error=told)
    return told


async def _run_waiting(node: StepNode, message: Message, run: Run, *, endless: bool = False) -> Answer | MessageError:
    run.begin(node)
    try:
        if node.guard is not None and not lets_in(node, message, run):
            run.end("skipped")
            return message
        if (instead := falls_back_still(node, message, run)) is not None:
            return instead
        answer = await (_work_through if endless else _wait_for)(node, message, run)
        if node.into and type(answer) is Message:
            answer = relocated(node, message, answer)
    except Exception as error:  # noqa: BLE001 - as above
        return befell(node, error, run)
    run.end()
    return answer


def lets_in(node: StepNode, message: Message, run: Run) -> bool:
    """Whether the guard of a waiting step lets the message in; a guard that takes too long is a fault of the route."""
    assert node.guard is not None
    if run.watch is None:
        return node.guard.truth(run.scope(message))
    try:
        run.watch.arm()
        try:
            return node.guard.truth(run.scope(message))
        finally:
            run.watch.disarm()
    except Overtime:
        raise InternalFault(
            f"`if: {node.guard.text}` takes too long",
            hint="work it out in a `set` step before, which may take longer, and ask for its result",
        ) from None


def _fault(node: StepNode, error: Exception) -> InternalFault:
    fault = InternalFault(f"step `{node.id}` broke: {type(error).__name__}: {error}")
    fault.__cause__ = error
    return fault


async def _wait_for(node: StepNode, message: Message, run: Run) -> Answer:
    await run.may_wait()
    run.timeout = seconds_for(node, run)
    answer = node.step.apply(message, run)
    # the sink keeps to the deadline itself and says more about it; this is the wall behind it
    try:
        with run.deadlines.within(run.timeout + 1.0):
            waited: Answer = await answer  # type: ignore[misc]  # a waiting step gives an awaitable
            return waited
    except TimeoutError as error:
        raise Timeout(f"step `{node.id}` took longer than {run.timeout:g} s") from error


def seconds_for(node: StepNode, run: Run) -> float:
    """How long a waiting step may take in total."""
    return node.timeout.total_seconds() if node.timeout is not None else run.step_limit


async def _work_through(node: StepNode, message: Message, run: Run) -> Answer:
    """A large body takes as long as it takes; each piece of it is bounded, and what was done is not done again."""
    assert isinstance(node.step, Streams)
    await run.may_wait()
    limit = node.timeout.total_seconds() if node.timeout is not None else None
    try:
        async with asyncio.timeout(limit):
            return await node.step.stream(message, run)
    except TimeoutError as error:
        raise Timeout(f"step `{node.id}` took longer than {limit:g} s") from error


def relocated(node: StepNode, before: Message, after: Message) -> Message:
    """Apply ``into``: the reply of a sending step, the new body of any other step."""
    if node.kind in ("to", "tap", "await"):
        return set_path(after, node.into, after.meta.get("reply"))
    return set_path(after.derive(body=before.body), node.into, after.body)


def _after(node: StepNode, message: Message, run: Run, error: MessageError) -> Answer:
    """What a failed step means for the message. Raises StepFailed unless something beside the step says otherwise."""
    if isinstance(error, Unavailable) and not error.gave_up:
        policy = _when_down(node, run)
        if policy is not None and policy.mode == "fallback" and policy.block is not None:
            return _fall_back(policy.block, node, message, run)
        if policy is not None and policy.mode == "drop_after" and policy.drop_after is not None and not run.retried:
            error.dropped_at = run.accepted_at + policy.drop_after
            if run.clock.now() >= error.dropped_at:
                return Stop(f"dropped by when_down: {node.id} was unavailable")
    if node.continue_on_error:
        return message
    raise StepFailed(error, node, message) from error


def _when_down(node: StepNode, run: Run) -> WhenDown | None:
    """What an outage means for a step: its own word, else the route's. A fallback of the route is none for its own steps."""
    shared = run.when_down
    if node.when_down is not None or shared is None or shared.block is None:
        return node.when_down or shared
    return None if is_in(node, shared.block) else shared


def _fall_back(block: Block, node: StepNode, message: Message, run: Run) -> Enter:
    run.note(when_down="fallback")
    if node.when_down is None:
        run.stand_in(block)
    return Enter(block, message)


def falls_back_still(node: StepNode, message: Message, run: Run) -> Enter | None:
    """The way into the fallback of a step, where that has delivered at an earlier attempt: the message does not go to both.
    Raises what the step failed of where the steps of `on_error` stand in for it."""
    if (kept := run.recall(run.step + GAVE_UP)) is not None:
        raise given_up(kept)
    policy = _when_down(node, run)
    if policy is None or policy.block is None or run.recall(run.step) is not None:
        return None
    instead_of = run.step if node.when_down is None else ""
    if not any(has_delivered(one, run, instead_of) for one in steps_in(policy.block)):
        return None
    entered = _fall_back(policy.block, node, message, run)
    run.end()
    return entered


def has_delivered(node: StepNode, run: Run, instead_of: str = "") -> bool:
    """Whether a step of a fallback has delivered, or the fallback of the route instead of it."""
    name = run.name_of(node, instead_of)
    if node.kind == "to" and run.recall(name) is not None:
        return True
    shared = _when_down(node, run) if node.when_down is None else None
    if shared is None or shared.block is None:
        return False
    return any(one.kind == "to" and run.recall(run.name_of(one, name)) is not None for one in steps_in(shared.block))


def facts(reply_body: Any, limit: int = 2000) -> Any:
    """A reply body cut to what a trace may hold."""
    if reply_body is None or isinstance(reply_body, (int, bool)):
        return reply_body
    text = reply_body if isinstance(reply_body, str) else str(reply_body)
    if isinstance(reply_body, (Mapping, list)) and len(text) <= limit:
        return reply_body
    return text if len(text) <= limit else text[:limit] + "…"
