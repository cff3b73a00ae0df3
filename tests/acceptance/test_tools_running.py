"""The tools for people who run a bus, through the program itself: doctor, report, service, top, tail."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from examples.demo.harness import Bus, until
from tests.acceptance.commands import esb, items
from tests.acceptance.test_program import post
from tests.acceptance.test_tools import lots

pytestmark = pytest.mark.acceptance

StartBus = Callable[..., Bus]


def findings(root: Path, code: int, **environment: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for item in json.loads(esb("doctor", "--json", cwd=root, code=code, **environment).stdout)["items"]:
        found.setdefault(item["name"], []).append(item)
    return found


# -- doctor ---------------------------------------------------------------------------------------------------------------
def test_a_doctor_of_a_sound_workspace_finds_no_fault_and_makes_no_store(tmp_path: Path) -> None:
    root = lots(tmp_path)
    (root / "esb.yaml").write_text("bus: well\nhttp: { port: 0 }\nadmin: { port: 0 }\n")
    found = findings(root, 0)
    assert {
        "python",
        "workspace",
        "secrets",
        "drivers",
        "permissions",
        "disk",
        "fsync",
        "clock",
        "ports",
        "store",
        "bus",
    } <= set(found)
    assert "2 routes" in found["workspace"][0]["said"]
    assert "synced write takes" in found["fsync"][0]["said"]
    assert not (root / ".esb").exists()
    assert "✓ workspace" in esb("doctor", cwd=root).stdout


def test_a_doctor_names_each_fault_with_what_to_do(tmp_path: Path) -> None:
    root = lots(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (root / "esb.yaml").write_text(
            f"bus: ill\nhttp: {{ port: {port} }}\nadmin: {{ port: 0, token: '${{secret:admin-token}}' }}\n"
        )
        store = root / ".esb"
        store.mkdir()
        with contextlib.closing(sqlite3.connect(store / "bus.db")) as other, other:
            other.execute("CREATE TABLE x (y)")
        found = findings(root, 1)
    assert "in use" in found["ports"][0]["said"]
    assert f"{port}" in found["ports"][0]["said"]
    assert found["secrets"][0] | {"said": ""} == {
        "name": "secrets",
        "level": "fault",
        "said": "",
        "todo": "set ESB_SECRET_ADMIN_TOKEN, or write it to the file .secrets/admin-token",
    }
    assert "is not a store of this program" in found["store"][0]["said"]
    (root / "routes" / "bad.yaml").write_text("route: x\n")
    assert findings(root, 1, ESB_SECRET_ADMIN_TOKEN="t" * 20)["workspace"][0]["todo"] == "esb lint"


def test_a_doctor_leaves_a_running_bus_alone(tmp_path: Path, bus: StartBus) -> None:
    root = lots(tmp_path)
    running = bus(root)
    found = findings(root, 1 if _taken(8080) or _taken(8081) else 0)
    assert f"process {running.process.popen.pid} runs here" in found["bus"][0]["said"]
    assert "in the hands of the running bus" in found["store"][0]["said"]
    assert post(running.http + "/lots", {"lot": "1", "id": "1"})[0] == 202


def _taken(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


# -- report ---------------------------------------------------------------------------------------------------------------
def test_a_report_holds_what_helps_and_no_secret(tmp_path: Path, bus: StartBus) -> None:
    secrets = {
        "env": "hunter-two-env",
        "file": "file+secret/with=signs",
        "unused": "nobody-refers-to-this-file",
        "key": "-----BEGIN KEY-----\nMIIBVgIBADANBgkqh\n-----END KEY-----",
    }
    root = lots(tmp_path)
    (root / ".secrets").mkdir()
    for name in ("file", "unused", "key"):
        (root / ".secrets" / name).write_text(secrets[name] + "\n")
        (root / ".secrets" / name).chmod(0o600)
    encoded = base64.b64encode(secrets["file"].encode()).decode()
    (root / "esb.yaml").write_text(
        "bus: plant\nadmin: { token: '${secret:env}' }\n"
        f"# somebody's note: the old token was {secrets['env']}, in base64 {encoded}, password: notme-4711\n"
    )
    (root / "connectors").mkdir()
    (root / "connectors" / "erp.yaml").write_text(
        "connector: erp\ntype: http\nbase_url: '${ERP_URL}'\nauth: { bearer: { token: '${secret:file}' } }\n"
        "operations: { post: { path: /x } }\n"
    )
    (root / "routes" / "bad.yaml").write_text(
        "route: bad\nfrom: { http: { path: /bad } }\nsteps:\n  - reject: 'no {{ body.person }}'\n"
    )
    env = {"ESB_SECRET_ENV": secrets["env"], "ERP_URL": "https://erp.example.com"}
    running = bus(root, **env)
    token = json.loads((root / ".esb" / "bus.lock").read_text())["token"]
    assert post(running.http + "/bad", {"person": "Anna Huber"})[0] == 202
    until(lambda: sum(one["dead"] for one in running.json("status")) == 1, within=60, what="a dead letter")
    words = ("hold", "place", "--track", "lot=LOT-OF-ANNA", "--reason", "Anna asked")
    assert running.run(*words).returncode == 0
    for again in ("running", "stopped"):
        place = root / f"{again}.zip"
        done = running.run("report", "--out", str(place))
        assert done.returncode == 0, done.stderr
        with zipfile.ZipFile(place) as archive:
            members = {name: archive.read(name).decode() for name in archive.namelist()}
        everything = "\n".join(members.values())
        for secret in (*secrets.values(), encoded, token, "notme-4711", "Anna", "MIIBVgIBADANBgkqh"):
            assert secret not in everything, (again, secret)
        assert json.loads(members["about.json"])["esb"]
        audit = {item["action"]: item["object"] for item in json.loads(members["audit.json"])}
        assert (audit["reload"], audit["hold.place"]) == ("plant", "***")
        assert "LOT-OF-ANNA" not in everything
        assert {item["route"] for item in json.loads(members["status.json"])} == {"lots", "others", "bad"}
        [group] = json.loads(members["recent-errors.json"])
        assert (group["route"], group["step"], group["class"], group["count"]) == ("bad", "reject", "rejected", 1)
        assert "route: lots" in members["workspace/routes/lots.yaml"]
        assert "${secret:file}" in members["workspace/connectors/erp.yaml"]
        assert "fsync" in members["doctor.txt"]
        assert "admin.token = ***" in members["settings.txt"]
        if again == "running":
            assert running.stop() == 0


# -- service --------------------------------------------------------------------------------------------------------------
@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket of a service manager; a hangup reaches what is started meanwhile, also where `nohup` started these tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(str(tmp_path / "notify"))
        one.settimeout(30)
        yield one
    signal.signal(signal.SIGHUP, before)


def test_a_service_manager_hears_of_the_start_of_life_and_of_the_stop(
    tmp_path: Path, manager: socket.socket, bus: StartBus
) -> None:
    root = lots(tmp_path / "workspace")
    running = bus(root, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="300000")
    first = manager.recv(1000).decode().splitlines()
    assert first[0] == "READY=1"
    assert f"MAINPID={running.process.popen.pid}" in first
    assert {manager.recv(1000) for _ in range(3)} == {b"WATCHDOG=1"}

    def said() -> list[str]:
        heard = b"WATCHDOG=1"
        while heard == b"WATCHDOG=1":
            heard = manager.recv(1000)
        return heard.decode().splitlines()

    (root / "routes" / "fresh.yaml").write_text(
        "route: fresh\nfrom: { http: { path: /fresh } }\nsteps: [ { set: { vars.a: body } } ]\n"
    )
    running.process.popen.send_signal(signal.SIGHUP)  # systemctl reload
    begun = said()
    assert begun[0] == "RELOADING=1"
    assert int(begun[1].removeprefix("MONOTONIC_USEC=")) > 0
    ready = said()
    assert ready[0] == "READY=1"
    assert "fresh" in running.status()
    assert running.stop() == 0
    assert said()[0] == "STOPPING=1"


def test_a_hangup_changes_nothing_where_somebody_must_sign(
    tmp_path: Path, manager: socket.socket, bus: StartBus
) -> None:
    root = lots(tmp_path / "workspace")
    (root / "esb.yaml").write_text("bus: plant\nregulated: true\n")
    running = bus(root, NOTIFY_SOCKET=str(tmp_path / "notify"))
    assert manager.recv(1000).startswith(b"READY=1")
    (root / "routes" / "fresh.yaml").write_text(
        "route: fresh\nfrom: { http: { path: /fresh } }\nsteps: [ { set: { vars.a: body } } ]\n"
    )
    running.process.popen.send_signal(signal.SIGHUP)
    assert manager.recv(1000).startswith(b"RELOADING=1")
    assert manager.recv(1000).startswith(b"READY=1")
    assert "fresh" not in running.status()
    assert "reload.not_signed" in running.log()


def test_service_files_name_this_workspace_and_are_written_where_told(tmp_path: Path) -> None:
    root = lots(tmp_path / "plant 100% $HOME")
    (root / "esb.yaml").write_text("bus: plant-graz\nlimits: { drain: 40s }\n")
    unit = esb("service", "print", str(root), "--kind", "systemd", cwd=tmp_path).stdout
    for line in (
        "Type=notify",
        "WatchdogSec=60",
        "RestartPreventExitStatus=77 78",
        "TimeoutStopSec=60",
        "User=esb",
        "ExecReload=/bin/kill -HUP $MAINPID",
    ):
        assert f"\n{line}\n" in unit
    quoted = str(root).replace("%", "%%").replace("$", "$$")
    assert f'run "{quoted}" --log-format json\n' in unit
    windows = ET.fromstring(esb("service", "print", str(root), "--kind", "windows", cwd=tmp_path).stdout)
    assert windows.findtext("id") == "esb-plant-graz"
    assert str(root) in str(windows.findtext("arguments"))
    assert "STOPSIGNAL SIGTERM" in esb("service", "print", str(root), "--kind", "container", cwd=tmp_path).stdout
    units = tmp_path / "units"
    units.mkdir()
    esb("service", "install", str(root), "--units", str(units), cwd=tmp_path)
    place = units / "esb-plant-graz.service"
    assert place.read_text() == unit
    place.write_text("mine")
    assert "--force" in esb("service", "install", str(root), "--units", str(units), cwd=tmp_path, code=77).stderr
    esb("service", "uninstall", str(root), "--units", str(units), cwd=tmp_path)
    assert not place.exists()
    esb("service", "uninstall", str(root), "--units", str(units), cwd=tmp_path, code=66)
    esb("service", "print", str(root), "--user", "x\nExecStart=/bin/sh", cwd=tmp_path, code=2)


# -- live -----------------------------------------------------------------------------------------------------------------
def test_top_and_tail_show_what_happens(tmp_path: Path, bus: StartBus) -> None:
    root = lots(tmp_path)
    (root / "routes" / "bad.yaml").write_text("route: bad\nfrom: { http: { path: /bad } }\nsteps:\n  - reject: never\n")
    running = bus(root)
    post(running.http + "/lots", {"lot": "1", "id": "old"})
    until(lambda: items("status", cwd=root)[1]["done"] == 1, within=60, what="the first is done")
    command = [
        sys.executable,
        "-m",
        "esb",
        "tail",
        "--json",
        "--last",
        "1",
        "--count",
        "3",
        "--state",
        "done,dead",
        "--every",
        "0.2",
    ]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, cwd=root, env=env, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None

        def told() -> dict[str, Any]:
            line = json.loads(following.stdout.readline())  # type: ignore[union-attr]  # it is a pipe
            assert (list(line), line["kind"]) == (["kind", "items"], "MessageList")
            (item,) = line["items"]
            return dict(item)

        first = told()
        assert (first["route"], first["state"]) == ("lots", "done")
        post(running.http + "/lots", {"lot": "2", "id": "new"})
        assert told()["key"] == "2"
        post(running.http + "/bad", {})
        assert told()["state"] == "dead"
        assert following.wait(30) == 0
    said = esb("tail", "--last", "2", "--count", "2", cwd=root).stdout
    assert "rejected at reject: never" in said
    assert len(said.splitlines()) == 2
    assert len(esb("tail", "--last", "5", "--count", "1", cwd=root).stdout.splitlines()) == 1
    assert "`daed` is no state" in esb("tail", "--state", "daed", cwd=root, code=2).stderr
    page = esb("top", "--once", cwd=root).stdout.splitlines()
    assert "ready" in page[0]
    assert "dead 1" in page[0]
    assert page[3].startswith("! bad")  # what needs a person comes first
    [look] = [json.loads(line) for line in esb("top", "--once", "--json", cwd=root).stdout.splitlines()]
    assert {item["route"]: item["dead"] for item in look["items"]} == {"bad": 1, "lots": 0, "others": 0}
