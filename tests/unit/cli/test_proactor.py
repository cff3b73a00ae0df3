"""Accepting connections on Windows, where asyncio closes a listener over a caller that is gone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from esb.cli import proactor
from esb.cli.proactor import Accepting, tell_others


class Gone(OSError):
    """What Windows says of a caller that is gone, in one of many words."""

    def __init__(self) -> None:
        super().__init__(22, "a fault")


class Listener:
    """What the system gives, one by one: a connection, or a fault of the call (``at_once``) or of its result."""

    def __init__(self, *given: Any, at_once: bool = False) -> None:
        self.given, self.at_once, self.open, self.begun = list(given), at_once, True, 0
        self.waits: list[asyncio.Future[Any]] = []

    def fileno(self) -> int:
        return 5 if self.open else -1

    def accept(self, listener: Any) -> asyncio.Future[Any]:
        assert listener is self
        self.begun += 1
        future = asyncio.get_running_loop().create_future()
        if not self.given:
            self.waits.append(future)
        elif not isinstance(one := self.given.pop(0), OSError):
            future.set_result(one)
        elif self.at_once:
            raise one
        else:
            future.set_exception(one)
        return future


def accepting(listener: Any) -> Accepting:
    return Accepting(listener.accept, listener, asyncio.get_running_loop())


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proactor, "_PAUSE", 0.0)


@pytest.mark.parametrize("at_once", [False, True])
def test_the_one_after_a_caller_that_is_gone_is_accepted(at_once: bool) -> None:
    async def go() -> Any:
        return await accepting(Listener(Gone(), Gone(), "connection", at_once=at_once))

    assert asyncio.run(go()) == "connection"


def test_a_listener_that_was_closed_is_told() -> None:
    async def go() -> None:
        listener = Listener(Gone())
        listener.open = False
        await accepting(listener)

    with pytest.raises(OSError, match="a fault"):
        asyncio.run(go())


def test_who_no_longer_listens_has_the_system_stop_at_once() -> None:
    async def go() -> None:
        listener = Listener()
        one = accepting(listener)
        one.cancel()
        assert listener.waits[0].cancelled()
        await asyncio.sleep(0)
        assert (one.cancelled(), listener.begun) == (True, 1)

    asyncio.run(go())


def test_what_the_loop_cancels_is_over() -> None:
    async def go() -> None:
        listener = Listener()
        one = accepting(listener)
        listener.waits[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await one

    asyncio.run(go())


def test_a_fault_of_the_program_is_told() -> None:
    async def go() -> None:
        listener = Listener()
        one = accepting(listener)
        listener.waits[0].set_exception(Bug())
        await one

    with pytest.raises(Bug):
        asyncio.run(go())


class Bug(Exception):
    """Some fault that is none of the system."""


def test_nothing_is_said_of_a_caller_that_is_gone_and_of_everything_else(caplog: pytest.LogCaptureFixture) -> None:
    async def go() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(tell_others)

        async def accept_coro(error: Exception) -> None:
            raise error

        for error in (Gone(), Bug()):
            task = asyncio.ensure_future(accept_coro(error))
            await asyncio.wait({task})
            loop.call_exception_handler({"message": "never retrieved", "exception": error, "future": task})
            task.exception()

    asyncio.run(go())
    assert [type(record.exc_info[1]) for record in caplog.records if record.exc_info] == [Bug]
