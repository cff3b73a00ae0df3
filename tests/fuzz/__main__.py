"""``python -m tests.fuzz [TARGET …] [--minutes M | --runs N]``: fuzz for a time or a number of runs, each target in a process."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.targets import LONGEST, ROOT, TARGETS, seeds


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], default=[])
    parser.add_argument("--minutes", type=float, default=1.0, help="for each target")
    parser.add_argument("--runs", type=int, default=0, help="inputs of each target, instead of minutes")
    words = parser.parse_args()
    failed = []
    for name in words.targets or TARGETS:
        limit = f"-runs={words.runs}" if words.runs else f"-max_total_time={int(words.minutes * 60)}"
        with tempfile.TemporaryDirectory() as folder:
            done = fuzz(name, Path(folder), limit, quiet=False)
        if done.returncode:
            failed.append(name)
    print("failed: " + ", ".join(failed) if failed else "no findings")
    return 1 if failed else 0


def fuzz(name: str, folder: Path, limit: str, *, quiet: bool) -> subprocess.CompletedProcess[str]:
    """Run one target from its seeds; the input that broke it stays in ``folder`` and is printed in base 64."""
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, data in enumerate(seeds(name)):
        (corpus / f"seed-{number}").write_bytes(data)
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.fuzz.one",
            name,
            str(corpus),
            limit,
            f"-artifact_prefix={folder}/",
            f"-max_len={LONGEST}",
            "-seed=1",
            "-timeout=30",
            "-print_final_stats=1",
        ],
        cwd=ROOT,
        text=True,
        check=False,
        capture_output=quiet,
    )


if __name__ == "__main__":
    sys.exit(main())
