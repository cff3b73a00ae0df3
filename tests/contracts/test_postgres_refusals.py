"""A store on PostgreSQL that may not be opened says why and what helps, and leaves alone what is not its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from esb.clock import SystemClock
from esb.errors import StoreBusy, StoreError
from esb.store import open_store
from tests.servers.postgres import Postgres

ROLES = """
create role bus login password 'right'; create role poor login password 'right'; create role turned_away login password 'right';
create role full login password 'right' connection limit 0
"""


def sql(server: Postgres, statements: str, database: str = "plant") -> None:
    address = {"host": "127.0.0.1", "port": server.port, "user": "esb", "dbname": database}
    with psycopg.connect(autocommit=True, **address) as connection:  # type: ignore[arg-type]  # of several types
        for statement in statements.split(";"):
            connection.execute(statement.encode())


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """One that asks for passwords, with the databases `plant`, `ascii` and `closed`."""
    server = Postgres()
    rules = ("esb 127.0.0.1/32 trust", "turned_away 127.0.0.1/32 reject", "all 127.0.0.1/32 scram-sha-256")
    (server.data / "pg_hba.conf").write_text("".join(f"host all {rule}\n" for rule in rules))
    server.start()
    sql(server, ROLES, "postgres")
    sql(
        server,
        "create database plant owner bus; create database closed; revoke connect on database closed from public",
        "postgres",
    )
    sql(server, "create database ascii encoding 'SQL_ASCII' template template0 owner bus", "postgres")
    yield server
    server.close()


def refusal(server: Postgres, root: Path, login: str, place: str = "plant") -> StoreError:
    url = f"postgresql+psycopg://{login}@127.0.0.1:{server.port}/{place}"

    async def main() -> None:
        store = await open_store(url, root, clock=SystemClock())
        await store.close()

    with pytest.raises(StoreError) as refused:
        asyncio.run(main())
    assert "right" not in str(refused.value)
    return refused.value


@pytest.mark.parametrize(
    ("login", "place", "words", "advice"),
    [
        ("bus:wrong", "plant", "password authentication failed", "`bus` has another one"),
        ("bus", "plant", "no password supplied", "secret:store"),
        ("bus:right", "nowhere", 'database "nowhere" does not exist', "CREATE DATABASE nowhere OWNER bus"),
        ("poor:right", "plant", "permission denied for database", "CREATE SCHEMA esb AUTHORIZATION poor"),
        ("poor:right", "closed", "permission denied for database", "GRANT CONNECT"),
        ("turned_away:right", "plant", "pg_hba.conf", "hostssl plant turned_away"),
        ("bus:right", "ascii", "has the encoding SQL_ASCII", "encoding 'UTF8'"),
        ("bus:right", "plant?sslmode=require", "does not support SSL", "ssl = on"),
        ("bus:right", "plant?sslmode=bogus", "invalid sslmode", "behind the `?`"),
    ],
)
def test_what_no_waiting_mends_is_an_error_of_the_setup(
    server: Postgres, tmp_path: Path, login: str, place: str, words: str, advice: str
) -> None:
    error = refusal(server, tmp_path, login, place)
    assert type(error) is StoreError
    assert words in str(error)
    assert advice in error.hint


def test_what_may_pass_is_tried_again(server: Postgres, tmp_path: Path) -> None:
    error = refusal(server, tmp_path, "full:right")
    assert isinstance(error, StoreBusy)
    assert "too many connections" in str(error)


def test_tables_that_may_not_be_used_are_found_at_the_start(server: Postgres, tmp_path: Path) -> None:
    """Not in the middle of the work, by the first message that needs one of them."""
    made = f"postgresql+psycopg://bus:right@127.0.0.1:{server.port}/plant?schema=shared"

    async def make() -> None:
        store = await open_store(made, tmp_path / "owner", clock=SystemClock())
        await store.close()

    asyncio.run(make())
    error = refusal(server, tmp_path, "poor:right", "plant?schema=shared")
    assert "permission denied for schema shared" in str(error)
    sql(
        server,
        "grant usage on schema shared to poor; grant select, insert, update on all tables in schema shared to poor",
    )
    error = refusal(server, tmp_path, "poor:right", "plant?schema=shared")
    assert "permission denied for table access" in str(error)
    assert "`poor` must own what is in schema `shared`" in error.hint


def test_tables_of_others_that_are_called_like_ours_are_no_store(server: Postgres, tmp_path: Path) -> None:
    sql(
        server,
        "create schema other authorization bus; create table other.meta (x int); create table other.message (x int)",
    )
    sql(server, "grant select on all tables in schema other to bus")
    error = refusal(server, tmp_path, "bus:right", "plant?schema=other")
    assert "is no store of this program" in str(error)
    assert "LINE 1" not in str(error)
    assert "?schema=NAME" in error.hint
