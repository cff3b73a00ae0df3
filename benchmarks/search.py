"""First pages of searches in a store of millions of messages: by key, tracked value, text, state, route and time.

`python -m benchmarks search` makes a store of 200 000 messages, `--full` one of a million; `python -m benchmarks.search --messages
10000000 --store DIR` makes a larger one, kept in DIR and used again.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.figures import Figure
from esb.clock import SystemClock
from esb.message import State
from esb.store import files, open_store
from esb.store.base import Filter
from esb.store.codes import ACCEPTED, DEAD, DISCARDED, DONE, DUPLICATE, EXPIRED, QUEUED, SPAN, SUPERSEDED
from esb.store.sqlstore import SqlStore
from esb.store.values import dump, micros

#: Milliseconds that the first page may take, at the 95th percentile.
GOAL = 200.0
PAGE = 51
ROUTES = 40
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
#: Share of the states that a message ends in; the rest is done.
ENDS = ((DEAD, 0.002), (DUPLICATE, 0.01), (SUPERSEDED, 0.001), (EXPIRED, 0.0005), (DISCARDED, 0.0005))
_CHUNK = 20_000


# -- a store of many messages ---------------------------------------------------------------------------------------------
class Population:
    """Messages of a plant over half a year: 40 routes of very different size, lots with about eight messages each."""

    def __init__(self, messages: int) -> None:
        self.messages = messages
        self.lots = max(1, messages // 8)
        self.step = int(timedelta(days=180).total_seconds() * 1e6) // messages
        self.chance = random.Random(20260526)
        self.weights = [1.0 / (rank + 1) ** 1.3 for rank in range(ROUTES)]

    def at(self, seq: int) -> datetime:
        return BEGIN + timedelta(microseconds=seq * self.step)

    def lot(self, number: int) -> str:
        return f"L{number:09}A"

    def write(self, path: Path) -> None:
        """Fill an empty store, with the rows that the bus itself would have written."""
        connection = sqlite3.connect(path, isolation_level=None)
        # no journal: a half-made store of a benchmark is made again
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -600000", "locking_mode = EXCLUSIVE"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN")
        words = ["", *(f"route-{number:02}" for number in range(ROUTES)), "f" * 64]
        connection.executemany("INSERT OR IGNORE INTO word (id, text) VALUES (?, ?)", list(enumerate(words)))
        counts: dict[tuple[int, int], int] = {}
        for start in range(1, self.messages + 1, _CHUNK):
            self._chunk(connection, range(start, min(start + _CHUNK, self.messages + 1)), counts)
        connection.executemany(
            "INSERT INTO counter (route, state, n) VALUES (?, ?, ?)", [(*slot, n) for slot, n in counts.items()]
        )
        connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('last_seq', ?)", (str(self.messages),))
        connection.execute("COMMIT")
        connection.execute("PRAGMA locking_mode = NORMAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.close()

    def _chunk(self, connection: sqlite3.Connection, seqs: range, counts: dict[tuple[int, int], int]) -> None:
        messages, outcomes, tracks, pending, spans = [], [], [], [], {}
        routes = self.chance.choices(range(1, ROUTES + 1), self.weights, k=len(seqs))
        for seq, route in zip(seqs, routes, strict=True):
            created, mid = micros(self.at(seq)), uuid.UUID(int=seq, version=4).bytes
            lot = self.lot(self.chance.randrange(self.lots))
            track = {"lot": lot, "order": f"O{seq // 3:09}"}
            body = b'{"lot": "%s", "quantity": 12.10, "result": "ACCEPT", "note": "%s"}' % (lot.encode(), b"x" * 200)
            messages.append(
                (seq, mid, route, 0, ROUTES + 1, lot, created, f"case-{seq // 5}", 0, 1, "source", dump(track), body)
            )
            tracks += [(value, name, seq) for name, value in track.items()]
            first, last = spans.get(seq // SPAN, (created, created))
            spans[seq // SPAN] = (min(first, created), max(last, created))
            state = self._state(seq)
            if state == QUEUED:
                pending.append((seq, mid, route, 0, lot, QUEUED, None, 0, 0, 0, 0, created, 1, 0, ROUTES + 1))
            else:
                group = f"group-{route}-{seq % 3}" if state == DEAD else None
                outcomes.append((seq, route, state, created + 50_000, 1, None, None, None, group, None))
            for slot in ((route, state), (route, ACCEPTED)):
                counts[slot] = counts.get(slot, 0) + 1
        insert = connection.executemany
        insert(
            "INSERT INTO message (seq, mid, route, scope, version, key, created, correlation, overtakes, priority, content, track, body)"
            f" VALUES ({', '.join('?' * 13)})",
            messages,
        )
        insert(f"INSERT INTO outcome VALUES ({', '.join('?' * 10)})", outcomes)
        insert(f"INSERT INTO pending VALUES ({', '.join('?' * 15)})", pending)
        insert("INSERT INTO track (value, name, seq) VALUES (?, ?, ?)", tracks)
        insert(
            "INSERT INTO span (n, first, last) VALUES (?, ?, ?) ON CONFLICT (n) DO UPDATE"
            " SET first = min(first, excluded.first), last = max(last, excluded.last)",
            [(n, *both) for n, both in spans.items()],
        )

    def _state(self, seq: int) -> int:
        if seq > self.messages - 200:
            return QUEUED
        drawn = self.chance.random()
        for state, share in ENDS:
            if drawn < share:
                return state
            drawn -= share
        return DONE


# -- searches -------------------------------------------------------------------------------------------------------------
def searches(people: Population) -> dict[str, Callable[[random.Random], Filter]]:
    """What people ask, each with values drawn anew."""
    big, small = "route-00", f"route-{ROUTES - 1:02}"

    def lot(chance: random.Random) -> str:
        return people.lot(chance.randrange(people.lots))

    def moment(chance: random.Random) -> datetime:
        return people.at(chance.randrange(people.messages))

    def hour(chance: random.Random, **more: object) -> Filter:
        since = moment(chance)
        return Filter(since=since, until=since + timedelta(hours=1), limit=PAGE, **more)  # type: ignore[arg-type]

    return {
        "the newest": lambda _: Filter(limit=PAGE),
        "a key": lambda c: Filter(key=lot(c), limit=PAGE),
        "a key on a route": lambda c: Filter(key=lot(c), route=big, limit=PAGE),
        "a tracked value": lambda c: Filter(track=(("lot", lot(c)),), limit=PAGE),
        "two tracked values": lambda c: Filter(track=(("lot", lot(c)), ("order", "O000000001")), limit=PAGE),
        "a tracked value on a route": lambda c: Filter(track=(("lot", lot(c)),), route=big, limit=PAGE),
        "text on a route": lambda c: Filter(text=lot(c), route=big, limit=PAGE),
        "a key that is dead": lambda c: Filter(key=lot(c), states=(State.DEAD,), limit=PAGE),
        "text": lambda c: Filter(text=lot(c), limit=PAGE),
        "text that nobody has": lambda _: Filter(text="nothing", limit=PAGE),
        "an id": lambda c: Filter(text=str(uuid.UUID(int=c.randrange(1, people.messages), version=4)), limit=PAGE),
        "a correlation": lambda c: Filter(correlations=(f"case-{c.randrange(people.messages // 5)}",), limit=PAGE),
        "a large route": lambda _: Filter(route=big, limit=PAGE),
        "a small route": lambda _: Filter(route=small, limit=PAGE),
        "done": lambda _: Filter(states=(State.DONE,), limit=PAGE),
        "dead": lambda _: Filter(states=(State.DEAD,), limit=PAGE),
        "dead or waiting": lambda _: Filter(states=(State.DEAD, State.WAITING), limit=PAGE),
        "open": lambda _: Filter(states=(State.QUEUED, State.RUNNING, State.WAITING, State.HELD), limit=PAGE),
        "waiting, of which there are none": lambda _: Filter(states=(State.WAITING,), limit=PAGE),
        "dead on a large route": lambda _: Filter(route=big, states=(State.DEAD,), limit=PAGE),
        "dead on a small route": lambda _: Filter(route=small, states=(State.DEAD,), limit=PAGE),
        "done on a small route": lambda _: Filter(route=small, states=(State.DONE,), limit=PAGE),
        "dead or done on a small route": lambda _: Filter(route=small, states=(State.DEAD, State.DONE), limit=PAGE),
        "expired on a small route": lambda _: Filter(route=small, states=(State.EXPIRED,), limit=PAGE),
        "an hour": hour,
        "an hour on a small route": lambda c: hour(c, route=small),
        "dead in an hour": lambda c: hour(c, states=(State.DEAD,)),
        "done on a large route in an hour": lambda c: hour(c, route=big, states=(State.DONE,)),
        "since a moment": lambda c: Filter(since=moment(c), limit=PAGE),
        "until a moment": lambda c: Filter(until=moment(c), limit=PAGE),
        "dead until a moment": lambda c: Filter(until=moment(c), states=(State.DEAD,), limit=PAGE),
        "a page far down": lambda c: Filter(before_seq=c.randrange(PAGE, people.messages), limit=PAGE),
        "a page far down a small route": lambda c: Filter(
            route=small, before_seq=c.randrange(PAGE, people.messages), limit=PAGE
        ),
    }


def measured(store: SqlStore, people: Population, rounds: int) -> Iterator[tuple[str, float, float]]:
    """Name, p50 and p95 in milliseconds of each search."""
    store.warm_up()
    for name, make in searches(people).items():
        chance, took = random.Random(name), []
        for _ in range(rounds):
            asked = make(chance)
            began = time.perf_counter()
            store.find(asked)
            took.append((time.perf_counter() - began) * 1000)
        took.sort()
        yield name, took[len(took) // 2], took[min(len(took) - 1, int(len(took) * 0.95))]
    took = []
    for _ in range(max(3, rounds // 5)):
        began = time.perf_counter()
        store.groups(Filter())
        took.append((time.perf_counter() - began) * 1000)
    yield "groups of dead letters", sorted(took)[len(took) // 2], max(took)


async def _open(path: Path) -> SqlStore:
    return await open_store(f"sqlite:///{path}", path.parent, clock=SystemClock(), read_only=True)


def run(messages: int, folder: Path, rounds: int) -> Iterator[Figure]:
    """Make the store in ``folder`` unless it is there, and measure."""
    people, path = Population(messages), folder / f"search-{messages}.db"
    if not path.exists():
        draft = path.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        files.create(draft, datetime.now(UTC))
        people.write(draft)
        draft.rename(path)
    store = asyncio.run(_open(path))
    size = path.stat().st_size / 1e9
    for name, half, most in measured(store, people, rounds):
        said = f"p50 {half:.1f} ms, {messages:,} messages, {size:.1f} GB"
        yield Figure(f"first page, {name}: p95", most, GOAL, True, said, " ms")
    asyncio.run(store.close())


def report(*, full: bool) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        yield from run(1_000_000 if full else 200_000, Path(folder), 100 if full else 40)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--store", type=Path, default=None, help="folder in which the store is kept for the next time")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for figure in run(asked.messages, asked.store or Path(folder), asked.rounds):
            print(figure, flush=True)


if __name__ == "__main__":
    main()
