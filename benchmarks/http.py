"""HTTP accept: latency of the 202 after the commit, against an fdatasync of the same disk; and requests a second."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.core import SCHEMA, payload

ROUTE = """
route: bench
from: { http: { path: /bench, method: POST, contract: inspection.v1 } }
steps:
  - filter: body.result == 'ACCEPT'
"""
REQUESTS, RATE = 3_000, 300


def fdatasyncs(folder: Path, count: int = 500) -> list[float]:
    """Seconds of each append and fdatasync of 12 KB."""
    handle = os.open(folder / "floor", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    block, took = os.urandom(12_288), []
    for _ in range(count):
        began = time.perf_counter()
        os.write(handle, block)
        os.fdatasync(handle)
        took.append(time.perf_counter() - began)
    os.close(handle)
    return took


def report() -> list[str]:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "routes").mkdir()
        (root / "schemas").mkdir()
        (root / "routes" / "bench.yaml").write_text(ROUTE)
        (root / "schemas" / "inspection.v1.json").write_text(SCHEMA)
        command = [sys.executable, "-m", "esb", "run", name, "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as bus:
            assert bus.stdout is not None
            ready = bus.stdout.readline()
            url = ready.split("http=")[1].split()[0]
            try:
                open_loop = asyncio.run(_open_loop(url))
                closed = asyncio.run(_closed_loop(url))
            finally:
                bus.terminate()
                bus.wait(30)
        floor = fdatasyncs(root)
    p50, p99 = _quantile(open_loop, 0.5), _quantile(open_loop, 0.99)
    f50, f99 = _quantile(floor, 0.5), _quantile(floor, 0.99)
    return [
        f"fdatasync   12 KB append                                       p50 {f50 * 1e3:6.2f} ms   p99 {f99 * 1e3:6.2f} ms",
        f"the bus     HTTP accept, {RATE}/s open loop                         p50 {p50 * 1e3:6.2f} ms   p99 {p99 * 1e3:6.2f} ms   "
        f"{p50 / f50:.1f} and {p99 / f99:.1f} times the floor",
        f"the bus     HTTP accept, 32 clients, closed loop               {closed:9.0f} requests/s (client and bus share the cores)",
    ]


def _quantile(values: list[float], q: float) -> float:
    return statistics.quantiles(values, n=1000)[int(q * 1000) - 1]


async def _open_loop(url: str) -> list[float]:
    import aiohttp

    took: list[float] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64)) as session:

        async def one(number: int, at: float) -> None:
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            began = time.perf_counter()
            async with session.post(
                f"{url}/bench", data=payload(number), headers={"Content-Type": "application/json"}
            ) as answer:
                assert answer.status == 202, await answer.text()
                took.append(time.perf_counter() - began)

        start = time.perf_counter() + 0.2
        await asyncio.gather(*(one(n, start + n / RATE) for n in range(REQUESTS)))
    return took[REQUESTS // 10 :]


async def _closed_loop(url: str) -> float:
    import aiohttp

    numbers = iter(range(REQUESTS, 3 * REQUESTS))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64)) as session:

        async def client() -> None:
            for number in numbers:
                async with session.post(
                    f"{url}/bench", data=payload(number), headers={"Content-Type": "application/json"}
                ) as answer:
                    assert answer.status == 202

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(32)))
        return 2 * REQUESTS / (time.perf_counter() - began)
