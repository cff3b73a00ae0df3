"""Databases, a durable memory and rows on offer, for the tests of ``sql``."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from msgspec import structs

from esb.clock import SystemClock
from esb.endpoints.base import ConnectionContext, Incoming, Receipt, RunningSource, SourceContext
from esb.endpoints.sql import Mark, Outbox, SqlConnection, SqlSource, Watermark
from esb.language import Expression
from esb.language.workspace import WorkspaceLanguage
from tests.contracts.source_contract import SourceRig
from tests.servers.postgres import Postgres


def expression(text: str) -> Expression:
    """A real expression of the language."""
    return WorkspaceLanguage().expression(text)


class Database:
    """What a rig asks of a database, whichever it is."""

    url: str
    user = ""

    def do(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        raise NotImplementedError

    def connection(self) -> SqlConnection:
        return SqlConnection(url=self.url, user=self.user)


class Sqlite(Database):
    def __init__(self, folder: Path) -> None:
        self.path = folder / "plant.db"
        self.url = f"sqlite:///{self.path}"

    def do(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.path, timeout=10)
        try:
            with connection:
                return connection.execute(statement, values).fetchall()
        finally:
            connection.close()


class Pg(Database):
    user = "esb"

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self.url = server.url

    def do(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.server.execute(statement.replace("?", "%s"), values)


class State:
    """A source's durable memory; it outlives the source."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    async def get(self, name: str) -> Any:
        return self.values.get(name)

    async def put(self, name: str, value: Any) -> None:
        self.values[name] = json.loads(json.dumps(value))

    async def forget(self, name: str) -> None:
        self.values.pop(name, None)


class OneColumn:
    """An intake that sees of each row what the suite has offered: its number, as the suite writes it."""

    def __init__(self, intake: Any) -> None:
        self._intake = intake

    @property
    def open(self) -> bool:
        return bool(self._intake.open)

    def accept_soon(self, incoming: Incoming, told: Callable[[Receipt | Exception], None]) -> bool:
        return False

    async def accept(self, incoming: Incoming) -> Any:
        number = json.loads(incoming.payload)["n"]
        payload = b'{"n": ' if number is None else json.dumps({"n": number}).encode()
        return await self._intake.accept(structs.replace(incoming, payload=payload))


class RowRig(SourceRig):
    """Offers rows of a table ``notes``; content that cannot be read is a row without a number."""

    def __init__(self, database: Database, way: str) -> None:
        self.database, self.way = database, way
        self.state = State()
        database.do("create table notes (id integer primary key, n integer, sent integer default 0)")

    async def offer(self, name: str, body: bytes) -> None:
        number = None if body == self.bad else json.loads(body)["n"]
        count = self.database.do("select count(*) from notes where sent >= 0")[0][0]
        identity = max(int(count), self.database.do("select coalesce(max(id), 0) from notes")[0][0]) + 1
        self.database.do("insert into notes (id, n) values (?, ?)", identity, number)

    async def held(self) -> int:
        condition = "where sent = 0"
        if self.way == "watermark":
            saved = self.state.values.get("watermark")
            condition += f" and id > {saved['mark']['int'] if saved else 0}"
        return int(self.database.do(f"select count(*) from notes {condition}")[0][0])

    def options(self) -> SqlSource:
        every = timedelta(milliseconds=20)
        if self.way == "outbox":
            return SqlSource(outbox=Outbox(table="notes"), every=every)
        if self.way == "watermark":
            return SqlSource(query="select id, n from notes", watermark=Watermark(column="id", tie="id"), every=every)
        query = "select id, n from notes where sent = 0 order by id"
        return SqlSource(query=query, mark=Mark(update="update notes set sent = 1 where id = :id"), every=every)

    async def bind(self, context: SourceContext) -> RunningSource:
        live = await self.database.connection().open(connection_context())
        own = dataclasses.replace(context, state=self.state, connection=live, intake=OneColumn(context.intake))
        return self.options().bind(own)

    async def crash(self, source: RunningSource) -> None:
        poller: Any = source
        poller._task.cancel()  # a process that dies ends in the middle, and its connections end with it
        await asyncio.gather(poller._task, return_exceptions=True)
        poller._drop_session()


def connection_context() -> ConnectionContext:
    return ConnectionContext("plant-db", SystemClock(), Path("/"), lambda level, event, **fields: None)


async def bound(options: SqlSource, database: Database, intake: Any, state: State) -> RunningSource:
    """A source on a database, not started."""
    live = await database.connection().open(connection_context())
    context: Any = SourceContext(
        route="race",
        intake=intake,
        clock=SystemClock(),
        workspace=Path("/"),
        state=state,
        ingress=None,  # type: ignore[arg-type]  # only the HTTP source has one
        log=lambda level, event, **fields: None,
        connection=live,
    )
    return options.bind(context)
