"""From what a ``reconcile`` step found to the differences that the store tracks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from esb.steps.reconcile import Found
from esb.store.base import Store
from esb.store.differences import MILLION, Finding

#: Beyond it a value is no plausible one, and would not fit into the store.
_LARGEST = Decimal(10) ** 12


async def track(store: Store, name: str, found: Sequence[Found], at: datetime) -> Mapping[str, Any]:
    """Take over a whole comparison; gives ``opened`` and ``closed`` keys and the number ``open``."""
    done = await store.differences.found(name, [_finding(one) for one in found], at)
    return {"opened": list(done.opened), "closed": list(done.closed), "open": done.open}


def _finding(one: Found) -> Finding:
    value = max(-_LARGEST, min(_LARGEST, one.value)) if one.value.is_finite() else Decimal(0)
    return Finding(
        one.key, one.fingerprint, one.what, int(value * MILLION), one.unit, one.owner, one.repair, dict(one.sides)
    )
