"""``make bench``: prints each figure with the floor it is measured against."""

from __future__ import annotations

import statistics

from benchmarks import core, http


def main() -> None:
    rounds = 5
    floors, cores = [], []
    for _ in range(rounds):  # alternated, so that both see the same weather
        floors.append(core.floor())
        cores.append(core.durable())
    floor, durable = statistics.median(floors), statistics.median(cores)
    ratio = statistics.median(c / f for c, f in zip(cores, floors, strict=True))
    print(f"raw floor   SQLite FULL, 100 a commit, same validate and map   {floor:9.0f} messages/s")
    print(
        f"the bus     topic in, validate, map, topic out, durable        {durable:9.0f} messages/s   {ratio:.2f} of the floor"
    )
    for line in http.report():
        print(line)


if __name__ == "__main__":
    main()
