"""How much of an attack is run: quick by default, long where ``ESB_TORTURE=long``, brief where a planted bug is to be found."""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")

LONG = os.environ.get("ESB_TORTURE", "") == "long"
BRIEF = os.environ.get("ESB_TORTURE", "") == "brief"


def sized(quick: T, long: T, brief: T | None = None) -> T:
    """The size for this run; ``brief`` is ``quick`` where it is not given."""
    if BRIEF and brief is not None:
        return brief
    return long if LONG else quick
