"""Where a message comes from: the system in which its change began, and the message that a replay acts for.

`X-ESB-Origin` names the system, so that what comes back to it as an echo is not sent there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from esb.config.model import RouteSpec
from esb.endpoints.base import Incoming
from esb.endpoints.carried import ORIGIN
from esb.message import Message
from esb.steps.base import Target

if TYPE_CHECKING:
    from esb.runtime.run import MessageRun


def with_origin(spec: RouteSpec, incoming: Incoming) -> Incoming:
    """The message with the system that it comes from, where it does not say itself and the route knows."""
    if not spec.system or ORIGIN in incoming.headers:
        return incoming
    return replace(incoming, headers={**incoming.headers, ORIGIN: spec.system})


def echo_of(spec: RouteSpec, target: Target, message: Message) -> str:
    """The system that a change would go back to although it began there; empty for everything that is no echo.

    A route of the system itself may answer it: what it brings is no echo of anybody.
    """
    origin = str(message.headers.get(ORIGIN, "")) if spec.system else ""
    return origin if origin and origin == target.connector and origin != spec.system else ""


def claimant_of(run: MessageRun) -> int:
    """Whose claims these are: a replay acts for its original, whose effect it is asked to repeat."""
    seq, before = run.entry.seq, run.envelope.replay_of
    while before is not None and (stored := run.bench.store.get(before, trace=False)) is not None:
        seq, before = stored.envelope.seq, stored.envelope.replay_of
    return seq
