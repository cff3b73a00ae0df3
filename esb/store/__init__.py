"""Where messages live: the contract in :mod:`esb.store.base`, the embedded store behind :func:`open_store`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from esb.clock import Clock
    from esb.secret import Secret
    from esb.store.sqlstore import SqlStore


async def open_store(
    url: str | Secret,
    root: Path,
    *,
    clock: Clock,
    read_only: bool = False,
    min_free: int | None = None,
    threaded: bool | None = None,
) -> SqlStore:
    """Open the store of ``esb.yaml``, or make it; call it with the workspace's lock held unless ``read_only``.

    ``min_free`` are the bytes of free disk below which nothing new is taken; ``threaded`` says whether commits run in a
    thread (by default where the disk is slow). Raises StoreError for another scheme or a network share, StoreCorrupt for
    a store that is missing, damaged, foreign or newer than this program; its files are untouched then.
    """
    from esb.store import files  # noqa: PLC0415 - the contract alone must not cost the import of SQLAlchemy
    from esb.store.address import address_of, is_remote, plain  # noqa: PLC0415 - the same
    from esb.store.embedded import Sqlite  # noqa: PLC0415 - the same
    from esb.store.sqlstore import SqlStore  # noqa: PLC0415 - the same

    if is_remote(url):
        from esb.store.postgres import Postgres  # noqa: PLC0415 - the same

        server = Postgres(address_of(url), root)
        try:
            server.prepare(clock.now(), read_only=read_only)
            return SqlStore(server, clock, min_free=min_free, threaded=threaded, read_only=read_only)
        except BaseException:
            server.close()
            raise
    path = files.path_of(plain(url), root)
    files.prepare(path, clock.now(), read_only=read_only)
    return SqlStore(Sqlite(path), clock, min_free=min_free, threaded=threaded, read_only=read_only)


__all__ = ["open_store"]
