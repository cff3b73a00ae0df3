"""A short fuzzing run of every target: its seeds, then inputs bred from them by coverage. ``make fuzz MINUTES=10`` goes on."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from tests.fuzz.__main__ import fuzz
from tests.fuzz.targets import TARGETS, seeds
from tests.servers.require import missing

#: inputs in this short run; reading a workspace from disk takes a hundred times as long as reading a head
RUNS = {"route": 200, "template": 300, "expression": 300}


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_comes_out_but_what_is_declared(name: str, tmp_path: Path) -> None:
    if sys.platform != "linux" or sys.version_info >= (3, 14):
        pytest.skip("atheris, the fuzzer, exists for Linux and Python below 3.14")
    if importlib.util.find_spec("atheris") is None:
        missing("atheris is not installed; pip install -r requirements-dev.txt")
    done = fuzz(name, tmp_path, f"-runs={RUNS.get(name, 2_000)}", quiet=True)
    assert done.returncode == 0, done.stderr[-5_000:]


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_is_taken_without_the_fuzzer(name: str) -> None:
    found = seeds(name)
    assert found
    for data in found[:20]:
        TARGETS[name](data)
