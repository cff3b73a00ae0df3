"""The attempts of a route that are at work now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Places:
    """Counts attempts at work; those that only wait for their commit, or for others to end, leave their place to the next."""

    def __init__(self) -> None:
        self.busy = 0

    def take(self) -> None:
        self.busy += 1

    def leave(self) -> None:
        self.busy -= 1

    @contextmanager
    def left(self) -> Iterator[None]:
        """Others may work in the place meanwhile; afterwards it is taken again, also where all are."""
        self.leave()
        try:
            yield
        finally:
            self.take()
