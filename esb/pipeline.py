"""The compiled route at work: runs the steps of a block over one message and applies what stands beside a step.

Guards, ``into``, ``timeout``, ``when_down`` and ``continue_on_error`` are policies around a step, never inside it; they are
applied here, in this order, and nowhere else. What fails is raised as :class:`StepFailed` with the step's node, so that
the caller can decide by the step's own retry policy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

from esb.errors import InternalFault, MessageError, StoreError, Timeout, Unavailable
from esb.message import Message
from esb.steps.base import Answer, Block, Context, Enter, StepNode, Stop, Wait, WhenDown, set_path


class StepFailed(Exception):
    """A step raised ``error``; the message stays as it was before the step."""

    def __init__(self, error: MessageError, node: StepNode, message: Message) -> None:
        super().__init__(f"{node.id}: {error}")
        self.error = error
        self.node = node
        self.message = message


class Withdrawn(Exception):
    """A person or an overtaking message was faster: the message is no longer this attempt's, and nothing was sent."""


class Run(Context, Protocol):
    """A :class:`~esb.steps.base.Context` that the pipeline itself may ask for more."""

    timeout: float  #: seconds the running step may take in total
    when_down: WhenDown | None  #: what an outage means where the step does not say it itself

    @property
    def accepted_at(self) -> datetime: ...

    @property
    def step_limit(self) -> float:
        """Seconds for a waiting step without a timeout of its own."""
        ...

    def begin(self, node: StepNode) -> None: ...

    def end(self, note: str = "", error: MessageError | None = None) -> None: ...


async def run_block(block: Block, message: Message, run: Run) -> Message | Stop:
    """Run the steps of a block in order; the message as the last step left it, or the Stop that ended it.

    Raises StepFailed and Wait.
    """
    for node in block.nodes:
        answer = await _run_node(node, message, run)
        if type(answer) is Message:
            message = answer
            continue
        if isinstance(answer, Enter):
            inner = await run_block(answer.block, answer.message, run)
            if isinstance(inner, Stop):
                return inner
            message = inner
            continue
        if isinstance(answer, Stop):
            return answer
    return message


async def _run_node(node: StepNode, message: Message, run: Run) -> Answer:
    run.begin(node)
    try:
        if node.guard is not None and not node.guard.truth(run.scope(message)):
            run.end("skipped")
            return message
        answer = await _wait_for(node, message, run) if node.waits else node.step.apply(message, run)
        if node.into and type(answer) is Message:
            answer = _relocate(node, message, answer)
    except Wait:
        run.end("waits")
        raise
    except (Withdrawn, StoreError):
        raise  # neither is the message's fault: it is given back and tried again
    except MessageError as error:
        return await _failed(node, message, run, error)
    except Exception as error:  # noqa: BLE001 - a step's own bug is the fate of this message, not of the process
        fault = InternalFault(f"step `{node.id}` broke: {type(error).__name__}: {error}")
        fault.__cause__ = error
        return await _failed(node, message, run, fault)
    run.end()
    return answer  # type: ignore[return-value]  # `waits` tells awaitables and plain answers apart


async def _wait_for(node: StepNode, message: Message, run: Run) -> Answer:
    run.timeout = node.timeout.total_seconds() if node.timeout is not None else run.step_limit
    answer = node.step.apply(message, run)
    # the sink keeps to the deadline itself and says more about it; this is the wall behind it
    try:
        async with asyncio.timeout(run.timeout + 1.0):
            waited: Answer = await answer  # type: ignore[misc]  # a waiting step gives an awaitable
            return waited
    except TimeoutError as error:
        raise Timeout(f"step `{node.id}` took longer than {run.timeout:g} s") from error


def _relocate(node: StepNode, before: Message, after: Message) -> Message:
    """Apply ``into``: the reply of a sending step, the new body of any other step."""
    if node.kind in ("to", "tap"):
        return set_path(after, node.into, after.meta.get("reply"))
    return set_path(after.derive(body=before.body), node.into, after.body)


async def _failed(node: StepNode, message: Message, run: Run, error: MessageError) -> Answer:
    run.end(error=error)
    if isinstance(error, Unavailable):
        policy = node.when_down or run.when_down
        if policy is not None and policy.mode == "fallback" and policy.block is not None:
            run.note(when_down="fallback")
            return Enter(policy.block, message)
        if policy is not None and policy.mode == "drop_after" and policy.drop_after is not None:
            if run.clock.now() - run.accepted_at >= policy.drop_after:
                return Stop(f"dropped by when_down: {node.id} was unavailable")
            error.retry_after = _sooner(error.retry_after, run.accepted_at + policy.drop_after - run.clock.now())
    if node.continue_on_error:
        return message
    raise StepFailed(error, node, message) from error


def _sooner(first: timedelta | None, second: timedelta) -> timedelta | None:
    return first if first is None else min(first, second)


def facts(reply_body: Any, limit: int = 2000) -> Any:
    """A reply body cut to what a trace may hold."""
    if reply_body is None or isinstance(reply_body, (int, bool)):
        return reply_body
    text = reply_body if isinstance(reply_body, str) else str(reply_body)
    if isinstance(reply_body, (Mapping, list)) and len(text) <= limit:
        return reply_body
    return text if len(text) <= limit else text[:limit] + "…"
