"""`enrich: { cache: … }`: an answer is used again for the same question to the same system, and for no other."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

from .conftest import ProbeTarget, Start, write

ASK = 'enrich: {{ from: {{ sql: {{ connector: {name}, statement: "select n from stock" }} }}, cache: 1h }}\n    into: vars.{name}'
ROUTE = f"""
route: r
from: {{ route: {{}} }}
steps:
  - {ASK.format(name="graz")}
  - {ASK.format(name="linz")}
  - set: {{ body: "[vars.graz[0].n, vars.linz[0].n]" }}
  - to: {{ probe: out }}
"""


def plant(root: Path, name: str, stock: int) -> None:
    with contextlib.closing(sqlite3.connect(root / f"{name}.db")) as database, database:
        database.executescript(
            f"drop table if exists stock; create table stock (n int); insert into stock values ({stock})"
        )
    write(root, {f"connectors/{name}.yaml": f"connector: {name}\ntype: sql\nurl: sqlite:///{root}/{name}.db\n"})


def test_two_systems_that_are_asked_the_same_have_an_answer_each(
    start: Start, probe: ProbeTarget, tmp_path: Path
) -> None:
    plant(tmp_path, "graz", 7)
    plant(tmp_path, "linz", 9)

    async def go() -> None:
        async with start({"routes/r.yaml": ROUTE}) as bus:
            for _ in range(2):
                receipt = await bus.send("r", {})
                assert (await bus.supervisor.routes["r"].intake.outcome(receipt.message_id, 30)).state == "done"
                plant(tmp_path, "graz", 8)
            assert probe.bodies("out") == [[7, 9]] * 2
            bus.whole()

    asyncio.run(go())
