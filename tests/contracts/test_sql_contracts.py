"""The ``sql`` source and sink keep what every source and sink promises, on SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest

from esb.endpoints.sql import SqlConnection, SqlSink, Upsert
from tests.contracts.sink_contract import SinkContract, SinkRig
from tests.contracts.source_contract import SourceContract
from tests.contracts.sql_rigs import Database, RowRig, expression
from tests.servers.postgres import Postgres


class TestRowsThatAreMarked(SourceContract):
    @pytest.fixture
    def rig(self, database: Database) -> RowRig:
        return RowRig(database, "mark")


class TestRowsOfAnOutbox(SourceContract):
    @pytest.fixture
    def rig(self, database: Database) -> RowRig:
        return RowRig(database, "outbox")


class TestRowsBeyondAWatermark(SourceContract):
    @pytest.fixture
    def rig(self, database: Database) -> RowRig:
        return RowRig(database, "watermark")


class TableRig(SinkRig):
    """A table on PostgreSQL; an upsert makes a repeat harmless."""

    def __init__(self, server: Postgres) -> None:
        self.server = server
        server.execute("drop table if exists inbox")
        server.execute("create table inbox (body text primary key)")

    def connection(self) -> SqlConnection:
        return SqlConnection(url=self.server.url, user="esb")

    def sink(self) -> SqlSink:
        return SqlSink(upsert=Upsert(table="inbox", key=("body",)), values={"body": expression("body")})

    def refused_sink(self) -> SqlSink:
        return SqlSink(upsert=Upsert(table="inbox", key=("body",)), values={"body": expression("vars.none")})

    async def received(self) -> list[tuple[str, bytes]]:
        return [("", str(row[0]).encode()) for row in self.server.execute("select body from inbox")]

    async def down(self) -> None:
        self.server.kill()

    async def up(self) -> None:
        self.server.start()

    async def freeze(self) -> None:
        self.server.freeze()

    async def thaw(self) -> None:
        self.server.thaw()


class TestPostgresSink(SinkContract):
    @pytest.fixture
    def rig(self, postgres: Postgres) -> TableRig:
        return TableRig(postgres)
