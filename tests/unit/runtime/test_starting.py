"""How worker processes begin and end: beside the loop, from one process that has loaded everything, and never without their bus."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Callable, Collection, Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest

from esb.runtime import starting
from esb.runtime.starting import Child, Forks, Spawns, Starter
from examples.demo.harness import until

MEMORY = 500_000_000
#: How the first frame begins; the process id follows.
READY = b"\0\0\0\5r"
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")
KINDS = [pytest.param(Forks, marks=ON_LINUX), Spawns]

#: A bus that is killed: it starts two workers, says so and waits.
BUS = """
import asyncio, sys
from esb.runtime.starting import Forks, Spawns

async def main():
    starter = {"Forks": Forks, "Spawns": Spawns}[sys.argv[1]](500_000_000)
    both = [await starter.start() for _ in range(2)]
    for one in both:
        await one.reader.readexactly(5)
    print("ready", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def run(scenario: Callable[[Starter], Coroutine[Any, Any, None]], kind: Callable[[int], Starter]) -> None:
    """Under a time limit, with a starter that is closed at the end."""

    async def go() -> None:
        starter = kind(MEMORY)
        try:
            async with asyncio.timeout(60):
                await scenario(starter)
        finally:
            await starter.close()

    before = set(psutil.Process().children(recursive=True))
    asyncio.run(go())
    until(lambda: not below(before), within=60, what="the end of every process")


def below(before: Collection[psutil.Process]) -> list[psutil.Process]:
    """The living processes that were started since; servers of other tests may be there."""
    return [one for one in psutil.Process().children(recursive=True) if one not in before and alive(one)]


def beside(before: Collection[psutil.Process]) -> list[psutil.Process]:
    """The living direct children that were started since."""
    return [one for one in psutil.Process().children() if one not in before and alive(one)]


@pytest.fixture
def before() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


async def born(starter: Starter) -> Child:
    child = await starter.start()
    assert (await child.reader.readexactly(9)).startswith(READY)
    return child


async def ended(child: Child) -> int | None:
    await asyncio.wait([child.ended], timeout=60)
    child.writer.close()
    return child.code


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_ends_in_peace_when_its_stream_does_and_at_once_when_it_is_killed(kind: Any) -> None:
    async def scenario(starter: Starter) -> None:
        first, second = await born(starter), await born(starter)
        assert (first.code, second.code) == (None, None)
        first.writer.close()
        assert await ended(first) == 0
        assert second.code is None, "the stream of one is not held by the other"
        second.kill()
        assert await ended(second) not in (None, 0)
        second.kill()  # nobody is hit by this

    run(scenario, kind)


@ON_LINUX
def test_workers_are_forked_from_one_process_that_lives_on(before: set[psutil.Process]) -> None:
    async def scenario(starter: Starter) -> None:
        first = await born(starter)
        (nursery,) = beside(before)
        (worker,) = nursery.children()
        worker.kill()
        assert await ended(first) == -9
        second = await born(starter)
        assert beside(before) == [nursery]
        second.kill()
        assert await ended(second) == -9

    run(scenario, Forks)


@ON_LINUX
def test_where_the_process_that_forks_has_died_another_one_does(before: set[psutil.Process]) -> None:
    async def scenario(starter: Starter) -> None:
        first = await born(starter)
        (nursery,) = beside(before)
        (worker,) = nursery.children()
        nursery.kill()
        assert await ended(first) is not None
        await asyncio.to_thread(worker.wait, 60)
        second = await born(starter)
        assert beside(before) != [nursery]
        second.writer.close()
        assert await ended(second) == 0

    run(scenario, Forks)


@ON_LINUX
def test_a_process_that_forks_and_hangs_holds_up_no_stop(
    before: set[psutil.Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "_PATIENCE", 0.1)

    async def scenario(starter: Starter) -> None:
        child = await born(starter)
        (nursery,) = beside(before)
        child.writer.close()
        assert await ended(child) == 0
        nursery.suspend()
        await starter.rest()
        assert not alive(nursery)

    run(scenario, Forks)


@ON_LINUX
def test_the_process_that_forks_ends_with_its_last_worker_and_begins_again_with_the_next(
    before: set[psutil.Process],
) -> None:
    async def scenario(starter: Starter) -> None:
        first = await born(starter)
        await starter.rest()
        assert first.code is None
        first.writer.close()
        assert await ended(first) == 0
        await starter.rest()
        assert beside(before) == []
        second, _ = await asyncio.gather(born(starter), starter.rest())
        assert second.code is None
        second.writer.close()
        assert await ended(second) == 0

    run(scenario, Forks)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("kind", ["Forks" if sys.platform == "linux" else "Spawns", "Spawns"])
def test_no_worker_outlives_a_bus_that_is_killed(tmp_path: Path, kind: str) -> None:
    (tmp_path / "bus.py").write_text(BUS, encoding="utf-8")
    with subprocess.Popen([sys.executable, tmp_path / "bus.py", kind], stdout=subprocess.PIPE) as bus:
        assert bus.stdout is not None
        assert bus.stdout.readline() == b"ready\n"
        workers = psutil.Process(bus.pid).children(recursive=True)
        assert len(workers) >= 2
        bus.kill()
    until(lambda: not any(alive(one) for one in workers), within=60, what="the end of its workers")


def alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False
