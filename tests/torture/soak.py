"""Steady load for a long time: nothing lost, and memory that does not grow. ``python -m tests.torture.soak --minutes 60``.

The load is below what the bus can deliver: a queue that grows is memory that grows, and no fault. The slope of the resident memory is fitted over the last two thirds of the run (the first third fills caches and the lists of
what was sent live elsewhere, in this process). Exit 1 where a message is lost, or where memory grows faster than ``--slope`` MB
an hour.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import linear_regression

import psutil

from tests.torture.rig import DROP, ROUTE, Rig

#: Resident memory may grow by this much in an hour, in MB; above it something is kept that should be let go.
SLOPE = 10.0
#: Messages a second.
RATE = 50.0
#: Seconds between two looks.
EVERY = 2.0


def soak(rig: Rig, minutes: float, rate: float) -> list[tuple[float, float]]:
    """Run the load; gives hours and MB of the bus."""
    bus = rig.start()
    process = psutil.Process(bus.process.popen.pid)
    samples: list[tuple[float, float]] = []
    began = time.monotonic()
    with rig.load("soak", clients=4, rate=rate) as load:
        while (gone := time.monotonic() - began) < minutes * 60:
            rig.drop(f"f{len(samples)}")
            samples.append((gone / 3600, process.memory_info().rss / 1e6))
            if len(samples) % 30 == 1:
                queued = rig.open_messages()
                print(
                    f"{gone / 60:4.0f} min {load.acked:8} messages, {queued:6} open {samples[-1][1]:6.1f} MB",
                    flush=True,
                )
            time.sleep(EVERY)
        reached = load.acked / gone
    rig.drained(within=300)
    print(f"{rig.ledger.count} messages, {reached:.0f} a second, {len(samples)} samples")
    return samples


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--minutes", type=float, default=60.0)
    words.add_argument("--rate", type=float, default=RATE, help="messages a second")
    words.add_argument("--slope", type=float, default=SLOPE)
    options = words.parse_args()
    with tempfile.TemporaryDirectory(prefix="esb-soak-") as folder:
        rig = Rig(Path(folder), routes=(ROUTE, DROP))
        try:
            samples = soak(rig, options.minutes, options.rate)
            faults = rig.verdict().faults + rig.verdict_of_files().faults + rig.conserved()
            rig.settled()
        finally:
            rig.close()
    late = samples[len(samples) // 3 :]
    slope, _ = linear_regression(*zip(*late, strict=True))
    print(f"memory {samples[0][1]:.0f} MB at the start, {samples[-1][1]:.0f} MB at the end, {slope:+.1f} MB an hour")
    if slope > options.slope:
        faults.append(f"memory grows by {slope:.1f} MB an hour, more than {options.slope:g}")
    print("\n".join(faults) or "no faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
