"""Folders of an SFTP server as a :class:`~esb.endpoints.file_desk.Desk`."""

from __future__ import annotations

import errno
import hashlib
import posixpath
import stat
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from esb.blob import Blob
from esb.endpoints._sftp.read import read_aside, read_large, read_small
from esb.endpoints._sftp.session import Session, write_whole
from esb.endpoints.base import SourceContext
from esb.endpoints.file_desk import BAD_NAME, Desk, Taken, shown, too_big
from esb.endpoints.file_options import FolderSource
from esb.endpoints.file_scan import CLAIM, Entry, Found, Parts, Pattern, Scanner, advance
from esb.endpoints.folders import REMOTE_FAULT, apart
from esb.endpoints.paths import SafePath, clean_name, is_hostile, numbered
from esb.errors import StoreBusy
from esb.failpoints import pause as failpoint

if TYPE_CHECKING:
    from asyncssh import SFTPName

_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder"}
#: a file up to this size is read in one request; every server answers as much at once
_ONE_READ = 32_000
#: most names that are remembered as skipped, so that each is told once
_MOST_SKIPPED = 1000
#: entries of a listing that are sorted in a thread
_MANY = 2000
_NO_RENAME_HINT = (
    "files are read where they lie; better let the server's people allow renames and a folder `.esb-claim/`"
)
_KEPT_HINT = "the server lets us neither move nor remove it; it is not taken again while its size and time stay"
#: what a server says that does not let us rename, or make the folder to rename into
_NO_RENAME = (errno.ENOTSUP, REMOTE_FAULT, errno.EACCES)


@dataclass(slots=True)
class _Away(Taken):
    """A file at ``place``. ``in_place``: the server does not rename, so it lies where it was found; ``copy`` is its content."""

    place: bytes = b""
    in_place: bool = False
    copy: bytes | Blob | None = None


class RemoteDesk(Desk):
    """Files of one source on an SFTP server. Names are bytes there; undecodable ones are surrogates here, as local ones are."""

    def __init__(self, options: FolderSource, context: SourceContext) -> None:
        super().__init__(options)
        text = options.begins(context.route, context.site)
        pattern = Pattern.of(text, PurePosixPath())
        self.where = str(pattern.base)
        self.scanner = Scanner(options, pattern)
        self._context = context
        self._session: Session = context.connection
        self.place = f"{self._session.address} {text}"
        self._skipped: set[str] = set()
        self._in_place = False
        #: files that were taken and could not be removed: path → size and time
        self._kept: dict[str, list[int]] = {}

    async def start(self) -> None:
        self._in_place = bool(await self._context.state.get("in_place"))

    # -- looking ------------------------------------------------------------------------------------------------------
    async def look(self, now: float) -> list[Found]:
        walk = self.scanner.walk(now)
        parts: Parts | None = next(walk)
        found: list[Found] = []
        while parts is not None:
            entries = await self._entries(parts)
            if entries is not None and len(entries) > _MANY:
                # sorting ten thousands of names takes longer than the others should wait
                parts, found = await apart(partial(advance, walk, entries))
            else:
                parts, found = advance(walk, entries)
        return await self._without_kept(found) if self._in_place else found

    async def _entries(self, parts: Parts) -> list[Entry] | None:
        try:
            names = await self._session.listing(self._path(parts))
        except OSError as error:
            if not parts or error.errno not in (errno.ENOENT, errno.EACCES, REMOTE_FAULT):
                raise
            return None
        found = []
        for name in names:
            entry = _entry(name)
            if entry.name in ("", ".", "..") or any(ch in entry.name for ch in "/\\\x00"):
                self._skip(parts, entry.name)
            else:
                found.append(entry)
        return found

    def _skip(self, parts: Parts, name: str) -> None:
        """A name that leads elsewhere cannot be claimed without risk: left alone, and said once."""
        path = "/".join((*map(shown, parts), name.encode("utf-8", "backslashreplace").decode()))
        if path in self._skipped or len(self._skipped) >= _MOST_SKIPPED:
            return
        self._skipped.add(path)
        self._log(
            "warning", "file.bad_name", file=path[:300], hint="the server lists a name that is none; it is left alone"
        )

    async def _without_kept(self, found: list[Found]) -> list[Found]:
        left = []
        for file in found:
            if file.path not in self._kept:
                self._kept[file.path] = await self._context.state.get(f"kept:{file.path}") or []
            if self._kept[file.path] != [file.size, file.mtime_ns]:
                left.append(file)
        return left

    async def names(self, parts: Parts) -> Iterable[str]:
        entries = await self._entries(parts)
        return [entry.name for entry in entries or () if entry.kind == "file"]

    async def discard(self, parts: Parts, name: str) -> None:
        await self._unlink(self._path(parts, name))

    # -- in -----------------------------------------------------------------------------------------------------------
    async def take(self, found: Found) -> Taken | None:
        taken = _Away(found, place=self._path((*found.parts, CLAIM), found.name), again=found.claimed)
        if not found.claimed:
            if not await self._claim(taken):
                return None
            await failpoint("file.claimed")
        if is_hostile(found.name):
            taken.refused = BAD_NAME
            return taken
        if found.size > self.options.max_size:
            taken.refused = too_big(found.size, self.options.max_size)
            return taken
        try:
            whole = await self._fill(taken)
        except FileNotFoundError:
            return None
        except StoreBusy:
            await self.put_back(taken)
            raise
        if not whole:
            await self.put_back(taken)  # not the complete file that was seen
            return None
        return taken

    async def _fill(self, taken: _Away) -> bool:
        """Read the file; false where it is not the complete one that was seen."""
        size, spool = taken.found.size, self._context.spool
        if spool is not None and size > spool.above:
            taken.blob = await self._session.run(lambda client: read_aside(client, taken.place, size, spool), size)
            taken.sha256 = taken.blob.sha256 if taken.blob is not None else ""
            taken.copy = taken.blob if taken.in_place else None
            return taken.blob is not None
        content, taken.sha256 = await self._read(taken.place, size)
        taken.payload = content
        taken.copy = content if taken.in_place else None
        return len(content) == size

    async def _claim(self, taken: _Away) -> bool:
        found = taken.found
        original = self._path(found.parts, found.name)
        if not self._in_place:
            try:
                return await self._into_claim(original, taken)
            except FileNotFoundError:
                return False
            except OSError as error:
                if error.errno not in _NO_RENAME:
                    raise
                self._log("warning", "file.no_rename", error=error.strerror or str(error), hint=_NO_RENAME_HINT)
                if error.errno != REMOTE_FAULT:
                    self._in_place = True
                    await self._context.state.put("in_place", True)
        taken.place, taken.in_place = original, True
        taken.again = await self._context.state.get(f"hand:{found.path}") is not None
        await self._context.state.put(f"hand:{found.path}", True)
        return True

    async def _into_claim(self, original: bytes, taken: _Away) -> bool:
        try:
            return await self._session.rename(original, taken.place)
        except OSError as error:
            if error.errno not in (errno.ENOENT, *_NO_RENAME):
                raise
            folder = taken.place.rpartition(b"/")[0]
            if await self._session.exists(folder):
                raise
            await self._session.make(folder)
            return await self._session.rename(original, taken.place)

    async def _read(self, place: bytes, size: int) -> tuple[bytes, str]:
        """The content and its SHA-256; one byte more than ``size`` where the file has grown."""
        if size < _ONE_READ:
            content = await self._session.run(lambda client: read_small(client, place, size), size)
            return content, hashlib.sha256(content).hexdigest()
        return await self._session.run(lambda client: read_large(client, place, size), size)

    # -- out ----------------------------------------------------------------------------------------------------------
    async def put_back(self, taken: Taken) -> None:
        assert isinstance(taken, _Away)
        if taken.in_place:
            await self._context.state.forget(f"hand:{taken.found.path}")
        elif not await self._session.rename(taken.place, self._path(taken.found.parts, taken.found.name)):
            # the name is taken again: it stays claimed and is the next to be taken
            self.scanner.unsure.add(taken.found.path)

    async def remove(self, taken: Taken) -> None:
        assert isinstance(taken, _Away)
        try:
            await self._unlink(taken.place)
        except PermissionError as error:
            await self._keep(taken, error)
        await self._let_go(taken)

    async def move(self, taken: Taken, to: SafePath, name: str) -> str:
        assert isinstance(taken, _Away)
        folder = self._target(taken.found.parts, to)
        if taken.in_place:
            return await self._copy(taken, folder, name)
        place = await self._settle(folder, name, lambda path: self._session.rename(taken.place, path))
        await failpoint("file.moved")
        return place

    async def _settle(self, folder: bytes, wanted: str, give: Callable[[bytes], Awaitable[bool]]) -> str:
        """Give a file the first free name like ``wanted`` in ``folder``, which is made where it is missing."""
        made = False
        for number in range(100_000):
            path = _join(folder, numbered(wanted, number))
            try:
                free = await give(path)
            except FileNotFoundError:
                if made:
                    raise
                made = True
                await self._session.make(folder)
                free = await give(path)
            if free:
                return path.decode("utf-8", "replace")
        raise FileExistsError(errno.EEXIST, "every numbered name is taken", wanted)

    async def _copy(self, taken: _Away, folder: bytes, name: str) -> str:
        """Without renames: write the content anew and remove the original."""
        place = taken.place.decode("utf-8", "replace")
        try:
            if taken.copy is None:
                raise PermissionError(errno.EACCES, "it was not read, so it cannot be copied")
            content = taken.copy
            place = await self._settle(folder, name, lambda path: self._create(path, content))
            await self._unlink(taken.place)
        except OSError as error:
            if error.errno not in _NO_RENAME:
                raise
            await self._keep(taken, error)
        await self._let_go(taken)
        return place

    async def _keep(self, taken: _Away, error: OSError) -> None:
        """The server lets us do nothing with the file: remember that it was taken."""
        found = taken.found
        self._kept[found.path] = [found.size, found.mtime_ns]
        self._in_place = True
        await self._context.state.put("in_place", True)
        await self._context.state.put(f"kept:{found.path}", self._kept[found.path])
        self._log("warning", "file.kept", file=taken.path, error=error.strerror or str(error), hint=_KEPT_HINT)

    async def _let_go(self, taken: _Away) -> None:
        if taken.in_place:
            await self._context.state.forget(f"hand:{taken.found.path}")

    async def write(self, parts: Parts, to: SafePath, name: str, content: bytes) -> str:
        folder = self._target(parts, to)
        if self._in_place:
            return await self._settle(folder, name, lambda path: self._create(path, content))
        part = _join(folder, clean_name(f".{name[:100]}.part", hidden=True))
        await self._session.make(folder)
        await self._session.run(lambda client: write_whole(client, part, content, "wb"), len(content))
        return await self._settle(folder, name, lambda path: self._session.rename(part, path))

    async def _create(self, path: bytes, content: bytes | Blob) -> bool:
        """Write a file under a name that must be free; False: it is taken."""
        if await self._session.exists(path):
            return False
        size = content.size if isinstance(content, Blob) else len(content)
        await self._session.run(lambda client: write_whole(client, path, content, "xb"), size)
        return True

    async def _unlink(self, path: bytes) -> None:
        try:
            await self._session.run(lambda client: client.remove(path))
        except FileNotFoundError:
            return

    # -- paths --------------------------------------------------------------------------------------------------------
    def _path(self, parts: Parts, name: str = "") -> bytes:
        return (
            "/".join((self.where.rstrip("/"), *parts, *([name] if name else []))).encode("utf-8", "surrogateescape")
            or b"/"
        )

    def _target(self, parts: Parts, to: SafePath) -> bytes:
        own = self._path(parts).decode("utf-8", "surrogateescape")
        text = posixpath.normpath(posixpath.join(own, to.base, *to.parts))
        return text.encode("utf-8", "surrogateescape")

    def _log(self, level: str, event: str, **fields: Any) -> None:
        self._context.log(level, event, route=self._context.route, **fields)


def _entry(name: SFTPName) -> Entry:
    attrs, raw = name.attrs, name.filename
    assert isinstance(raw, bytes)
    kind = _KINDS.get(stat.S_IFMT(attrs.permissions or 0), "other")
    mtime = (attrs.mtime or 0) * 1_000_000_000 + (attrs.mtime_ns or 0)
    return Entry(raw.decode("utf-8", "surrogateescape"), kind, attrs.size or 0, mtime)  # type: ignore[arg-type]  # a table of str


def _join(folder: bytes, name: str) -> bytes:
    return folder.rstrip(b"/") + b"/" + name.encode("utf-8", "surrogateescape")


__all__ = ["RemoteDesk"]
