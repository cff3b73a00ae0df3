"""Databases for the tests of ``sql``: the one private PostgreSQL, a file of SQLite for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.sql_rigs import Database, Pg, Sqlite
from tests.servers.postgres import Postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    if request.param == "sqlite":
        return Sqlite(tmp_path)
    server: Postgres = request.getfixturevalue("postgres")
    server.execute("drop schema public cascade")
    server.execute("create schema public")
    return Pg(server)
