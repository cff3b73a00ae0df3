"""The database of an embedded store: one file of SQLite."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Unpack

from esb.store import files
from esb.store.committer import Committer
from esb.store.connection import Hooks
from esb.store.reader import Reader
from esb.store.writer import Writer


class Sqlite:
    """Implements :class:`esb.store.connection.Database` for the file at ``path``."""

    away = ""  #: a file can always be reached

    def __init__(self, path: Path) -> None:
        self.path = path

    def writer(self) -> files.Connection:
        return files.connect_writer(self.path)

    def reader(self) -> Reader:
        return Reader(lambda: files.connect_reader(self.path))

    def committer(self, writer: Writer, *, threaded: bool | None, **hooks: Unpack[Hooks]) -> Committer:
        waits = files.probe_sync(self.path.parent) if threaded is None else 0.0
        return Committer(writer, threaded=threaded, waits=waits, **hooks)

    def explained(self) -> AbstractContextManager[None]:
        return files.explained(self.path)

    async def answering(self) -> None:
        pass  # a file does

    def close(self) -> None:
        pass  # a file needs no good-bye
