"""Writing one file so that whoever looks sees all of it or nothing, and the same delivery never makes two."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from esb.endpoints.base import Delivery
from esb.endpoints.file_letter import Letter, part_names, prepare, told
from esb.endpoints.folders import (
    APPEND,
    CREATE,
    READ,
    Folder,
    apart,
    is_file,
    publish,
    sync_found,
    take_lock,
    write_all,
)
from esb.endpoints.paths import OWN_FOLDERS
from esb.errors import Rejected, Timeout, Unavailable
from esb.failpoints import hit
from esb.message import Message
from esb.steps.base import Reply

if TYPE_CHECKING:
    from esb.endpoints.file import FileSink

_CHUNK = 1 << 20
#: Seconds an append waits for the writers before it.
LONGEST_WAIT = 5.0


async def write_file(sink: FileSink, message: Message, delivery: Delivery) -> Reply:
    """One delivery, in a thread, within its time. Raises Rejected, Unavailable, Timeout and Invalid."""
    work = _Write(sink, message, delivery)
    try:
        async with asyncio.timeout(delivery.timeout):
            return await apart(work.run)
    except TimeoutError as error:
        raise Timeout(f"writing took longer than {delivery.timeout:g} s", hint="is the share slow or gone?") from error
    finally:
        work.abandoned.set()


@dataclass(slots=True)
class _Write:
    sink: FileSink
    message: Message
    delivery: Delivery
    #: set once nobody waits any more: a thread that wakes up late must not replace what was written since
    abandoned: threading.Event = field(default_factory=threading.Event)

    def run(self) -> Reply:
        letter = prepare(self.sink, self.message, self.delivery)
        home = self.delivery.workspace
        _refuse_own(home.joinpath(letter.base, *letter.folders), letter.name, home)
        with (
            told(letter.where),
            self._base(letter.base) as base,
            base.below(letter.folders, create=self.sink.mkdirs) as folder,
        ):
            self._write(folder, letter)
            path = folder.path / letter.name
            with suppress(ValueError):
                path = path.relative_to(home)
            return letter.reply(path.as_posix())

    def _base(self, text: str) -> Folder:
        path = self.delivery.workspace / text
        try:
            return Folder.at(path, create=self.sink.mkdirs)
        except FileNotFoundError as error:
            raise Unavailable(
                f"folder {text or '.'!r} does not exist", hint="is it mounted? `mkdirs: true` makes missing folders"
            ) from error

    def _write(self, folder: Folder, letter: Letter) -> None:
        name = letter.name
        if self.sink.exists == "append":
            _append(folder, name, letter.block())
            return
        if self.sink.exists != "replace" and _is_there(folder, letter):
            return
        for left in (parts := part_names(letter, self.delivery)):
            folder.discard(left)
        temporary = parts[-1]
        try:
            self._write_new(folder, temporary, letter)
            hit("file.written")
            if self.abandoned.is_set():
                raise Timeout("nobody waits any more")
            if self.sink.exists == "replace":
                folder.replace(temporary, folder, name)
                folder.sync()
            elif not publish(folder, temporary, folder, name) and not _is_there(folder, letter):
                raise FileExistsError(errno.EEXIST, "taken", name)
            hit("file.published")
        finally:
            with suppress(OSError):
                folder.discard(temporary)

    def _write_new(self, folder: Folder, name: str, letter: Letter) -> None:
        fd = folder.open(name, CREATE)
        try:
            for chunk in letter.chunks():
                if self.abandoned.is_set():
                    raise Timeout("nobody waits any more")
                write_all(fd, chunk)
            os.fsync(fd)
        finally:
            os.close(fd)


def _is_there(folder: Folder, letter: Letter) -> bool:
    """Whether this very content stands under this name already. Raises FileExistsError where something else does."""
    name = letter.name
    state = folder.stat(name)
    if state is None:
        return False
    if is_file(state) and state.st_size == letter.size:
        fd = folder.open(name, READ)
        try:
            if is_file(os.fstat(fd)) and _digest(fd) == letter.sha256:
                sync_found(fd)  # an earlier attempt may have died before its own
                folder.sync()
                return True
        finally:
            os.close(fd)
    raise FileExistsError(errno.EEXIST, "taken", name)


def _digest(fd: int) -> str:
    digest = hashlib.sha256()
    while chunk := os.read(fd, _CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _wait_for_lock(fd: int) -> bool:
    """Take the file's lock, behind the writers before this one; False where one holds it for too long.

    Blocks its thread: appends to one file are short, and the bus itself is the most frequent other writer.
    """
    deadline = time.monotonic() + LONGEST_WAIT
    while not take_lock(fd):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def _append(folder: Folder, name: str, block: bytes) -> None:
    """Add one block that ends in a line break; a block that does not fit leaves the file as it was."""
    fd = folder.open(name, APPEND)
    try:
        if not is_file(os.fstat(fd)):
            raise FileExistsError(errno.EEXIST, "not a file", name)
        if not _wait_for_lock(fd):
            raise BlockingIOError(errno.EAGAIN, "another writer is at work", name)
        before = os.fstat(fd).st_size
        try:
            write_all(fd, block)
            os.fsync(fd)
        except OSError:
            with suppress(OSError):
                os.ftruncate(fd, before)
            raise
    finally:
        os.close(fd)
    folder.sync()


def _refuse_own(folder: Path, name: str, workspace: Path) -> None:
    """The files of the bus itself are never written by a message, whatever the path is made of."""
    # in one case, since some file systems do not tell cases apart
    real, home = os.path.realpath(folder).casefold(), os.path.realpath(workspace).casefold()
    own = [os.path.join(home, part) for part in (*OWN_FOLDERS, "esb.yaml")]  # noqa: PTH118 - compared as text
    target = os.path.join(real, name.casefold())  # noqa: PTH118 - the same
    if any(target == path or target.startswith(path + os.sep) for path in own):
        raise Rejected(
            f"{name!r} would lie among the files of the bus itself", hint="write into a folder such as `outbox/`"
        )
