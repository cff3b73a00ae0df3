"""Planted faults: how they are asked for, when they strike, and that nobody meets them by accident."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from esb.failpoints import FailpointError, Failpoints, parse_failpoint


def points(text: str, test: str = "1") -> Failpoints:
    return Failpoints.read({"ESB_FAILPOINTS": text, "ESB_TEST": test})


def test_without_the_test_switch_nothing_is_planted() -> None:
    assert not points("store.before_commit=kill", test="").active
    assert not points("not even valid", test="0").active
    assert not points("").active


def test_an_error_strikes_at_every_pass_or_at_the_one_that_is_named() -> None:
    every, third = points("a=error"), points("a=error@3,b=sleep:0")
    for _ in range(2):
        with pytest.raises(FailpointError, match="failpoint a"):
            every.hit("a")
    third.hit("a")
    third.hit("b")
    third.hit("a")
    with pytest.raises(OSError, match="failpoint a"):
        third.hit("a")
    third.hit("a")


def test_a_delay_in_a_coroutine_lets_the_loop_go_on() -> None:
    async def main() -> list[str]:
        seen: list[str] = []

        async def slow() -> None:
            await points("a=sleep:0.001").pause("a")
            seen.append("slow")

        task = asyncio.create_task(slow())
        await asyncio.sleep(0)
        seen.append("other")
        await task
        return seen

    assert asyncio.run(main()) == ["other", "slow"]


@pytest.mark.parametrize("text", ["a", "a=boom", "a=sleep", "a=sleep:x", "a=kill@", "=kill", "A B=kill"])
def test_a_misspelt_fault_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"name=kill\|error"):
        parse_failpoint(text)


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_kill_ends_the_process_at_once() -> None:
    code = (
        "import atexit; from esb.failpoints import hit; atexit.register(print, 'no'); hit('x'); hit('x'); print('no')"
    )
    environment = {**os.environ, "ESB_TEST": "1", "ESB_FAILPOINTS": "x=kill@2"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, b"")


def test_every_place_is_struck_by_a_test() -> None:
    """A gap that no test strikes is a gap of the crash table. A test names what it strikes as ``name=…`` or in a list."""
    root = Path(__file__).parents[3]
    places = {
        name
        for path in (root / "esb").rglob("*.py")
        for name in re.findall(r"(?:hit|failpoint)\(\"([a-z._]+)\"", path.read_text(encoding="utf-8"))
    }
    said = "".join(path.read_text(encoding="utf-8") for path in (root / "tests").rglob("test_*.py"))
    assert len(places) > 20
    assert {name for name in places if f'"{name}"' not in said and f"{name}=" not in said} == set()
