"""Open folders: everything inside is reached through the folder's descriptor and never through a link.

A name that is checked and then opened by its path can be swapped for a link in between; a name relative to an open folder,
opened without following links, cannot lead elsewhere. Where the system has no such calls (Windows) paths are used, and a
link in the last part is refused.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from esb.endpoints.paths import clean_name, numbered

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

T = TypeVar("T")

#: whether the system opens names relative to an open folder
BY_DESCRIPTOR = os.open in os.supports_dir_fd and os.scandir in os.supports_fd
#: Windows moves, replaces and removes no file that somebody has open, and speaks of a missing permission then
OPEN_FILES_STAY = sys.platform == "win32"
#: and locks bytes: one behind all content, as far as its C library can tell of places
_LOCKED_BYTE = (1 << 31) - 2

NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0)
#: a pipe in place of the file must not block the reader
READ = os.O_RDONLY | NO_FOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW | getattr(os, "O_BINARY", 0)
APPEND = os.O_RDWR | os.O_CREAT | os.O_APPEND | NO_FOLLOW | getattr(os, "O_BINARY", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)

#: what `link` answers where a file system has no hard links, or forbids one to a stranger's file
_NO_LINKS = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EMLINK)
#: what a server says that knows no better word; Windows has no number for it
REMOTE_FAULT: int = getattr(errno, "EREMOTEIO", 121)
#: what `flock` answers on a share without locks; NFS wants a descriptor that may write
_NO_LOCKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL, errno.EBADF)


class Folder:
    """An open folder. Names given to its methods are single parts of a path. Use it in a ``with`` block."""

    __slots__ = ("_fd", "path")

    def __init__(self, path: Path, fd: int | None) -> None:
        self.path = path
        self._fd = fd

    @classmethod
    def at(cls, path: Path, *, create: bool = False) -> Folder:
        """Open a folder of the operator: links on the way are followed. Raises OSError."""
        if create:
            _make(path)
        if not BY_DESCRIPTOR:
            if not path.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(path))
            return cls(path, None)
        return cls(path, os.open(path, _FOLDER))

    def child(self, name: str, *, create: bool = False, mode: int = 0o777) -> Folder:
        """Open a folder in this one; never through a link. Raises OSError."""
        if create:
            try:
                os.mkdir(self._name(name), mode, dir_fd=self._fd)
                self.sync()
            except FileExistsError:
                pass
        path = self.path / name
        if self._fd is None:
            if path.is_symlink() or not path.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(path))
            return Folder(path, None)
        return Folder(path, os.open(name, _FOLDER | NO_FOLLOW, dir_fd=self._fd))

    def below(self, parts: Iterable[str], *, create: bool = False) -> Folder:
        """Open a folder some levels down. The result is the caller's to close, also where ``parts`` is empty."""
        folder = Folder(self.path, os.dup(self._fd) if self._fd is not None else None)
        for part in parts:
            with folder:
                folder = folder.child(part, create=create)
        return folder

    def scan(self) -> Iterator[tuple[str, os.stat_result]]:
        """Every entry with its own state (that of a link, not of its target); names may hold undecodable bytes."""
        with os.scandir(self._fd if self._fd is not None else self.path) as entries:
            for entry in entries:
                try:
                    # Windows leaves the inode and the links out of the entry's own answer
                    yield entry.name, entry.stat(follow_symlinks=False) if self._fd is not None else os.lstat(entry)
                except OSError:
                    continue  # gone since the listing

    def stat(self, name: str) -> os.stat_result | None:
        """The state of an entry, None where there is none."""
        try:
            return os.stat(self._name(name), dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open(self, name: str, flags: int, mode: int = 0o666) -> int:
        """A descriptor, never of a link's target."""
        if self._fd is None and (self.path / name).is_symlink():
            raise OSError(errno.ELOOP, "is a link", name)
        return os.open(self._name(name), flags, mode, dir_fd=self._fd)

    def unlink(self, name: str) -> None:
        os.unlink(self._name(name), dir_fd=self._fd)

    def discard(self, name: str) -> None:
        """Unlink where there is something to unlink."""
        with suppress(FileNotFoundError):
            self.unlink(name)

    def rename(self, name: str, to: Folder, new: str) -> None:
        """Rename over whatever is there (POSIX) or fail with FileExistsError (Windows)."""
        os.rename(self._name(name), to._name(new), src_dir_fd=self._fd, dst_dir_fd=to._fd)

    def replace(self, name: str, to: Folder, new: str) -> None:
        os.replace(self._name(name), to._name(new), src_dir_fd=self._fd, dst_dir_fd=to._fd)

    def link(self, name: str, to: Folder, new: str) -> None:
        if self._fd is None:
            raise OSError(errno.ENOTSUP, "links are not used here", name)
        os.link(name, new, src_dir_fd=self._fd, dst_dir_fd=to._fd, follow_symlinks=False)

    def is_same(self, other: Folder) -> bool:
        if self._fd is None or other._fd is None:
            return self.path.samefile(other.path)
        return os.path.samestat(os.fstat(self._fd), os.fstat(other._fd))

    def sync(self) -> None:
        """Make the folder's entries survive a power cut, where the system can do that for folders."""
        if self._fd is not None:
            with suppress(OSError):
                os.fsync(self._fd)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other pollers of this folder out; advisory, freed by a crash."""
        if sys.platform == "win32" or self._fd is None:
            yield
            return
        with suppress(OSError):  # a share without locks
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with suppress(OSError):
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        if self._fd is not None and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _name(self, name: str) -> str:
        if name in ("", ".", "..") or "/" in name or "\x00" in name:
            raise ValueError(f"{name!r} is not the name of one entry")
        return name if self._fd is not None else str(self.path / name)


def _make(path: Path) -> None:
    """Make a folder and those above it, so that they survive a power cut."""
    if path.is_dir():
        return
    _make(path.parent)
    path.mkdir(exist_ok=True)
    with Folder.at(path.parent) as parent:
        parent.sync()


def take_lock(fd: int) -> bool:
    """Own an open file against other pollers; freed when it is closed, also by a crash. False: somebody else owns it."""
    if sys.platform == "win32":
        at = os.lseek(fd, 0, os.SEEK_CUR)
        os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            return error.errno not in (errno.EACCES, errno.EDEADLK)  # else a share without locks
        finally:
            os.lseek(fd, at, os.SEEK_SET)
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return True  # a second poller of that share is kept out by the claim alone
        raise
    return True


def is_file(state: os.stat_result) -> bool:
    return stat.S_ISREG(state.st_mode)


def is_folder(state: os.stat_result) -> bool:
    return stat.S_ISDIR(state.st_mode)


def sync_found(fd: int) -> None:
    """Make a file durable that was opened to read; Windows does that for its writers alone, which have done it."""
    if not OPEN_FILES_STAY:
        os.fsync(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write everything; a short write goes on where it stopped."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def publish(source: Folder, name: str, target: Folder, new: str) -> bool:
    """Move a complete file to a name that must be free, in one step for whoever looks on. False: the name is taken.

    Never overwrites. Repeating it after a crash in the middle ends the first try. Raises OSError.
    """
    try:
        source.link(name, target, new)
    except FileExistsError:
        if name == new and source.is_same(target):
            return True
        ours, theirs = source.stat(name), target.stat(new)
        if ours is None or theirs is None or ours.st_nlink < 2 or not os.path.samestat(ours, theirs):
            return False
        # a crash fell between link and unlink: only the unlink is left
    except OSError as error:
        if error.errno == errno.EXDEV:
            return _copy(source, name, target, new)
        if error.errno not in _NO_LINKS:
            raise
        return _rename_free(source, name, target, new)
    target.sync()
    source.unlink(name)
    return True


def give_back(source: Folder, name: str, target: Folder, new: str) -> bool:
    """Move to a name that must be free in a folder where others write; False where that cannot be done safely."""
    try:
        if sys.platform == "win32":
            source.rename(name, target, new)  # never overwrites there
            return True
        source.link(name, target, new)
    except OSError:
        return False
    source.unlink(name)
    return True


def _rename_free(source: Folder, name: str, target: Folder, new: str) -> bool:
    """Without hard links: reserve the name with an empty file of ours, then rename over it."""
    reserve = sys.platform != "win32"  # there a rename never overwrites
    try:
        if reserve:
            os.close(target.open(new, CREATE))
    except FileExistsError:
        return False
    try:
        source.rename(name, target, new)
    except OSError as error:
        if reserve:
            with suppress(OSError):
                target.unlink(new)
        elif isinstance(error, FileExistsError):
            return False
        if error.errno == errno.EXDEV:
            return _copy(source, name, target, new)
        raise
    target.sync()
    return True


def _copy(source: Folder, name: str, target: Folder, new: str) -> bool:
    """To another file system: copy under a temporary name, make it durable, publish it there, then remove the original."""
    if target.stat(new) is not None:
        return False
    temporary = clean_name(f".{new[:100]}.{os.getpid()}-{threading.get_ident()}.part", hidden=True)
    reader = source.open(name, READ)
    try:
        state = os.fstat(reader)
        target.discard(temporary)
        writer = target.open(temporary, CREATE)
        try:
            while chunk := os.read(reader, 1 << 20):
                write_all(writer, chunk)
            if os.utime in os.supports_fd:
                os.utime(writer, ns=(state.st_atime_ns, state.st_mtime_ns))
            os.fsync(writer)
        finally:
            os.close(writer)
        done = publish(target, temporary, target, new)
    except BaseException:
        with suppress(OSError):
            target.discard(temporary)
        raise
    finally:
        os.close(reader)
    if done:
        source.unlink(name)
    else:
        target.discard(temporary)
    return done


def move_free(source: Folder, name: str, target: Folder, wanted: str) -> str:
    """Move a file without overwriting: ``orders.csv``, else ``orders.1.csv`` …; gives the name it got. Raises OSError."""
    for number in range(100_000):
        candidate = numbered(wanted, number)
        if publish(source, name, target, candidate):
            return candidate
    raise FileExistsError(errno.EEXIST, "every numbered name is taken", wanted)


async def apart(work: Callable[[], T]) -> T:
    """Run blocking work in a thread of its own, so that a share that hangs holds up nobody else.

    The thread is a daemon: a caller that gives up (a deadline, a cancellation) leaves it behind, and the program can end.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # T may be None itself

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as caught:  # noqa: BLE001 - handed to the one who waits
            error = caught
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="esb-file", daemon=True).start()
    return await future


__all__ = [
    "APPEND",
    "BY_DESCRIPTOR",
    "CREATE",
    "OPEN_FILES_STAY",
    "READ",
    "REMOTE_FAULT",
    "Folder",
    "apart",
    "give_back",
    "is_file",
    "is_folder",
    "move_free",
    "publish",
    "sync_found",
    "take_lock",
    "write_all",
]
