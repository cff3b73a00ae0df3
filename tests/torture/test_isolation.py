"""One route works while its neighbours are attacked in every way we know: each attack ends as documented, and nobody else notices."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.neighbours import ATTACKS, World, post, slow_clients
from examples.demo.harness import Bus, until

PROBES = 20


@pytest.fixture
def world() -> Iterator[World]:
    one = World()
    one.start()
    yield one
    one.stop()


@pytest.fixture
def bus(tmp_path: Path, world: World) -> Iterator[Bus]:
    world.write(tmp_path / "bus")
    one = Bus(tmp_path / "bus", environment=os.environ).start()
    yield one
    one.kill()


@pytest.mark.timeout(300)
def test_a_probe_beside_broken_and_hostile_neighbours(bus: Bus, world: World) -> None:
    address = bus.http.removeprefix("http://")
    before = psutil.Process(bus.process.popen.pid).memory_info().rss
    clients = slow_clients(address, 20)
    sent = 0
    accepted = {}
    for route, body, end, _ in ATTACKS:
        status, answer = post(address, route, body)
        if isinstance(end, int):
            assert status == end, answer
        else:
            assert status == 202, answer
            accepted[route] = answer["message_id"]
        for _ in range(PROBES):
            assert post(address, "probe", b'{"no": %d}' % sent)[0] == 202
            sent += 1

    until(lambda: sorted(world.probes) == list(range(sent)), within=60, what="every probe at its target")
    ends = {route: (end, class_) for route, _, end, class_ in ATTACKS if isinstance(end, str)}
    for route, id_ in accepted.items():
        end, class_ = ends[route]
        ended = until(lambda: _ended(bus, id_), within=120, what=f"the end of {route}")  # noqa: B023 - asked at once
        assert ended["state"] == end, (route, ended)
        assert class_ in ended["error"]["class"], (route, ended)
    assert world.canary == []
    rss = psutil.Process(bus.process.popen.pid).memory_info().rss
    assert rss - before < 128_000_000, "an attack grew the bus"

    for client in clients:  # each is closed by the bus, after its 10 s for the head
        client.settimeout(60)
        with contextlib.suppress(ConnectionResetError):
            while client.recv(4096):
                pass
        client.close()
    assert post(address, "probe", b'{"no": %d}' % sent)[0] == 202
    assert bus.stop() == 0
    assert "Traceback" not in bus.log()


def _ended(bus: Bus, id_: str) -> dict[str, object] | None:
    found = bus.json("messages", "show", id_)[0]
    return found if found["state"] in ("done", "dead") else None
