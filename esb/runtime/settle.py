"""What becomes of a message after an attempt: a pure decision that a test can compare."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from esb.config.model import OnError, RouteSpec
from esb.errors import ErrorRecord, MessageError, Unavailable
from esb.steps.base import RetryPolicy

#: A wait that a target asks for (``Retry-After``) is honoured up to this.
LONGEST_RETRY_AFTER = timedelta(hours=1)

#: Draws from [0, 1).
Chance = Callable[[], float]


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Try again at ``due``; ``counts`` is false where the attempt never reached the target (an open circuit)."""

    due: datetime
    counts: bool = True


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No further attempt. ``error_class`` is ``exhausted`` where retries were used up, else the error's own."""

    error_class: str


Decision = RetryAt | GiveUp


def backoff(policy: RetryPolicy, attempt: int, chance: Chance = random.random) -> timedelta:
    """The wait after ``attempt`` failed attempts (1 is the first): doubles from first to longest, with full jitter.

    Source of full jitter: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    first, longest = policy.backoff.first, policy.backoff.longest
    times = 2 ** min(attempt - 1, 30)
    # asked by a quotient: the product may be too long for a timedelta
    ceiling: timedelta = first * times if first < longest / times else longest
    return ceiling * chance() if policy.jitter == "full" else ceiling


def decide(
    error: MessageError,
    *,
    policy: RetryPolicy,
    attempt: int,
    accepted_at: datetime,
    now: datetime,
    counts: bool = True,
    chance: Chance = random.random,
) -> Decision:
    """Retry or give up, by the error's class and the policy. ``attempt`` counts from 1.

    With ``drop_after`` an outage ends the message at its time, not with the last retry: the waits grow, and go on.
    """
    if "any" not in policy.for_ and error.error_class not in policy.for_:
        return GiveUp(error.error_class)
    dropped_at = error.dropped_at if isinstance(error, Unavailable) else None
    if counts and attempt > policy.max and dropped_at is None:
        return GiveUp("exhausted" if policy.max else error.error_class)
    wait = backoff(policy, max(attempt, 1), chance)
    if error.retry_after is not None:
        wait = max(wait, min(error.retry_after, LONGEST_RETRY_AFTER))
    if policy.within is not None and now + wait > accepted_at + policy.within:
        return GiveUp("exhausted")
    return RetryAt(now + wait if dropped_at is None else min(now + wait, dropped_at), counts)


def handler_for(on_error: tuple[OnError, ...], error_class: str, cause_class: str) -> OnError | None:
    """The first entry of ``on_error`` that names the class (``exhausted`` also answers to its cause)."""
    for entry in on_error:
        if (
            "any" in entry.for_
            or error_class in entry.for_
            or (cause_class in entry.for_ and error_class == "exhausted")
        ):
            return entry
    return None


def record(
    error: MessageError, *, step: str, error_class: str, spec: RouteSpec, handler: OnError | None = None
) -> ErrorRecord:
    """The error as it is stored with the message; ``spec`` is the version of the route that it befell."""
    message = error.message
    if error_class == "exhausted":
        message = f"gave up after the last retry: {message}"
    return ErrorRecord(
        error_class=error_class,
        message=message[:2000],
        step=step,
        pointer=error.violations[0].pointer if error.violations else "",
        hint=error.hint,
        violations=error.violations[:50],
        dead_letter=handler.dead_letter if handler is not None else "",
        at=place_of(spec, step),
    )


def place_of(spec: RouteSpec, step: str) -> str:
    """Where a step stands in the files of the workspace; the source where it is none."""
    nodes = (node for block in spec.blocks.values() for node in block.nodes)
    return str(next((node.position for node in nodes if node.id == step), spec.source.position))
