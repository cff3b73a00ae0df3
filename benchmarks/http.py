"""HTTP in, and HTTP in and out: against the bare parts, an fdatasync of the same disk, and Node-RED."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import core, ingest, nodered
from benchmarks.figures import Figure, Rate, Skipped, alternate, median, quantile, ratio
from benchmarks.openloop import post
from benchmarks.programs import bare, bus, folder, sink, wrk

ACCEPT = """
route: accept
from: { http: { path: /accept, method: POST } }
steps:
  - filter: body.result == 'NONE'
"""
THROUGH = """
route: through
from: { http: { path: /through, method: POST, reply: delivered } }
concurrency: 64
steps:
  - validate: inspection.v1
  - map: MAPPING
  - to: { http: { url: "SINK/lots", method: POST } }
"""
CONNECTIONS = 64


def report(*, full: bool) -> Iterator[Figure]:
    yield from ingest.report(rounds=5 if full else 3)
    yield from accept(rounds=5 if full else 3)
    for rate in (300, 1000):
        yield from open_loop(rate, requests=6_000 if full else 2_000)
    yield from through(rounds=5 if full else 3)


def accept(rounds: int) -> Iterator[Figure]:
    """The 202 after the commit against uvicorn that stores nothing."""
    with folder({"routes/accept.yaml": ACCEPT, "body.json": core.payload(1).decode()}) as root:
        body = root / "body.json"
        with bus(root) as ours_at, bare() as floor:
            ours, bares = alternate(rounds, lambda: wrk(ours_at, "/accept", body), lambda: wrk(floor, "/", body))
    said = f"{median(ours):.0f}/s; bare uvicorn, nothing stored {median(bares):.0f}/s{core.cpu(ours, bares)}"
    yield Figure("HTTP in, 202 after the commit / bare uvicorn", ratio(ours, bares), 0.5, said=said)


def through(rounds: int) -> Iterator[Figure]:
    """HTTP in, validate, map, HTTP out, answer: durable, against the sum of the bare parts and against Node-RED."""
    with sink() as target:
        mapping = "\n".join("      " + line.strip() for line in core.MAPPING.strip().splitlines())
        route = THROUGH.replace("MAPPING", "\n" + mapping).replace("SINK", target)
        files = {
            "routes/through.yaml": route,
            "schemas/inspection.v1.json": core.SCHEMA,
            "body.json": core.payload(1).decode(),
        }
        with folder(files) as root, bus(root) as ours_at, bare() as floor:
            body = root / "body.json"
            ours, ins, cores, outs = alternate(
                rounds,
                lambda: wrk(ours_at, "/through", body),
                lambda: wrk(floor, "/", body),
                core.floor,
                lambda: ingest.client(target, CONNECTIONS, requests=6_000),
            )
            parts = [one_after_the_other(*rates) for rates in zip(ins, cores, outs, strict=True)]
            said = f"{median(ours):.0f}/s; uvicorn + core floor + aiohttp {median(parts):.0f}/s{core.cpu(ours, parts)}"
            yield Figure("HTTP in, validate, map, HTTP out / its bare parts", ratio(ours, parts), 0.5, said=said)
            try:
                with nodered.running(target) as other:
                    wrk(other, "/through", body)
                    ours, theirs = alternate(
                        rounds, lambda: wrk(ours_at, "/through", body), lambda: wrk(other, "/through", body)
                    )
            except Skipped as reason:
                print(f"{'the same / Node-RED':58} skipped: {reason}")
                return
    said = f"{median(ours):.0f}/s; Node-RED, in memory {median(theirs):.0f}/s{core.cpu(ours, theirs)}"
    yield Figure("the same, durable / Node-RED's best synchronous flow", ratio(ours, theirs), 3.0, said=said)


def one_after_the_other(*rates: Rate) -> Rate:
    """The rate of something that does all of these for each message."""
    together = Rate(1 / sum(1 / rate for rate in rates))
    together.cpu = sum(rate.cpu for rate in rates)
    return together


def open_loop(rate: int, requests: int) -> Iterator[Figure]:
    """Latency of the 202 at a fixed rate; between the requests the same disk is asked for an fdatasync."""
    with folder({"routes/accept.yaml": ACCEPT}) as root, bus(root) as (url, _):
        took: list[float] = []
        late: list[float] = []
        syncs: list[float] = []
        share = requests // 5
        for _ in range(5):
            posted = post(f"{url}/accept", rate, share)
            took += posted.took[share // 10 :]
            late += posted.late[share // 10 :]
            syncs += fdatasyncs(root)
    p50, p99 = quantile(took, 0.5), quantile(took, 0.99)
    f50, f99 = quantile(syncs, 0.5), quantile(syncs, 0.99)
    said = f"{{:.2f}} ms; fdatasync of 12 KB {{:.2f}} ms; the client late by {quantile(late, 0.99) * 1e3:.2f} ms (p99)"
    yield Figure(f"HTTP accept at {rate}/s, p50 / fdatasync", p50 / f50, 6, True, said.format(p50 * 1e3, f50 * 1e3))
    yield Figure(f"HTTP accept at {rate}/s, p99 / fdatasync", p99 / f99, 10, True, said.format(p99 * 1e3, f99 * 1e3))


def fdatasyncs(root: Path, count: int = 200) -> list[float]:
    """Seconds of each append and fdatasync of 12 KB."""
    handle = os.open(root / "floor", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    block, took = os.urandom(12_288), []
    for _ in range(count):
        began = time.perf_counter()
        os.write(handle, block)
        os.fdatasync(handle)
        took.append(time.perf_counter() - began)
    os.close(handle)
    return took
