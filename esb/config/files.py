"""The files of a workspace: which ones there are, and their text."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from esb.errors import Position, Problem

MAX_BYTES = 4_000_000
_FOLDER = "who runs the bus must be able to list it and to go into it"
Report = Callable[[Problem], None]


def everybody_writes(place: Path) -> bool:
    """True where any user of the machine may write to this file, or put files into this folder."""
    if os.name == "nt":
        return False  # who may write is not in the mode there
    mode = place.stat().st_mode
    return bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX


class Files:
    """Reads text files below ``root`` once each; paths are relative with ``/``. What cannot be read becomes a problem.

    With ``texts`` these are the files that there are, whatever is on the disk; code (``.py``) always comes from there.
    """

    def __init__(self, root: Path, report: Report, texts: Mapping[str, str] | None = None) -> None:
        self.root = root
        self._real = root.resolve()
        self._report = report
        self._texts: dict[str, str | None] = dict(texts or {})
        self._only = texts
        self._open_folders: dict[Path, bool] = {}
        self._closed_folders: set[str] = set()

    def find(self, folder: str, *suffixes: str) -> list[str]:
        """Every file below ``folder`` that ends in one of ``suffixes``, sorted; hidden ones are left out. A folder that cannot be
        looked into becomes a problem: the files in it are not gone."""
        if self._only is not None and suffixes != (".py",):
            return sorted(path for path in self._only if path.startswith(f"{folder}/") and path.endswith(suffixes))
        found: list[str] = []
        for directory, folders, names in os.walk(self.root / folder, onerror=self._closed):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            below = Path(directory).relative_to(self.root)
            found.extend((below / n).as_posix() for n in names if n.endswith(suffixes) and not n.startswith("."))
        return sorted(found)

    def _closed(self, error: OSError) -> None:
        path = Path(error.filename).relative_to(self.root).as_posix()
        if not isinstance(error, FileNotFoundError) and path not in self._closed_folders:
            self._closed_folders.add(path)
            reason = (error.strerror or "unknown error").lower()
            self._report(Problem("ESB004", f"the folder cannot be read: {reason}", Position(path), hint=_FOLDER))

    def exists(self, path: str) -> bool:
        """Whether there is a file of that name; where nobody may look there is one, and reading it says why not."""
        if self._only is not None:
            return path in self._only
        try:
            return (self.root / path).is_file()
        except OSError:
            return True

    def lacks(self, path: str) -> bool:
        """Whether the disk has nothing of that name, absolute or from the workspace; of given texts nobody knows."""
        try:
            return self._only is None and not (self.root / path).exists()
        except OSError:
            return False

    def taken(self, path: str) -> bool:
        """Whether anything has that name, also a folder or a link that leads nowhere: reading it says what is wrong with it."""
        return path in self._only if self._only is not None else os.path.lexists(self.root / path)

    def read(self) -> Mapping[str, str]:
        """Every text that was read."""
        return {path: text for path, text in self._texts.items() if text is not None}

    def text(self, path: str) -> str | None:
        """The text of a file, None after a problem was reported (once)."""
        if path not in self._texts:
            self._texts[path] = self._read(path)
        return self._texts[path]

    def lines(self, path: str) -> list[str]:
        """The lines of a file as a diagnostic shows them; empty where it cannot be read."""
        text = self._texts.get(path)
        return text.splitlines() if text is not None else []

    def _loose(self, place: Path) -> Path | None:
        """What of a file and the folders above it, up to the workspace's, everybody may write to."""
        if everybody_writes(place):
            return place
        for folder in place.parents:
            if folder not in self._open_folders:
                self._open_folders[folder] = everybody_writes(folder)
            if self._open_folders[folder]:
                return folder
            if folder == self.root:
                break
        return None

    def _read(self, path: str) -> str | None:
        place = self.root / path
        at = Position(path)
        try:
            # not `resolve`, which raises for links in a circle
            if not Path(os.path.realpath(place)).is_relative_to(self._real):
                self._report(
                    Problem("ESB504", "this file is a link that leaves the workspace", at, hint="copy the file")
                )
                return None
            if (loose := self._loose(place)) is not None:
                what = "file" if loose == place else "folder"
                hint = f"chmod o-w {loose.relative_to(self.root)}"
                message = f"everybody may write to this {what}, so what it says is not followed"
                self._report(Problem("ESB506", message, at, hint=hint))
                return None
            if not stat.S_ISREG((found := place.stat()).st_mode):  # reading a pipe would wait for its writer, for ever
                self._report(Problem("ESB004", "this is no file", at, hint="take it away, or give it another name"))
                return None
            if found.st_size > MAX_BYTES:
                self._report(Problem("ESB004", "the file is larger than 4 MB", at, hint="split it"))
                return None
            data = place.read_bytes()
        except OSError as error:
            reason = (error.strerror or "unknown error").lower()
            self._report(Problem("ESB004", f"the file cannot be read: {reason}", at))
            return None
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = data[: error.start].decode("utf-8")
            line = before.count("\n") + 1
            column = len(before) - (before.rfind("\n") + 1) + 1
            self._report(
                Problem(
                    "ESB004",
                    f"the file is not UTF-8: byte 0x{data[error.start]:02x} at this place",
                    Position(path, line, column),
                    hint="save it as UTF-8",
                )
            )
            return None
