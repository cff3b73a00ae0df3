"""Requests for a second person are bounded, and end; guesses at passwords count before they are known to be wrong."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from esb.access.people import Taken
from esb.access.requests import MOST_KEPT, MOST_OPEN, PAYLOAD, SHOWN, Requests, TooMany
from esb.admin.access import PER_ACCOUNT, Access
from esb.clock import ManualClock
from esb.endpoints.limits import GUESSES
from esb.secret import Secret


class Book:
    """The records of a store, without one."""

    def __init__(self) -> None:
        self.records: dict[str, dict[str, Any]] = {}
        self.actions: list[str] = []

    def access(self, kind: str) -> dict[str, dict[str, Any]]:
        return {name: dict(record) for name, record in self.records.items()}

    async def put_access(self, kind: str, name: str, value: Any, before: Any, entry: Any, at: Any) -> bool:
        if self.records.get(name) != before:
            return False
        self.actions.append(entry.action)
        if value is None:
            del self.records[name]
        else:
            self.records[name] = dict(value)
        return True


def record(clock: ManualClock, **more: Any) -> dict[str, Any]:
    expires = (clock.now() + timedelta(days=7)).isoformat()
    made = {
        "action": "discard",
        "ids": [str(n) for n in range(SHOWN + 50)],
        "count": 150,
        "routes": ["r"],
        "by": "mia",
        "reason": "r",
    }
    return {**made, "expires": expires, **more}


def test_open_requests_are_limited_and_old_ones_are_forgotten() -> None:
    async def scenario() -> None:
        clock, book = ManualClock(), Book()
        requests: Any = Requests(book, clock)  # type: ignore[arg-type]  # a double, or none
        for _ in range(MOST_OPEN):
            await requests.ask(record(clock), {})
        with pytest.raises(TooMany, match="wait already"):
            await requests.ask(record(clock), {})
        clock.advance(timedelta(days=8))
        assert {item["state"] for item in requests.all()} == {"expired"}
        for _ in range(MOST_KEPT + 20):
            clock.advance(timedelta(seconds=1))
            id_ = await requests.ask(record(clock, **{PAYLOAD: "eA=="}), {})
            done = await requests.move(requests.get(id_), "denied", "joe", "no", {})
        assert len(book.records) <= MOST_KEPT + 1
        assert book.actions.count("approval.forgotten") >= MOST_OPEN
        assert (len(done["ids"]), done["count"], done[PAYLOAD]) == (SHOWN, 150, "")

    asyncio.run(scenario())


def test_of_two_who_decide_at_once_one_is_too_late() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        requests: Any = Requests(Book(), clock)  # type: ignore[arg-type]  # a double, or none
        request = requests.get(await requests.ask(record(clock), {}))
        await requests.move(request, "approved", "joe", "ok", {})
        with pytest.raises(Taken, match="just now"):
            await requests.move(request, "denied", "kim", "no", {})

    asyncio.run(scenario())


class Nobody:
    """People whose passwords are never right, or always; ``heard`` counts the tries."""

    def __init__(self, *, right: bool) -> None:
        self.right, self.heard, self.mark = right, 0, "a"

    async def check(self, name: str, password: str) -> str:
        self.heard += 1
        await asyncio.sleep(0)
        return name if self.right else ""

    def stamp(self, name: str) -> str:
        return self.mark


@pytest.mark.parametrize(
    ("right", "addresses", "names", "heard"),
    [
        (False, 40, 1, PER_ACCOUNT.count),
        (False, 1, 100, GUESSES.count),
        (True, 8, 1, 8),
    ],
)
def test_s35_many_guesses_at_once_are_as_slow_as_one_after_the_other(
    right: bool, addresses: int, names: int, heard: int
) -> None:
    people: Any = Nobody(right=right)
    access = Access(Secret("x"), None, (), ManualClock(), people)

    async def scenario() -> None:
        tries = [access.check_password(f"10.0.0.{n}", f"joe{m}", "x") for n in range(addresses) for m in range(names)]
        await asyncio.gather(*tries)
        assert people.heard == heard
        if right:  # right ones cost nothing
            for _ in range(20):
                assert await access.check_password("10.0.0.1", "joe0", "x") == "joe0"

    asyncio.run(scenario())


def test_a_password_that_is_replaced_while_it_is_looked_at_is_wrong() -> None:
    people: Any = Nobody(right=True)
    access = Access(Secret("x"), None, (), ManualClock(), people)

    async def replaced() -> None:
        people.mark = "b"

    async def scenario() -> None:
        known, _ = await asyncio.gather(access.check_password("10.0.0.1", "joe", "x"), replaced())
        assert known == ""
        assert await access.check_password("10.0.0.1", "joe", "x") == "joe"

    asyncio.run(scenario())
