"""Waiting until a socket can be read or written: `poll` where the system has it, else `select` (Windows)."""

from __future__ import annotations

import select
from typing import Any, Protocol

READ: int = getattr(select, "POLLIN", 1)
WRITE: int = getattr(select, "POLLOUT", 4)


class Poller(Protocol):
    """As `select.poll` gives them."""

    def register(self, one: Any, what: int, /) -> None:
        """Wait for READ, WRITE or both on a socket, instead of what was said of it before."""
        ...

    def poll(self, milliseconds: float, /) -> list[tuple[int, int]]:
        """The descriptors of which something is true, also that the other end is gone."""
        ...


class Selecting:
    """Implements :class:`Poller`, for the two or three sockets of one connection."""

    def __init__(self) -> None:
        self._wanted: dict[int, int] = {}

    def register(self, one: Any, what: int, /) -> None:
        self._wanted[one if isinstance(one, int) else one.fileno()] = what

    def poll(self, milliseconds: float, /) -> list[tuple[int, int]]:
        reads, writes = ([one for one, what in self._wanted.items() if what & bit] for bit in (READ, WRITE))
        readable, writable, broken = select.select(reads, writes, list(self._wanted), milliseconds / 1000)
        found = dict.fromkeys(broken, READ)
        for bit, some in ((READ, readable), (WRITE, writable)):
            for one in some:
                found[one] = found.get(one, 0) | bit
        return list(found.items())


def poller() -> Poller:
    return select.poll() if hasattr(select, "poll") else Selecting()


__all__ = ["READ", "WRITE", "Poller", "Selecting", "poller"]
