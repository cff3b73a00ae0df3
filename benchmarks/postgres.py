"""A store on PostgreSQL: the durable core against the bare group commit of the driver, and against the store in a file.

Needs PostgreSQL on this machine; its commits wait for the disk.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from benchmarks.core import MESSAGES, ROUTE, cpu, durable, payload, steps_called
from benchmarks.figures import Figure, Rate, Skipped, alternate, median, ratio

KEYED = ROUTE.replace("route: bench", "route: bench\nkey: body.lot.id\ndedupe: body.id\ntrack: { lot: body.lot.id }")


def report(*, full: bool) -> Iterator[Figure]:
    from _pytest.outcomes import Skipped as Missing

    from tests.servers.postgres import Postgres, empty_store

    try:
        server = Postgres()
    except Missing as reason:
        raise Skipped(str(reason)) from None
    with contextlib.closing(server):
        server.start(durable=True)
        rounds = 5 if full else 3
        ours, floors, files = alternate(
            rounds, lambda: durable(store=empty_store(server, "bench")), lambda: floor(server), durable
        )
        said = f"{median(ours):.0f}/s; raw psycopg, 100 a commit, same validate and map {median(floors):.0f}/s{cpu(ours, floors)}"
        yield Figure("durable core on PostgreSQL", ratio(ours, floors), None, said=said)
        said = f"{median(ours):.0f}/s; in a file of SQLite {median(files):.0f}/s{cpu(ours, files)}"
        yield Figure("durable core on PostgreSQL / in a file", ratio(ours, files), None, said=said)
        ours, files = alternate(
            rounds,
            lambda: durable(routes={"bench": KEYED}, store=empty_store(server, "bench")),
            lambda: durable(routes={"bench": KEYED}),
        )
        said = f"{median(ours):.0f}/s; in a file of SQLite {median(files):.0f}/s{cpu(ours, files)}"
        yield Figure("the same with key, dedupe and track", ratio(ours, files), None, said=said)


def floor(server: Any) -> Rate:
    """Messages a second of bare accept and complete, as :func:`benchmarks.core.floor` does it with SQLite."""
    payloads = [payload(n) for n in range(MESSAGES)]
    with steps_called() as convert, server.connect() as connection:
        db = connection.cursor()
        db.execute("drop schema if exists floor cascade")
        db.execute("create schema floor")
        db.execute("set search_path to floor")
        db.execute("create table message (seq bigint primary key, body bytea)")
        db.execute("create table pending (seq bigint primary key)")
        db.execute("create table outcome (seq bigint primary key, state int)")
        began = Rate.now()
        for first in range(0, MESSAGES, 100):
            group = payloads[first : first + 100]
            numbers = [(n,) for n in range(first, first + len(group))]
            born = [(MESSAGES + n,) for (n,) in numbers]
            db.execute("begin")
            db.executemany(
                "insert into message values (%b, %b)", [(n, d) for (n,), d in zip(numbers, group, strict=True)]
            )
            db.executemany("insert into pending values (%b)", numbers)
            db.execute("commit")
            out = [convert(data) for data in group]
            db.execute("begin")
            db.executemany("insert into message values (%b, %b)", [(n, o) for (n,), o in zip(born, out, strict=True)])
            db.executemany("insert into outcome values (%b, 1)", numbers)
            db.executemany("delete from pending where seq = %b", numbers)
            db.execute("commit")
        return Rate.since(began, MESSAGES)
