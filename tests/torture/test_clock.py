"""T11: the wall clock of the machine is set while messages wait. Retries neither freeze nor storm, a slot runs once."""

from __future__ import annotations

import json
import platform
from collections import Counter
from pathlib import Path

import pytest

from examples.demo.harness import Bus, until
from tests.servers.require import missing
from tests.torture.conftest import MakeRig
from tests.torture.rig import ROUTE, Rig
from tests.torture.tier import sized

pytestmark = pytest.mark.timeout(300)

TIMER = """
route: ticks
from: { timer: { every: 1s } }
steps: [ { to: { file: { path: "ticks/{{ meta.slot | replace(':', '') }}.json", exists: unique } } } ]
"""
RETRIES = ROUTE.replace("backoff: 20ms..500ms", "backoff: 2s..4s, jitter: none")


def set_clock(rig: Rig, offset: str) -> None:
    """Replace the file that the preloaded library reads, in one step."""
    fresh = rig.folder / "clock.new"
    fresh.write_text(offset, encoding="utf-8")
    fresh.replace(rig.folder / "clock")


def started(rig: Rig) -> Bus:
    """The bus under a clock that :func:`set_clock` sets."""
    library = Path(f"/usr/lib/{platform.machine()}-linux-gnu/faketime/libfaketime.so.1")
    if not library.exists():
        missing("libfaketime is not installed; apt-get install libfaketime")
    set_clock(rig, "+0")
    rig.run_under(
        (), LD_PRELOAD=str(library), FAKETIME_TIMESTAMP_FILE=str(rig.folder / "clock"), FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )  # fmt: skip
    return rig.start()


@pytest.mark.parametrize("jump", sized(["+2h", "-2h"], ["+2h", "-2h", "+365d", "-365d", "+1", "-1"]))
def test_waits_end_when_the_clock_is_set(make_rig: MakeRig, jump: str) -> None:
    rig = make_rig(routes=(RETRIES, TIMER))
    bus = started(rig)
    rig.sink.close(down=True)
    with rig.load("waiting", lots=40) as load:
        load.until(lambda load: load.acked >= 20)
    until(lambda: bus.status()["torture"]["waiting"] >= 10, within=60, what="messages that wait")
    set_clock(rig, jump)
    rig.sink.close(down=False)
    until(lambda: not waiting(bus), within=60, what="the end of the waits, whatever the clock says")
    assert rig.verdict().faults == []
    attempts = Counter(words[1] for words in retries(bus.log()))
    assert max(attempts.values()) <= 30  # a storm would be hundreds
    ticks = Counter(json.dumps(one.id) for one in rig.files("ticks"))
    assert set(ticks.values()) <= {1}
    assert rig.conserved() == []
    rig.settled()


def waiting(bus: Bus) -> int:
    states = bus.status()["torture"]
    return int(states["waiting"] + states["queued"] + states["running"])


def retries(log: str) -> list[tuple[str, str]]:
    """(event, message) of every retry in a log."""
    lines = [line for line in log.splitlines() if "message.retry" in line]
    return [("retry", next(word for word in line.split() if word.startswith("message="))) for line in lines]
