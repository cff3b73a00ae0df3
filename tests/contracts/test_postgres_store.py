"""What is PostgreSQL's own about a store there: one owner, connections that break, what a server must be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from esb.clock import ManualClock
from esb.errors import StoreBusy, StoreCorrupt, StoreError
from esb.message import State
from esb.secret import Secret
from esb.store import open_store, pgwire
from esb.store.address import address_of
from esb.store.base import Accepted, AuditEntry, Filter
from esb.store.codes import SCHEMA_VERSION
from esb.store.dialect import for_postgresql
from tests.contracts.test_store import NOW, done, key, new, started, states
from tests.servers.postgres import Postgres, empty_store

#: Seconds until what must come by itself, and does not, fails its test.
PATIENCE = 60.0


class Owner:
    """Opens a store in a workspace of its own, on a schema of this module."""

    def __init__(self, url: str, root: Path) -> None:
        self.url, self.root = url, root
        self.opened: list[Any] = []

    async def open(self, name: str = "one", **options: Any) -> Any:
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        store = await open_store(self.url, folder, clock=ManualClock(NOW), min_free=0, **options)
        self.opened.append(store)
        return store


@pytest.fixture
def owner(postgres: Postgres, tmp_path: Path) -> Iterator[Owner]:
    opened = Owner(empty_store(postgres, "own"), tmp_path)
    yield opened
    for store in opened.opened:
        if not store._closed:
            for part in (store._committer, store._hot, store._search, store._writer, store._database):
                if part is not None:
                    part.close()


def cut(server: Postgres) -> None:
    """As an administrator, a firewall or a failover ends sessions; returns when they are gone."""
    server.execute("select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = 'esb'")


async def accepted(store: Any, **parts: Any) -> Accepted:
    """Tried as a source tries: again after a refusal."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await store.accept(new(**parts))  # type: ignore[no-any-return]  # a store of any kind
            except StoreBusy:
                await asyncio.sleep(0.02)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


# -- one owner ------------------------------------------------------------------------------------------------------------
def test_a_second_owner_is_refused_by_name(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        first = await owner.open()
        monkeypatch.setattr("esb.store.postgres.PATIENCE", 0.1)
        with pytest.raises(StoreBusy, match=r"process \d+ on .* owns the store 127.0.0.1:\d+/postgres"):
            await owner.open("two")
        reader = await owner.open("two", read_only=True)
        await first.accept(new())
        assert states(reader) == {"queued": 1}
        with pytest.raises(StoreError, match="read only"):
            await reader.accept(new())

    asyncio.run(main())


def test_who_lost_the_store_to_another_writes_nothing_more(owner: Owner, postgres: Postgres) -> None:
    async def main() -> None:
        first = await owner.open()
        await first.accept(new(key="before"))
        cut(postgres)
        second = await owner.open("two")
        with pytest.raises(StoreBusy):
            await first.accept(new(key="lost"))
        await second.accept(new(key="after"))
        await second.close()
        for _ in range(3):  # the lock is free again: that another process had it still counts
            with pytest.raises(StoreBusy, match="another process has taken over"):
                await accepted_or_other(first)
        third = await owner.open("three")  # nor does the one that lost it stand in anybody's way
        assert [row.key for row in third.pending()] == ["before", "after"]

    async def accepted_or_other(store: Any) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await store.accept(new(key="never"))
                except StoreBusy as error:
                    if "taken over" in str(error):
                        raise
                    await asyncio.sleep(0.02)

    asyncio.run(main())


# -- connections that break -------------------------------------------------------------------------------------------------
def test_connections_that_broke_while_nothing_happened_are_not_noticed(owner: Owner, postgres: Postgres) -> None:
    async def main() -> None:
        store = await owner.open()
        first = await store.accept(new(key="a"))
        assert store.find(Filter(key="a"))
        cut(postgres)
        second = await store.accept(new(key="b"))  # at once, without a refusal
        assert second.seq == first.seq + 1
        assert [row.key for row in store.pending()] == ["a", "b"]
        assert len(store.find(Filter(route="qms-to-erp"))) == 2
        assert store.refusal == ""

    asyncio.run(main())


def test_a_database_that_is_away_is_said_to_be_and_comes_back_by_itself(owner: Owner, postgres: Postgres) -> None:
    heard = []

    async def main() -> None:
        store = await owner.open()
        store.when_unheard(lambda: heard.append(store.pending()))
        await store.accept(new(key="a"))
        with postgres.away():
            with pytest.raises(StoreBusy):
                await store.accept(new(key="b"))
            await until(lambda: store.refusal)
            assert "away" in store.refusal
            with pytest.raises(StoreBusy, match="cannot be written") as refused:
                await store.accept(new(key="b"))
            assert "tried again" in refused.value.hint
            with pytest.raises(StoreBusy, match="cannot be read"):
                store.pending()
        await until(lambda: not store.refusal)
        assert [row.key for row in heard[-1]] == ["a"]  # whoever waits in memory is told to look again
        await store.accept(new(key="c"))
        assert [row.key for row in store.pending()] == ["a", "c"]
        await store.close()

    asyncio.run(main())


def test_a_commit_whose_answer_was_lost_is_found(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[list[str]] = []

    async def main() -> None:
        store = await owner.open()
        store.when_unheard(lambda: heard.append([row.key for row in store.pending()]))
        connection, real = store._writer.connection, pgwire.Connection.execute

        def cut_off(self: Any, sql: str, values: Any = ()) -> Any:
            found = real(self, sql, values)
            if sql == "COMMIT" and self is connection:
                self.close()
                raise pgwire.Lost("the connection went after the server had committed")
            return found

        monkeypatch.setattr(pgwire.Connection, "execute", cut_off)
        with pytest.raises(StoreBusy, match="could not be written"):
            await store.accept(new(key="a"))
        await until(lambda: heard)
        assert heard == [["a"]]
        assert (await store.accept(new(key="b"))).seq == 2
        await store.close()

    asyncio.run(main())


def test_a_server_that_hangs_is_given_up(owner: Owner, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        store = await owner.open()
        await store.accept(new(key="a"))
        for connection in (store._writer.connection, store._hot._connected()):
            connection.patience = 0.5
        monkeypatch.setattr(pgwire.Connection, "limit", lambda self, seconds: None)
        postgres.freeze()
        try:
            with pytest.raises(StoreBusy, match="cannot be read"):
                store.pending()
            monkeypatch.setattr(store._hot, "_connect", lambda: pytest.fail("nobody waits for it a second time"))
            with pytest.raises(StoreBusy, match="cannot be read"):
                store.pending()
            monkeypatch.undo()
            assert store.refusal
            with pytest.raises(StoreBusy):
                await store.accept(new(key="b"))
        finally:
            postgres.thaw()
        await accepted(store, key="c")
        keys = [row.key for row in store.pending()]
        assert keys[0] == "a"
        assert keys[-1] == "c"
        await store.close()

    asyncio.run(main())


def test_a_server_that_hangs_is_found_beside_the_loop(owner: Owner, postgres: Postgres) -> None:
    async def main() -> None:
        store = await owner.open()
        await store.answering()
        asking = store._database._asking
        asking._open.patience = 0.5
        asking._open.limit = lambda seconds: None
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.01)

        task = asyncio.create_task(other())
        postgres.freeze()
        try:
            with pytest.raises(StoreBusy, match="cannot be read"):
                await store.answering()
            assert turns > 10
            with pytest.raises(StoreBusy, match="cannot be read"):  # at once: nobody waits for it a second time
                store.counts()
        finally:
            postgres.thaw()
        await until(lambda: not store.refusal)
        await store.answering()
        assert store.counts() == []
        task.cancel()
        await store.close()

    asyncio.run(main())


# -- what a server must be ---------------------------------------------------------------------------------------------------
def test_commits_wait_for_the_disk_whatever_the_server_says(owner: Owner, postgres: Postgres) -> None:
    async def main() -> None:
        for theirs, ours in (("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")):
            postgres.execute(f"alter role esb set synchronous_commit = {theirs}")
            store = await owner.open()
            (row,) = store._writer.execute("SELECT current_setting('synchronous_commit')").fetchall()
            assert row == (ours,)
            with pytest.raises(StoreError, match="read-only"):
                store._hot.rows("DELETE FROM meta")
            await store.close()

    try:
        asyncio.run(main())
    finally:
        postgres.execute("alter role esb reset synchronous_commit")


# -- what it holds ------------------------------------------------------------------------------------------------------------
def test_text_that_the_database_cannot_hold_is_shown_in_its_place(owner: Owner) -> None:
    async def main() -> None:
        store = await owner.open()
        first = await store.accept(new(key="a\0b", dedupe=key("x\0"), track={"lot": "1\0"}))
        again = await store.accept(new(dedupe=key("x\0")))
        assert (again.state, again.first_id) == (State.DUPLICATE, first.id)
        assert [one.envelope.key for one in store.find(Filter(key="a\0b"))] == ["a\u2400b"]
        await store.audit(AuditEntry("m\0", "x", "y\0", "because\0", {"z": "\0"}), NOW)
        assert store.verify_audit() == []

    asyncio.run(main())


def test_a_key_that_is_too_long_for_an_index_fails_its_message_alone(owner: Owner) -> None:
    async def main() -> None:
        store = await owner.open()
        long = "".join(chr(33 + n * 7919 % 900) for n in range(9000))  # nothing that could be packed
        answers = await asyncio.gather(
            store.accept(new(key="a")), store.accept(new(key=long)), store.accept(new(key="b")), return_exceptions=True
        )
        assert [type(one) for one in answers] == [Accepted, StoreError, Accepted]

    asyncio.run(main())


def test_what_the_store_takes_up_follows_its_messages(owner: Owner) -> None:
    """The files of the server do not shrink; retention must see that something went all the same."""

    async def main() -> None:
        store = await owner.open()
        assert store.used_bytes() == 0
        for _ in range(200):
            one = await started(store, body=b"x" * 1000)
            await store.settle(done(one.seq))
        full = store.used_bytes()
        assert 200_000 < full < 2_000_000
        assert await store.purge(NOW + timedelta(days=1), [State.DONE], 150) == 150
        assert store.used_bytes() == pytest.approx(full / 4, rel=0.1)

    asyncio.run(main())


def test_a_store_of_an_older_program_gets_what_is_new(owner: Owner, postgres: Postgres) -> None:
    async def main() -> None:
        store = await owner.open()
        await store.accept(new())
        await store.close()
        postgres.execute("drop table own.legal_hold; update own.meta set value = '4' where name = 'schema_version'")
        again = await owner.open()
        assert again.holds.listed() == []
        assert states(again) == {"queued": 1}
        await again.close()
        postgres.execute(f"update own.meta set value = '{SCHEMA_VERSION + 1}' where name = 'schema_version'")
        try:
            with pytest.raises(StoreCorrupt, match="newer version"):
                await owner.open()
        finally:
            postgres.execute(f"update own.meta set value = '{SCHEMA_VERSION}' where name = 'schema_version'")

    asyncio.run(main())


def test_another_store_in_its_place_is_no_silent_start(owner: Owner) -> None:
    async def main() -> None:
        store = await owner.open()
        await store.close()
        marker = owner.root / "one" / ".esb" / "postgresql.exists"
        (place,) = json.loads(marker.read_text())
        marker.write_text(json.dumps({place: "0" * 32}))
        with pytest.raises(StoreCorrupt, match="another store"):
            await owner.open()

    asyncio.run(main())


def test_a_schema_with_tables_of_others_is_left_alone(owner: Owner, postgres: Postgres) -> None:
    postgres.execute(
        "drop schema if exists foreign_one cascade; create schema foreign_one; create table foreign_one.word (x int)"
    )
    owner.url = owner.url.replace("schema=own", "schema=foreign_one")

    async def main() -> None:
        with pytest.raises(StoreError, match="cannot be made") as refused:
            await owner.open()
        assert "schema=NAME" in refused.value.hint

    asyncio.run(main())
    tables = postgres.execute("select tablename from pg_tables where schemaname = 'foreign_one'")
    assert tables == [("word",)]


# -- words ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("SELECT a FROM t WHERE b = ? AND c = '?:x'", "SELECT a FROM t WHERE b = %b AND c = '?:x'"),
        ("SELECT a FROM t WHERE b LIKE 'x%'", "SELECT a FROM t WHERE b LIKE 'x%%'"),
        (
            "SELECT 'it''s ?' WHERE a = :a_1 AND b = :b::VARCHAR",
            "SELECT 'it''s ?' WHERE a = %(a_1)b AND b = %(b)b::VARCHAR",
        ),
        ("SELECT 7 % 2", "SELECT 7 %% 2"),
        ("BEGIN IMMEDIATE", "BEGIN"),
    ],
)
def test_statements_keep_their_meaning(ours: str, theirs: str) -> None:
    assert for_postgresql(ours) == theirs


ADDRESSES = {
    "postgresql+psycopg://bus:p%40ss@db.plant:5433/esb": ("db.plant:5433/esb", {"user": "bus", "password": "p@ss", "port": 5433}),
    "postgresql+psycopg://db.plant/esb?schema=graz&sslmode=verify-full": ("db.plant/esb (schema graz)", {"sslmode": "verify-full"}),
    "postgresql+psycopg:///esb?host=/run/postgresql": ("/run/postgresql/esb", {"host": "/run/postgresql", "dbname": "esb"}),
}  # fmt: skip


@pytest.mark.parametrize("url", ADDRESSES)
def test_an_address_says_where_and_hides_who(url: str) -> None:
    where, wanted = ADDRESSES[url]
    address = address_of(Secret(url, "store"))
    assert address.where == where
    assert wanted.items() <= address.arguments.items()
    assert "p@ss" not in repr(address) + address.where
    assert address.is_verified == ("verify" in url or "/run/" in url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://db/esb",
        "postgresql+psycopg2://db/esb",
        "postgresql+psycopg://db",
        "postgresql+psycopg://db/",
        "postgresql+psycopg://db:x/esb",
        "postgresql+psycopg://u:geheim@db/esb?options=-c%20fsync=off",
        "postgresql+psycopg://db/esb?schema=Graz",
        'postgresql+psycopg://db/esb?schema=a";drop',
    ],
)
def test_an_address_that_cannot_be_meant_is_refused(url: str) -> None:
    with pytest.raises(StoreError) as refused:
        address_of(url)
    assert "geheim" not in str(refused.value)
    assert refused.value.hint
