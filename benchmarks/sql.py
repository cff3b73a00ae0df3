"""Databases: the poll of a watermark and of marked rows, against `pgbench` with the same SQL and batch.

Needs PostgreSQL on this machine. Rows have 1.5 KB and come in batches of 100. The bare poll is what the source's thread does with
the database: read, values of Python, mark, end the transaction. Two more lines tell what comes on top of it: the JSON of each row,
and the whole durable route.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.core import keep_loaded, run, worked_off, workspace
from benchmarks.figures import Figure, Rate, Skipped, alternate, median, ratio

ROWS, BATCH = 20_000, 100

WATERMARK = """\\set l random(1, {rows} - {batch})
select * from late where id > :l order by id limit {batch};
"""
MARK = """with picked as (select id from queue where sent = 0 order by id limit {batch} for update skip locked)
update queue q set sent = 1 from picked where q.id = picked.id returning q.*;
"""
CONNECTOR = "connector: erp\ntype: sql\nurl: {url}\nuser: esb\n"
ROUTE = """
route: bench
from:
  sql:
    connector: erp
    {way}
steps:
  - filter: "`false`"
"""
BY_WATERMARK = "query: select * from late\n    watermark: { column: id, tie: id }"
BY_MARK = """query: select * from queue where sent = 0 order by id
    mark: update queue set sent = 1 where id = :id"""


class Database:
    """A private PostgreSQL with the tables of the benchmark."""

    def __init__(self) -> None:
        from tests.servers.postgres import Postgres

        self.server = Postgres()
        self.server.start()
        self._table = ""
        for table in ("late", "queue"):
            self.server.execute(
                f"create table {table} (id int primary key, sent int default 0, qty numeric(12,3), at timestamptz default now(), body text)"
            )
        self.server.execute("create index on queue (id) where sent = 0")

    def fill(self, table: str) -> None:
        """The rows of a table as they were; those that nobody marks need it once."""
        if table == self._table == "late":
            return
        self._table = table
        self.server.execute(f"truncate {table}")
        self.server.execute(
            f"insert into {table} (id, qty, body) select i, i / 8.0, repeat('x', 1400) from generate_series(1, {ROWS}) i"
        )
        self.server.execute(f"analyze {table}")

    def pgbench(self, script: str, transactions: int) -> float:
        """Rows a second of ``pgbench`` with prepared statements on one connection."""
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
            file.write(script.format(rows=ROWS, batch=BATCH))
            file.flush()
            command = ["pgbench", "-n", "-M", "prepared", "-c", "1", "-t", str(transactions), "-f", file.name]
            where = ["-h", "127.0.0.1", "-p", str(self.server.port), "-U", "esb", "postgres"]
            out = subprocess.run([*command, *where], check=True, capture_output=True, text=True).stdout
        found = re.search(r"tps = ([\d.]+)", out)
        assert found is not None, out
        return float(found[1]) * BATCH

    def poll(self, options: Any, statement: str, mark: str, *, bodies: bool) -> float:
        """Rows a second of our own poll as its thread runs it: read, end the transaction or mark, and with ``bodies`` make JSON."""
        from esb.clock import SystemClock
        from esb.endpoints._sql.live import LiveSql
        from esb.endpoints._sql.rows import Marking, Statement, only_reads, read
        from esb.endpoints.base import ConnectionContext

        live = LiveSql(options, ConnectionContext("bench", SystemClock(), Path(), lambda *a, **k: None))
        marking, query, seen = Marking(mark, "postgresql") if mark else None, Statement(statement), 0
        with live.engine.connect() as connection:
            if marking is None:
                only_reads(connection, "postgresql")
            began = time.perf_counter()
            for turn in range(ROWS // BATCH):
                values = (
                    {"esb_batch": BATCH} if marking else {"esb_mark": turn * BATCH, "esb_tie": 0, "esb_batch": BATCH}
                )
                if bodies:
                    rows = [one.row for one in read(connection, query, values)]
                else:
                    rows = query.rows(connection, values)
                if marking is not None:
                    marking.run(connection, rows)
                    connection.commit()
                seen += len(rows)
            took = time.perf_counter() - began
        assert seen == ROWS, f"{seen} of {ROWS} rows"
        return seen / took

    async def route(self, way: str) -> Rate:
        """Rows a second from the table to a message that is done: read, committed to the store, marked, worked off."""
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            (root / "connectors").mkdir()
            (root / "connectors/erp.yaml").write_text(CONNECTOR.format(url=self.server.url))
            return await worked_off(root, workspace(root, {"bench": ROUTE.format(way=way)}), ROWS)


def report(*, full: bool) -> Iterator[Figure]:
    if shutil.which("pgbench") is None or shutil.which("initdb") is None:
        raise Skipped("PostgreSQL is not installed")
    from esb.endpoints._sql.dialects import locked, page
    from esb.endpoints.sql import SqlConnection

    database = Database()
    options = SqlConnection(url=database.server.url, user="esb")
    query = page("postgresql", "select * from late", "id", "id", start="after")
    taken = locked("postgresql", "select * from queue where sent = 0 order by id")
    rounds = 21 if full else 11
    keep_loaded()
    try:
        for name, table, script, statement, mark, way in (
            ("watermark", "late", WATERMARK, query, "", BY_WATERMARK),
            ("marked rows", "queue", MARK, taken, "update queue set sent = 1 where id = :id", BY_MARK),
        ):

            def floor(table: str = table, script: str = script) -> float:
                database.fill(table)
                return database.pgbench(script, ROWS // BATCH)

            def poll(table: str = table, statement: str = statement, mark: str = mark, bodies: bool = False) -> float:
                database.fill(table)
                return database.poll(options, statement, mark, bodies=bodies)

            def route(table: str = table, way: str = way) -> float:
                database.fill(table)
                return run(database.route(way))

            bare, floors, made = alternate(rounds, poll, floor, lambda poll=poll: poll(bodies=True))
            of = f"rows/s of {median(floors):.0f} of pgbench, batches of {BATCH}"
            yield Figure(
                f"sql: bare poll by {name}, of pgbench", ratio(bare, floors), 0.7, said=f"{median(bare):.0f} {of}"
            )
            yield Figure("  with each row made JSON", ratio(made, floors), None, said=f"{median(made):.0f} {of}")
            routed, floors = alternate(3, route, floor)
            said = f"{median(routed):.0f} rows/s: read, committed, let go, worked off"
            yield Figure("  the whole durable route", ratio(routed, floors), None, said=said)
    finally:
        database.server.close()
