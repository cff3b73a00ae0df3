"""Which message's steps the process executes: a note that outlives the process, so that a poison message is found.

A message that waits for an answer is no suspect when the process dies; one whose mapping or template was being computed is.
The note is eight bytes in a file of its own, written without a sync: a death of the process leaves it readable, and in a
power cut, which is no message's fault, it need not be.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_NOBODY = 0
#: In place of a number: the message is not stored yet, so it has none.
AHEAD = 1 << 62


class Suspect:
    """The note of one store; ``path`` is the file beside it. What cannot be written is not noted: work goes on."""

    __slots__ = ("_handle", "_noted", "_path", "_write")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = -1
        with suppress(OSError):  # a full disk or a folder without rights: the store says what is wrong
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
        self._write = getattr(os, "pwrite", _write_at)
        self._noted = self._read()

    def _read(self) -> int:
        if self._handle < 0:
            return _NOBODY
        os.lseek(self._handle, 0, os.SEEK_SET)
        return int.from_bytes(os.read(self._handle, 8).ljust(8, b"\0"), "little")

    @property
    def noted(self) -> int:
        """The seq of the message at work, 0 for none; after :meth:`__init__` what the process before noted last."""
        return self._noted

    def note(self, seq: int) -> None:
        """``seq`` is at work now; 0: the process waits or stores."""
        if seq != self._noted:
            self._noted = seq
            try:  # no `suppress`: that is three calls for each message
                self._write(self._handle, seq.to_bytes(8, "little"), 0)
            except OSError:
                return

    def close(self) -> None:
        """The end in peace: there is nothing to remember."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
            self._path.unlink(missing_ok=True)


def _write_at(handle: int, data: bytes, place: int) -> None:
    os.lseek(handle, place, os.SEEK_SET)
    os.write(handle, data)
