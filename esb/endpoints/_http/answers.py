"""What comes back over HTTP, read with bounds: an answer may be small on the wire and large when it is unpacked."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterable, Mapping
from typing import Any

from msgspec import UNSET, Struct

from esb.errors import Invalid, Unavailable

#: Bytes that are unpacked on the loop, about a tenth of a millisecond's work.
_AT_ONCE = 1 << 16
#: Bytes of a slice that is unpacked in a thread: it is put together while nothing else of the interpreter runs.
_SLICE = 1 << 18
#: The body of an answer that nobody has read yet.
UNREAD: Any = UNSET


class Answer(Struct, frozen=True):
    """What came back; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    #: what the content is, or why it cannot be read, where it was looked at already; see :func:`esb.endpoints._http.exchange.read`
    body: Any = UNREAD


class Inflate:
    """Unpacks gzip piece by piece: a little of it on the loop, much of it in a thread, where it holds up nobody."""

    __slots__ = ("_packed",)

    def __init__(self) -> None:
        self._packed = zlib.decompressobj(wbits=31)

    @property
    def whole(self) -> bool:
        return self._packed.eof

    async def take(self, piece: bytes, most: int) -> list[bytes]:
        """At most ``most`` bytes of what ``piece`` unpacks to, in slices. Raises zlib.error."""
        if self._packed.eof:  # what comes behind it would be kept
            return []
        content = self._packed.decompress(piece, min(most, _AT_ONCE))
        rest = self._packed.unconsumed_tail
        if not rest or len(content) >= most:
            return [content]
        return [content, *await asyncio.to_thread(self._slices, rest, most - len(content))]

    def _slices(self, rest: bytes, most: int) -> list[bytes]:
        found = []
        while rest and most > 0:
            found.append(self._packed.decompress(rest, min(most, _SLICE)))
            most -= len(found[-1])
            rest = self._packed.unconsumed_tail
        return found


async def unpacked(status: int, coding: str, pieces: AsyncIterable[bytes], limit: int) -> bytes:
    """The decoded content; a small answer that would inflate to a large one is cut off while it inflates.

    Raises Invalid where it has more than ``limit`` bytes, Unavailable where it cannot be unpacked.
    """
    coding = coding.strip().lower()
    if coding not in ("identity", "", "gzip", "x-gzip"):
        raise Unavailable(f"answered {status} in the encoding {coding!r}, which was not asked for")
    inflate = Inflate() if "gzip" in coding else None
    found: list[bytes] = []
    size = 0
    async for piece in pieces:
        try:
            slices = await inflate.take(piece, limit - size + 1) if inflate is not None else [piece]
        except zlib.error:
            raise Unavailable(f"answered {status} with broken gzip") from None
        size += sum(map(len, slices))
        if size > limit:
            raise too_large(status, limit)
        found += slices
    if inflate is not None and found and not inflate.whole:
        raise Unavailable(f"answered {status}, but the answer broke off")
    return found[0] if len(found) == 1 else b"".join(found)


def too_large(status: int, limit: int) -> Invalid:
    """What is said of an answer that is not read to its end."""
    return Invalid(f"answered {status} with more than {limit} bytes", hint="raise `max_response`, or ask for less")


__all__ = ["UNREAD", "Answer", "Inflate", "too_large", "unpacked"]
