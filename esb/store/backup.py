"""Copies of a store: taken while the bus runs or not, and put back while it does not.

Both go through SQLite, which alone knows where a message lies that was committed a moment ago. The payload files of a copy
stand beside it as they stand beside a store: hard links where the disk is the same, since they never change.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from esb.errors import StoreCorrupt
from esb.store import blob_rows, blobs, files
from esb.store.reader import Reader

_SUFFIXES = ("", "-journal", "-wal", "-shm")


def copy(source: Path, target: Path) -> int:
    """Write ``source`` as it is at one instant to the new file ``target``; gives its size in bytes, payload files included.

    The file is there whole and synced, or not at all; its payload files are there before it. The running bus goes on
    meanwhile. Raises FileExistsError, StoreCorrupt where the source is no sound store of this program or a payload file
    is missing, StoreBusy for a full disk.
    """
    beside = blobs.folder_of(target)
    if target.exists() or beside.exists():
        raise FileExistsError(target if target.exists() else beside)
    fresh = target.with_name(target.name + ".new")
    with files.explained(source):
        files.check(source, whole=False)
    with files.explained(target):
        _remove(fresh)
        payload = blobs.folder_of(fresh)
        shutil.rmtree(payload, ignore_errors=True)
        try:
            # first those of now: what retention takes away meanwhile is in the copy then, where the copy needs it
            names = list(blobs.Blobs(blobs.folder_of(source)).names())
            _copy_blobs(source, payload, names, missing_ok=True)
            _write(source, fresh)
            size = _complete_blobs(source, fresh, payload)
            if payload.exists():
                payload.rename(beside)
            fresh.rename(target)
        finally:
            _remove(fresh)
            shutil.rmtree(payload, ignore_errors=True)
        files.sync_folder(target.parent)
    return target.stat().st_size + size


def _copy_blobs(source: Path, payload: Path, names: Iterable[str], *, missing_ok: bool) -> int:
    size = 0
    for name in names:
        try:
            size += blobs.copy_all(blobs.folder_of(source), payload, [name])
        except FileNotFoundError:
            if not missing_ok:
                raise StoreCorrupt(f"the payload file {name} of {source} is missing", hint="esb db verify") from None
    return size


def _complete_blobs(source: Path, fresh: Path, payload: Path) -> int:
    """The payload files that the copied messages keep, those and no others; gives their bytes."""
    reader = Reader(lambda: files.connect_reader(fresh))
    try:
        wanted = dict(blob_rows.kept(reader))
    finally:
        reader.close()
    there = blobs.Blobs(payload)
    have = set(there.names())
    _copy_blobs(source, payload, [name for name in wanted if name not in have], missing_ok=False)
    for name in have - set(wanted):
        there.at(name, 0).file.unlink()
    return sum(wanted.values())


def _write(source: Path, fresh: Path) -> None:
    os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with (
        contextlib.closing(files.connect_reader(source)) as reader,
        contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as writer,
    ):
        reader.backup(writer)
        found = [row[0] for row in writer.execute("PRAGMA quick_check(3)")]
        if found != ["ok"]:
            raise StoreCorrupt(f"the copy of {source} is damaged: {found[0]}", hint="esb db verify")
    handle = os.open(fresh, os.O_RDWR)  # Windows syncs for writers alone
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    for suffix in _SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def restore(source: Path, path: Path, now: datetime) -> Path | None:
    """Put a copy in the place of the store at ``path``; call it under the lock of the workspace.

    The store that stood there is kept beside it under another name, which is given. A death on the way leaves either the
    old store, or none and the next start says so. Raises as :func:`copy`.
    """
    ready = path.with_name(path.name + ".restored")
    _remove(ready)
    shutil.rmtree(blobs.folder_of(ready), ignore_errors=True)
    files.refuse_network(path.parent)
    copy(source, ready)
    aside = put_aside(path, "before", now) if path.exists() else None
    if aside is None:
        _remove(path)
        shutil.rmtree(blobs.folder_of(path), ignore_errors=True)
    path.with_name(path.name + ".work").unlink(missing_ok=True)
    new_payload = blobs.folder_of(ready)
    if new_payload.exists():
        new_payload.rename(blobs.folder_of(path))
    ready.rename(path)
    files.sync_folder(path.parent)
    return aside


def put_aside(path: Path, word: str, now: datetime) -> Path:
    """Give a store another name beside its own, ``bus.db.WORD-TIME``, and its payload files with it."""
    aside = path.with_name(f"{path.name}.{word}-{now:%Y%m%dT%H%M%S%f}")
    for suffix in _SUFFIXES:  # the database first: one without its log would open, and lack what is in the log
        old = path.with_name(path.name + suffix)
        if old.exists():
            old.rename(aside.with_name(aside.name + suffix))
    payload = blobs.folder_of(path)
    if payload.exists():
        payload.rename(blobs.folder_of(aside))
    files.sync_folder(path.parent)
    return aside
