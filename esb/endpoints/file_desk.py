"""What a source does with files, wherever they lie: look, claim and read, give back, file away.

:class:`Desk` is the small interface over a place with folders. The local file system and SFTP servers implement it; what is taken
when, what a file's identity is and where it goes afterwards is decided once, for all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from esb.blob import Blob
from esb.endpoints.file_options import FolderSource
from esb.endpoints.file_report import Report
from esb.endpoints.file_scan import Found, Parts, Scanner
from esb.endpoints.paths import SafePath, clean_name, is_hostile, render_path

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BAD_NAME = "its name has undecodable bytes or characters that no file name should have"


@dataclass(slots=True)
class Taken:
    """A claimed file, read: ``payload``, or a large one as ``blob``, which is this one's to release.

    ``refused`` says why it was not read. ``close`` lets go of what holds it.
    """

    found: Found
    payload: bytes = b""
    blob: Blob | None = None
    sha256: str = ""
    refused: str = ""
    #: an earlier run of this source had it in hand: to meet it again is no duplicate
    again: bool = False
    #: name and path in text that can be shown and stored
    name: str = field(init=False)
    path: str = field(init=False)
    modified: str = field(init=False)  #: when it was, in UTC; empty where no calendar has that

    def __post_init__(self) -> None:
        self.name = shown(self.found.name)
        self.path = "/".join((*map(shown, self.found.parts), self.name))
        try:
            instant = _EPOCH + timedelta(microseconds=self.found.mtime_ns // 1000)
        except OverflowError:
            self.modified = ""
        else:
            self.modified = instant.isoformat().replace("+00:00", "Z")

    def meta(self) -> dict[str, Any]:
        return {
            "file_name": self.name,
            "file_path": self.path,
            "file_size": self.found.size,
            "file_modified": self.modified,
        }

    def close(self) -> None:
        """Let go; a second call does nothing."""


def shown(name: str) -> str:
    return clean_name(name, hidden=True) if is_hostile(name) else name


def too_big(size: int, limit: int) -> str:
    return f"it has {size} bytes, more than max_size {limit}"


class Desk(ABC):
    """A place with folders, as one source sees it. Every method raises OSError where the place fails."""

    #: the folder before the first wildcard, as people write it
    where: str
    #: the server and the whole pattern
    place: str
    scanner: Scanner

    def __init__(self, options: FolderSource) -> None:
        self.options = options

    # -- the place ----------------------------------------------------------------------------------------------------
    @abstractmethod
    async def start(self) -> None:
        """Prepare the place before the first look."""

    @abstractmethod
    async def look(self, now: float) -> list[Found]:
        """The files that are ready, in order; ``now`` is the clock's monotonic time."""

    @abstractmethod
    async def take(self, found: Found) -> Taken | None:
        """Claim and read a file; None where it is gone, in other hands, or not complete after all."""

    @abstractmethod
    async def put_back(self, taken: Taken) -> None:
        """Undo the claim, so that a later look takes the file again."""

    @abstractmethod
    async def remove(self, taken: Taken) -> None:
        """Remove a claimed file."""

    @abstractmethod
    async def move(self, taken: Taken, to: SafePath, name: str) -> str:
        """Move a claimed file to a free name like ``name``, relative to its own folder or absolute; its path now."""

    @abstractmethod
    async def write(self, parts: Parts, to: SafePath, name: str, content: bytes) -> str:
        """Write a small file under a free name like ``name``; ``to`` is relative to the folder ``parts``. Its path."""

    @abstractmethod
    async def names(self, parts: Parts) -> Iterable[str]:
        """The names of the files in a folder."""

    @abstractmethod
    async def discard(self, parts: Parts, name: str) -> None:
        """Remove a file where there is one."""

    # -- where files end ----------------------------------------------------------------------------------------------
    async def done(self, taken: Taken, scope: Mapping[str, Any]) -> str:
        """Move or delete a file that was stored; the path it has now, empty where it was deleted."""
        move, place = self.options.done.move, ""
        if move is None:
            await self.remove(taken)
        else:
            place = await self.move(taken, render_path(move, scope, folder=True), taken.name)
        await self._drop_marker(taken.found)
        return place

    async def failed(self, taken: Taken, scope: Mapping[str, Any], report: Report, *, always: bool) -> str:
        """Move a file that could not be taken, with a report beside it where one is wanted; its path now."""
        options, found = self.options.failed, taken.found
        to = render_path(options.move, scope, folder=True)
        place = await self.move(taken, to, taken.name)
        if options.report or always:
            await self.write_report(found.parts, to, place.rpartition("/")[2], report)
        await self._drop_marker(found)
        return place

    async def write_report(self, parts: Parts, to: SafePath, name: str, report: Report) -> str:
        """Put a report beside the file that it is about; its path."""
        wanted = self.options.failed.report
        ending = wanted if isinstance(wanted, str) else "error.json"
        return await self.write(parts, to, clean_name(f"{name}.{ending}"), report.content(ending))

    async def _drop_marker(self, found: Found) -> None:
        marker = self.scanner.marker_for(found.name)
        if marker is None or marker == found.name:
            return
        if not self.scanner.shares_marker(found.name, await self.names(found.parts)):
            await self.discard(found.parts, marker)


__all__ = ["BAD_NAME", "Desk", "Taken", "shown", "too_big"]
