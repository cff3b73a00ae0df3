"""T6: the bus or a target stands still and goes on. Waits end, others are not held up, nothing is lost or doubled."""

from __future__ import annotations

import os
import signal

import pytest

from examples.demo.harness import until
from tests.torture.conftest import MakeRig
from tests.torture.rig import ROUTE, Rig

pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no SIGSTOP here"),
    pytest.mark.timeout(300),
]

OTHER = """
route: other
from: { http: { path: /other, method: POST } }
steps: [ { to: { file: { path: "other/{{ body.id }}.json", exists: unique } } } ]
"""


def test_a_bus_that_stood_still_goes_on_where_it_was(rig: Rig) -> None:
    bus = rig.start()
    pid = bus.process.popen.pid
    with rig.load("before") as load:
        load.until(lambda load: load.acked >= 20)
    os.kill(pid, signal.SIGSTOP)
    with rig.load("frozen", patience=1.0) as load:
        load.until(lambda load: load.over)  # every client has given up
    os.kill(pid, signal.SIGCONT)
    with rig.load("thawed") as load:
        load.until(lambda load: load.acked >= 20)
    rig.drained()
    assert rig.verdict().faults == []
    rig.settled()


def test_a_target_that_stands_still_is_a_timeout_and_holds_up_nobody_else(make_rig: MakeRig) -> None:
    rig = make_rig(routes=(ROUTE.replace("timeout: 5s", "timeout: 500ms"), OTHER))
    bus = rig.start()
    with rig.load("before") as load:
        load.until(lambda load: load.acked >= 20)
    rig.drained()
    target = rig.sink.process.popen.pid
    os.kill(target, signal.SIGSTOP)
    try:
        with rig.load("during") as load:
            load.until(lambda load: load.acked >= 20)
        until(lambda: bus.status()["torture"]["waiting"] >= 5, within=30, what="waits for the next attempt")
        assert "timeout: " in bus.log()
        with rig.load("others", path="/other") as load:
            load.until(lambda load: load.acked >= 20)
        # what runs has no file yet; each of those that were accepted must get there beside the target that stands still
        until(
            lambda: bus.status()["other"]["done"] == bus.status()["other"]["accepted"],
            within=60,
            what="the other route",
        )
        assert len(rig.files("other")) >= 20
    finally:
        os.kill(target, signal.SIGCONT)
    rig.drained()
    others = {one.id for one in rig.ledger.sent if one.id.startswith("others")}
    assert rig.verdict(without=others).faults == []
    rig.settled()
