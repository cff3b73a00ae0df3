"""Many deadlines share one timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from esb.endpoints import expiries
from esb.endpoints.expiries import Expiries


class Timer:
    def __init__(self, at: float, ring: Callable[[], None]) -> None:
        self.at, self.ring, self.cancelled = at, ring, False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """A loop whose time is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, ring: Callable[[], None]) -> Timer:
        self.timers.append(Timer(at, ring))
        return self.timers[-1]

    @property
    def set(self) -> list[float]:
        return sorted(one.at for one in self.timers if not one.cancelled)

    def go_to(self, now: float) -> None:
        self.now = now
        for one in [one for one in self.timers if not one.cancelled and one.at <= now]:
            self.timers.remove(one)
            one.ring()


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    made = Loop()
    monkeypatch.setattr(expiries.asyncio, "get_running_loop", lambda: made)
    return made


def test_only_the_next_deadline_has_a_timer(loop: Loop) -> None:
    late: list[str] = []
    watched: Expiries[str] = Expiries(late.append)
    watched.begin("a", 30)
    watched.begin("b", 40)
    assert loop.set == [30]
    watched.begin("c", 5)
    assert loop.set == [5]
    watched.end("c")
    loop.go_to(5)
    assert (late, loop.set) == ([], [30])
    loop.go_to(30)
    assert (late, loop.set) == (["a"], [40])
    watched.end("a")
    loop.go_to(40)
    assert (late, loop.set) == (["a", "b"], [])
    watched.begin("d", 1)
    watched.end("d")
    loop.go_to(41)
    assert (late, loop.set) == (["a", "b"], [])


def test_what_begins_again_has_its_time_again(loop: Loop) -> None:
    late: list[str] = []
    watched: Expiries[str] = Expiries(late.append)
    watched.begin("a", 10)
    loop.go_to(8)
    watched.begin("a", 10)
    loop.go_to(10)
    assert (late, loop.set) == ([], [18])
    loop.go_to(18)
    assert late == ["a"]


def test_one_that_is_late_may_begin_others(loop: Loop) -> None:
    late: list[str] = []

    def expired(what: str) -> None:
        late.append(what)
        watched.begin("again", 2)

    watched: Expiries[str] = Expiries(expired)
    watched.begin("a", 1)
    watched.begin("b", 9)
    loop.go_to(1)
    assert (late, loop.set) == (["a"], [3])


def test_on_a_real_loop() -> None:
    async def scenario() -> None:
        late: asyncio.Queue[Any] = asyncio.Queue()
        watched: Expiries[str] = Expiries(late.put_nowait)
        watched.begin("never", 60)
        watched.begin("soon", 0.001)
        assert await late.get() == "soon"
        watched.end("never")
        assert late.empty()

    asyncio.run(scenario())
