"""Events of the file system that wake a source before its next look is due."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from esb.endpoints.folders import apart


class FolderWatch:
    """Sets :attr:`woken` when something happens below a folder. Only a hint: events may be lost, or never come."""

    def __init__(self, folder: Path, log: Callable[..., None]) -> None:
        self._folder = folder
        self._log = log
        self._observer: Any = None
        self.woken = asyncio.Event()

    async def start(self) -> None:
        loop, woken = asyncio.get_running_loop(), self.woken
        try:
            self._observer = await apart(lambda: _observe(self._folder, lambda: loop.call_soon_threadsafe(woken.set)))
        except OSError as error:
            self._log(
                "warning",
                "file.no_watch",
                folder=str(self._folder),
                error=error.strerror or str(error),
                hint="`every` still finds the files; too many watches? raise fs.inotify.max_user_watches",
            )

    async def stop(self) -> None:
        if self._observer is not None:
            observer, self._observer = self._observer, None
            observer.stop()
            await apart(lambda: observer.join(5))


def _observe(folder: Path, wake: Callable[[], object]) -> Any:
    from watchdog.events import (  # noqa: PLC0415 - only a source that watches needs it
        FileClosedEvent,
        FileCreatedEvent,
        FileModifiedEvent,
        FileMovedEvent,
        FileSystemEventHandler,
    )
    from watchdog.observers import Observer  # noqa: PLC0415 - the same

    logging.getLogger("watchdog").addHandler(logging.NullHandler())  # it speaks of its own stop

    class Handler(FileSystemEventHandler):
        def dispatch(self, event: Any) -> None:
            # what the source itself does with claimed files wakes nobody
            if "/.esb-" not in str(getattr(event, "dest_path", "") or event.src_path):
                wake()

    wanted: list[Any] = [FileCreatedEvent, FileClosedEvent, FileModifiedEvent, FileMovedEvent]
    observer = Observer()
    observer.schedule(Handler(), str(folder), recursive=True, event_filter=wanted)
    observer.start()
    return observer


__all__ = ["FolderWatch"]
