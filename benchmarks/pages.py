"""The pages under load: how long each takes while the bus runs at half of what it can, and what ten open dashboards cost it.

``python -m benchmarks.pages --load URL RATE SECONDS`` is the load, a process of its own; RATE 0 is as fast as it gets.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import IO

from benchmarks import core
from benchmarks.figures import Figure, Rate, Skipped, median, quantile, ratio
from benchmarks.programs import bus, cpu_of, folder
from esb.clock import SystemClock
from esb.observe import trends
from esb.store import open_store

ROUTES = 30
#: Pages that ten people have open, and how often a page loads again by itself (the shortest that it offers), in seconds.
DASHBOARDS = (
    "/",
    "/",
    "/",
    "/?kiosk=1",
    "/live",
    "/live?state=dead",
    "/routes/r1",
    "/dead",
    "/kpis",
    "/kpis/done-in-time",
)
EVERY = 5.0
PAGES = (
    "/",
    "/?span=7d",
    "/messages",
    "/messages?text=L-17",
    "/messages?route=r1&state=done",
    "/dead",
    "/routes/r1",
    "/routes/r1?span=7d",
    "/kpis",
    "/kpis/done-in-time",
    "/topology",
    "/sites",
    "/live",
    "/audit",
    "/differences",
    "/help",
)
ROUTE = """
route: r{n}
key: body.lot
track: {{ lot: body.lot }}
from: {{ http: {{ path: /r{n}, method: POST, format: json }} }}
steps:
  - reject: "no lot {{{{ body.lot }}}}"
    if: starts_with(body.lot, 'X')
  - set: {{ vars.seen: body.lot }}
"""
KPIS = """
kpi: done-in-time
start: { route: r1 }
end: { route: r1, on: done }
by: lot
within: 5s
---
kpi: dead
count: { route: [ROUTES], on: dead }
of: { route: [ROUTES] }
---
kpi: stock
gauge: { route: r2, add: "`1`" }
by: lot
"""


def report(*, full: bool) -> Iterator[Figure]:
    names = ", ".join(f"r{n}" for n in range(ROUTES))
    files = {f"routes/r{n}.yaml": ROUTE.format(n=n) for n in range(ROUTES)}
    files |= {"esb.yaml": "bus: load\n", "kpis/a.yaml": KPIS.replace("ROUTES", names)}
    seconds = 10.0 if full else 5.0
    with folder(files) as root:
        asyncio.run(_history(root))
        with bus(root) as server:
            admin = json.loads((root / ".esb" / "bus.lock").read_text())["admin"]
            _fill(server[0])
            most = _load(server, 0, seconds)
            yield from _at_half(server, admin, most, 6 * seconds)
            yield from _dashboards(server, admin, rounds=16 if full else 8)


def _at_half(server: Server, admin: str, most: float, seconds: float) -> Iterator[Figure]:
    took: dict[str, list[float]] = {path: [] for path in PAGES}
    load = _background(server, most / 2, seconds)
    try:
        time.sleep(0.5)
        while load.poll() is None:
            for path in PAGES:
                took[path].append(_page(admin, path))
    finally:
        load.terminate()
        done = _rate(load.communicate()[0])
    every = [one for found in took.values() for one in found]
    worst = max(took, key=lambda path: median(took[path]))
    said = (
        f"{len(every)} pages, p50 {quantile(every, 0.5) * 1e3:.0f} ms, p99 {quantile(every, 0.99) * 1e3:.0f} ms; {done:.0f}/s of {most:.0f}/s;"
        f" slowest {worst}: {median(took[worst]) * 1e3:.0f} ms"
    )
    yield Figure(
        "a page while the bus runs at half of what it can, p95", quantile(every, 0.95) * 1e3, 300, True, said, "ms"
    )


def _dashboards(server: Server, admin: str, rounds: int) -> Iterator[Figure]:
    """One load throughout; dashboards are open in every other stretch of ``EVERY`` seconds, so that both see the same weather."""
    load = _background(server, 0, (2 * rounds + 1) * (EVERY + 0.2))
    rates: tuple[list[Rate], list[Rate]] = ([], [])
    try:
        assert load.stdout is not None
        _stretch(server, load.stdout, 1.0)  # warm
        for number in range(2 * rounds):
            watched = number % 4 in (0, 3)  # with, without, without, with
            over = threading.Event()
            people = [
                threading.Thread(target=_person, args=(admin, path, place, over))
                for place, path in enumerate(DASHBOARDS)
            ]
            for one in people if watched else ():
                one.start()
            rates[not watched].append(_stretch(server, load.stdout, EVERY))
            over.set()
            for one in people if watched else ():
                one.join()
    finally:
        load.terminate()
        load.wait()
    ours, floors = rates
    said = f"{median(ours):.0f}/s with, {median(floors):.0f}/s without, {rounds} pairs{core.cpu(ours, floors)}"
    yield Figure("throughput with ten open dashboards / with none", ratio(ours, floors), 0.95, said=said)
    cost = statistics.mean(_page_cpu(server, admin, path) for path in DASHBOARDS)
    share = cost * len(DASHBOARDS) / EVERY
    yield Figure("CPU of ten open dashboards, of one core", share * 100, 5, True, f"{cost * 1e3:.1f} ms a page", "%")


def _stretch(server: Server, counts: IO[str], seconds: float) -> Rate:
    """What the load got through, and the CPU time of the bus for each."""
    first = {"at": 0.0}
    while (
        first["at"] < time.perf_counter() - 0.2
    ):  # what was said before this stretch is of no use; one clock for all processes
        first = json.loads(counts.readline())
    before, last = cpu_of(server[1].pid), first
    while last["at"] < first["at"] + seconds:
        last = json.loads(counts.readline() or '{"at": 1e18, "count": 0}')
    found = Rate((last["count"] - first["count"]) / (last["at"] - first["at"]))
    found.cpu = (cpu_of(server[1].pid) - before) / max(last["count"] - first["count"], 1)
    return found


def _person(admin: str, path: str, place: int, over: threading.Event) -> None:
    """Has a page open that loads again by itself; they did not all open it at the same time."""
    if over.wait(EVERY * place / len(DASHBOARDS)):
        return
    while True:
        _page(admin, path)
        if over.wait(EVERY):
            return


def _page_cpu(server: Server, admin: str, path: str) -> float:
    """CPU seconds of the bus for a page, while nothing else happens."""
    before = cpu_of(server[1].pid)
    for _ in range(20):
        _page(admin, path)
    return (cpu_of(server[1].pid) - before) / 20


def _page(admin: str, path: str) -> float:
    """Seconds of a page, whole."""
    import http.client
    from urllib.parse import urlsplit

    at = urlsplit(admin)
    began = time.perf_counter()
    connection = http.client.HTTPConnection(at.hostname or "", at.port or 0, timeout=60)
    try:
        connection.request("GET", path, headers={"Accept": "text/html"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise Skipped(f"{path} gives {answer.status}")
    finally:
        connection.close()
    return time.perf_counter() - began


# -- load -----------------------------------------------------------------------------------------------------------------
Server = tuple[str, "subprocess.Popen[str]"]


def _background(server: Server, rate: float, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.pages", "--load", server[0], str(rate), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _load(server: Server, rate: float, seconds: float) -> float:
    return _rate(_background(server, rate, seconds).communicate()[0])


def _rate(lines: str) -> float:
    """Messages a second from first to last."""
    said = [json.loads(line) for line in lines.splitlines()]
    return float((said[-1]["count"] - said[0]["count"]) / (said[-1]["at"] - said[0]["at"]))


async def _post(url: str, rate: float, seconds: float) -> None:
    """Sixty-four senders to two routes; with a rate they wait until each message is due, however slow the bus is.

    Ten times a second it says how many were answered so far.
    """
    import aiohttp

    count, answered, began = 0, 0, time.perf_counter()

    async def told() -> None:
        while True:
            print(json.dumps({"at": time.perf_counter(), "count": answered}), flush=True)
            await asyncio.sleep(0.1)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64)) as session:

        async def one() -> None:
            nonlocal count, answered
            while (now := time.perf_counter()) < began + seconds:
                if rate and (early := began + count / rate - now) > 0:
                    count += 1
                    await asyncio.sleep(early)
                else:
                    count += 1
                body = json.dumps({"lot": f"L-{count}", "n": count, "text": "x" * 200})
                async with session.post(f"{url}/r{1 + count % 2}", data=body, headers=JSON) as answer:
                    await answer.read()
                answered += 1

        teller = asyncio.create_task(told())
        await asyncio.gather(*(one() for _ in range(64)))
        teller.cancel()


JSON = {"Content-Type": "application/json"}


def _fill(url: str) -> None:
    """Messages on every route, some of them dead."""

    async def main() -> None:
        import aiohttp

        async with aiohttp.ClientSession() as session:
            for n in range(ROUTES):
                for lot in (f"L-{n}", f"L-{n + 100}", f"X-{n}"):
                    async with session.post(f"{url}/r{n}", data=json.dumps({"lot": lot}), headers=JSON) as answer:
                        await answer.read()

    core.run(main())


async def _history(root: Path) -> None:
    """A week of every route, as if the bus had run."""
    clock, dice = SystemClock(), random.Random(4)
    store = await open_store("sqlite:///.esb/bus.db", root, clock=clock)
    now = clock.now()
    first, last = trends.hour_of(now - timedelta(days=7)), trends.hour_of(now)
    for series in (trends.BUS, *(f"route:r{n}" for n in range(ROUTES))):
        space = trends.space_of(series)
        rows = {
            trends.name_of(hour): [
                [place, *trends.Slot(dice.randrange(300), 290, 1, 1, 2, 900, {4: 100, 6: 150, 9: 40}).packed()]
                for place in range(trends.PER_HOUR)
            ]
            for hour in range(first, last)
        }
        await asyncio.gather(*(store.put_state(space, name, row) for name, row in rows.items()))
    for hour in range(first, last):
        counted = {f"r{n}": dice.randrange(3000) for n in range(ROUTES)}
        await store.put_state(trends.space_of(trends.ACCEPTED), trends.name_of(hour), counted)
    await store.close()


if __name__ == "__main__":
    _, _, url_, rate_, seconds_ = sys.argv
    asyncio.run(_post(url_, float(rate_), float(seconds_)))
