"""Writing one file to an SFTP server so that whoever looks sees all of it or nothing."""

from __future__ import annotations

import asyncio
import errno
import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING

from esb.endpoints._sftp.session import CHUNK, Session, opened, write_whole
from esb.endpoints.base import Delivery
from esb.endpoints.file_letter import Letter, part_names, prepare, told
from esb.endpoints.folders import REMOTE_FAULT
from esb.errors import InternalFault, Rejected, Timeout, Unavailable
from esb.failpoints import pause as failpoint
from esb.message import Message
from esb.steps.base import Reply

if TYPE_CHECKING:
    from asyncssh import SFTPClient

    from esb.endpoints.sftp import SftpSink


async def write_remote(sink: SftpSink, message: Message, delivery: Delivery, session: Session | None) -> Reply:
    """One delivery within its time. Raises Rejected, Unavailable, Timeout and Invalid."""
    if session is None:
        raise InternalFault("an `sftp` sink needs a connector", hint="write `connector: name` beside its `path`")
    letter = prepare(sink, message, delivery)
    try:
        async with asyncio.timeout(delivery.timeout):
            with told(letter.where):
                await _Write(sink, delivery, session, letter).run()
    except TimeoutError as error:
        raise Timeout(f"writing took longer than {delivery.timeout:g} s", hint="is the server slow?") from error
    return letter.reply(letter.where)


class _Write:
    def __init__(self, sink: SftpSink, delivery: Delivery, session: Session, letter: Letter) -> None:
        self._sink, self._delivery, self._session, self._letter = sink, delivery, session, letter
        self._data = letter.data
        self._folder = "/".join((letter.base.rstrip("/"), *letter.folders)) if letter.base else "/".join(letter.folders)
        self._target = self._at(letter.name)

    def _at(self, name: str) -> bytes:
        folder = self._folder or ("/" if self._letter.base.startswith("/") else ".")
        return f"{folder.rstrip('/')}/{name}".encode()

    async def run(self) -> None:
        if self._sink.exists == "append":
            async with self._session.locks.setdefault(self._target, asyncio.Lock()):
                await self._append()
            return
        if self._sink.exists != "replace" and await self._is_there():
            return
        *left, part = map(self._at, part_names(self._letter, self._delivery))
        for name in left:
            await self._discard(name)
        try:
            await self._upload(part)
            await failpoint("file.written")
            await self._give_name(part)
            await failpoint("file.published")
        except OSError:
            with suppress(OSError, Unavailable):
                await self._discard(part)
            raise

    async def _upload(self, part: bytes) -> None:
        """The whole content under a temporary name; what an earlier attempt left of it is overwritten."""

        async def upload() -> None:
            await self._session.run(lambda client: write_whole(client, part, self._data, "wb"), self._letter.size)

        try:
            await upload()
        except FileNotFoundError:
            if not self._sink.mkdirs:
                raise
            await self._session.make(part.rpartition(b"/")[0])
            await upload()
        size = (await self._session.run(lambda client: client.lstat(part))).size
        if size != self._letter.size:
            raise Unavailable(f"the server has {size} bytes of {self._letter.size}", hint="is its disk full?")

    async def _give_name(self, part: bytes) -> None:
        try:
            if self._sink.exists == "replace":
                await self._replace(part)
            elif not await self._session.rename(part, self._target):
                await self._is_there()  # a second try of the same delivery, or somebody else's file: that raises
                await self._discard(part)
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
            await self._discard(part)
            raise Rejected(
                f"{self._letter.where!r}: the server does not rename, so no file can appear whole",
                hint="let its people allow renames in that folder",
            ) from error

    async def _replace(self, part: bytes) -> None:
        try:
            await self._session.run(lambda client: client.posix_rename(part, self._target))
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
            await self._discard(self._target)  # no server can do it in one step without that extension
            if not await self._session.rename(part, self._target):
                raise OSError(errno.EBUSY, "another writer is at work") from error

    async def _discard(self, path: bytes) -> None:
        with suppress(FileNotFoundError):
            await self._session.run(lambda client: client.remove(path))

    async def _is_there(self) -> bool:
        """Whether this very content stands under the name already. Raises FileExistsError where something else does."""
        try:
            state = await self._session.run(lambda client: client.lstat(self._target))
        except FileNotFoundError:
            return False
        if state.size == self._letter.size:
            there = await self._session.run(self._read_back, self._letter.size)
            if there == self._letter.sha256:
                return True
        raise FileExistsError(errno.EEXIST, "taken")

    async def _read_back(self, client: SFTPClient) -> str:
        digest = hashlib.sha256()
        async with opened(client, self._target, "rb") as file:
            part: bytes = await file.read(CHUNK)
            while part:
                digest.update(part)
                part = await file.read(CHUNK)
        return digest.hexdigest()

    async def _append(self) -> None:
        """Add one block that ends in a line break behind what is there; a block that does not fit is cut off again."""
        block = self._letter.block()
        try:
            before = (await self._session.run(lambda client: client.lstat(self._target))).size or 0
        except FileNotFoundError:
            before = None
        try:
            await self._add(block, before)
        except FileNotFoundError:
            if not self._sink.mkdirs:
                raise
            await self._session.make(self._target.rpartition(b"/")[0])
            await self._add(block, before)

    async def _add(self, block: bytes, before: int | None) -> None:
        mode = "wb" if before is None else "r+b"
        try:
            await self._session.run(lambda c: write_whole(c, self._target, block, mode, before or 0), len(block))
        except OSError as error:
            if error.errno == REMOTE_FAULT:
                with suppress(OSError, Unavailable):
                    await self._session.run(lambda client: client.truncate(self._target, before or 0))
            raise
