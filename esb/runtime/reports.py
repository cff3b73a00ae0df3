"""A report about rows that were not taken, on its way to the source of the message, which leaves it for the sender."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from esb.config.model import RouteSpec
from esb.endpoints.base import ReportingSource, RunningSource
from esb.errors import BadRow, EsbError, StoreError, Unavailable
from esb.message import Envelope
from esb.store.base import Store

#: A refused delivery above this many bytes is not put beside its report: it lies where the source files what it took.
COPIED = 64_000_000


async def report(
    store: Store,
    source: ReportingSource | None,
    envelope: Envelope,
    reason: str,
    rows: Sequence[BadRow],
    *,
    whole: bool,
) -> str:
    """Leave the report where the source has a place for it; where it lies, empty where there is none.

    ``envelope`` is the report's own message, whose parent is about the delivery. Raises Unavailable where the place fails.
    """
    if source is None:
        return ""
    about = envelope.parent_id or envelope.id
    try:
        return await source.report(
            {**envelope.meta, "message_id": about}, reason, rows, _delivered(store, about) if whole else None
        )
    except (OSError, EsbError) as error:
        if isinstance(error, StoreError):
            raise
        raise Unavailable(f"the report cannot be left with the source: {error}") from error


def reporter_of(spec: RouteSpec, source: RunningSource | None) -> ReportingSource | None:
    """``source``, where it can tell its senders what was not taken. Raises Unavailable while it does not run."""
    if not getattr(spec.source.options, "reports", False):
        return None
    if source is None:
        raise Unavailable("the source is not running, so nothing can be reported to it")
    found: Any = source
    return found if hasattr(found, "report") else None


def _delivered(store: Store, message_id: str) -> bytes | None:
    """The bytes that the source took in; None where the message is not the source's own, or too large to be copied."""
    stored = store.get(message_id, trace=False)
    if stored is None or stored.envelope.content != "source" or stored.envelope.size > COPIED:
        return None
    return stored.envelope.payload()
