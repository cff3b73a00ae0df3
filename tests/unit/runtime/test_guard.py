"""The watch: interrupts work that lasts, and nothing that has ended."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from esb.pipeline import Overtime
from esb.runtime import guard
from esb.runtime.guard import Watch


@pytest.fixture
def watch() -> Iterator[Watch]:
    one = Watch()
    one.start()
    yield one
    one.stop()


def endless() -> None:
    while True:
        pass


def watched(watch: Watch, work: Callable[[], None], arm: Callable[[], None] | None = None) -> None:
    try:
        (arm or watch.arm)()
        work()
    finally:
        watch.disarm()


def test_endless_work_is_interrupted(watch: Watch) -> None:
    for _ in range(2):
        with pytest.raises(Overtime):
            watched(watch, endless)


def test_work_that_swallows_every_exception_is_interrupted(watch: Watch) -> None:
    def stubborn() -> None:
        while True:
            with suppress(Exception):
                endless()

    with pytest.raises(Overtime):
        watched(watch, stubborn)


def test_a_step_is_interrupted_before_the_rules_of_a_route_are(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step begins again elsewhere; rules that are interrupted are a fault."""
    monkeypatch.setattr(guard, "PATIENCE", 1e9)
    monkeypatch.setattr(guard, "WAIT", 1e9)
    with pytest.raises(Overtime):
        watched(watch, endless, watch.arm_step)


@dataclass
class Looking:
    """A watch without a thread: its clock and the processor time of the watched thread are told."""

    watch: Watch
    now: float = 100.0
    computed: float = 5.0
    fired: int = 0

    def passes(self, seconds: float, *, computing: float | None = None) -> None:
        self.now += seconds
        self.computed += seconds if computing is None else computing

    def look(self) -> float:
        return self.watch.look(self.now, self.computed)


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch) -> Looking:
    one = Looking(Watch())
    monkeypatch.setattr(guard, "monotonic", lambda: one.now)
    monkeypatch.setattr(guard, "STEP_PATIENCE", 0.02)

    def interrupt(*_: Any) -> None:
        one.fired += 1

    monkeypatch.setattr(guard, "_interrupt", interrupt)
    one.look()
    return one


def test_the_watch_looks_again_when_the_patience_ends(looking: Looking) -> None:
    """Whoever computes gives a thread its turn only after the interval of a switch; the watch asks for it that much earlier."""
    looking.watch.arm_step()
    looking.passes(0.008)
    assert looking.look() == pytest.approx(0.012 - sys.getswitchinterval())
    looking.passes(0.0115)
    assert looking.look() == guard._SOON
    looking.passes(0.001)
    assert looking.fired == 0
    assert looking.look() == guard.LOOK
    assert looking.fired == 1


def test_a_step_is_interrupted_at_the_first_look_that_finds_it_too_slow(looking: Looking) -> None:
    looking.passes(0.001)
    looking.watch.arm_step()
    looking.passes(0.021)
    looking.look()
    assert looking.fired == 1


def test_what_was_computed_before_it_is_not_the_steps(looking: Looking) -> None:
    looking.passes(0.5)
    looking.watch.arm_step()
    looking.passes(0.001)
    looking.look()
    looking.passes(0.018)
    looking.look()
    assert looking.fired == 0
    looking.passes(0.002)
    looking.look()
    assert looking.fired == 1


def test_time_for_which_a_step_has_no_processor_is_not_the_steps(looking: Looking) -> None:
    looking.watch.arm_step()
    for _ in range(10):
        looking.passes(0.1, computing=0.001)
        looking.look()
    assert looking.fired == 0
    looking.passes(0.1, computing=0.011)
    looking.look()
    assert looking.fired == 1


def test_what_neither_computes_nor_ends_is_interrupted_in_the_end(looking: Looking) -> None:
    looking.watch.arm_step()
    looking.passes(guard.WAIT, computing=0.0)
    looking.look()
    assert looking.fired == 1


def test_many_quick_steps_are_none_that_is_slow(looking: Looking) -> None:
    for _ in range(100):
        looking.watch.arm_step()
        looking.passes(0.015)
        looking.look()
    assert looking.fired == 0


def test_a_step_that_swallows_the_interrupt_is_interrupted_again(looking: Looking) -> None:
    looking.watch.arm_step()
    for _ in range(6):
        looking.passes(0.015)
        looking.look()
    assert looking.fired == 3


def test_a_step_that_is_slow_again_and_again_does_not_come_back(watch: Watch) -> None:
    node: Any = object()
    for _ in range(guard.CHANCES):
        watch.was_slow(node)
        watch.was_quick(node)
        assert not watch.slow
    watch.was_slow(node)
    watch.was_quick(node)
    assert watch.slow == {id(node): node}


def test_an_interrupt_never_meets_what_comes_after_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch fires at work that ends at the very same time, thousands of times over."""
    monkeypatch.setattr(guard, "LOOK", 0.0)
    monkeypatch.setattr(guard, "PATIENCE", 0.0)
    watch = Watch()
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # the two threads meet anywhere in the work
    watch.start()
    fired, turns = 0, 0
    try:
        while turns < 20_000 or fired < 20:
            turns += 1
            fired += 1
            with suppress(Overtime):
                try:
                    watch.arm()
                    for _ in range(turns % 200):
                        pass
                finally:
                    watch.disarm()
                fired -= 1
            for _ in range(50):  # an interrupt that came late would be raised here, and fail the test
                pass
    finally:
        watch.stop()
        sys.setswitchinterval(switch)


def test_the_interpreter_is_as_before_after_an_interrupt() -> None:
    """A trace function shows it: where an interrupt left its mark, the first traced call never ends."""
    program = """
import sys
from esb.pipeline import Overtime
from esb.runtime.guard import Watch

watch = Watch()
watch.start()
try:
    watch.arm()
    try:
        while True:
            pass
    finally:
        watch.disarm()
except Overtime:
    pass
watch.stop()
sys.settrace(lambda *_: None)
(lambda: print("whole"))()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "whole\n", done.stderr
