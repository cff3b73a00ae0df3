"""Writing one file so that whoever looks sees all of it or nothing, and the same delivery never makes two."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esb.endpoints.base import Delivery
from esb.endpoints.folders import APPEND, CREATE, READ, Folder, apart, is_file, publish, take_lock, write_all
from esb.endpoints.paths import OWN_FOLDERS, clean_name, render_path, with_mark
from esb.errors import Invalid, MessageError, Rejected, Timeout, Unavailable
from esb.failpoints import hit
from esb.formats.json import Json
from esb.message import Message
from esb.steps.base import Reply

if TYPE_CHECKING:
    from esb.endpoints.file import FileSink

_JSON = Json()
_CHUNK = 1 << 20
#: Seconds an append waits for the writers before it.
LONGEST_WAIT = 5.0

#: faults of the place that pass, or that an operator mends; everything else is a no for good
_PASSING = frozenset(
    getattr(errno, name)
    for name in (
        "ENOSPC", "EDQUOT", "EIO", "EROFS", "EMFILE", "ENFILE", "ENOMEM", "ESTALE", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN",
        "ENETUNREACH", "ETIMEDOUT", "ECONNRESET", "ECONNREFUSED", "ENOTCONN", "ENODEV", "EBUSY", "EAGAIN", "EINTR", "ENOLCK",
        "EDEADLK", "EREMOTEIO",
    )
    if hasattr(errno, name)
)  # fmt: skip


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
        scope = self._scope()
        data = self._content(scope)
        path = render_path(self.sink.path, scope)
        *folders, name = path.parts
        if self.sink.exists == "unique":
            name = with_mark(name, self.delivery.id.replace("-", "")[:12])
        where = path.base + "/".join((*path.parts[:-1], name))
        _refuse_own(self.delivery.workspace.joinpath(path.base, *folders), name, self.delivery.workspace)
        with (
            _told(where),
            self._base(path.base) as base,
            base.below(folders, create=self.sink.mkdirs) as folder,
        ):
            self._write(folder, name, data)
            return self._reply(folder.path / name, data)

    def _scope(self) -> dict[str, Any]:
        meta = {**self.delivery.scope.get("meta", {}), "delivery_id": self.delivery.id}
        return {**self.delivery.scope, "meta": meta}

    def _content(self, scope: dict[str, Any]) -> bytes:
        body = self.sink.body(scope) if self.sink.body is not None else self.message.body
        if self.sink.format is not None:
            return self.sink.format.encode(body)
        if isinstance(body, bytes):
            return body
        if isinstance(body, str):
            try:
                return body.encode()
            except UnicodeEncodeError as error:
                raise Invalid(f"the text cannot be written as UTF-8: {error.reason} at {error.start}") from error
        return _JSON.encode(body)

    def _base(self, text: str) -> Folder:
        path = self.delivery.workspace / text
        try:
            return Folder.at(path, create=self.sink.mkdirs)
        except FileNotFoundError as error:
            raise Unavailable(
                f"folder {text or '.'!r} does not exist", hint="is it mounted? `mkdirs: true` makes missing folders"
            ) from error

    def _write(self, folder: Folder, name: str, data: bytes) -> None:
        if self.sink.exists == "append":
            _append(folder, name, data)
            return
        if self.sink.exists != "replace" and _is_there(folder, name, data):
            return
        temporary = self._part(folder, name)
        try:
            _write_new(folder, temporary, data)
            hit("file.written")
            if self.abandoned.is_set():
                raise Timeout("nobody waits any more")
            if self.sink.exists == "replace":
                folder.replace(temporary, folder, name)
                folder.sync()
            elif not publish(folder, temporary, folder, name) and not _is_there(folder, name, data):
                raise FileExistsError(errno.EEXIST, "taken", name)
            hit("file.published")
        finally:
            with suppress(OSError):
                folder.discard(temporary)

    def _part(self, folder: Folder, name: str) -> str:
        """This attempt's temporary name; what earlier attempts left is removed."""
        parts = [
            clean_name(f".{_start(name)}.{self.delivery.id}.{attempt}.part", hidden=True)
            for attempt in range(max(1, self.delivery.attempt - 20), self.delivery.attempt + 1)
        ]
        if self.delivery.again or self.delivery.attempt > 1:
            for left in parts[:-1]:
                folder.discard(left)
        folder.discard(parts[-1])
        return parts[-1]

    def _reply(self, path: Path, data: bytes) -> Reply:
        shown = path
        with suppress(ValueError):
            shown = path.relative_to(self.delivery.workspace)
        body = {"path": shown.as_posix(), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        return Reply(status=None, body=body)


def _start(name: str) -> str:
    return name.encode()[:120].decode(errors="ignore")


def _write_new(folder: Folder, name: str, data: bytes) -> None:
    fd = folder.open(name, CREATE)
    try:
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)


def _is_there(folder: Folder, name: str, data: bytes) -> bool:
    """Whether this very content stands under this name already. Raises FileExistsError where something else does."""
    state = folder.stat(name)
    if state is None:
        return False
    if is_file(state) and state.st_size == len(data):
        fd = folder.open(name, READ)
        try:
            if is_file(os.fstat(fd)) and _digest(fd) == hashlib.sha256(data).digest():
                os.fsync(fd)  # an earlier attempt may have died before its own
                folder.sync()
                return True
        finally:
            os.close(fd)
    raise FileExistsError(errno.EEXIST, "taken", name)


def _digest(fd: int) -> bytes:
    digest = hashlib.sha256()
    while chunk := os.read(fd, _CHUNK):
        digest.update(chunk)
    return digest.digest()


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


def _append(folder: Folder, name: str, data: bytes) -> None:
    """Add one block that ends in a line break; a block that does not fit leaves the file as it was."""
    block = data if data.endswith(b"\n") else data + b"\n"
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


@contextmanager
def _told(where: str) -> Iterator[None]:
    """System errors in the words of the bus."""
    try:
        yield
    except MessageError:
        raise
    except FileExistsError as error:
        raise Rejected(
            f"{where!r} exists already with other content",
            hint="choose `exists: replace`, `append` or `unique`, or put something unique into `path`",
            reply={"status": None, "headers": {}, "body": {"path": where, "conflict": True}},
        ) from error
    except PermissionError as error:
        raise Rejected(
            f"may not write {where!r}", hint="give the bus's user the right to write in that folder"
        ) from error
    except FileNotFoundError as error:
        raise Rejected(f"no folder for {where!r}", hint="make it, or set `mkdirs: true`") from error
    except OSError as error:
        text = f"cannot write {where!r}: {error.strerror or error}"
        if error.errno in _PASSING:
            raise Unavailable(text, hint="is there room, is the share there?") from error
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            text = f"a link or a file stands in the way of {where!r}"
        raise Rejected(text, hint="look at the folder named in `path`") from error
