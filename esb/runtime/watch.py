"""Notices that files of the workspace changed: by events where the file system gives them, else by looking.

A change is reported once the files have been quiet for a moment, so that a checkout or an editor's save is one change.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from esb.clock import Clock

FOLDERS = ("routes", "schemas", "transforms", "connectors")
SUFFIXES = (".yaml", ".yml", ".json", ".jmes", ".j2", ".csv", ".py")
#: Seconds of quiet before a change is read.
QUIET = 0.1
#: Seconds between two looks where events are at work (they can be lost) and where they are not (network shares).
LOOK_WITH_EVENTS, LOOK_WITHOUT = 30.0, 2.0
NETWORK_FILESYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "afs", "ncpfs")

Signature = dict[str, tuple[int, int, int]]


def signature(root: Path) -> Signature:
    """Size, time and inode of every file that a workspace reads."""
    found: Signature = {}
    stack = [root / folder for folder in FOLDERS]
    for path in (root / "esb.yaml",):
        _note(found, path)
    while stack:
        try:
            entries = list(os.scandir(stack.pop()))
        except OSError:
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__pycache__":
                continue
            if entry.is_dir(follow_symlinks=False):
                stack.append(Path(entry.path))
            elif entry.name.endswith(SUFFIXES):
                _note(found, Path(entry.path))
    return found


def _note(found: Signature, path: Path) -> None:
    try:
        stat = path.stat()
    except OSError:
        return
    found[str(path)] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)


def is_network_share(path: Path) -> bool:
    """Whether ``path`` lies on a file system that gives no events for changes made elsewhere (Linux; else False)."""
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    best, kind = "", ""
    for line in mounts:
        parts = line.split()
        if len(parts) >= 3 and str(path).startswith(parts[1].rstrip("/") + "/") and len(parts[1]) >= len(best):
            best, kind = parts[1], parts[2]
    return kind in NETWORK_FILESYSTEMS


class Watcher:
    """Calls ``changed`` on the loop after the workspace's files changed and came to rest."""

    def __init__(
        self, root: Path, clock: Clock, changed: Callable[[], Awaitable[None]], log: Callable[..., None]
    ) -> None:
        self._root = root.resolve()
        self._clock = clock
        self._changed = changed
        self._log = log
        self._hint = asyncio.Event()
        self._seen: Signature = {}
        self._task: asyncio.Task[None] | None = None
        self._observer: Any = None

    async def start(self) -> None:
        self._seen = signature(self._root)
        self._observer = None if is_network_share(self._root) else self._observe()
        self._task = asyncio.create_task(self._watch(), name="esb:watch")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._observer is not None:
            self._observer.stop()
            await asyncio.to_thread(self._observer.join, 5)

    def _observe(self) -> Any:
        """Events from watchdog, in its own thread; reading a file raises `opened` and `closed`, which are not asked for."""
        from watchdog.events import (  # noqa: PLC0415 - only a running bus needs it
            DirModifiedEvent,
            FileCreatedEvent,
            FileDeletedEvent,
            FileModifiedEvent,
            FileMovedEvent,
            FileSystemEventHandler,
        )
        from watchdog.observers import Observer  # noqa: PLC0415 - the same

        logging.getLogger("watchdog").addHandler(logging.NullHandler())  # it speaks of its own stop
        loop, hint = asyncio.get_running_loop(), self._hint

        class Handler(FileSystemEventHandler):
            def dispatch(self, event: Any) -> None:
                if str(event.src_path).endswith(SUFFIXES) or str(getattr(event, "dest_path", "")).endswith(SUFFIXES):
                    loop.call_soon_threadsafe(hint.set)

        wanted = [FileCreatedEvent, FileDeletedEvent, FileModifiedEvent, FileMovedEvent, DirModifiedEvent]
        observer = Observer()
        try:
            for folder in FOLDERS:
                if (self._root / folder).is_dir():
                    observer.schedule(Handler(), str(self._root / folder), recursive=True, event_filter=wanted)
            observer.schedule(Handler(), str(self._root), recursive=False, event_filter=wanted)
            observer.start()
        except OSError as error:
            self._log("warning", "watch.no_events", error=str(error), hint="files are looked at every 2 s instead")
            return None
        return observer

    async def _watch(self) -> None:
        pause = LOOK_WITHOUT if self._observer is None else LOOK_WITH_EVENTS
        while True:
            try:
                async with asyncio.timeout(pause):
                    await self._hint.wait()
            except TimeoutError:
                pass
            self._hint.clear()
            now = await asyncio.to_thread(signature, self._root)
            if now == self._seen:
                continue
            while True:
                await self._clock.sleep(QUIET)
                later = await asyncio.to_thread(signature, self._root)
                if later == now:
                    break
                now = later
            self._seen = now
            await self._changed()
