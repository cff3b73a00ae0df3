"""Small rules of an attempt: which block, which outage policy, which answer."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from esb.config.model import OnError, RouteSpec
from esb.errors import ErrorRecord, InternalFault, MessageError
from esb.message import Envelope, Message
from esb.observe.hiding import told
from esb.runtime.payload import instant_text
from esb.steps.base import Block, HandOff, WhenDown


def block_of(spec: RouteSpec, scope: str) -> Block:
    if not scope:
        return spec.steps
    block = spec.blocks.get(scope)
    if block is None:
        raise InternalFault(
            f"the route has no `{scope}` any more", hint="retry it on the version that made it, or discard it"
        )
    return block


def is_own(spec: RouteSpec, scope: str) -> bool:
    """Whether a message is a compensation or a report: the route's fallbacks are not for those."""
    block = spec.blocks.get(scope) if scope else None
    return block is not None and bool(block.nodes) and block.nodes[0].kind in ("undo", "report")


def fallback_of(handler: OnError | None, spec: RouteSpec, scope: str) -> Block | None:
    """The steps that run instead of the death of a message."""
    return handler.steps if handler is not None and not is_own(spec, scope) else None


def when_down_of(spec: RouteSpec, scope: str) -> WhenDown | None:
    """What an outage means here: the branch's own word, else the route's; what the bus itself made waits, whatever they say."""
    return None if is_own(spec, scope) else spec.branch_when_down.get(scope, spec.when_down)


#: What the topic of an alert begins with.
ALERT = "alert."


def alert_of(
    name: str,
    envelope: Envelope,
    error: ErrorRecord,
    at: datetime,
    marked: Collection[str],
    trace: Sequence[Mapping[str, Any]] = (),
) -> HandOff:
    """An alert as a message: whoever reads the topic ``alert.<name>`` hears of the dead letter, with retries of its own.

    It goes to people of whom the bus does not know what they may see: values of ``marked`` members are not in it.
    """
    body = {
        "alert": name,
        "state": "firing",
        "route": envelope.route,
        "step": error.step,
        "class": error.error_class,
        "text": told(error, envelope, trace, marked),
        "dead_letter": error.dead_letter,
        "message_id": envelope.id,
        "correlation_id": envelope.correlation_id,
        "key": envelope.key,
        "track": dict(envelope.track),
        "at": instant_text(at),
    }
    return HandOff("topic", f"{ALERT}{name}", Message(body), f"alert/{name}", keep_key=False)


def cause_of(error: MessageError) -> str:
    """Where a fault in the code came from, for the log alone: file and line of the last frame."""
    cause = error.__cause__
    if not isinstance(error, InternalFault) or cause is None or cause.__traceback__ is None:
        return ""
    last = traceback.extract_tb(cause.__traceback__)[-1]
    return f"{type(cause).__name__} in {last.name}, {last.filename}:{last.lineno}"


#: What the answer of `on_error` stands under in a trace; the name of no step.
ON_ERROR = "on_error"


def reply_of(handler: OnError | None) -> tuple[int, dict[str, str], Any] | None:
    if handler is None or handler.reply is None:
        return None
    return int(handler.reply.get("status", 502)), {}, handler.reply.get("body")
