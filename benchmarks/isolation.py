"""The latency of a probe route beside broken and hostile neighbours, against the same bus at peace."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.neighbours import ATTACKS, World, keep_on, post, slow_clients
from examples.demo.harness import Bus

PROBES = 300
#: Seconds between two attacks of one kind: they share the processors of this machine with the bus.
PAUSE = 1.0


def report(*, full: bool) -> Iterator[Figure]:
    """The 99th percentile of the probe among attacks, in percentiles of the probe at peace."""
    count = PROBES * 5 if full else PROBES
    with tempfile.TemporaryDirectory() as name:
        world = World()
        world.start()
        world.write(Path(name))
        bus = Bus(Path(name), environment=os.environ).start()
        try:
            address = bus.http.removeprefix("http://")
            probed(address, 50)
            peace = probed(address, count)
            ended = threading.Event()
            clients = slow_clients(address, 50)
            threads = [keep_on(partial(_attack, address, route, body, ended), ended) for route, body, _, _ in ATTACKS]
            war = probed(address, count)
            ended.set()
            for thread in threads:
                thread.join(30)
            for client in clients:
                client.close()
        finally:
            bus.kill()
            world.stop()
    said = f"p99 {_at(war, 99):.0f} ms and p50 {_at(war, 50):.0f} ms; at peace {_at(peace, 99):.0f} and {_at(peace, 50):.0f} ms"
    yield Figure(f"p99 of a probe beside {len(ATTACKS)} kinds of attack", _at(war, 99) / _at(peace, 99), 2, True, said)


def _attack(address: str, route: str, body: bytes, ended: threading.Event) -> None:
    post(address, route, body)
    ended.wait(PAUSE)


def probed(address: str, count: int) -> list[float]:
    """:func:`latencies` in a process of its own: attackers and targets in this one must not hold up who looks at the clock."""
    command = [sys.executable, "-m", "benchmarks.isolation", address, str(count)]
    found: list[float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def latencies(address: str, count: int) -> list[float]:
    """Milliseconds from the request to its answer, which comes after the commit."""
    found = []
    for number in range(count):
        began = time.perf_counter()
        assert post(address, "probe", b'{"no": %d}' % number)[0] == 202
        found.append((time.perf_counter() - began) * 1000)
    return found


def _at(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


if __name__ == "__main__":
    print(json.dumps(latencies(sys.argv[1], int(sys.argv[2]))))
