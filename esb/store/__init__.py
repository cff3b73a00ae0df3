"""Where messages live: the contract in :mod:`esb.store.base`, the embedded store behind :func:`open_store`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from esb.clock import Clock
    from esb.store.sqlite import SqliteStore


async def open_store(
    url: str,
    root: Path,
    *,
    clock: Clock,
    read_only: bool = False,
    min_free: int | None = None,
    threaded: bool | None = None,
) -> SqliteStore:
    """Open the store of ``esb.yaml``, or make it; call it with the workspace's lock held unless ``read_only``.

    ``min_free`` are the bytes of free disk below which nothing new is taken; ``threaded`` says whether commits run in a
    thread (by default where the disk is slow). Raises StoreError for another scheme or a network share, StoreCorrupt for
    a store that is missing, damaged, foreign or newer than this program; its files are untouched then.
    """
    from esb.store import files  # noqa: PLC0415 - the contract alone must not cost the import of SQLAlchemy
    from esb.store.sqlite import SqliteStore  # noqa: PLC0415 - the same

    path = files.path_of(url, root)
    files.prepare(path, clock.now(), read_only=read_only)
    return SqliteStore(path, clock, min_free=min_free, threaded=threaded, read_only=read_only)


__all__ = ["open_store"]
