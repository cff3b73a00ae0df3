"""Whether this machine and this workspace can carry a bus: each finding says what was found, and what to do about it.

Looks only: it makes a small file in the store's folder to see that writes reach the disk, takes the lock of a stopped bus for a
moment, and touches nothing else.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import platform
import shutil
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from esb import __version__
from esb.config.files import everybody_writes
from esb.config.loader import Loaded, read_workspace
from esb.config.model import Settings, Workspace
from esb.durations import format_size
from esb.errors import FULL, StoreBusy, StoreCorrupt, StoreError
from esb.runtime.watch import is_network_share
from esb.secret import Secret
from esb.store import files as store_files
from esb.store.address import address_of, is_remote, plain
from esb.store.lock import StoreLock, read_owner

Level = Literal["ok", "warning", "fault"]
#: Free space below which a store should not be begun, and below which it runs out soon.
LITTLE, TIGHT = 2_000_000_000, 300_000_000
#: A synced write that takes longer makes every message slow; one that takes less never reached a disk.
SLOW, TOO_FAST = 0.05, 0.000_015
#: Open files and sockets that a bus should be allowed.
OPEN_FILES = 1024
_UNSYNCHRONISED = 5

#: extra: module, and what needs it (protocol of an endpoint, or scheme of a SQL address)
DRIVERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "sftp": ("asyncssh", ("sftp",)),
    "mqtt": ("paho", ("mqtt",)),
    "redis": ("redis", ("redis", "rediss")),
    "postgres": ("psycopg", ("postgresql+psycopg", "postgresql")),
    "mysql": ("pymysql", ("mysql+pymysql", "mariadb+pymysql")),
    "sqlserver": ("pyodbc", ("mssql+pyodbc",)),
    "oracle": ("oracledb", ("oracle+oracledb",)),
    "excel": ("python_calamine", ("excel",)),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """``said`` is what was found, ``todo`` what helps (empty where nothing is wrong)."""

    name: str
    level: Level
    said: str
    todo: str = ""

    def as_item(self) -> dict[str, Any]:
        return {"name": self.name, "level": self.level, "said": self.said, "todo": self.todo}


def examine(root: Path, environ: Mapping[str, str] = os.environ) -> list[Finding]:
    """Everything there is to find. Raises nothing for what is wrong: that is a finding."""
    loaded = read_workspace(root, environ=environ, need_secrets=False)
    settings = loaded.settings or Settings()
    owner = read_owner(root / ".esb")
    checks: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("python", _program),
        ("workspace", lambda: _workspace(loaded)),
        ("secrets", lambda: _secrets(loaded)),
        ("drivers", lambda: _drivers(loaded.workspace)),
        ("permissions", lambda: _folders(root, settings)),
        ("disk", lambda: _disk(root, settings)),
        ("fsync", lambda: _sync(root, settings)),
        ("bus", lambda: _bus(root, owner)),
        ("store", lambda: _store(root, settings, owner)),
        ("ports", lambda: _ports(settings, owner)),
        ("clock", lambda: _clock(root, settings)),
        ("shares", lambda: _shares(root, loaded.workspace)),
    )
    found: list[Finding] = []
    for name, check in checks:
        try:
            found += check()
        except OSError as error:
            todo = "free some space" if error.errno in FULL else "check owner and permissions"
            found.append(Finding(name, "fault", f"could not be looked at: {error}", todo))
    return found


# -- the machine ----------------------------------------------------------------------------------------------------------
def _program() -> Iterator[Finding]:
    bits = 64 if sys.maxsize > 2**32 else 32
    version = f"{platform.python_implementation()} {platform.python_version()}, {bits} bits, {platform.system()} {platform.release()}"
    yield Finding(
        "python",
        "ok" if bits == 64 else "warning",
        f"esb {__version__} on {version}",
        "" if bits == 64 else "use a 64-bit Python",
    )
    if sqlite3.sqlite_version_info < store_files.OLDEST_SQLITE:
        yield Finding(
            "sqlite", "fault", f"SQLite {sqlite3.sqlite_version} is too old", "use a Python with a newer SQLite"
        )
    else:
        yield Finding("sqlite", "ok", f"SQLite {sqlite3.sqlite_version}")
    if sys.platform != "win32":
        import resource  # noqa: PLC0415 - not there on Windows

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        few = soft != resource.RLIM_INFINITY and soft < OPEN_FILES
        todo = f"`ulimit -n {OPEN_FILES * 4}`, or LimitNOFILE= in the unit" if few else ""
        yield Finding("open files", "warning" if few else "ok", f"at most {soft} files and sockets at a time", todo)
        if os.geteuid() == 0:
            yield Finding("user", "warning", "this is root", "run the bus as a user of its own: `esb service print`")


def _clock(root: Path, settings: Settings) -> Iterator[Finding]:
    state = _clock_state()
    if state == _UNSYNCHRONISED:
        yield Finding(
            "clock", "warning", "the clock of this machine is not synchronised", "start chrony or systemd-timesyncd"
        )
    else:
        yield Finding("clock", "ok", f"{time.strftime('%Y-%m-%d %H:%M:%S %z')}, bus zone {settings.timezone}")
    newest = max((one.stat().st_mtime for one in (root / ".esb").glob("*")), default=0.0)
    if newest > time.time() + 60:
        ahead = newest - time.time()
        yield Finding(
            "clock",
            "fault",
            f"files of the store are {ahead:.0f} s younger than now: the clock was set back",
            "set the clock, then start the bus",
        )


def _clock_state() -> int:
    """What the kernel says of its clock (Linux); -1 where nobody can say."""
    if not sys.platform.startswith("linux"):
        return -1
    try:
        return int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(256)))
    except (OSError, AttributeError):
        return -1


# -- the workspace --------------------------------------------------------------------------------------------------------
def _workspace(loaded: Loaded) -> Iterator[Finding]:
    errors = [problem for problem in loaded.errors if problem.code != "ESB503"]
    warnings = [problem for problem in loaded.problems if problem.severity == "warning" and problem.code != "ESB503"]
    if errors:
        yield Finding("workspace", "fault", f"{len(errors)} fault(s), the first: {errors[0]}", "esb lint")
    else:
        routes = len(loaded.workspace.routes) if loaded.workspace is not None else 0
        yield Finding("workspace", "ok", f"{routes} routes in {loaded.files} files, {len(warnings)} warning(s)")


def _secrets(loaded: Loaded) -> Iterator[Finding]:
    missing = [problem for problem in loaded.problems if problem.code == "ESB503"]
    for problem in missing:
        yield Finding("secrets", "fault", problem.message.partition(";")[0], problem.hint)
    if not missing:
        yield Finding("secrets", "ok", "every secret that routes and connectors name is set")


def _drivers(workspace: Workspace | None) -> Iterator[Finding]:
    needed = _needed(workspace)
    absent = []
    for extra, (module, words) in DRIVERS.items():
        there = importlib.util.find_spec(module) is not None
        if there:
            continue
        users = sorted(name for word in words for name in needed.get(word, ()))
        if users:
            yield Finding("drivers", "fault", f"{', '.join(users)} needs {module}", f"pip install 'plantbus[{extra}]'")
        else:
            absent.append(extra)
    yield Finding(
        "drivers",
        "ok",
        f"not installed, and not needed here: {', '.join(absent)}" if absent else "every optional driver is installed",
    )


def _needed(workspace: Workspace | None) -> dict[str, set[str]]:
    """Protocol or scheme to the connectors and routes that need it."""
    found: dict[str, set[str]] = {}
    if workspace is None:
        return found
    for connector in workspace.connectors.values():
        url = getattr(connector.connection, "url", "")
        scheme = urlsplit(url.reveal() if isinstance(url, Secret) else str(url)).scheme
        for word in (connector.type, scheme):
            found.setdefault(word, set()).add(connector.name)
    found.setdefault(plain(workspace.settings.store).partition(":")[0], set()).add("store")
    for spec in workspace.routes.values():
        codec = type(getattr(spec.source.options, "format", None)).__name__.lower()
        for word in (spec.source.protocol, codec):
            found.setdefault(word, set()).add(spec.name)
    return found


# -- the disk -------------------------------------------------------------------------------------------------------------
def _home(root: Path, settings: Settings) -> Path:
    """The nearest folder above the store that is there."""
    try:
        place = store_files.path_of(plain(settings.store), root).parent
    except StoreError:
        return root
    while not place.is_dir():
        place = place.parent
    return place


def _folders(root: Path, settings: Settings) -> Iterator[Finding]:
    if everybody_writes(root):
        yield Finding("permissions", "fault", f"everybody may write to {root}", f"chmod o-w {root}")
    home = _home(root, settings)
    if not os.access(home, os.W_OK | os.X_OK):
        yield Finding("permissions", "fault", f"the store's folder {home} cannot be written", f"chown it to the user of the bus, {os.environ.get('USER', 'which is not this one')}")  # fmt: skip
    else:
        yield Finding("permissions", "ok", f"{home} can be written")
    store = root / ".esb"
    if os.name != "nt" and store.is_dir() and store.stat().st_mode & 0o007:
        yield Finding("permissions", "warning", f"others may look into {store}", f"chmod 700 {store}")


def _disk(root: Path, settings: Settings) -> Iterator[Finding]:
    home = _home(root, settings)
    usage = shutil.disk_usage(home)
    said = f"{format_size(usage.free // 1_000_000 * 1_000_000)} free of {format_size(usage.total // 1_000_000 * 1_000_000)}"
    level: Level = "fault" if usage.free < TIGHT else "warning" if usage.free < LITTLE else "ok"
    yield Finding(
        "disk", level, said, "" if level == "ok" else "free some space; `retention:` in esb.yaml removes what has ended"
    )
    try:
        store_files.refuse_network(home)
    except StoreError as error:
        yield Finding("disk", "fault", str(error), error.hint)


def _sync(root: Path, settings: Settings) -> Iterator[Finding]:
    home = _home(root, settings)
    if not os.access(home, os.W_OK):
        return
    seconds = store_files.probe_sync(home)
    said = f"a synced write takes {seconds * 1000:.2f} ms"
    if seconds > SLOW:
        yield Finding(
            "fsync",
            "warning",
            said,
            "every message waits for it: use a disk with a write cache that survives a power cut",
        )
    elif seconds < TOO_FAST:
        yield Finding(
            "fsync",
            "warning",
            f"{said}: no disk is that fast",
            "is the store in memory (tmpfs)? then it is gone with the power",
        )
    else:
        yield Finding("fsync", "ok", said)


def _bus(root: Path, owner: Mapping[str, Any] | None) -> Iterator[Finding]:
    if owner is None:
        yield Finding("bus", "ok", "no bus runs here; nothing holds the lock")
    elif owner.get("admin"):
        yield Finding(
            "bus", "ok", f"process {owner.get('pid')} runs here since {owner.get('started')}, admin at {owner['admin']}"
        )
    else:
        yield Finding(
            "bus",
            "warning",
            f"process {owner.get('pid')} holds the lock and is not ready",
            "is it starting, or does it hang? look at its log",
        )


def _store(root: Path, settings: Settings, owner: Mapping[str, Any] | None) -> Iterator[Finding]:
    if is_remote(settings.store):
        yield from _server(root, settings)
        return
    try:
        path = store_files.path_of(plain(settings.store), root)
    except StoreError as error:
        yield Finding("store", "fault", str(error), error.hint)
        return
    if owner is not None:
        yield Finding(
            "store", "ok", f"{path.name} is in the hands of the running bus; `esb db verify` when it is stopped"
        )
        return
    if not path.exists() and not store_files.marker_of(path).exists():
        yield Finding("store", "ok", f"there is no {path.name} yet; `esb run` makes it")
        return
    try:
        with StoreLock(root / ".esb", command=True), store_files.explained(path):
            store_files.refuse_missing(path) if not path.exists() else store_files.check(path, whole=True)
        yield Finding("store", "ok", f"{path.name} is whole ({format_size(path.stat().st_size // 1000 * 1000)})")
    except StoreBusy as error:
        yield Finding("store", "warning", str(error), error.hint)
    except (StoreCorrupt, StoreError) as error:
        yield Finding("store", "fault", str(error), error.hint)


def _server(root: Path, settings: Settings) -> Iterator[Finding]:
    from esb.store.postgres import Postgres  # noqa: PLC0415 - most stores are files

    try:
        for level, said, todo in Postgres(address_of(settings.store), root).examine():
            yield Finding("store", level, said, todo)
    except StoreError as error:
        yield Finding("store", "fault", str(error), error.hint)


# -- the network ----------------------------------------------------------------------------------------------------------
def _ports(settings: Settings, owner: Mapping[str, Any] | None) -> Iterator[Finding]:
    for name, listener in (("http", settings.http), ("admin", settings.admin)):
        where = f"{listener.host}:{listener.port}"
        ours = owner is not None and str(owner.get(name, "")).endswith(f":{listener.port}")
        if listener.port == 0 or ours:
            yield Finding("ports", "ok", f"{name} {where}" + (", held by the bus here" if ours else ""))
            continue
        fault = _taken(listener.host, listener.port)
        todo = f"`ss -ltnp` says by whom; or set `{name}: {{ port: … }}` in esb.yaml" if fault else ""
        yield Finding("ports", "fault" if fault else "ok", f"{name} {where} {fault or 'is free'}", todo)


def _taken(host: str, port: int) -> str:
    """Why a listener could not have this address; empty where it can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as one:
        if os.name != "nt":
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((host, port))
        except OSError as error:
            return f"cannot be had: {(error.strerror or str(error)).lower()}"
    return ""


def _shares(root: Path, workspace: Workspace | None) -> Iterator[Finding]:
    if is_network_share(root):
        yield Finding("network shares", "warning", f"{root} is on a network share, where changes give no events", "files are looked at every two seconds instead; the store must be on a local disk")  # fmt: skip
    for spec in workspace.routes.values() if workspace is not None else ():
        path = getattr(getattr(spec.source.options, "path", None), "text", None) or getattr(
            spec.source.options, "path", None
        )
        if spec.source.protocol != "file" or not isinstance(path, str):
            continue
        fixed = Path(path.partition("*")[0].partition("{")[0])
        if is_network_share(root / fixed):
            yield Finding("network shares", "warning", f"route {spec.name} reads from a network share ({fixed})", "set `every`; events do not arrive from there")  # fmt: skip
