"""The thread of a committer: one thing after the other, each heard on the loop."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

from esb.store.apart import Apart


def test_what_is_called_is_heard_on_the_loop_in_its_order_also_where_it_raised() -> None:
    async def main() -> None:
        apart, heard, done = Apart("one-thread"), list[Any](), asyncio.Event()

        def fails() -> None:
            raise OSError("the disk is gone")

        def then(answer: Any) -> None:
            heard.append((threading.current_thread() is threading.main_thread(), answer))
            if len(heard) == 3:
                done.set()

        for call in (lambda: threading.current_thread().name, fails, lambda: threading.current_thread().name):
            apart.run(call, then)
        await done.wait()
        apart.close()
        assert [there for there, _ in heard] == [True] * 3
        assert (heard[0][1], str(heard[1][1]), heard[2][1]) == ("one-thread", "the disk is gone", "one-thread")

    asyncio.run(main())


def test_closing_waits_for_what_was_asked_before() -> None:
    async def main() -> None:
        apart, called = Apart("one-thread"), list[int]()
        held = threading.Event()

        def call(number: int) -> None:
            held.wait(10)
            called.append(number)

        for number in range(3):
            apart.run(partial(call, number), lambda _: None)
        held.set()
        apart.close()
        assert called == [0, 1, 2]
        assert "one-thread" not in {thread.name for thread in threading.enumerate()}

    asyncio.run(main())


def test_one_that_was_never_asked_has_no_thread() -> None:
    apart = Apart("one-thread")
    apart.close()
    assert "one-thread" not in {thread.name for thread in threading.enumerate()}


def test_a_loop_that_has_ended_meanwhile_ends_no_thread() -> None:
    apart, held, called = Apart("one-thread"), threading.Event(), list[int]()

    async def main() -> None:
        apart.run(lambda: held.wait(10), lambda _: None)
        apart.run(lambda: called.append(1), lambda _: None)

    asyncio.run(main())
    held.set()
    apart.close()
    assert called == [1]
