"""How much of an attack is run: quick by default, long where ``ESB_TORTURE=long``, brief where a planted bug is to be found.

``ESB_TORTURE_MINUTES=20`` ends a loop of kills after so long; what has been done until then is judged all the same.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")

LONG = os.environ.get("ESB_TORTURE", "") == "long"
BRIEF = os.environ.get("ESB_TORTURE", "") == "brief"


def sized(quick: T, long: T, brief: T | None = None) -> T:
    """The size for this run; ``brief`` is ``quick`` where it is not given."""
    if BRIEF and brief is not None:
        return brief
    return long if LONG else quick


def rounds(most: int) -> Iterator[int]:
    """Numbers of so many rounds, at least one of them, and none that would begin after the minutes that were given."""
    minutes = float(os.environ.get("ESB_TORTURE_MINUTES", "inf"))
    end = time.monotonic() + minutes * 60 if math.isfinite(minutes) else math.inf
    for number in range(most):
        if number and time.monotonic() >= end:
            return
        yield number
