"""The latency of a probe route beside broken and hostile neighbours, against the same bus at peace.

Who probes, who attacks and what is attacked are processes of their own. The third of the stretches that take turns is the
control: the same clients attack a bare server, whose requests reach the same targets, while nobody attacks the bus. What it
costs the probe is the machine's, not the bus's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.figures import Figure, median, quantile
from benchmarks.neighbours import ATTACKS, World, keep_on, post, slow_clients
from examples.demo.harness import Bus, until

#: Probes a second, whatever the answers take, and seconds of a stretch.
RATE, STRETCH = 100, 10.0
#: Seconds between two attacks of one kind.
PAUSE = 1.0
SLOW_CLIENTS = 50


def report(*, full: bool) -> Iterator[Figure]:
    """The 99th percentile of the probe among attacks, in percentiles of the probe at peace; all rounds together."""
    with contextlib.ExitStack() as ends:
        root = Path(ends.enter_context(tempfile.TemporaryDirectory()))
        world = World(url=ends.enter_context(role("target")))
        world.write(root)
        bus = Bus(root, environment=os.environ).start()
        ends.callback(bus.kill)
        address = bus.http.removeprefix("http://")
        bare = ends.enter_context(role("bare", world.url))
        probed(address, 1.0)
        peace: list[float] = []
        war: list[float] = []
        control: list[float] = []
        for _ in range(6 if full else 2):
            peace += probed(address, STRETCH)
            control += attacked(address, bare)
            war += attacked(address, address)
            until(partial(_rests, bus), within=120, what="the end of what the attackers left")
    said = f"of {len(war)} probes; {_said(war)}; at peace {_said(peace)}"
    yield Figure(f"p99 of a probe beside {len(ATTACKS)} kinds of attack", _p99(war) / _p99(peace), 2, True, said)
    said = f"{_said(control)}: what attackers and targets take of this machine"
    yield Figure("p99 of it while they attack a bare server", _p99(control) / _p99(peace), None, True, said)


def attacked(address: str, victim: str) -> list[float]:
    with role("attack", victim):
        return probed(address, STRETCH)


def probed(address: str, seconds: float) -> list[float]:
    """:func:`latencies`, by a process of its own."""
    command = [sys.executable, "-m", "benchmarks.isolation", "probe", address, str(seconds)]
    found: list[float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


async def latencies(address: str, seconds: float) -> list[float]:
    """Milliseconds from a request on a connection of its own to the answer, which comes after the commit.

    A request leaves when it is due, whether those before it were answered or not.
    """
    host, port = address.rsplit(":", 1)
    async with asyncio.TaskGroup() as group:
        began = time.perf_counter()
        probes = []
        for number in range(int(RATE * seconds)):
            await asyncio.sleep(began + number / RATE - time.perf_counter())
            probes.append(group.create_task(_latency(host, int(port), number)))
    return [probe.result() for probe in probes]


async def _latency(host: str, port: int, number: int) -> float:
    body = b'{"no": %d}' % number
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(_HEAD % (len(body), body))
    answer = await reader.readline()
    took = time.perf_counter() - began
    writer.close()
    assert answer.startswith(b"HTTP/1.1 202 "), answer
    return took * 1000


_HEAD = b"POST /probe HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"


def _p99(values: list[float]) -> float:
    return quantile(values, 0.99)


def _said(values: list[float]) -> str:
    return f"p50 {median(values):.1f} ms, p99 {_p99(values):.1f} ms"


def _rests(bus: Bus) -> bool:
    return not any(route["oldest"] for route in bus.status().values())


# -- the parts that are processes of their own -----------------------------------------------------------------------------


@contextlib.contextmanager
def role(name: str, *words: str) -> Iterator[str]:
    """Run one of :data:`ROLES` meanwhile; gives the line that it said when it was ready."""
    command = [sys.executable, "-m", "benchmarks.isolation", name, *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def target() -> None:
    world = World()
    world.start()
    print(world.url, flush=True)
    threading.Event().wait()


def attack(address: str) -> None:
    clients = slow_clients(address, SLOW_CLIENTS)
    ended = threading.Event()
    for route, body, _, _ in ATTACKS:
        keep_on(partial(_attack, address, route, body, ended), ended)
        ended.wait(PAUSE / len(ATTACKS))  # they know nothing of each other
    print(f"{len(ATTACKS)} attackers and {len(clients)} slow clients", flush=True)
    threading.Event().wait()


def _attack(address: str, route: str, body: bytes, ended: threading.Event) -> None:
    ended.wait(PAUSE)  # first of all: the probe looks on from the first attack
    with contextlib.suppress(OSError):
        post(address, route, body)


def bare(url: str) -> None:
    """A server that takes requests as the bus does, and keeps, checks and computes nothing; it asks the targets that answer badly."""
    asyncio.run(_bare(url))


async def _bare(url: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.split(b"content-length:")[1].split()[0])
            status = b"413 Too Large" if length > 10_000_000 else b"202 Accepted"
            if length <= 10_000_000:
                await reader.readexactly(length)
            writer.write(b"HTTP/1.1 %b\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnull" % status)
            await writer.drain()
            writer.close()
            path = head.split()[1].decode()
            if path in ("/drip", "/bomb", "/redirect"):
                await _ask(url, path)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


async def _ask(url: str, path: str) -> None:
    there = urlsplit(url)
    reader, writer = await asyncio.open_connection(there.hostname, there.port)
    writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(1):
            while await reader.read(1 << 16):
                pass
    writer.close()


def probe(address: str, seconds: str) -> None:
    print(json.dumps(asyncio.run(latencies(address, float(seconds)))))


ROLES = {one.__name__: one for one in (target, attack, bare, probe)}

if __name__ == "__main__":
    ROLES[sys.argv[1]](*sys.argv[2:])
