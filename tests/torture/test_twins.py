"""T13: two processes on one store. One of them works, the other says who; whatever is done to the lock, never two write."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from examples.demo.harness import ROOT, Bus, until
from tests.torture.conftest import MakeRig
from tests.torture.rig import Rig
from tests.torture.tier import LONG, sized

pytestmark = pytest.mark.timeout(1800 if LONG else 300)


def twin(rig: Rig) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "esb", "run", str(rig.root), "--no-watch", "--http", "127.0.0.1:0"]
    environment = {**os.environ, **rig.environment, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [*words, "--admin", "127.0.0.1:0"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def post(bus: Bus, id_: str) -> tuple[int, str]:
    url = urlsplit(bus.http)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=20)
    try:
        body = json.dumps({"id": id_, "lot": "L", "n": 1, "kind": "MAJOR"})
        connection.request("POST", "/torture", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_of_two_started_at_once_one_runs_and_the_other_names_it(rig: Rig) -> None:
    for _ in range(sized(2, 50)):
        both = [twin(rig), twin(rig)]
        try:
            until(lambda both=both: any(one.poll() is not None for one in both), within=60, what="the loser")  # type: ignore[misc]  # bound now
            loser = next(one for one in both if one.poll() is not None)
            winner = next(one for one in both if one is not loser)
            said = loser.communicate(timeout=10)[1]
            assert loser.returncode == 75, said
            assert f"process {winner.pid} " in said
            assert winner.stdout is not None
            assert winner.stdout.readline().startswith("ready ")
        finally:
            for one in both:
                one.kill()
                one.communicate()


def test_a_lock_file_that_was_deleted_lets_a_second_bus_in_and_the_first_one_out(make_rig: MakeRig) -> None:
    rig = make_rig()
    first = rig.start()
    assert post(first, "before")[0] == 202
    (rig.root / ".esb" / "bus.lock").unlink()
    second = Bus(rig.root, environment=rig.environment, options=("--no-watch",))
    old_log = first.process.log.with_name("first.log")
    first.process.log.rename(old_log)  # both write to it under this name
    try:
        second.start()
        status, words = post(first, "too-late")
        assert (status, "taken over" in words) == (503, True)
        assert post(second, "after")[0] == 202
        until(lambda: {one.id for one in rig.sink.seen} == {"before", "after"}, within=30, what="both messages")
        first.kill()
        assert {item["accepted"] for item in second.status().values()} == {2}
        assert second.stop() == 0
        assert second.run("db", "verify").returncode == 0
    finally:
        second.kill()


def test_a_copy_of_a_running_bus_is_a_bus_of_its_own(make_rig: MakeRig) -> None:
    rig, other = make_rig(), make_rig()
    rig.start()
    with rig.load("one") as load:
        load.until(lambda load: load.acked >= 20)
        shutil.copytree(rig.root / ".esb", other.root / ".esb")
        status = other.bus.run("status")  # the copied lock file names a process, but nobody holds it
        load.until(lambda load, so_far=load.acked: load.acked >= so_far + 20)  # type: ignore[misc]  # bound now
    # what was copied while it was written may be damaged, and is refused then; it is never taken for whole
    assert status.returncode in (0, 65), status.stderr
    if status.returncode == 0:
        assert other.bus.run("db", "verify").returncode == 0
    rig.drained()
    assert rig.verdict().faults == []
    rig.settled()
