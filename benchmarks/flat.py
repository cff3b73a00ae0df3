"""What must not grow: the cost of a message with the store, the routes and the keys; start-up and retention."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks import core, footprint
from benchmarks.figures import Figure, Rate, alternate, median, quantile, ratio
from benchmarks.programs import bus, cpu_of, folder
from esb.clock import SystemClock
from esb.endpoints.base import Incoming
from esb.endpoints.ingress import HttpIngress
from esb.formats.json import Json
from esb.message import State
from esb.runtime.supervisor import Supervisor
from esb.store import files, open_store
from esb.store.codes import ACCEPTED, CODES

#: The dearest that a message may become, as a share of what it costs in a small bus.
FLAT = 1.2
KEYED = core.ROUTE.replace("from:", "key: body.lot.id\nfrom:")
WAITING = "route: bench\nfrom: { route: {} }\nsteps:\n  - filter: body.result == 'NONE'\n"
_NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
_MESSAGE = (
    "INSERT INTO message (seq, mid, route, scope, version, key, created, overtakes, priority, content, body)"
    " SELECT i, CAST(printf('%016d', i) AS BLOB), 1, 0, 2, {key}, ?, 0, 1, 'json', {body} FROM n"
)


def report(*, full: bool) -> Iterator[Figure]:
    rounds = 5 if full else 3
    stored, routes = (5_000_000, 1_000) if full else (200_000, 200)
    filled, empty = alternate(rounds, lambda: core.durable(fill=lambda root: fill(root, stored)), core.durable)
    yield _flat(f"cost of a message, {stored:,} stored / 0", empty, filled)
    many = {f"bench-{n}": core.ROUTE.replace("bench", f"bench-{n}") for n in range(routes)}
    spread, one = alternate(rounds, lambda: core.durable(routes=many), core.durable)
    yield _flat(f"cost of a message, {routes:,} routes / 1", one, spread)
    keyed = {"bench": KEYED}
    more, fewer = alternate(
        rounds,
        lambda: core.durable(routes=keyed, fill=lambda root: fill(root, 100_000), payloads=_keys(100_000)),
        lambda: core.durable(routes=keyed, payloads=_keys(500)),
    )
    yield _flat("cost of a message, 100,000 keys / 500", fewer, more)
    yield startup()
    yield from retention(30_000 if full else 10_000)


def _flat(name: str, small: list[Rate], large: list[Rate]) -> Figure:
    """Compares CPU time, which says the same on a busy machine."""
    dear, cheap = [one.cpu for one in large], [one.cpu for one in small]
    said = f"CPU {1e6 * median(dear):.0f} µs; {1e6 * median(cheap):.0f} µs; in wall time {ratio(small, large):.2f}×"
    return Figure(name, ratio(dear, cheap), FLAT, True, said)


def _keys(number: int) -> list[bytes]:
    """Payloads whose keys are spread over ``number`` of them."""
    return [core.payload(n * 7919 % number) for n in range(core.MESSAGES)]


def fill(root: Path, number: int, *, state: State = State.DONE, body: str = "", at: datetime | None = None) -> None:
    """Put messages of the route ``bench`` into the store without the bus; their keys are those of the payloads."""
    path, created = root / ".esb" / "bus.db", at or datetime.now(UTC)
    files.prepare(path, created)
    micros = int(created.timestamp() * 1e6)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("BEGIN")
        db.execute("INSERT INTO word VALUES (1, 'bench'), (2, 'filled')")
        key = "NULL" if body else "printf('%012d', i)"
        text = "CAST(? AS BLOB)" if body else "zeroblob(300)"
        more = (body,) if body else ()
        db.execute(f"{_NUMBERS} {_MESSAGE.format(key=key, body=text)}", (number, micros, *more))
        if state is State.QUEUED:
            db.execute(
                "INSERT INTO pending SELECT seq, mid, route, scope, key, 0, NULL, 0, 0, 0, 0, created, 1, 0, version FROM message"
            )
        else:
            db.execute(
                f"INSERT INTO outcome (seq, route, state, finished, attempts) SELECT seq, 1, {CODES[state]}, created, 1 FROM message"
            )
        spans = "SELECT seq / 4096, min(created), max(created) FROM message GROUP BY 1"
        db.execute(f"INSERT INTO span {spans}")
        db.executemany("INSERT INTO counter VALUES (1, ?, ?)", [(ACCEPTED, number), (CODES[state], number)])
        db.execute("UPDATE meta SET value = ? WHERE name = 'last_seq'", (str(number),))
        db.execute("COMMIT")
        db.execute("PRAGMA journal_mode = WAL")


def startup() -> Figure:
    """From the command to `ready` with 100 000 messages queued."""
    with folder({"routes/bench.yaml": WAITING}) as root:
        fill(root, 100_000, state=State.QUEUED, body='{"result":"ACCEPT"}')
        began = time.perf_counter()
        with bus(root) as (_, process):
            took = time.perf_counter() - began, cpu_of(process.pid)
    return footprint.seconds("start-up with 100 000 queued", [took], 3.0)


def retention(number: int) -> Iterator[Figure]:
    """Old messages are removed, 200 a commit as housekeeping does it, while 300 new ones a second are accepted."""
    quiet, busy, removed = core.run(_retention(number))
    said = f"p99 {quantile(busy, 0.99) * 1e3:.1f} ms; without it {quantile(quiet, 0.99) * 1e3:.1f} ms"
    yield Figure(
        "accept p99 while retention runs / without", quantile(busy, 0.99) / quantile(quiet, 0.99), 2, True, said
    )
    yield Figure("retention / intake of 300 a second", removed / 300, 1.0, said=f"{removed:.0f} removed a second")


async def _retention(number: int) -> tuple[list[float], list[float], float]:
    with tempfile.TemporaryDirectory() as name:
        root, clock = Path(name), SystemClock()
        loaded = core.workspace(root, {"bench": core.ROUTE})
        fill(root, number, at=datetime.now(UTC) - timedelta(days=60))
        store: Any = await open_store(loaded.settings.store, root, clock=clock)
        supervisor = Supervisor(store, clock, HttpIngress(), lambda *_a, **_k: None, loaded)
        await supervisor.start()
        intake, took = supervisor.routes["bench"].intake, []

        async def one(count: int, at: float) -> None:
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            await intake.accept(Incoming(core.payload(count), codec=Json()))
            took.append(time.perf_counter() - at)

        async def intake_of(requests: int) -> list[float]:
            took.clear()
            start = time.perf_counter() + 0.05
            await asyncio.gather(*(one(n, start + n / 300) for n in range(requests)))
            return list(took)

        quiet = await intake_of(900)
        before, began, removed = datetime.now(UTC) - timedelta(days=30), time.perf_counter(), 0

        async def purge() -> float:
            nonlocal removed
            while (count := await store.purge(before, [State.DONE], 200)) > 0:
                removed += count
                await asyncio.sleep(0)
            return removed / (time.perf_counter() - began)

        busy, rate = await asyncio.gather(intake_of(900), purge())
        await supervisor.stop(loaded.settings.limits.drain)
        await store.close()
    return quiet, busy, rate
