"""What a client has used up stays used up, whatever becomes of the process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from esb.clock import ManualClock
from esb.durations import parse_rate
from esb.errors import StoreError
from esb.runtime.quotas import KeptQuotas
from esb.store import open_store

RATES = {"portal": parse_rate("4/d"), "mes": parse_rate("2/h")}


def log(*_: Any, **__: Any) -> None: ...


async def store_in(folder: Path, clock: ManualClock) -> Any:
    return await open_store("sqlite:///bus.db", folder, clock=clock, min_free=0, threaded=False)


async def moments() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_stop_keeps_what_is_left_and_time_goes_on_meanwhile(tmp_path: Path) -> None:
    async def go() -> None:
        clock = ManualClock()
        store = await store_in(tmp_path, clock)
        kept = KeptQuotas(store, clock, log)
        clients = kept.book.of(RATES, clock)
        assert [clients.refusal("portal") for _ in range(3)] == [None] * 3
        assert [clients.refusal("mes") is None for _ in range(3)] == [True, True, False]
        await kept.close()
        await store.close()
        clock.advance(1800)
        store = await store_in(tmp_path, clock)
        clients = KeptQuotas(store, clock, log).book.of(RATES, clock)
        assert [clients.refusal("portal") is None for _ in range(2)] == [True, False], (
            "a quota of a day is hardly fuller"
        )
        assert [clients.refusal("mes") is None for _ in range(2)] == [True, False], "one of an hour is half full"
        await store.close()

    asyncio.run(go())


def test_a_kill_forgets_the_last_second_and_no_more(tmp_path: Path) -> None:
    async def go() -> None:
        clock = ManualClock()
        store = await store_in(tmp_path, clock)
        clients = KeptQuotas(store, clock, log).book.of(RATES, clock)
        clients.refusal("portal"), clients.refusal("portal")
        await moments()
        clock.advance(1)
        await moments()
        clients.refusal("portal")
        await moments()
        after = KeptQuotas(store, clock, log).book.of(RATES, clock)  # what another process would find
        assert [after.refusal("portal") is None for _ in range(3)] == [True, True, False]
        await store.close()

    asyncio.run(go())


def test_a_client_that_did_not_come_back_and_a_store_that_was_busy_lose_nothing(tmp_path: Path) -> None:
    async def go() -> None:
        clock = ManualClock()
        store = await store_in(tmp_path, clock)
        kept = KeptQuotas(store, clock, log)
        clients = kept.book.of(RATES, clock)
        assert [clients.refusal("mes") is None for _ in range(3)] == [True, True, False]
        await kept.close()
        other = KeptQuotas(_Busy(store), clock, log)
        portal = other.book.of({"portal": RATES["portal"]}, clock)
        assert [portal.refusal("portal") is None for _ in range(5)] == [True] * 4 + [False]
        await moments()
        for _ in range(3):
            clock.advance(1)
            await moments()
        await other.close()
        last = KeptQuotas(store, clock, log).book.of(RATES, clock)
        assert last.refusal("mes") is not None
        assert last.refusal("portal") is not None
        await store.close()

    asyncio.run(go())


class _Busy:
    """A store that cannot write the first two times."""

    def __init__(self, store: Any) -> None:
        self._store, self._times = store, 2

    def get_state(self, space: str, name: str) -> Any:
        return self._store.get_state(space, name)

    async def put_state(self, space: str, name: str, value: Any) -> None:
        if self._times:
            self._times -= 1
            raise StoreError("the disk is full")
        await self._store.put_state(space, name, value)
