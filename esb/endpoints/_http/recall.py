"""What a poller remembers of a list that is read whole each time: the content of every item, durable, in small pieces."""

from __future__ import annotations

import hashlib
from typing import Any

from esb.endpoints.base import SourceState

_PIECES = 64


def digest(*parts: bytes | str) -> str:
    """A hash of parts that cannot run into each other."""
    made = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        made.update(b"%d:" % len(data))
        made.update(data)
    return made.hexdigest()


class Recall:
    """Item → content, both as hashes. :meth:`save` writes what has changed, each piece committed when it returns.

    Spread over 64 pieces, so that one changed item of ten thousand writes a few kilobytes.
    """

    def __init__(self, state: SourceState) -> None:
        self._state = state
        self._pieces: dict[int, dict[str, str]] = {}
        self._changed: set[int] = set()

    async def knows(self, item: str, content: str) -> bool:
        piece = await self._piece(_place(item))
        return piece.get(item[:24]) == content[:24]

    async def note(self, item: str, content: str) -> None:
        place = _place(item)
        (await self._piece(place))[item[:24]] = content[:24]
        self._changed.add(place)

    async def keep_only(self, items: set[str]) -> bool:
        """Forget every item that is not in the list any more; whether there was one."""
        kept = {item[:24] for item in items}
        gone = False
        for place in range(_PIECES):
            piece = await self._piece(place)
            left = {item: content for item, content in piece.items() if item in kept}
            if len(left) < len(piece):
                self._pieces[place], gone = left, True
                self._changed.add(place)
        return gone

    async def save(self) -> None:
        for place in sorted(self._changed):
            await self._state.put(f"items-{place}", self._pieces[place])
            self._changed.discard(place)

    def drop(self) -> None:
        """Forget what is not saved: the next use reads the memory anew."""
        self._pieces.clear()
        self._changed.clear()

    async def _piece(self, place: int) -> dict[str, str]:
        if place not in self._pieces:
            found: Any = await self._state.get(f"items-{place}")
            self._pieces[place] = dict(found) if isinstance(found, dict) else {}
        return self._pieces[place]


def _place(item: str) -> int:
    return int(item[:8], 16) % _PIECES
