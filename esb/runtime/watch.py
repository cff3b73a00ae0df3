"""Notices that files of the workspace changed: by events where the file system gives them, else by looking.

A change is reported once the files have been quiet for a moment, so that a checkout or an editor's save is one change.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from esb.clock import Clock

FOLDERS = ("routes", "schemas", "transforms", "connectors", "kpis")
SUFFIXES = (".yaml", ".yml", ".json", ".jmes", ".j2", ".csv", ".py")
#: Folders of a workspace with the endings of the files in them that a bus reads; "" is every file.
READ: Mapping[str, tuple[str, ...]] = MappingProxyType(dict.fromkeys(FOLDERS, SUFFIXES))
#: Seconds of quiet before a change is read.
QUIET = 0.1
#: Seconds between two looks where events are at work (they can be lost) and where they are not (network shares).
LOOK_WITH_EVENTS, LOOK_WITHOUT = 30.0, 2.0
NETWORK_FILESYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "afs", "ncpfs")

#: how a mount point with a space or tab is written in the list
_ESCAPED = re.compile(r"\\([0-7]{3})")

Signature = dict[str, tuple[int, int, int]]


def signature(root: Path, folders: Mapping[str, tuple[str, ...]] = READ) -> Signature:
    """Size, time and inode of every file that a workspace reads, or of others: endings by folder."""
    found: Signature = {}
    root = root.resolve()
    _note(found, root / "esb.yaml")
    stack = [(root / folder, suffixes) for folder, suffixes in folders.items()]
    while stack:
        place, suffixes = stack.pop()
        try:
            entries = list(os.scandir(place))
        except OSError:
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.name.endswith("~") or entry.name == "__pycache__":
                continue
            if entry.is_dir(follow_symlinks=False):
                stack.append((Path(entry.path), suffixes))
            elif entry.name.endswith(suffixes):
                _note(found, Path(entry.path))
    return found


def _note(found: Signature, path: Path) -> None:
    try:
        stat = path.stat()
    except OSError:
        return
    found[str(path)] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)


def is_network_share(path: Path, mounts: Path = Path("/proc/self/mounts")) -> bool:
    """Whether ``path`` lies on a file system that gives no events for changes made elsewhere (Linux; else False)."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    place, best, kind = path.resolve(), 0, ""
    for line in lines:
        fields = line.split(" ")
        point = Path(_ESCAPED.sub(lambda found: chr(int(found[1], 8)), fields[1])) if len(fields) > 2 else None
        if point is not None and len(point.parts) >= best and place.is_relative_to(point):
            best, kind = len(point.parts), fields[2]
    return kind in NETWORK_FILESYSTEMS


def gives_no_events(root: Path, folders: Iterable[str] = FOLDERS) -> bool:
    """Whether the workspace, or one of its folders (the store is on a local disk, the routes need not be), is on a share."""
    return any(is_network_share(place) for place in (root, *(root / folder for folder in folders)))


class Watcher:
    """Calls ``changed`` on the loop after the workspace's files changed and came to rest; ``folders`` as for `signature`.

    ``seen``: the signature from before the files were read. What was saved since, while the rest of a start went on, is a
    change like any other; without it, only what is saved from :meth:`start` on.
    """

    def __init__(
        self,
        root: Path,
        clock: Clock,
        changed: Callable[[], Awaitable[None]],
        log: Callable[..., None],
        folders: Mapping[str, tuple[str, ...]] = READ,
        *,
        seen: Signature | None = None,
    ) -> None:
        self._root = root.resolve()
        self._clock = clock
        self._changed = changed
        self._log = log
        self._folders = folders
        self._hint = asyncio.Event()
        self._seen = seen
        self._task: asyncio.Task[None] | None = None
        self._observer: Any = None
        #: device and inode of each folder when its events began, and what stands for them at the observer
        self._followed: dict[str, tuple[tuple[int, int], Any]] = {}

    async def start(self) -> None:
        if self._seen is None:
            self._seen = signature(self._root, self._folders)
        self._observer = None if gives_no_events(self._root, self._folders) else self._observe()
        self._hint.set()  # what was saved before the events began is found by a look
        self._task = asyncio.create_task(self._watch(), name="esb:watch")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._observer is not None:
            self._observer.stop()
            await asyncio.to_thread(self._observer.join, 5)

    def _observe(self) -> Any:
        """Events from watchdog, in its own thread; the folders of the workspace join in `_follow`."""
        from watchdog.observers import Observer  # noqa: PLC0415 - only a running bus needs it

        logging.getLogger("watchdog").addHandler(logging.NullHandler())  # it speaks of its own stop
        observer = Observer()
        try:
            self._listen(observer, self._root)
            observer.start()
            self._follow(observer)
        except OSError as error:
            self._log("warning", "watch.no_events", error=str(error), hint="files are looked at every 2 s instead")
            return None
        return observer

    def _follow(self, observer: Any) -> None:
        """Listen to the folders that there are now: one may come later, and a deployment may put another in its place."""
        for name in self._folders:
            folder = self._root / name
            try:
                stat = folder.stat() if folder.is_dir() else None
            except OSError:
                stat = None
            now = None if stat is None else (stat.st_dev, stat.st_ino)
            before, watched = self._followed.get(name, (None, None))
            if now == before:
                continue
            self._followed.pop(name, None)
            if watched is not None:
                observer.unschedule(watched)
            if now is not None:
                self._followed[name] = (now, self._listen(observer, folder, self._folders[name]))

    def _refollow(self) -> None:
        try:
            self._follow(self._observer)
        except OSError as error:  # looking goes on, every now and then
            self._log("warning", "watch.no_events", error=str(error), hint="changes are seen within half a minute")

    def _listen(self, observer: Any, folder: Path, suffixes: tuple[str, ...] | None = None) -> Any:
        """What changes, comes or goes; reading a file raises `opened` and `closed`, which are not asked for.

        ``suffixes`` is None for the workspace itself, whose folders are heard of by name.
        """
        from watchdog import events  # noqa: PLC0415 - only a running bus needs it

        loop, hint, names = asyncio.get_running_loop(), self._hint, self._folders

        class Handler(events.FileSystemEventHandler):
            def dispatch(self, event: Any) -> None:
                for path in (str(event.src_path), str(getattr(event, "dest_path", ""))):
                    if path.endswith(suffixes or SUFFIXES) or (suffixes is None and Path(path).name in names):
                        loop.call_soon_threadsafe(hint.set)

        wanted: list[type[events.FileSystemEvent]] = [
            events.FileCreatedEvent,
            events.FileDeletedEvent,
            events.FileModifiedEvent,
            events.FileMovedEvent,
            events.DirModifiedEvent,
        ]
        if suffixes is None:
            wanted += [events.DirCreatedEvent, events.DirDeletedEvent, events.DirMovedEvent]
        return observer.schedule(Handler(), str(folder), recursive=suffixes is not None, event_filter=wanted)

    async def _watch(self) -> None:
        pause = LOOK_WITHOUT if self._observer is None else LOOK_WITH_EVENTS
        while True:
            try:
                async with asyncio.timeout(pause):
                    await self._hint.wait()
            except TimeoutError:
                pass
            self._hint.clear()
            if self._observer is not None:
                self._refollow()
            now = await asyncio.to_thread(signature, self._root, self._folders)
            if now == self._seen:
                continue
            while True:
                await self._clock.sleep(QUIET)
                later = await asyncio.to_thread(signature, self._root, self._folders)
                if later == now:
                    break
                now = later
            try:
                await self._changed()
            except Exception as error:  # noqa: BLE001 - a full disk, a fault: the next edit must still be seen, and this one again
                self._log("error", "watch.failed", error=f"{type(error).__name__}: {error}", hint="it is tried again")
                continue
            self._seen = now
