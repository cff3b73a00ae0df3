"""One process per store: a lock on a file of its own, held for life.

``flock`` survives a stray close of the file elsewhere in the process, ``fcntl`` locks do not. The operating system
drops the lock when the process dies, so a stale file never stands in the way.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from esb.errors import StoreBusy, StoreError

LOCK_NAME = "bus.lock"
#: A disk without room, or one that is ill: somebody mends it, and the next start goes on.
_FULL = frozenset(getattr(errno, name, -1) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO"))
#: A look at the owner (:func:`read_owner`) takes the lock for an instant; that must not turn a starting bus away.
_TRIES = 10
_BETWEEN_TRIES = 0.02
#: How many times an operator's command on a stopped bus, which ends by itself, is waited for: ten seconds.
_TRIES_OF_COMMAND = 500


class StoreLock:
    """Owns ``<folder>/bus.lock`` from :meth:`acquire` to :meth:`release`. Its text says who: pid, host, listeners.

    ``command``: not a bus but a command that looks at the store of a stopped one; others wait for its end.
    """

    def __init__(self, folder: Path, *, command: bool = False) -> None:
        self.path = folder / LOCK_NAME
        self._command = command
        self._handle: int | None = None
        self._info: dict[str, Any] = {}

    def acquire(self, now: datetime | None = None) -> Self:
        """Take the lock at once, or within ten seconds from a command.

        Raises StoreBusy naming the owner or for a full disk, StoreError where the folder cannot be written.
        """
        try:
            return self._acquire(now)
        except OSError as error:
            if self._handle is not None:
                os.close(self._handle)
                self._handle = None
            if error.errno in _FULL:
                raise StoreBusy(
                    f"{self.path} cannot be written now: {error}",
                    hint="is the disk full? free some space and start again",
                ) from error
            raise StoreError(
                f"{self.path} cannot be written: {error}", hint="check owner, permissions and disk"
            ) from error

    def _acquire(self, now: datetime | None) -> Self:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        patience = _TRIES
        for attempt in range(_TRIES_OF_COMMAND):
            if attempt == patience:
                raise _busy(self.path)
            if attempt:
                time.sleep(_BETWEEN_TRIES)
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            if _lock(handle) and _is_current(handle, self.path):
                break
            os.close(handle)  # owned, or removed between our open and our lock
            if _read(self.path).get("command"):
                patience = attempt + _TRIES
        else:
            raise _busy(self.path)
        self._handle = handle
        command = {"command": True} if self._command else {}
        started = (now or datetime.now(UTC)).isoformat(timespec="seconds")
        self.write(pid=os.getpid(), host=socket.gethostname(), started=started, **command)
        return self

    def write(self, **info: Any) -> None:
        """Add to what the file says: ``admin="127.0.0.1:8081"``, ``http="127.0.0.1:8080"`` once they listen."""
        if self._handle is None:
            raise StoreBusy("the lock is not held")
        self._info |= info
        text = json.dumps(self._info).encode()
        # shorter text never leaves a tail of longer text: padded first, cut afterwards, one write
        os.lseek(self._handle, 0, os.SEEK_SET)
        os.write(self._handle, text)
        os.ftruncate(self._handle, len(text))

    def release(self) -> None:
        """Give the lock back; the file stays, empty."""
        if self._handle is None:
            return
        os.ftruncate(self._handle, 0)
        _unlock(self._handle)
        os.close(self._handle)
        self._handle = None

    @property
    def held(self) -> bool:
        return self._handle is not None

    def __enter__(self) -> Self:
        return self if self.held else self.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.release()


def read_owner(folder: Path) -> dict[str, Any] | None:
    """Who holds the store in ``folder``: pid, host, started, admin, http; None where nobody does."""
    path = folder / LOCK_NAME
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        if _lock(handle):
            _unlock(handle)
            return None
        return _read(path)
    finally:
        os.close(handle)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # it is being written just now
    return found if isinstance(found, dict) else {}


def _busy(path: Path) -> StoreBusy:
    owner = _read(path)
    who = f"process {owner['pid']} on {owner['host']}" if "pid" in owner else "another process"
    since = f" since {owner['started']}" if "started" in owner else ""
    if owner.get("command"):
        return StoreBusy(f"a command ({who}) works on this workspace{since}", hint="try again when it has ended")
    return StoreBusy(
        f"{who} runs this workspace{since}",
        hint="ask it (`esb status`), or stop it first" if "pid" in owner else "try again in a moment",
    )


def _is_current(handle: int, path: Path) -> bool:
    """Whether the locked file is still the one of that name."""
    if sys.platform == "win32":
        return True  # an open file cannot be removed there
    try:
        there, ours = path.stat(), os.fstat(handle)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


if sys.platform == "win32":
    import msvcrt

    #: Windows locks bytes, and locked bytes cannot be read; this one is far behind the text.
    _BYTE = 1 << 20

    def _lock(handle: int) -> bool:
        os.lseek(handle, _BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(handle: int) -> None:
        os.lseek(handle, _BYTE, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _unlock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_UN)
