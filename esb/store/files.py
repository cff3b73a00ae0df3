"""The files of an embedded store: where they are, how they come into being, and when they must not be touched.

They are opened by SQLite only: an ``open`` and ``close`` of our own would drop SQLite's locks. Beside ``bus.db`` stands
``bus.db.exists``, so that a store which has vanished is an error and not a fresh start.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path, PurePath
from statistics import median
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from esb.errors import StoreBusy, StoreCorrupt, StoreError
from esb.store.codes import APPLICATION_ID, SCHEMA_VERSION

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import Dialect
    from sqlalchemy.sql import ClauseElement

PAGE_SIZE = 8192
#: A check of the whole file is made at every open up to this size; beyond it `esb db verify` does it.
LARGEST_CHECK = 256 * 1024 * 1024
OLDEST_SQLITE = (3, 31, 0)
_STEPS_BETWEEN_LOOKS = 100_000
RESTORE = "`esb db restore` puts a backup back"

#: What Windows calls the drive of a share.
_REMOTE = 4
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb", "smb3", "smbfs", "ncpfs", "afs", "9p", "fuse.sshfs", "fuse.rclone"})


def path_of(url: str, root: Path) -> Path:
    """The file of ``sqlite:///PATH``; a relative path starts at the workspace. Raises StoreError for other stores."""
    scheme, separator, rest = url.partition("://")
    if scheme not in {"sqlite", "sqlite+pysqlite"} or not separator or not rest.startswith("/") or len(rest) < 2:
        raise StoreError(f"store: {url!r} is not a store", hint="write `store: sqlite:///.esb/bus.db`")
    if "?" in rest or rest.startswith("/:memory:"):
        raise StoreError(f"store: {url!r} takes no options and must be a file", hint="write `sqlite:///.esb/bus.db`")
    return root / unquote(rest[1:])


def marker_of(path: Path) -> Path:
    return path.with_name(path.name + ".exists")


def prepare(path: Path, now: datetime, *, read_only: bool = False) -> None:
    """Make sure that a store which may be opened stands at ``path``; make a new one where there never was one.

    Raises StoreCorrupt where it is missing, damaged, not a store or newer than this program; nothing was touched then.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        needed = ".".join(map(str, OLDEST_SQLITE))
        raise StoreError(
            f"SQLite {sqlite3.sqlite_version} is too old", hint=f"use a Python with SQLite {needed} or newer"
        )
    refuse_network(path.parent)
    if not path.exists():
        refuse_missing(path)
        if read_only:
            raise StoreError(f"there is no store at {path} yet", hint="`esb run` makes it")
        with explained(path):
            create(path, now)
    with explained(path):
        found = check(path, whole=not read_only)
        if found < SCHEMA_VERSION and not read_only:
            upgrade(path)
        if not read_only and not marker_of(path).exists():
            _write_marker(path, now)


def refuse_missing(path: Path) -> None:
    traces = [other.name for other in (marker_of(path), path.with_name(path.name + "-wal")) if other.exists()]
    if traces:
        raise StoreCorrupt(
            f"the store {path} is missing, but {traces[0]} says that there was one",
            hint=f"put it back (`esb db restore`); to start empty and lose its messages, remove {traces[0]}",
        )


def check(path: Path, *, whole: bool) -> int:
    """The version of the schema. Raises StoreCorrupt unless the file is a sound store that this program understands; reads only.

    ``whole`` runs SQLite's quick check over files of a size that it finishes in about a second.
    """
    with contextlib.closing(connect_reader(path)) as connection:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            raise StoreCorrupt(f"{path} is not a store of this program", hint="give `store:` in esb.yaml another path")
        if version > SCHEMA_VERSION:
            raise StoreCorrupt(
                f"{path} was written by a newer version of this program"
                f" (schema {version}, this one knows {SCHEMA_VERSION})",
                hint="install the newer version again; a store is never taken back to an older one",
            )
        if whole and path.stat().st_size <= LARGEST_CHECK:
            found = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
            if found != ["ok"]:
                raise StoreCorrupt(f"{path} is damaged: {found[0]}", hint=RESTORE)
        return int(version)


def upgrade(path: Path) -> None:
    """Add the tables and indexes that an older program did not know, all or none; what is there is left as it is."""
    with contextlib.closing(connect_writer(path)) as connection:
        known = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        connection.execute("BEGIN IMMEDIATE")
        for name, statement in schema().items():
            if name not in known:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Faults of SQLite and of the system while a store is opened, in words that say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _PASSING:
            raise _full(path, error) from error
        raise StoreError(f"{path} cannot be opened: {error}", hint="check owner, permissions and disk") from error
    except sqlite3.Error as error:
        code = int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise _full(path, error) from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreBusy(f"{path} is in use by another process", hint="stop that process first") from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise StoreCorrupt(f"{path} is damaged: {error}", hint=RESTORE) from error
        raise StoreError(f"{path} cannot be opened: {error}", hint="check owner, permissions and disk") from error


#: Faults of a disk that pass when somebody makes room or mends it, unlike a wrong path or missing rights.
_PASSING = frozenset(getattr(errno, name, -1) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS"))


def _full(path: Path, error: Exception) -> StoreBusy:
    return StoreBusy(
        f"the disk of {path} is full, or takes no bytes: {error}",
        hint="is the disk full? free some space, then start again; nothing was lost",
    )


# -- making a store -----------------------------------------------------------------------------------------------------
def create(path: Path, now: datetime) -> None:
    """Make an empty store under another name and move it into place: it is there whole, or not at all."""
    _make_folder(path.parent)
    fresh = path.with_name(path.name + ".new")
    for suffix in ("", "-journal", "-wal", "-shm"):
        fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("BEGIN")
        for statement in schema().values():
            connection.execute(statement)
        connection.execute("INSERT INTO word (id, text) VALUES (0, '')")
        known = {"epoch": "0", "clean": "1", "last_seq": "0", "audit_head": "", "created": now.isoformat()}
        connection.executemany("INSERT INTO meta (name, value) VALUES (?, ?)", list(known.items()))
        connection.execute("COMMIT")
        # here and not at the first start: a death in this switch leaves a journal that no reader can take back
        connection.execute("PRAGMA journal_mode = WAL")
    fresh.replace(path)
    sync_folder(path.parent)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it so that a power cut does not take it, and the store in it, away."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)  # also where it is there: the lock made it a moment ago


def schema(dialect: Dialect | None = None) -> dict[str, str]:
    """The statements that make the tables and indexes, by their names; for SQLite unless another is given."""
    from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect  # noqa: PLC0415 - see esb.store.tables
    from sqlalchemy.schema import CreateIndex, CreateTable  # noqa: PLC0415 - the same

    from esb.store.tables import metadata  # noqa: PLC0415 - the same

    dialect = dialect or sqlite_dialect()
    statements = {}
    for table in metadata.sorted_tables:
        statements[table.name] = str(CreateTable(table).compile(dialect=dialect))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            statements[str(index.name)] = str(CreateIndex(index).compile(dialect=dialect))
    return statements


def _write_marker(path: Path, now: datetime) -> None:
    marker = marker_of(path)
    fresh = marker.with_name(marker.name + ".new")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(
            f"The store {path.name} was here on {now.isoformat()}. While this file stands, a missing {path.name} is an\n"
            "error. Remove it only to start again without messages.\n"
        )
        file.flush()
        os.fsync(file.fileno())
    fresh.chmod(0o600)
    fresh.replace(marker)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename durable. Windows has no such call and needs none."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# -- connections --------------------------------------------------------------------------------------------------------
class _Deadline:
    """Tells SQLite, which asks it now and then, whether a statement has taken too long."""

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at = float("inf")

    def passed(self) -> bool:
        return time.monotonic() > self.at


class Connection(sqlite3.Connection):
    """Implements :class:`esb.store.connection.Connection`."""

    deadline: _Deadline | None = None

    def limit(self, seconds: float) -> None:
        if self.deadline is None:
            self.deadline = _Deadline()
            self.set_progress_handler(self.deadline.passed, _STEPS_BETWEEN_LOOKS)
        self.deadline.at = time.monotonic() + seconds

    def select(self, query: ClauseElement) -> tuple[str, Mapping[str, Any]]:
        from sqlalchemy.dialects.sqlite import dialect  # noqa: PLC0415 - see esb.store.tables

        compiled = query.compile(dialect=dialect(paramstyle="named"), compile_kwargs={"render_postcompile": True})
        return str(compiled), compiled.params

    def put_away(self) -> bool:
        (busy, *_) = self.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    def used_bytes(self) -> int:
        (pages,), (free,), (size,) = (
            self.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def faults(self) -> list[str]:
        return [row[0] for row in self.execute("PRAGMA integrity_check(20)") if row[0] != "ok"]


def _connect(path: Path, mode: str, cached: int) -> Connection:
    return sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=10.0,
        cached_statements=cached,
        factory=Connection,
    )


def connect_writer(path: Path) -> Connection:
    """The one connection that writes and checkpoints. ``FULL``: a commit survives a power cut."""
    connection = _connect(path, "rw", 256)
    try:
        (journal,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if journal != "wal":
            raise StoreError(f"{path}: the file system cannot hold the store", hint="use a local disk")
        for pragma in (
            "synchronous = FULL",
            "cache_size = -16384",
            "busy_timeout = 10000",
            "temp_store = MEMORY",
            "mmap_size = 0",
            # 32 MB: a checkpoint takes 2.5 ms then, and 1 ms at a quarter of that, which comes four times as often: at 1 000
            # requests a second that would reach p99, and where the disk is busy each waits as long for its syncs
            "wal_autocheckpoint = 4000",
            "foreign_keys = OFF",
        ):
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> Connection:
    """A connection that can neither write nor checkpoint."""
    connection = _connect(path, "ro", 128)
    try:
        for pragma in ("query_only = ON", "wal_autocheckpoint = 0", "cache_size = -4096", "temp_store = MEMORY"):
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


# -- the disk -----------------------------------------------------------------------------------------------------------
def probe_sync(folder: Path) -> float:
    """The median time in seconds of five small synced writes in ``folder``."""
    scratch = folder / f".probe-{os.getpid()}"
    sync = getattr(os, "fdatasync", os.fsync)
    times = []
    handle = os.open(scratch, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    try:
        for _ in range(5):
            os.write(handle, b"\0" * 4096)
            began = time.perf_counter()
            sync(handle)
            times.append(time.perf_counter() - began)
    finally:
        os.close(handle)
        scratch.unlink(missing_ok=True)
    return median(times)


def is_remote(place: PurePath, kind_of: Callable[[str], int]) -> bool:
    """Whether Windows has a path on another machine: by its name, or by what ``kind_of`` (`GetDriveTypeW`) says of its drive."""
    unc = place.drive.startswith("\\\\") and place.drive[2:4] not in ("?\\", ".\\")
    return unc or place.drive[4:8].upper() == "UNC\\" or kind_of(place.anchor) == _REMOTE


def refuse_network(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> None:
    """Raise StoreError for a folder on a network share: file locks there are not to be trusted."""
    if sys.platform == "win32":
        import ctypes  # noqa: PLC0415 - on Windows alone

        if is_remote(folder.resolve(), ctypes.windll.kernel32.GetDriveTypeW):
            raise StoreError(
                f"{folder} is on a network share, where SQLite's locks cannot be trusted",
                hint="put the store on a local disk: `store: sqlite:///C:/esb/bus.db`",
            )
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return  # not Linux
    place = folder.resolve()
    best = ("", "")
    for line in lines:
        fields = line.split(" ")
        if len(fields) > 2 and len(fields[1]) >= len(best[0]) and place.is_relative_to(fields[1].replace("\\040", " ")):
            best = (fields[1], fields[2])
    if best[1] in _NETWORK:
        raise StoreError(
            f"{folder} is on a network share ({best[1]}), where SQLite's locks cannot be trusted",
            hint="put the store on a local disk: `store: sqlite:////var/lib/esb/bus.db`",
        )
