"""A thread of its own for what takes long, such as a commit to a slow disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any

#: What is called in the thread, and who hears on which loop what it gave.
_Call = tuple[asyncio.AbstractEventLoop, Callable[[], Any], Callable[[Any], None]]


class Apart:
    """Calls one thing after the other in a thread, which begins with the first.

    An executor does the same at more than twice the price: a small commit costs less than its future, locks and callbacks.
    """

    __slots__ = ("_calls", "_name", "_thread")

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._thread: Thread | None = None

    def run(self, call: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """``then`` hears on the loop what ``call`` gave, or the exception that it raised."""
        if self._thread is None:
            self._thread = Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._calls.put((asyncio.get_running_loop(), call, then))

    def _work(self) -> None:
        while (asked := self._calls.get()) is not None:
            loop, call, then = asked
            try:
                answer = call()
            except BaseException as error:  # noqa: BLE001 - whoever waits hears of it, and the thread goes on
                answer = error
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(then, answer)
            del asked, call, then, answer  # nothing is held until the next one comes

    def close(self) -> None:
        """Return when everything was called and the thread has ended."""
        if self._thread is not None:
            self._calls.put(None)
            self._thread.join()
            self._thread = None
