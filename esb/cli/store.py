"""``esb db``: verify, back up, restore, move and prune the store."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esb.cli import exits
from esb.cli.gateway import actor, json_option, workspace_option
from esb.cli.output import emit_json
from esb.cli.places import operated_folder
from esb.cli.signature import of_stopped

if TYPE_CHECKING:
    from esb.store.address import Address
    from esb.store.sqlstore import SqlStore

FILE = click.Path(dir_okay=False, path_type=Path)
NOT_YET = "the bus has not run here yet"


@click.group()
def db() -> None:
    """Verify, back up, restore, move and prune the store."""


@db.command("verify")
@click.option("--file", "file", type=FILE, help="Check this backup instead of the store.")
@workspace_option
@json_option
def db_verify(file: Path | None, root: Path, as_json: bool) -> None:
    """Check the files and the conservation of messages (accepted = sum of states + purged) of a stopped bus.

    Exit code 1 where something is wrong. A running bus is checked by a backup of it: `esb db backup FILE`, then `--file FILE`.
    """
    faults = asyncio.run(_verify(root.resolve(), file.resolve() if file is not None else None))
    if as_json:
        emit_json({"kind": "StoreFaults", "items": [{"fault": fault} for fault in faults]})
    else:
        for fault in faults:
            click.echo(f"✗ {fault}")
        if not faults:
            click.echo("the store is whole: every accepted message is in exactly one state")
    sys.exit(exits.NO if faults else exits.DONE)


async def _verify(root: Path, file: Path | None) -> list[str]:
    if file is None:
        _must_have_run(root)
        async with _stopped(root) as store:
            return _faults(store)
    from esb.clock import SystemClock
    from esb.store import open_store

    _must_be_there(file)
    store = await open_store(f"sqlite:///{file}", root, clock=SystemClock(), read_only=True)
    try:
        return _faults(store)
    finally:
        await store.close()


def _faults(store: SqlStore) -> list[str]:
    return [*store.verify_file(), *store.verify_conservation(), *store.verify_audit(), *store.verify_blobs()]


@db.command("backup")
@click.argument("file", type=FILE)
@workspace_option
@json_option
def db_backup(file: Path, root: Path, as_json: bool) -> None:
    """Write the store to the new FILE, as it is at one instant; the bus may run meanwhile.

    What was accepted later is not in it. The copy holds every payload, the large ones in FILE.blobs: keep both, as safe
    as the store.
    """
    from esb.errors import StoreError
    from esb.store import backup

    source = _store_of(root)
    _must_be_there(source, NOT_YET)
    if not file.absolute().parent.is_dir():
        raise exits.Exit(f"no folder {file.absolute().parent}", exits.MISSING, hint="make it first, or name another")
    try:
        size = backup.copy(source, file.absolute())
    except StoreError as error:
        if isinstance(error.__cause__, PermissionError):  # the path was typed here: no configuration is bad
            raise error.__cause__ from None
        raise
    except FileExistsError:
        raise exits.Exit(f"{file} is there already", exits.NO, hint="give a new name; nothing was written") from None
    item = {"file": str(file.absolute()), "bytes": size}
    if as_json:
        emit_json({"kind": "Backup", "items": [item]})
    else:
        click.echo(f"wrote {size} bytes to {file}; check it with: esb db verify --file {file}")


@db.command("restore")
@click.argument("file", type=FILE)
@click.option("--reason", default="", help="Why; kept in the audit.")
@workspace_option
@json_option
def db_restore(file: Path, reason: str, root: Path, as_json: bool) -> None:
    """Put the backup FILE in the place of the store of a stopped bus; the store that stands there is kept aside.

    Messages that were open then run again at the next start, under the same delivery ids. What was accepted after the
    backup is not in it.
    """
    _must_be_there(file)
    item = asyncio.run(_restore(root.resolve(), file.resolve(), reason))
    if as_json:
        emit_json({"kind": "Restore", "items": [item]})
    else:
        click.echo(f"restored {file}" + (f"; the old store is {item['kept']}" if item["kept"] else ""))


async def _restore(root: Path, file: Path, reason: str) -> dict[str, Any]:
    from esb.errors import StoreCorrupt
    from esb.store import backup
    from esb.store.base import AuditEntry
    from esb.store.lock import StoreLock

    path, sign = _store_of(root, restore=True), {}
    if path.exists():
        try:
            async with _stopped(root) as store:
                sign = await of_stopped(store, None, reason, {"file": file.name})
        except StoreCorrupt as error:  # that is what backups are for
            sign = {"damaged": str(error)}
    with StoreLock(operated_folder(root) / ".esb", command=True):
        aside = backup.restore(file, path, datetime.now(UTC))
    kept = str(aside) if aside is not None else None
    async with _stopped(root) as store:
        who = str(sign.pop("by", "")) or actor()
        await store.audit(
            AuditEntry(who, "db.restore", path.name, reason, {"file": str(file), **sign}), datetime.now(UTC)
        )
    return {"file": str(file), "store": str(path), "kept": kept}


@db.command("prune")
@click.option("--done", metavar="AGE", help="Remove messages that ended well and are older, such as 30d.")
@click.option("--dead", metavar="AGE", help="Remove dead letters that are older.")
@click.option("--reason", default="", help="Why; kept in the audit.")
@workspace_option
@json_option
def db_prune(done: str | None, dead: str | None, reason: str, root: Path, as_json: bool) -> None:
    """Remove old messages of a stopped bus, by `retention` of esb.yaml or by the ages given; they count as purged.

    A running bus does so by itself, every minute. Open messages, messages under a legal hold and the audit stay; `export` and `classes` of
    `retention` hold for the ages given, too.
    """
    ages = {name: age for name, age in (("done", done), ("dead", dead)) if age is not None}
    removed = asyncio.run(_prune(root.resolve(), _checked(ages), reason))
    if as_json:
        emit_json({"kind": "Prune", "items": [{"removed": removed}]})
    else:
        click.echo(f"removed {removed} messages")


def _checked(ages: dict[str, str]) -> dict[str, str]:
    from esb.durations import parse_duration

    for name, age in ages.items():
        try:
            parse_duration(age)
        except ValueError:
            raise click.BadParameter(f"`{age}` is no duration; write 30d", param_hint=f"--{name}") from None
    return ages


def _narrowed(retention: Mapping[str, Any], ages: Mapping[str, str]) -> dict[str, Any]:
    """The ages given; what esb.yaml keeps longer by its class, and what it wants written before it goes, stays so."""
    given: Mapping[str, Any] = retention.get("classes") or {}
    classes = {name: {word: own[word] for word in ages if word in own} for name, own in given.items()}
    kept = {"classes": {name: own for name, own in classes.items() if own}, "export": retention.get("export")}
    return {**ages, **{name: value for name, value in kept.items() if value}}


async def _prune(root: Path, ages: dict[str, str], reason: str) -> int:
    from dataclasses import replace

    from esb.clock import SystemClock
    from esb.config.loader import read_workspace
    from esb.runtime.housekeeping import Housekeeping
    from esb.store.base import AuditEntry

    loaded = read_workspace(root, need_secrets=False)
    settings, classes = loaded.settings, {}
    if settings is not None and settings.retention.get("classes"):
        if loaded.workspace is None:
            hint = "esb lint; which routes are kept longer (`retention: { classes: … }`) stands in them"
            raise exits.Exit("the files of the workspace have faults", exits.BAD_CONFIG, hint=hint)
        classes = {spec.name: spec.criticality for spec in loaded.workspace.routes.values()}
    if settings is not None and ages:
        settings = replace(settings, retention=_narrowed(settings.retention, ages))
    async with _stopped(root) as store:
        if settings is None or not settings.retention:
            raise click.UsageError("How old is old? Give --done or --dead, or `retention` in esb.yaml.")
        clock = SystemClock()
        sign = await of_stopped(store, settings, reason, {"retention": dict(settings.retention)})
        quiet: Any = lambda *_args, **_fields: None  # noqa: E731 - nobody reads a log here
        removed = await Housekeeping(store, clock, settings, quiet, root=root, classes=classes).round()
        who = str(sign.pop("by", "")) or actor()
        detail = {"retention": dict(settings.retention), "removed": removed, **sign}
        await store.audit(AuditEntry(who, "db.prune", settings.bus, reason, detail), clock.now())
        return removed


@db.command("move")
@click.argument("file", type=FILE, required=False)
@click.option("--reason", default="", help="Why; kept in the audit.")
@workspace_option
@json_option
def db_move(file: Path | None, reason: str, root: Path, as_json: bool) -> None:
    """Move the store FILE of a stopped bus (by default `.esb/bus.db`) to the PostgreSQL that `store` of esb.yaml now names.

    All of it or nothing: messages in every state, the audit, keys of `dedupe`, states of sources. It is verified there, and
    the file is kept aside. What was open goes on at the next start, under the same delivery ids.
    """
    file = (root / ".esb" / "bus.db" if file is None else file).resolve()
    _must_be_there(file, "name the file of the store: `esb db move FILE`")
    item, faults = asyncio.run(_move(root.resolve(), file, reason))
    if as_json:
        emit_json({"kind": "Move", "items": [{**item, "faults": faults}]})
    else:
        click.echo(f"moved {item['messages']} messages to {item['store']}")
        for fault in faults:
            click.echo(f"✗ {fault}")
        click.echo(
            "the file stays where it is: compare both before you go on" if faults else f"the file is now {item['kept']}"
        )
    sys.exit(exits.NO if faults else exits.DONE)


async def _move(root: Path, file: Path, reason: str) -> tuple[dict[str, Any], list[str]]:
    from esb.cli.offline import store_url
    from esb.clock import SystemClock
    from esb.store import backup, open_store
    from esb.store.address import address_of, is_remote
    from esb.store.base import AuditEntry
    from esb.store.lock import StoreLock
    from esb.store.move import move
    from esb.store.postgres import Postgres

    url = store_url(root)
    if not is_remote(url):
        hint = "write `store: postgresql+psycopg://…` there first; see `A store on PostgreSQL` in the documentation"
        raise exits.Exit("esb.yaml names no database to move to", exits.USAGE, hint=hint)
    clock, address = SystemClock(), address_of(url)
    with StoreLock(root / ".esb", command=True):
        source = await open_store(f"sqlite:///{file}", root, clock=clock)
        try:
            sign = await of_stopped(source, None, reason, {"file": file.name, "to": address.where})
        finally:
            await source.close()
        server = Postgres(address, root)
        try:
            moved = move(file, server, clock.now())
        finally:
            server.close()
    async with _stopped(root) as store:
        faults = _faults(store)
        who = str(sign.pop("by", "")) or actor()
        detail = {"file": str(file), "messages": moved["message"], "faults": len(faults), **sign}
        await store.audit(AuditEntry(who, "db.move", address.where, reason, detail), clock.now())
    kept = str(file if faults else backup.put_aside(file, "moved", clock.now()))
    return {"store": address.where, "messages": moved["message"], "rows": sum(moved.values()), "kept": kept}, faults


# -- the store of a workspace ---------------------------------------------------------------------------------------------


def _store_of(root: Path, *, restore: bool = False) -> Path:
    from esb.cli.offline import store_url
    from esb.store.address import address_of, is_remote, plain
    from esb.store.files import path_of

    url = store_url(root.resolve())
    if is_remote(url):
        raise exits.Exit(
            f"the store is in {address_of(url).where}: the database's own tools copy it",
            exits.USAGE,
            hint=_by_hand(address_of(url), restore=restore),
        )
    return path_of(plain(url), root.resolve())


def _by_hand(address: Address, *, restore: bool) -> str:
    """What to type for a store on a server."""
    login = {"--host": address.options.get("host", address.host), "--port": address.port, "--username": address.user}
    words = " ".join(f"{name}={value}" for name, value in login.items() if value)
    if restore:
        command = f"pg_restore {words} --dbname={address.database} --clean --if-exists --exit-on-error FILE"
        return f"stop the bus, then `{command}`, and put `.esb/pg-….blobs` back"
    command = f"pg_dump {words} --format=custom --schema={address.schema} --file=FILE {address.database}"
    return f"`{command}`; large payloads are files: copy `.esb/pg-….blobs` before it, and what is new after it"


def _must_have_run(root: Path) -> None:
    """End the command where there never was a store: making an empty one to call it whole helps nobody."""
    from esb.cli.offline import store_url
    from esb.store.address import is_remote, plain
    from esb.store.files import path_of, refuse_missing

    url = store_url(operated_folder(root))
    if not is_remote(url) and not (path := path_of(plain(url), root)).exists():
        refuse_missing(path)
        _must_be_there(path, NOT_YET)


def _must_be_there(file: Path, hint: str = "") -> None:
    if not file.is_file():
        raise exits.Exit(f"no file {file}", exits.MISSING, hint=hint)


@asynccontextmanager
async def _stopped(root: Path) -> AsyncIterator[SqlStore]:
    """The store under its lock. Raises StoreBusy where a bus owns it."""
    from esb.cli.offline import store_url
    from esb.clock import SystemClock
    from esb.store import open_store
    from esb.store.lock import StoreLock

    with StoreLock(operated_folder(root) / ".esb", command=True):
        store = await open_store(store_url(root), root, clock=SystemClock())
        try:
            yield store
        finally:
            await store.close()
