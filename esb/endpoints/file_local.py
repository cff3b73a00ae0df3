"""The local file system as a :class:`~esb.endpoints.file_desk.Desk`; its work blocks, so each piece runs in a thread."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from esb.blob import Spool
from esb.endpoints.base import SourceContext
from esb.endpoints.file_desk import BAD_NAME, Desk, Taken, too_big
from esb.endpoints.file_options import FolderSource
from esb.endpoints.file_scan import CLAIM, Entry, Found, Parts, Pattern, Scanner, advance
from esb.endpoints.folders import (
    CREATE,
    OPEN_FILES_STAY,
    READ,
    Folder,
    apart,
    give_back,
    is_file,
    move_free,
    take_lock,
    write_all,
)
from esb.endpoints.paths import OWN_FOLDERS, SafePath, clean_name, is_hostile
from esb.failpoints import hit

_CHUNK = 1 << 20
#: the file is gone, or something else was put in its place; that is left alone from now on
_SWAPPED = (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EMLINK)
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder"}


@dataclass(slots=True)
class _Held(Taken):
    """A file that is locked against other pollers until it is closed."""

    fd: int = -1

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class LocalDesk(Desk):
    """Folders of this machine, reached through open descriptors and never through a link."""

    def __init__(self, options: FolderSource, context: SourceContext) -> None:
        super().__init__(options)
        text = options.begins(context.route, context.site)
        pattern = Pattern.of(text, context.workspace)
        own = {os.path.normpath(context.workspace / name) for name in OWN_FOLDERS}
        self.base = Path(pattern.base)
        self.where = str(pattern.base)
        self.place = f"file {context.workspace / text}"
        self.scanner = Scanner(options, pattern, own)
        self._workspace = context.workspace
        self._spool = context.spool
        self._making = threading.Lock()

    async def start(self) -> None:
        if self.base.is_relative_to(self._workspace):
            with suppress(OSError):  # the first look says what is wrong
                await apart(lambda: self.base.mkdir(parents=True, exist_ok=True))

    # -- looking ------------------------------------------------------------------------------------------------------
    async def look(self, now: float) -> list[Found]:
        return await apart(lambda: self._look(now))

    def _look(self, now: float) -> list[Found]:
        walk = self.scanner.walk(now)
        with Folder.at(self.base) as base:
            parts: Parts | None = next(walk)
            found: list[Found] = []
            while parts is not None:
                parts, found = advance(walk, self._entries(base, parts))
            return found

    def _entries(self, base: Folder, parts: Parts) -> list[Entry] | None:
        try:
            with base.below(parts) as folder:
                return [_entry(name, state) for name, state in folder.scan()]
        except OSError:
            if not parts:
                raise
            return None

    async def names(self, parts: Parts) -> Iterable[str]:
        def work() -> list[str]:
            with self._folder(parts) as folder:
                return [name for name, state in folder.scan() if is_file(state)]

        return await apart(work)

    async def discard(self, parts: Parts, name: str) -> None:
        def work() -> None:
            with self._folder(parts) as folder:
                folder.discard(name)

        await apart(work)

    # -- in -----------------------------------------------------------------------------------------------------------
    async def take(self, found: Found) -> Taken | None:
        return await apart(lambda: self._take(found))

    def _claims(self, folder: Folder) -> Folder:
        with self._making:  # files are taken side by side: none moves there before the folder's own name is safe
            return folder.child(CLAIM, create=True, mode=0o700)

    def _take(self, found: Found) -> Taken | None:
        with self._folder(found.parts) as folder, self._claims(folder) as claim:
            if not found.claimed and not self._claim(found, folder, claim):
                return None
            hit("file.claimed")
            try:
                fd = claim.open(found.name, READ)
            except OSError as error:
                self._unclaim(found, folder, claim)
                if error.errno in _SWAPPED:
                    return None
                raise
            taken = _Held(found, fd=fd, again=found.claimed)
            try:
                if self._read(taken, claim):
                    return taken
            except BaseException:
                taken.close()
                raise
            taken.close()
            if not found.claimed:
                self._unclaim(found, folder, claim)
            return None

    def _claim(self, found: Found, folder: Folder, claim: Folder) -> bool:
        with claim.locked():
            if claim.stat(found.name) is not None:
                return False  # one of that name is in hand
            try:
                folder.rename(found.name, claim, found.name)
            except (FileNotFoundError, FileExistsError):
                return False  # another poller was first
            return True

    def _read(self, taken: _Held, claim: Folder) -> bool:
        """Fill in content and digest. False where this is not the complete file that was seen."""
        found, state = taken.found, os.fstat(taken.fd)
        if not is_file(state) or not take_lock(taken.fd):
            return False
        there = claim.stat(found.name)
        if there is None or not os.path.samestat(there, state):
            return False  # its other owner is done with it
        if not found.claimed and (state.st_nlink > 1 or _mark(state) != (found.size, found.mtime_ns, found.inode)):
            return False
        taken.found = Found(found.parts, found.name, state.st_size, state.st_mtime_ns, state.st_ino, found.claimed)
        if is_hostile(found.name):
            taken.refused = BAD_NAME
            return True
        limit, spool = self.options.max_size, self._spool
        if state.st_size <= limit and spool is not None and state.st_size > spool.above:
            return self._spooled(taken, spool, state)
        digest, chunks, size = hashlib.sha256(), [], 0
        while size <= limit and (chunk := os.read(taken.fd, _CHUNK)):
            digest.update(chunk)
            chunks.append(chunk)
            size += len(chunk)
        if max(size, state.st_size) > limit:
            taken.refused = too_big(max(size, state.st_size), limit)
            return True
        taken.payload, taken.sha256 = b"".join(chunks), digest.hexdigest()
        return _mark(os.fstat(taken.fd)) == _mark(state) and size == state.st_size

    def _spooled(self, taken: _Held, spool: Spool, state: os.stat_result) -> bool:
        """Put a large file into the spool. False where it is not the complete file that was seen."""
        writer, size = spool.writer(state.st_size), 0
        try:
            while size <= state.st_size and (chunk := os.read(taken.fd, _CHUNK)):
                size += len(chunk)
                writer.write(chunk)
            if _mark(os.fstat(taken.fd)) != _mark(state) or size != state.st_size:
                return False
            taken.blob = writer.finish()
        finally:
            writer.close()
        taken.sha256 = taken.blob.sha256
        return True

    # -- out ----------------------------------------------------------------------------------------------------------
    @staticmethod
    def _let_go(taken: Taken) -> None:
        """Its lock is held until the file has gone, where a file that is open can go; elsewhere until just before."""
        if OPEN_FILES_STAY:
            taken.close()

    async def put_back(self, taken: Taken) -> None:
        def work() -> None:
            self._let_go(taken)
            with self._folder(taken.found.parts) as folder, folder.child(CLAIM) as claim:
                self._unclaim(taken.found, folder, claim)

        await apart(work)

    def _unclaim(self, found: Found, folder: Folder, claim: Folder) -> None:
        # where the name is taken again, or the file is a stranger's, it stays claimed and is the next to be taken
        if claim.stat(found.name) is not None and not give_back(claim, found.name, folder, found.name):
            self.scanner.unsure.add(found.path)

    async def remove(self, taken: Taken) -> None:
        def work() -> None:
            self._let_go(taken)
            with self._folder(taken.found.parts) as folder, folder.child(CLAIM) as claim:
                claim.discard(taken.found.name)

        await apart(work)

    async def move(self, taken: Taken, to: SafePath, name: str) -> str:
        def work() -> str:
            self._let_go(taken)
            with (
                self._folder(taken.found.parts) as folder,
                folder.child(CLAIM) as claim,
                self._target(folder, to) as target,
            ):
                return str(target.path / move_free(claim, taken.found.name, target, name))

        return await apart(work)

    async def write(self, parts: Parts, to: SafePath, name: str, content: bytes) -> str:
        def work() -> str:
            with self._folder(parts) as folder, self._target(folder, to) as target:
                return str(target.path / _write(target, name, content))

        return await apart(work)

    def _folder(self, parts: Parts) -> Folder:
        with Folder.at(self.base) as base:
            return base.below(parts)

    def _target(self, folder: Folder, to: SafePath) -> Folder:
        """Where a file moves to: an operator's absolute folder, or one in (never through a link) or beside its own."""
        own = [part for part in to.base.split("/") if part not in ("", ".")]
        if Path(to.base).is_absolute() or ".." in own:
            start = Path(os.path.normpath(folder.path / to.base))
            with Folder.at(start, create=True) as base:
                return base.below(to.parts, create=True)
        return folder.below((*own, *to.parts), create=True)


def _entry(name: str, state: os.stat_result) -> Entry:
    kind = _KINDS.get(stat.S_IFMT(state.st_mode), "other")
    return Entry(name, kind, state.st_size, state.st_mtime_ns, state.st_ino, state.st_nlink)  # type: ignore[arg-type]  # a table of str


def _mark(state: os.stat_result) -> tuple[int, int, int]:
    return (state.st_size, state.st_mtime_ns, state.st_ino)


def _write(folder: Folder, name: str, content: bytes) -> str:
    temporary = clean_name(f".{name[:100]}.{os.getpid()}.part", hidden=True)
    folder.discard(temporary)
    fd = folder.open(temporary, CREATE)
    try:
        write_all(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)
    return move_free(folder, temporary, folder, name)


__all__ = ["LocalDesk"]
