"""T3: one system call of the bus kills it, or fails; for call after call. No yes without its commit, nothing lost, a restart works."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.servers.require import program
from tests.torture.conftest import MakeRig
from tests.torture.rig import ROUTE, Rig
from tests.torture.tier import LONG, sized
from tests.torture.trace import steps, tracer

pytestmark = pytest.mark.timeout(7200 if LONG else 300)

#: Retries are quick and few are busy, so that a run has few calls and always the same ones.
CALM = ROUTE.replace("?busy=9&mute=11&down=1", "")
MESSAGES = 3
KILLED = {
    "pwrite64": range(1, 90), "fdatasync": range(1, 22), "fsync": range(1, 8), "rename": range(1, 4),
    "unlink": range(1, 5), "sendto": range(1, 12), "linkat": (1, 2), "unlinkat": (1, 2), "write": range(1, 25),
}  # fmt: skip
FAILING = {"pwrite64": range(1, 90), "fdatasync": range(1, 22), "fsync": range(1, 8), "rename": (1, 2), "linkat": (1,)}
QUICK = [
    "fdatasync:signal=KILL:when=10", "linkat:signal=KILL:when=1",
    "pwrite64:error=ENOSPC:when=34", "fdatasync:error=EIO:when=12", "fsync:error=EIO:when=1+",
]  # fmt: skip
ALL = [
    *(f"{call}:signal=KILL:when={n}" for call, numbers in KILLED.items() for n in numbers),
    *(f"{call}:error={error}:when={n}" for error in ("EIO", "ENOSPC") for call, ns in FAILING.items() for n in ns),
]


def attempt(rig: Rig) -> None:
    """Three messages, one after the other, each sent again until it is taken or the bus is gone."""
    try:
        rig.bus.start(within=30)
    except AssertionError:
        rig.bus.kill()  # it died, or said that it cannot start; where it was only slow, it must not hold the store
        return
    try:
        with rig.load(f"r{rig.ledger.count}", clients=1, lots=1, patience=5.0) as load:
            load.until(lambda load: load.acked + load.refused >= MESSAGES or load.over, within=30)
        if rig.bus.process.running:
            rig.bus.stop()
    except (subprocess.TimeoutExpired, OSError):
        rig.bus.kill()


def acked_without_commit(log: Path) -> list[str]:
    """Answers of 202 that went out after a sync or a write of the store had failed and before a sync of it succeeded."""
    found, broken = [], ""
    for step in steps(log):
        if step.path.endswith(("bus.db-wal", "bus.db")):
            if step.what == "failed":
                broken = f"{step.path.rsplit('/', 1)[1]}: {step.to}"
            elif step.what == "synced":
                broken = ""
        elif step.what == "answer" and broken and re.match(rb"HTTP/1\.1 202 ", step.data):
            found.append(f"a yes went out after {broken}")
    return found


@pytest.mark.parametrize("fault", sized(QUICK, ALL))
def test_a_call_that_kills_or_fails_costs_nothing_that_was_acknowledged(
    make_rig: MakeRig, tmp_path: Path, fault: str
) -> None:
    program("strace", package="strace")
    rig = make_rig(routes=(CALM,))
    log = tmp_path / "trace"
    rig.run_under(tracer(log, inject=(fault,)))
    attempt(rig)
    assert acked_without_commit(log) == []
    rig.run_under(())
    rig.start()
    with rig.load("after", clients=1) as load:  # it works, and what got no answer is sent again
        load.until(lambda load: load.acked >= MESSAGES)
    rig.drained()
    assert rig.verdict().faults == []
    assert rig.conserved() == []
    rig.settled()
