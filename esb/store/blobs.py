"""Payload files beside the store: ``bus.db.blobs/ab/ab34…``, named by the SHA-256 of their content.

A file is written under another name, synced and renamed before the message that refers to it is committed, so that a
committed message always has its payload. What no message refers to is removed by :meth:`Blobs.sweep`; a payload that is
being written, or waits for the commit of its message, is pinned meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from esb.blob import CHUNK, Blob
from esb.errors import StoreBusy
from esb.failpoints import hit
from esb.store import files

#: Payloads of more bytes lie in files, unless `limits: { blob: … }` says otherwise.
ABOVE = 1_000_000
_FRESH = ".new"


def folder_of(path: Path) -> Path:
    """The payload files of the store at ``path``."""
    return path.with_name(path.name + ".blobs")


class Blobs:
    """Implements :class:`esb.blob.Spool` over one folder; safe to use from several threads of one process."""

    def __init__(self, folder: Path, *, min_free: int = 0) -> None:
        self.folder = folder
        self.above = ABOVE
        self._min_free = min_free
        self._lock = threading.Lock()
        self._pins: Counter[str] = Counter()
        self._life = secrets.token_hex(4)  #: tells unfinished files of this process from those of one that died
        self._number = 0

    # -- in -----------------------------------------------------------------------------------------------------------
    def writer(self, size: int) -> BlobWriter:
        free = shutil.disk_usage(self.folder.parent).free
        if free - size < self._min_free:
            raise StoreBusy(
                f"disk space is short; a payload of {size} bytes is not taken",
                hint=f"free some space under {self.folder.parent}",
            )
        with self._lock:
            self._number += 1
            name = f"{self._life}-{self._number}"
        try:
            _make(self.folder)
            _make(self.folder / _FRESH)
            return BlobWriter(self, self.folder / _FRESH / name)
        except OSError as error:
            raise _busy(error) from error

    def put(self, chunks: Iterable[bytes], size: int) -> Blob:
        """Write a payload and pin it; see :meth:`writer`."""
        writer = self.writer(size)
        try:
            for chunk in chunks:
                writer.write(chunk)
            return writer.finish()
        finally:
            writer.close()

    def settle(self, fresh: Path, sha256: str, size: int) -> Blob:
        """Give a synced file its name, or drop it where its content is there already; pins it."""
        blob = self.at(sha256, size)
        self.pin(blob)
        try:
            with self._lock:
                known = blob.file.exists() and blob.file.stat().st_size == size
            if known:  # pinned, so it stays
                fresh.unlink(missing_ok=True)
            else:
                _make(blob.file.parent)
                fresh.replace(blob.file)
            files.sync_folder(blob.file.parent)  # also where it is known: whoever wrote it may have died before its own
            hit("blob.named")
        except BaseException:
            self.release(blob)
            raise
        return blob

    def pin(self, blob: Blob) -> None:
        with self._lock:
            self._pins[blob.sha256] += 1

    def release(self, blob: Blob) -> None:
        with self._lock:
            self._pins[blob.sha256] -= 1
            if self._pins[blob.sha256] <= 0:
                del self._pins[blob.sha256]

    # -- out ----------------------------------------------------------------------------------------------------------
    def at(self, sha256: str, size: int) -> Blob:
        return Blob(sha256, size, self.folder / sha256[:2] / sha256)

    def names(self) -> Iterator[str]:
        """The SHA-256 of every payload file."""
        with contextlib.suppress(FileNotFoundError):
            for folder in sorted(self.folder.iterdir()):
                if folder.name != _FRESH and folder.is_dir():
                    yield from sorted(entry.name for entry in os.scandir(folder) if len(entry.name) == 64)

    def sweep(self, unused: Callable[[list[str]], Iterable[str]]) -> int:
        """Remove the files that nothing keeps; ``unused`` tells which of some names no message refers to. Gives their number.

        Blocks: call it in a thread.
        """
        with contextlib.suppress(FileNotFoundError):
            for left in (self.folder / _FRESH).iterdir():
                if not left.name.startswith(self._life):  # of a process that died
                    left.unlink(missing_ok=True)
        removed = 0
        # what is pinned is looked at before the store is asked: a pin ends after the commit, which the store then knows
        candidates = [name for name in self.names() if not self._pins.get(name)]
        for start in range(0, len(candidates), 500):
            for name in unused(candidates[start : start + 500]):
                with self._lock:
                    if not self._pins.get(name):
                        self.at(name, 0).file.unlink(missing_ok=True)
                        removed += 1
        return removed


class BlobWriter:
    """Implements :class:`esb.blob.SpoolWriter`."""

    def __init__(self, blobs: Blobs, path: Path) -> None:
        self._blobs = blobs
        self._path = path
        self._digest = hashlib.sha256()
        self._size = 0
        self._file = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o600)

    def write(self, chunk: bytes) -> None:
        try:
            view = memoryview(chunk)
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            raise _busy(error) from error
        self._digest.update(chunk)
        self._size += len(chunk)

    def finish(self) -> Blob:
        try:
            os.fsync(self._file)
            os.close(self._file)
            self._file = -1
            hit("blob.written")
            return self._blobs.settle(self._path, self._digest.hexdigest(), self._size)
        except OSError as error:
            raise _busy(error) from error

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def copy_all(source: Path, target: Path, names: Iterable[str]) -> int:
    """Bring payload files into another folder, by hard links where the disk is the same; gives the bytes they have."""
    size = 0
    for name in names:
        old, new = source / name[:2] / name, target / name[:2] / name
        size += old.stat().st_size
        if new.exists():
            continue
        _make(target)
        _make(new.parent)
        try:
            os.link(old, new)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOSPC):
                raise
            _copy(old, new)
        files.sync_folder(new.parent)
    return size


def _copy(old: Path, new: Path) -> None:
    fresh = new.with_name(new.name + ".part")
    with old.open("rb") as reader, fresh.open("wb") as writer:
        shutil.copyfileobj(reader, writer, CHUNK)
        writer.flush()
        os.fsync(writer.fileno())
    fresh.chmod(0o600)
    fresh.replace(new)


def _make(folder: Path) -> None:
    """Make a folder that a power cut does not take away."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700, exist_ok=True)
        files.sync_folder(folder.parent)


def _busy(error: OSError) -> StoreBusy:
    return StoreBusy(
        f"the payload could not be written: {error.strerror or error}",
        hint="is the disk full? free some space; it goes on by itself",
    )


__all__ = ["ABOVE", "BlobWriter", "Blobs", "copy_all", "folder_of"]
