"""Keys of a console that can only be looked at, as on Windows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from esb.cli import keys
from esb.cli.dev import Screen, _hear


class Console:
    """``msvcrt`` as far as keys go."""

    def __init__(self, typed: str) -> None:
        self.typed = list(typed)

    def kbhit(self) -> bool:
        return bool(self.typed)

    def getwch(self) -> str:
        return self.typed.pop(0)


def test_a_console_is_looked_at_from_a_thread_and_arrows_are_no_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "LOOK", 0.001)

    async def go() -> list[str]:
        heard: asyncio.Queue[str] = asyncio.Queue()
        end = keys.by_looking(Console("r\xe0Ht\x00;q"), heard.put_nowait)
        found = [await heard.get() for _ in range(3)]
        end()
        assert heard.empty()
        return found

    assert asyncio.run(go()) == ["r", "t", "q"]


def test_without_a_terminal_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert keys.listen(lambda _: None) is None


def test_an_answer_is_said_also_where_it_is_what_was_said_last() -> None:
    said: list[str] = []
    screen = Screen(said.append)
    screen.line("✓", "tests 1/1")
    screen.line("✓", "tests 1/1")
    screen.answer()
    screen.line("✓", "tests 1/1")
    assert ["tests" in line for line in said] == [True, False, True]
    assert "the same 1 more time" in said[1]


def test_after_a_key_that_failed_the_next_one_is_heard() -> None:
    class Full:
        """A bus on a disk that is full."""

        def __init__(self) -> None:
            self.said: list[str] = []
            self.screen = Screen(self.said.append)

        async def take_over(self, _: object) -> None:
            raise OSError("no space")

    async def go() -> list[str]:
        pressed: asyncio.Queue[str] = asyncio.Queue()
        quit_ = asyncio.Event()
        bus: Any = Full()
        hearing = asyncio.create_task(_hear(pressed, bus, quit_.set))
        for key in "rq":
            pressed.put_nowait(key)
        async with asyncio.timeout(30):
            await quit_.wait()
        hearing.cancel()
        return list(bus.said)

    assert ["OSError: no space" in line for line in asyncio.run(go())] == [True]
