"""The files of a workspace: which ones there are, and their text."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from esb.errors import Position, Problem

MAX_BYTES = 4_000_000
Report = Callable[[Problem], None]


class Files:
    """Reads text files below ``root`` once each; paths are relative with ``/``. What cannot be read becomes a problem."""

    def __init__(self, root: Path, report: Report) -> None:
        self.root = root
        self._real = root.resolve()
        self._report = report
        self._texts: dict[str, str | None] = {}

    def find(self, folder: str, *suffixes: str) -> list[str]:
        """Every file below ``folder`` that ends in one of ``suffixes``, sorted; hidden ones are left out."""
        found: list[str] = []
        for directory, folders, names in os.walk(self.root / folder, followlinks=False):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            below = Path(directory).relative_to(self.root)
            found.extend((below / n).as_posix() for n in names if n.endswith(suffixes) and not n.startswith("."))
        return sorted(found)

    def exists(self, path: str) -> bool:
        return (self.root / path).is_file()

    def text(self, path: str) -> str | None:
        """The text of a file, None after a problem was reported (once)."""
        if path not in self._texts:
            self._texts[path] = self._read(path)
        return self._texts[path]

    def lines(self, path: str) -> list[str]:
        """The lines of a file as a diagnostic shows them; empty where it cannot be read."""
        text = self._texts.get(path)
        return text.splitlines() if text is not None else []

    def _read(self, path: str) -> str | None:
        place = self.root / path
        at = Position(path)
        try:
            if not place.resolve().is_relative_to(self._real):
                self._report(
                    Problem("ESB504", "this file is a link that leaves the workspace", at, hint="copy the file")
                )
                return None
            if place.stat().st_size > MAX_BYTES:
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
