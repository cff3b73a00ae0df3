"""``make bench``: prints each figure with the floor it is measured against. ``--full`` takes longer and goes further."""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
from collections.abc import Callable, Iterator

from benchmarks import (
    amqp,
    authoring,
    core,
    flat,
    footprint,
    http,
    isolation,
    pages,
    parsers,
    postgres,
    search,
    sftp,
    sql,
)
from benchmarks.figures import Figure, Skipped

PARTS: dict[str, Callable[..., Iterator[Figure]]] = {
    "core": core.report,
    "http": http.report,
    "amqp": amqp.report,
    "sftp": sftp.report,
    "flat": flat.report,
    "footprint": footprint.report,
    "authoring": authoring.report,
    "isolation": isolation.report,
    "sql": sql.report,
    "postgres": postgres.report,
    "parsers": parsers.report,
    "search": search.report,
    "pages": pages.report,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only these: {' '.join(PARTS)}")
    parser.add_argument("--full", action="store_true", help="more rounds, 5 million stored messages, 1 000 routes")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - PARTS.keys():
        parser.error(f"no such part: {' '.join(sorted(unknown))}")
    load = " ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{os.cpu_count()} cores (load {load}), Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}")
    for name in asked.parts or PARTS:
        try:
            for figure in PARTS[name](full=asked.full):
                print(figure, flush=True)
        except Skipped as reason:
            print(f"{name}: skipped: {reason}", flush=True)


if __name__ == "__main__":
    main()
