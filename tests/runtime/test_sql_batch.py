"""`batch` of the `sql` sink in the running bus: the order of each key, one poison message, and a death of the bus in between."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.runtime.conftest import Start
from tests.runtime.test_promises import run

FILES = {
    "connectors/mes.yaml": """
connector: mes
type: sql
url: sqlite:///mes.db
concurrency: 100
operations:
  note:
    statement: insert into notes (k, n) values (:k, :n)
    values: { k: body.k, n: body.n }
    batch: 50
    once: true
""",
    "routes/r.yaml": """
route: r
key: body.k
from: { route: {} }
concurrency: 100
retry: { max: 2, backoff: 1s, jitter: none }
steps: [ { to: mes.note } ]
""",
}


def database(root: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(root / "mes.db", isolation_level=None)
    connection.execute("create table if not exists notes (id integer primary key, k text, n int check (n >= 0))")
    return connection


def by_key(connection: sqlite3.Connection) -> dict[str, list[int]]:
    found = defaultdict(list)
    for k, n in connection.execute("select k, n from notes order by id"):
        found[k].append(n)
    return found


def test_the_order_of_each_key_holds_and_a_poison_message_parks_its_own(start: Start, tmp_path: Path) -> None:
    connection = database(tmp_path)
    poison = ("3", 7)

    async def scenario() -> None:
        async with start(FILES) as bus:
            for n in range(15):
                for k in map(str, range(10)):
                    await bus.send("r", {"k": k, "n": -1 if (k, n) == poison else n})
            await bus.settle()
            states = [stored.state.value for stored in bus.messages()]
            assert (states.count("done"), states.count("dead"), states.count("held")) == (142, 1, 7)
            bus.whole()

    run(scenario())
    found = by_key(connection)
    assert {k: found[k] for k in found if k != "3"} == {str(k): list(range(15)) for k in range(10) if k != 3}
    assert found["3"] == list(range(7))
    connection.close()


def test_a_stop_in_the_middle_of_a_group_loses_none_and_doubles_none(start: Start, tmp_path: Path) -> None:
    connection = database(tmp_path)

    async def scenario() -> None:
        connection.execute("begin immediate")  # another one writes
        async with start(FILES) as bus:
            for k in map(str, range(30)):
                await bus.send("r", {"k": k, "n": 1})
            for _ in range(100):
                await asyncio.sleep(0)
            clock: Any = bus.clock
        connection.execute("rollback")
        async with start(clock=clock) as bus:
            async with asyncio.timeout(60):
                while bus.states("r") != ["done"] * 30:
                    await bus.advance(1)
            bus.whole()

    run(scenario())
    assert by_key(connection) == {str(k): [1] for k in range(30)}
    connection.close()
