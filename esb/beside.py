"""Computing for seconds in a thread beside the loop, as a reload of many routes does."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds after which a thread that computes lets another go on: as usual, and while something computes beside the loop. A request
#: gives up its turn a few times, and each time would wait for the whole of it.
USUAL, SHORT = 0.005, 0.0005


async def beside(call: Callable[[], T]) -> T:
    """What ``call`` gives, computed in a thread that gives way to the loop ten times as readily as others do."""
    return await asyncio.to_thread(_giving_way, call)


def _giving_way(call: Callable[[], T]) -> T:
    sys.setswitchinterval(SHORT)
    try:
        return call()
    finally:
        sys.setswitchinterval(USUAL)  # also where another one is at work still: it only computes on as others do
