"""T24: far more comes than can go out, while many connections do nothing. Refused in words, bounded, nothing lost, others served."""

from __future__ import annotations

import contextlib
import socket
import sys
from urllib.parse import urlsplit

import psutil
import pytest

from examples.demo.harness import until
from tests.torture.conftest import MakeRig
from tests.torture.rig import ROUTE, Rig
from tests.torture.test_freeze import OTHER
from tests.torture.tier import LONG, sized

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="many addresses of the loopback"),
    pytest.mark.timeout(1200 if LONG else 300),
]

#: Open messages that a route may have; a client of these tests has one request at a time.
QUEUE = 60
CLIENTS = 16


def idle(rig: Rig, count: int) -> list[socket.socket]:
    """Connections that were opened and say nothing, from many addresses: each may have only so many."""
    url = urlsplit(rig.bus.http)
    where = (url.hostname or "", url.port or 0)
    return [
        socket.create_connection(where, timeout=20, source_address=(f"127.0.1.{number % 100 + 1}", 0))
        for number in range(count)
    ]


def test_an_overload_is_refused_bounded_and_over_when_it_is_over(make_rig: MakeRig) -> None:
    rig = make_rig(routes=(ROUTE, OTHER), settings=f"bus: torture\nlimits: {{ queue: {QUEUE} }}\n")
    rig.sink.close(down=True)
    bus = rig.start()
    process = psutil.Process(bus.process.popen.pid)
    before = process.memory_info().rss
    with contextlib.ExitStack() as stack:
        for one in idle(rig, sized(300, 900)):
            stack.enter_context(one)
        with rig.load("over", clients=CLIENTS, lots=40) as load:
            load.until(lambda load: load.refused >= sized(1_000, 100_000), within=600)
            assert load.refusal.startswith("503 "), load.refusal
            assert load.retry_after > 0
            assert rig.open_messages() <= QUEUE + CLIENTS
            with rig.load("beside", path="/other") as beside:
                beside.until(lambda load: load.acked >= 20)
            assert beside.refused == 0, beside.refusal
            assert process.memory_info().rss - before < 64_000_000
            rig.sink.close(down=False)
            load.until(lambda load, so_far=load.acked: load.acked >= so_far + 100)  # type: ignore[misc]  # bound now
    rig.drained()
    until(lambda: len(rig.files("other")) >= 20, within=30, what="the other route")
    others = {one.id for one in rig.ledger.sent if one.id.startswith("beside")}
    assert rig.verdict(without=others).faults == []
    assert rig.conserved() == []
    rig.settled()
