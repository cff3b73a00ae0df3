"""Large payloads that are not decoded as a whole: the body of their message, and how codecs give their items one by one."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol, runtime_checkable

from esb.blob import Blob
from esb.formats.base import Codec
from esb.formats.text import Raw


@runtime_checkable
class StreamingCodec(Protocol):
    """A codec that can give the items of a list in the payload while it reads it."""

    def streams(self, path: tuple[str, ...]) -> bool:
        """Whether it can do so for the list at ``path`` of the decoded body (empty: the body itself).

        A name that ends in ``[]`` is a list on the way, whose items' lists are one (``body.messages[].items[]``).
        """
        ...

    def items(self, source: BinaryIO, path: tuple[str, ...]) -> Iterator[Any]:
        """The items of that list, as ``decode`` would give them, in memory for one of them at a time.

        Raises Invalid where ``decode`` would; the items before the fault have been given then.
        """
        ...


@runtime_checkable
class OutlineCodec(Protocol):
    """A codec that can give what is left of a large payload once its long lists were taken out."""

    def outlines(self, removed: AbstractSet[tuple[str, ...]]) -> bool:
        """Whether the body is small without what is at these places (names; a name that meets a list means every item)."""
        ...

    def outline(self, source: BinaryIO, removed: AbstractSet[tuple[str, ...]]) -> Generator[None, None, Any]:
        """That body, which may still have some of them; pauses where others may have their turn.

        Raises Invalid where ``decode`` would, and where it is not small all the same.
        """
        ...


@runtime_checkable
class MarkingCodec(Protocol):
    """A codec that can give an item which cannot be read as one that has what is wrong in ``$error``."""

    def marking(self, path: tuple[str, ...]) -> Codec | None:
        """The codec that does so for the items at ``path``; None where it cannot, or is told to do something else."""
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


__all__ = ["MarkingCodec", "OutlineCodec", "StreamingCodec", "Unread"]
