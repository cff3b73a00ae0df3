"""How long the retries of a step go on, and what ends them sooner."""

from __future__ import annotations

from datetime import timedelta

from esb.config.model import RouteSpec
from esb.steps.base import RetryPolicy, StepNode, WhenDown


def drop_of(spec: RouteSpec, block: str, node: StepNode) -> WhenDown | None:
    """What drops the message of a step in an outage: what the step says, else its branch, else the route; None for nothing."""
    branches = [
        when for scope, when in spec.branch_when_down.items() if block == scope or block.startswith(f"{scope}/")
    ]
    said = node.when_down or (branches[-1] if branches else spec.when_down)
    return said if said.mode == "drop_after" else None


def waits_of(policy: RetryPolicy, count: int) -> timedelta:
    """The sum of the first ``count`` waits at their longest: doubling from the first to the longest."""
    first, longest = policy.backoff.first, policy.backoff.longest
    found = timedelta()
    for number in range(count):
        wait = min(longest, first * (2 ** min(number, 30)))
        if wait == longest:
            return found + longest * (count - number)
        found += wait
    return found


def waits_out(policy: RetryPolicy) -> timedelta | None:
    """How long an outage with a ``drop_after`` is waited for before the message is dead; None where only the drop ends it."""
    if not {"any", "unavailable"} & set(policy.for_):
        return timedelta()
    return policy.within
