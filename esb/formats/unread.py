"""Large payloads that are not decoded as a whole: the body of their message, and how codecs give their items one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol, runtime_checkable

from esb.blob import Blob
from esb.formats.base import Codec
from esb.formats.text import Raw


@runtime_checkable
class StreamingCodec(Protocol):
    """A codec that can give the items of a list in the payload while it reads it."""

    def streams(self, path: tuple[str, ...]) -> bool:
        """Whether it can do so for the list at ``path`` of the decoded body (empty: the body itself)."""
        ...

    def items(self, source: BinaryIO, path: tuple[str, ...]) -> Iterator[Any]:
        """The items of that list, as ``decode`` would give them, in memory for one of them at a time.

        Raises Invalid where ``decode`` would; the items before the fault have been given then.
        """
        ...


@dataclass(frozen=True, slots=True)
class Unread:
    """The body of a message with a large payload, while no step needs it as a whole."""

    blob: Blob
    codec: Codec

    def whole(self) -> Any:
        """The body, decoded; all of it is in memory then. Raises Invalid."""
        return self.codec.decode(self.blob.read())

    @property
    def is_raw(self) -> bool:
        """Whether the bytes as they lie there are the body."""
        return isinstance(self.codec, Raw)


__all__ = ["StreamingCodec", "Unread"]
