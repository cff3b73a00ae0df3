"""Taking a file so that nobody else takes it, and bringing it where it belongs afterwards. Everything here blocks."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from esb.endpoints.file_scan import CLAIM, Found, Scanner
from esb.endpoints.folders import CREATE, READ, Folder, give_back, is_file, move_free, take_lock, write_all
from esb.endpoints.paths import clean_name, is_hostile, render_path
from esb.errors import ErrorRecord
from esb.failpoints import hit
from esb.language import TextTemplate

if TYPE_CHECKING:
    from esb.endpoints.file import FileSource


_CHUNK = 1 << 20
#: the file is gone, or something else was put in its place; that is left alone from now on
_SWAPPED = (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EMLINK)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Taken:
    """A claimed file, read whole and locked until :meth:`close`. ``refused`` says why it was not read."""

    found: Found
    fd: int
    payload: bytes = b""
    sha256: str = ""
    refused: str = ""

    @property
    def name(self) -> str:
        """The name in text that can be shown and stored."""
        return clean_name(self.found.name, hidden=True) if is_hostile(self.found.name) else self.found.name

    @property
    def path(self) -> str:
        return "/".join((*(clean_name(p, hidden=True) if is_hostile(p) else p for p in self.found.parts), self.name))

    @property
    def modified(self) -> str:
        try:
            instant = _EPOCH + timedelta(microseconds=self.found.mtime_ns // 1000)
        except OverflowError:
            return ""
        return instant.isoformat().replace("+00:00", "Z")

    def meta(self) -> dict[str, Any]:
        return {
            "file_name": self.name,
            "file_path": self.path,
            "file_size": self.found.size,
            "file_modified": self.modified,
        }

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@dataclass(frozen=True, slots=True)
class Report:
    """Why a file could not be taken, for the people who sent it."""

    file: str
    reason: str
    at: str
    message_id: str = ""
    error: ErrorRecord | None = None

    def as_json(self) -> bytes:
        content: dict[str, Any] = {"file": self.file, "at": self.at, "reason": self.reason}
        if self.message_id:
            content["message_id"] = self.message_id
        if self.error is not None:
            content["error"] = self.error.as_dict()
        return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"

    def as_csv(self) -> bytes:
        rows = [("pointer", "detail")]
        rows += [(v.pointer, v.detail) for v in self.error.violations] if self.error else []
        if len(rows) == 1:
            rows.append(("", self.reason))
        return "".join(",".join(map(_cell, row)) + "\r\n" for row in rows).encode("utf-8", "replace")


def _cell(text: str) -> str:
    """One quoted cell; a leading formula sign is disarmed, since people open reports in a spreadsheet."""
    safe = "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
    return '"' + safe.replace('"', '""') + '"'


class Desk:
    """Claims, reads, gives back and files away the files of one source."""

    def __init__(self, options: FileSource, base: Path, scanner: Scanner) -> None:
        self._options = options
        self._base = base
        self._scanner = scanner

    # -- in -----------------------------------------------------------------------------------------------------------
    def take(self, found: Found) -> Taken | None:
        """Claim and read a file; None where it is gone, in other hands, or not complete after all. Raises OSError."""
        with self._folder(found) as folder, folder.child(CLAIM, create=True, mode=0o700) as claim:
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
            taken = Taken(found, fd)
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

    def _read(self, taken: Taken, claim: Folder) -> bool:
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
            taken.refused = "its name has undecodable bytes or characters that no file name should have"
            return True
        digest, chunks, size = hashlib.sha256(), [], 0
        while size <= self._options.max_size and (chunk := os.read(taken.fd, _CHUNK)):
            digest.update(chunk)
            chunks.append(chunk)
            size += len(chunk)
        if max(size, state.st_size) > self._options.max_size:
            taken.refused = f"it has {max(size, state.st_size)} bytes, more than max_size {self._options.max_size}"
            return True
        taken.payload, taken.sha256 = b"".join(chunks), digest.hexdigest()
        return _mark(os.fstat(taken.fd)) == _mark(state) and size == state.st_size

    # -- out ----------------------------------------------------------------------------------------------------------
    def put_back(self, found: Found) -> None:
        """Undo the claim, so that a later look takes the file again."""
        with self._folder(found) as folder, folder.child(CLAIM) as claim:
            self._unclaim(found, folder, claim)

    def _unclaim(self, found: Found, folder: Folder, claim: Folder) -> None:
        # where the name is taken again, or the file is a stranger's, it stays claimed and is the next to be taken
        if claim.stat(found.name) is not None and not give_back(claim, found.name, folder, found.name):
            self._scanner.unsure.add(found.path)

    def done(self, taken: Taken, scope: Mapping[str, Any]) -> str:
        """Move or delete a file that was stored; the path it has now, empty where it was deleted."""
        options, found = self._options.done, taken.found
        with self._folder(found) as folder, folder.child(CLAIM) as claim:
            if options.move is None:
                claim.discard(found.name)
                place = ""
            else:
                with self._target(options.move, folder, scope) as target:
                    place = str(target.path / move_free(claim, found.name, target, taken.name))
            self._drop_marker(found, folder)
            return place

    def failed(self, taken: Taken, scope: Mapping[str, Any], report: Report, *, always: bool) -> str:
        """Move a file that could not be taken, with a report beside it where one is wanted; its path now."""
        options, found = self._options.failed, taken.found
        with self._folder(found) as folder, folder.child(CLAIM) as claim:
            with self._target(options.move, folder, scope) as target:
                name = move_free(claim, found.name, target, taken.name)
                if options.report or always:
                    ending = options.report if isinstance(options.report, str) else "error.json"
                    content = report.as_csv() if ending.endswith(".csv") else report.as_json()
                    _write(target, f"{name}.{ending}", content)
            self._drop_marker(found, folder)
            return str(target.path / name)

    def _folder(self, found: Found) -> Folder:
        with Folder.at(self._base) as base:
            return base.below(found.parts)

    def _target(self, template: TextTemplate, folder: Folder, scope: Mapping[str, Any]) -> Folder:
        """Where a file moves to: an operator's absolute folder, or one in (never through a link) or beside its own."""
        safe = render_path(template, scope, folder=True)
        own = [part for part in safe.base.split("/") if part not in ("", ".")]
        if Path(safe.base).is_absolute() or ".." in own:
            start = Path(os.path.normpath(folder.path / safe.base))
            with Folder.at(start, create=True) as base:
                return base.below(safe.parts, create=True)
        return folder.below((*own, *safe.parts), create=True)

    def _drop_marker(self, found: Found, folder: Folder) -> None:
        marker = self._scanner.marker_for(found.name)
        if marker is None or marker == found.name:
            return
        others = (name for name, state in folder.scan() if is_file(state))
        if not self._scanner.shares_marker(found.name, others):
            folder.discard(marker)


def _mark(state: os.stat_result) -> tuple[int, int, int]:
    return (state.st_size, state.st_mtime_ns, state.st_ino)


def _write(folder: Folder, name: str, content: bytes) -> None:
    temporary = clean_name(f".{name[:100]}.{os.getpid()}.part", hidden=True)
    folder.discard(temporary)
    fd = folder.open(temporary, CREATE)
    try:
        write_all(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)
    move_free(folder, temporary, folder, clean_name(name))
