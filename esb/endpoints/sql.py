"""The ``sql`` endpoint: rows of a database as messages, statements with bound parameters as deliveries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from esb.endpoints._sql.dialects import DRIVERS, NAME, binds, upsert
from esb.endpoints.addresses import has_port
from esb.endpoints.base import ConnectionContext, Delivery, LiveConnection, RunningSource, SourceContext
from esb.endpoints.http import HttpTls
from esb.language import Expression
from esb.message import EMPTY, Message
from esb.registry import connection, sink, source
from esb.secret import Secret
from esb.spec import Kind, MapNode, Node, Reader, ScalarNode, option
from esb.steps.base import ContractRef, Reply

if TYPE_CHECKING:
    from sqlalchemy import URL

_SCHEME = re.compile(r"([a-z0-9+]+):")
#: other ways to write the schemes
_OTHER = {
    "postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg", "postgresql+psycopg2": "postgresql+psycopg",
    "mysql": "mysql+pymysql", "mariadb": "mariadb+pymysql", "mssql": "mssql+pyodbc", "oracle": "oracle+oracledb",
    "sqlite3": "sqlite", "jdbc": "postgresql+psycopg",
}  # fmt: skip
#: options of an address that change where it leads or what it loads
_FORBIDDEN = frozenset(
    {"uri", "vfs", "service", "passfile", "sslkeylogfile", "local_infile", "init_command", "plugin_name"}
)


def _spot(node: Node, name: str) -> Node:
    return (node.get(name) if isinstance(node, MapNode) else None) or node


class SqlKind(Kind):
    """A statement: text that no value is ever written into."""

    label = "an SQL statement"

    def read(self, node: Node, reader: Reader) -> Any:
        if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
            return reader.wrong_type(node, self)
        if "{{" in node.value or "{%" in node.value:
            hint = "bind it: write `:name` in the statement and `values: { name: body.lot }`"
            return reader.problem("ESB507", "a value must not be written into SQL", node, hint=hint)
        return node.value

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


Sql = Annotated[str, SqlKind()]


class NameKind(Kind):
    label = "the name of a table or column"

    def read(self, node: Node, reader: Reader) -> Any:
        if isinstance(node, ScalarNode) and isinstance(node.value, str) and NAME.fullmatch(node.value):
            return node.value
        if isinstance(node, ScalarNode):
            hint = "letters, digits and `_`; a schema may stand before it"
            return reader.problem("ESB103", f"`{node.text}` is not {self.label}", node, hint=hint)
        return reader.wrong_type(node, self)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": rf"^{NAME.pattern}$"}


Name = Annotated[str, NameKind()]


@connection("sql")
@dataclass(frozen=True, slots=True)
class SqlConnection:
    """A database, by its SQLAlchemy address.

    SQLite and PostgreSQL (`pip install 'plantbus[postgres]'`) are tested against the real thing; MySQL, SQL Server and Oracle work
    through the extras `mysql`, `sqlserver` and `oracle`. Every connection lives in a thread of its own, and no wait is without end.
    """

    url: str | Secret = option(
        doc="`postgresql+psycopg://host:5432/database`, or `sqlite:///data/mes.db` (relative to the workspace).",
        example="postgresql+psycopg://erp-db.plant.example/erp",
        aliases=("uri", "dsn", "jdbc_url", "connection_string", "address"),
    )
    user: str = option(default="", doc="Who logs in.", example="esb", aliases=("username", "login"))
    password: Secret | None = option(default=None, doc="Its password.", example="${secret:erp-db}")
    tls: HttpTls | None = option(
        default=None,
        doc="Certificates, on PostgreSQL: nothing is sent to a server that cannot show one. Others take it in their address.",
    )

    @property
    def scheme(self) -> str:
        match = _SCHEME.match(self._text)
        return match[1] if match else ""

    @property
    def dialect(self) -> str:
        """``sqlite``, ``postgresql``, ``mysql``, ``mssql`` or ``oracle``."""
        return DRIVERS[self.scheme][1]

    @property
    def extra(self) -> str:
        """The extra of the distribution that brings the driver."""
        return DRIVERS[self.scheme][0]

    @property
    def _text(self) -> str:
        return self.url.reveal() if isinstance(self.url, Secret) else self.url

    def address(self, workspace: Path) -> URL:
        """The whole address with the login; a relative SQLite file lies in the workspace."""
        from sqlalchemy import make_url  # noqa: PLC0415 - the library loads when it is used

        url = make_url(self._text)
        if self.user:
            url = url.set(username=self.user)
        if self.password is not None:
            url = url.set(password=self.password.reveal())
        if self.dialect == "sqlite" and url.database:
            url = url.set(database=str(workspace / url.database))
        return url

    def check(self, node: Node, reader: Reader) -> None:
        at, scheme = _spot(node, "url"), self.scheme
        if scheme not in DRIVERS:
            hint = (
                f"write `{_OTHER[scheme]}://`"
                if scheme in _OTHER
                else "known: " + ", ".join(f"`{s}://`" for s in DRIVERS)
            )
            reader.problem("ESB105", f"`{scheme or self._text[:20]}` is no database that we know", at, hint=hint)
            return
        if re.search(r"://[^/@]*:[^/@]+@", self._text) and not isinstance(self.url, Secret):
            hint = "write `user: …` and `password: ${secret:name}` beside it"
            reader.problem("ESB501", "`url` holds a password", at, label="value hidden", hint=hint)
        if not has_port(self._text):
            hint = "write it like `postgresql+psycopg://db.example.com:5432/erp`, or leave the port out"
            reader.problem("ESB103", "the port of a database is between 1 and 65535", at, hint=hint)
        names = {part.partition("=")[0].lower() for part in self._text.partition("?")[2].split("&")}
        for name in sorted(names & _FORBIDDEN):
            reader.problem("ESB103", f"`{name}` may not stand in the address of a database", at, hint="take it out")
        if self.tls is not None:
            self._check_tls(node, names, reader)
        if scheme == "sqlite" and (self._text.count("/") < 3 or "/.esb/" in self._text or self._text == "sqlite:///"):
            reader.problem("ESB103", "`url` names no file of its own", at, hint="write `sqlite:///data/mes.db`")

    def _check_tls(self, node: Node, names: set[str], reader: Reader) -> None:
        at = _spot(node, "tls")
        if self.dialect == "sqlite":
            reader.problem("ESB107", "a file of SQLite has no `tls`", at, hint="take it out")
        elif self.dialect != "postgresql":
            hint = "write it behind the `?` of `url`, in the words of its driver (`ssl_ca=…` for MySQL)"
            reader.problem("ESB107", f"`tls` is for PostgreSQL only, not for {self.dialect}", at, hint=hint)
        elif said := sorted(name for name in names if name.startswith("ssl")):
            words = f"`tls` beside `{said[0]}` in the address"
            reader.problem("ESB107", words, at, hint=f"take `{said[0]}` out of `url`")

    async def open(self, context: ConnectionContext) -> LiveConnection:
        from esb.endpoints._sql.live import LiveSql  # noqa: PLC0415 - the library loads when it is used

        return LiveSql(self, context)


@dataclass(frozen=True, slots=True)
class Watermark:
    """A column that only grows: rows beyond the last value are new. With another `column` or `tie` it begins anew, and what is
    unchanged since it was taken is known. In another database it goes on from the last value, and the log says so
    (`sql.goes_on_elsewhere`); where that one counts anew, the route needs another name."""

    column: Name = option(doc="Column of the query's result that only grows.", example="changed_at", shorthand=True)
    tie: Name = option(
        doc="Column that tells rows of the same value apart: the primary key.",
        example="order_no",
        aliases=("id", "key"),
    )
    overlap: timedelta | None = option(
        default=None,
        doc="How far each look goes back, for rows whose transaction was committed late; longer than the longest transaction.",
        example="2m",
    )
    bound: Literal["none", "snapshot"] = option(
        default="none",
        doc="`snapshot` (PostgreSQL, `column` is an `xid8` filled with `pg_current_xact_id()`): nothing of a transaction that still runs.",
        example="snapshot",
    )


@dataclass(frozen=True, slots=True)
class Mark:
    """A statement that marks a row as taken."""

    update: Sql = option(
        doc="Statement that marks a row; its columns are `:name`. One that ends with `column = :name` runs once for a whole batch on"
        " PostgreSQL.",
        example="update notes set sent = 1 where id = :id",
        shorthand=True,
    )


@dataclass(frozen=True, slots=True)
class Outbox:
    """A table whose rows are deleted once they are stored."""

    table: Name = option(doc="The table.", example="esb_outbox", shorthand=True)
    id: Name = option(default="id", doc="Its key; rows are taken in its order.", example="id")
    delete: bool = option(default=True, doc="Rows are deleted; nothing else is possible.", example=True)


@source("sql")
@dataclass(frozen=True, slots=True)
class SqlSource:
    """Rows of a database, one message each: marked, deleted or passed by the watermark only after the message is stored.

    `mark` and `outbox` read and mark in one transaction (`FOR UPDATE SKIP LOCKED` on PostgreSQL and MySQL) and miss nothing.
    A `watermark` needs `overlap` or `bound: snapshot`, since a row may become visible after a greater one was read. The body is the
    row: exact numbers, instants in UTC as ISO texts, bytes as base64.
    """

    needs_connector: ClassVar[bool] = True

    query: Sql | None = option(
        default=None,
        doc="What is read; with `mark` in the order in which it shall be taken.",
        example="select * from notes",
        aliases=("select", "statement", "sql"),
    )
    watermark: Watermark | None = option(
        default=None,
        doc="New are rows beyond the last value of a column.",
        example="{ column: changed_at, tie: id, overlap: 2m }",
    )
    mark: Mark | None = option(
        default=None,
        doc="New are the rows that the query gives; each is marked when its message is stored.",
        example='{ update: "update notes set sent = 1 where id = :id" }',
        aliases=("onConsume", "on_consume", "update"),
    )
    outbox: Outbox | None = option(
        default=None, doc="New are the rows of a table, which are deleted then.", example="{ table: esb_outbox }"
    )
    every: timedelta = option(
        default=timedelta(seconds=10),
        doc="Pause between two looks.",
        example="15s",
        aliases=("interval", "delay", "poll"),
    )
    batch: int = option(
        default=100,
        doc="Rows of one read; a full one is followed by the next at once.",
        example=500,
        minimum=1,
        maximum=10_000,
        aliases=("maxMessagesPerPoll", "limit", "fetch_size"),
    )
    wake: str = option(
        default="",
        doc="PostgreSQL channel (`NOTIFY`) that brings the next look forward.",
        example="notes_changed",
        aliases=("listen", "notify"),
    )
    timeout: timedelta = option(
        default=timedelta(seconds=30), doc="Longest wait for an answer of the database.", example="30s", positive=True
    )
    contract: ContractRef = option(
        default=None,
        doc="Contract that a row must keep; else its message is a dead letter.",
        example="production-order.v1",
    )

    def check(self, node: Node, reader: Reader) -> None:
        ways = [name for name in ("watermark", "mark", "outbox") if getattr(self, name) is not None]
        if len(ways) != 1:
            hint = "`mark` or `outbox` where you may write to the database, `watermark` where you may only read"
            reader.problem("ESB107", "`sql` needs exactly one of `mark`, `outbox`, `watermark`", node, hint=hint)
            return
        if (self.query is None) == (self.outbox is None):
            reader.problem(
                "ESB107",
                "`query` goes with `mark` or `watermark`; an `outbox` has its own",
                node,
                hint="write one of them",
            )
        mark = self.watermark
        if mark is not None and (mark.overlap is None) == (mark.bound == "none"):
            hint = "`overlap: 2m` (longer than the longest transaction), or `bound: snapshot` for an `xid8` column of PostgreSQL"
            reader.problem(
                "ESB606",
                "a watermark alone misses rows that are committed late",
                _spot(node, "watermark"),
                hint=hint,
                severity="warning",
            )
        if self.mark is not None and not binds(self.mark.update):
            reader.problem(
                "ESB106", "`update` would mark every row", _spot(node, "mark"), hint="end it with `where id = :id`"
            )
        if self.outbox is not None and not self.outbox.delete:
            reader.problem(
                "ESB106", "the rows of an outbox are deleted", _spot(node, "outbox"), hint="use `mark` to keep them"
            )
        if self.wake and not NAME.fullmatch(self.wake):
            reader.problem("ESB103", f"`{self.wake}` is no name of a channel", _spot(node, "wake"))

    def bind(self, context: SourceContext) -> RunningSource:
        from esb.endpoints._sql.poll import SqlPoller  # noqa: PLC0415 - the library loads when it is used

        return SqlPoller(self, context)


@dataclass(frozen=True, slots=True)
class Upsert:
    """Insert a row, or update the one with the same key."""

    table: Name = option(doc="The table.", example="lot_status")
    key: tuple[Name, ...] = option(doc="Columns of its key.", example="[lot]")
    sequence: Name | None = option(
        default=None,
        doc="Column of a number that grows: an older row changes nothing, so that a late repeat does not undo a newer state.",
        example="seq",
    )


@sink("sql")
@dataclass(frozen=True, slots=True)
class SqlSink:
    """One statement in one transaction; values only ever as bound parameters.

    What the statement returns is the answer (`meta.reply.body`): rows, or `{ rows: n }`, how many it changed. A lost connection, a lock
    or a deadlock is `unavailable`, a violated constraint or a wrong value is `rejected`. A statement that was repeated because its
    answer got lost has its effect twice, unless it is an `upsert`, or `once: true` keeps a ledger of deliveries in the database.

    With `batch` deliveries that are under way at the same time share a transaction. Each keeps its own verdict: what the database
    refuses, locks or does slowly is taken out and sent by itself. A commit that fails or gets lost is `unavailable` for all of them.
    """

    statement: Sql | None = option(
        default=None,
        doc="The statement; `:name` are values, and a procedure is called as the database writes it (`call post(:lot)`).",
        example="insert into postings (lot, qty) values (:lot, :qty)",
        aliases=("sql", "query"),
    )
    upsert: Upsert | None = option(
        default=None,
        doc="Insert or update instead of a statement.",
        example="{ table: lot_status, key: [lot], sequence: seq }",
    )
    values: Mapping[str, Expression] = option(
        default=EMPTY,
        doc="Parameter → expression.",
        example="{ lot: body.lot, qty: body.qty }",
        aliases=("params", "parameters", "args"),
    )
    each: Expression | None = option(
        default=None,
        doc="List whose items are the rows, in one transaction; in `values` the item is `body`.",
        example="body.lines",
    )
    result: Literal["rows", "row", "value"] = option(
        default="rows", doc="What a query answers: all rows, the first (or null), or the first value.", example="row"
    )
    max_rows: int = option(
        default=1000, doc="Most rows of an answer; the rest is left.", example=100, minimum=1, maximum=100_000
    )
    expect: int | None = option(
        default=None,
        doc="Rows that must change for each set of values, else nothing is changed and the delivery is `rejected`.",
        example=1,
        minimum=0,
    )
    batch: int = option(
        default=1,
        doc="Most deliveries of this statement that share a transaction and its commit, of those that are under way at the same time"
        " (`concurrency` of the connector and of the route). None waits for others; one that fails is sent again by itself.",
        example=50,
        minimum=1,
        maximum=1000,
        aliases=("batch_size", "batchSize"),
    )
    once: bool = option(
        default=False,
        doc="Write the delivery id into the table `esb_applied`, in the same transaction: a repeat changes nothing.",
        example=True,
    )

    def check(self, node: Node, reader: Reader) -> None:
        if (self.statement is None) == (self.upsert is None):
            reader.problem(
                "ESB107",
                "`sql` needs exactly one of `statement` and `upsert`",
                node,
                hint="`upsert` makes the statement itself",
            )
            return
        if self.upsert is not None:
            self._check_upsert(node, reader)
            return
        wanted, given = binds(self.statement or ""), set(self.values)
        for name in wanted:
            if name not in given:
                hint = f"add `{name}: body.{name}`"
                reader.problem(
                    "ESB102", f"`values` has no `{name}`, which the statement binds", _spot(node, "values"), hint=hint
                )
        for name in sorted(given - set(wanted)):
            at = _spot(_spot(node, "values"), name)
            reader.problem(
                "ESB101", f"the statement has no `:{name}`", at, hint=reader.nearest(name, wanted) or "take it out"
            )

    def _check_upsert(self, node: Node, reader: Reader) -> None:
        assert self.upsert is not None
        needed = (*self.upsert.key, *((self.upsert.sequence,) if self.upsert.sequence else ()))
        for name in needed:
            if name not in self.values:
                reader.problem(
                    "ESB102", f"`values` has no `{name}`", _spot(node, "values"), hint=f"add `{name}: body.{name}`"
                )
        for name in self.values:
            if not NAME.fullmatch(name):
                reader.problem("ESB103", f"`{name}` is no name of a column", _spot(node, "values"))

    def sql(self, dialect: str) -> str:
        """The statement in the words of a database."""
        if self.upsert is None:
            return self.statement or ""
        return upsert(dialect, self.upsert.table, tuple(self.values), self.upsert.key, self.upsert.sequence or "")

    def own_connection(self) -> None:
        """A database is always a connector's."""
        return

    def cache_key(self, message: Message, scope: Mapping[str, Any]) -> Any:
        """What tells one question from another."""
        return [self.statement, {name: value(scope) for name, value in self.values.items()}]

    async def send(self, message: Message, delivery: Delivery, connection: Any) -> Reply:
        from esb.endpoints._sql.send import send  # noqa: PLC0415 - the library loads when it is used

        return await send(self, delivery, connection)
