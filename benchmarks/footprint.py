"""Time to start, memory at rest and under overload."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import core
from benchmarks.figures import Figure, median
from benchmarks.http import ACCEPT, THROUGH
from benchmarks.programs import bus, cpu_of, folder, resident, wrk

LOAD = """
import gc, sys, time; from pathlib import Path
from esb.config.loader import load_workspace
gc.disable()  # as `esb run` does while it starts
began, cpu = time.perf_counter(), time.process_time()
loaded, _ = load_workspace(Path(sys.argv[1]))
took, cpu = time.perf_counter() - began, time.process_time() - cpu
assert loaded is not None and len(loaded.routes) == int(sys.argv[2]); print(took, cpu)
"""
#: A route whose target is not there: everything that is accepted stays in the queue.
STUCK = ACCEPT.replace("  - filter: body.result == 'NONE'", '  - to: { http: { url: "http://127.0.0.1:9/lots" } }')


def report(*, full: bool) -> Iterator[Figure]:
    rounds = 5 if full else 3
    yield seconds("esb --help", [_help() for _ in range(rounds)], 0.25)
    with folder({"routes/accept.yaml": ACCEPT}) as root:
        starts = [_ready(root) for _ in range(rounds)]
    yield seconds("from the command to ready", [(wall, cpu) for wall, cpu, _ in starts], 1.5)
    yield Figure("memory at rest", median([memory for *_, memory in starts]), 120, True, unit=" MB")
    with folder(_many(1_000)) as root:
        yield seconds("1 000 routes read and compiled", [_load(root, 1_000) for _ in range(rounds)], 2)
    with folder({"routes/accept.yaml": STUCK, "body.json": core.payload(1).decode()}) as root:
        yield _overload(root, 30 if full else 6)


def seconds(name: str, took: list[tuple[float, float]], goal: float) -> Figure:
    """Wall time is compared; CPU time says what it would be on a machine that has nothing else to do."""
    said = f"CPU {median([cpu for _, cpu in took]):.2f} s"
    return Figure(name, median([wall for wall, _ in took]), goal, True, said, " s")


def _help() -> tuple[float, float]:
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "esb", "--help"], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _ready(root: Path) -> tuple[float, float, float]:
    """Seconds and CPU seconds to `ready`, and the memory a second later."""
    began = time.perf_counter()
    with bus(root) as (_, process):
        took, cpu = time.perf_counter() - began, cpu_of(process.pid)
        time.sleep(1)  # what is loaded after `ready` counts, too
        return took, cpu, resident(process.pid)


def _many(number: int) -> dict[str, str]:
    mapping = "\n" + "\n".join("      " + line.strip() for line in core.MAPPING.strip().splitlines())
    route = THROUGH.replace("MAPPING", mapping).replace("SINK", "http://127.0.0.1:9")
    files = {f"routes/r{n}.yaml": route.replace("through", f"r{n}") for n in range(number)}
    return {**files, "schemas/inspection.v1.json": core.SCHEMA}


def _load(root: Path, number: int) -> tuple[float, float]:
    command = [sys.executable, "-c", LOAD, str(root), str(number)]
    wall, cpu = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(wall), float(cpu)


def _overload(root: Path, seconds: float) -> Figure:
    """As many requests as wrk can send to a route whose target is down: the queue fills, then 503."""
    with bus(root) as (url, process):
        wrk((url, process), "/accept", root / "body.json", connections=256, seconds=seconds, refused=True)
        return Figure(
            f"memory after {seconds:g} s of overload, target down", resident(process.pid), 512, True, unit=" MB"
        )
