"""A large payload at rest: bytes in a file of the store that is read in pieces and never changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from esb.errors import InternalFault

#: Bytes that are read or written at once.
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Blob:
    """A payload that lies in a file, known by its content: ``sha256`` in lower-case hex, ``size`` in bytes.

    ``file`` is the store's own and must only be read. A message whose ``body`` is a blob was not decoded; few steps take
    it like this, for all others it is read as a whole before they run.
    """

    sha256: str
    size: int
    file: Path = field(repr=False, compare=False)

    @classmethod
    def named(cls, sha256: str, size: int) -> Blob:
        """A payload of which only the name matters."""
        return cls(sha256, size, Path(sha256))

    def open(self) -> BinaryIO:
        """The bytes, from their beginning. Raises InternalFault where the file is gone or cannot be read."""
        try:
            return self.file.open("rb")
        except OSError as error:
            raise InternalFault(
                f"the payload {self.sha256[:12]}… cannot be read: {error.strerror or error}",
                hint="is the folder of payloads beside the store whole? `esb db verify` says what is missing",
            ) from error

    def read(self) -> bytes:
        """All bytes at once."""
        with self.open() as file:
            return file.read()

    def chunks(self) -> Iterator[bytes]:
        """All bytes, a megabyte at a time."""
        with self.open() as file:
            while chunk := file.read(CHUNK):
                yield chunk


class SpoolWriter(Protocol):
    """A payload on its way to the disk. Its methods block: call them in a thread."""

    def write(self, chunk: bytes) -> None:
        """Add bytes. Raises StoreBusy where the disk takes no more."""
        ...

    def finish(self) -> Blob:
        """Make it durable; the blob is kept until it is released. Raises StoreBusy."""
        ...

    def close(self) -> None:
        """Forget what was not finished; a second call does nothing."""
        ...


class Spool(Protocol):
    """Where sources put large payloads before the message that refers to them is committed."""

    above: int  #: payloads of more bytes go here

    def writer(self, size: int) -> SpoolWriter:
        """Begin a payload of about ``size`` bytes. Raises StoreBusy where there is no room for it."""
        ...

    def pin(self, blob: Blob) -> None:
        """Keep a blob until one more :meth:`release`."""
        ...

    def put(self, chunks: Iterable[bytes], size: int) -> Blob:
        """Write a whole payload; see :meth:`writer`. Blocks."""
        ...

    def release(self, blob: Blob) -> None:
        """The message is committed, or there will be none: from now on only messages keep the blob."""
        ...


__all__ = ["CHUNK", "Blob", "Spool", "SpoolWriter"]
