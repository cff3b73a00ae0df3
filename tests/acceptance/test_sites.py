"""A second and a third plant come up beside the first, which works all the while: nothing but their site documents is new."""

from __future__ import annotations

import json
import shutil
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from examples.demo.harness import ROOT, Bus, until

from .conftest import StartBus

pytestmark = pytest.mark.acceptance

PLANTS = ROOT / "examples" / "plants"
NEW = ("P20", "C05")


class System(ThreadingHTTPServer):
    """A system of a plant: keeps what it is sent."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Keeps)
        self.got: list[tuple[str, str]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Keeps(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: System

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        self.server.got.append((self.path, body))
        self.send_response(201)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


class Load:
    """Holds for plant P10, one after the other, until it is told to stop."""

    def __init__(self, bus: Bus) -> None:
        self._bus, self._stop = bus, threading.Event()
        self.answers: Counter[int] = Counter()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            body = {**HOLD, "hold_id": f"P10-{number}", "lot": f"{number % 7:04}", "qty": "1.234,5"}
            self.answers[post(f"{self._bus.http}/p10/holds", body)] += 1

    def stop(self) -> int:
        self._stop.set()
        self._thread.join(30)
        return self.answers.total()


HOLD = {"defect": "SCRATCH", "qty": "1,234.5", "placed_at": "2026-03-02T03:30:00Z"}


def post(url: str, body: Any) -> int:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.fixture
def systems() -> Iterator[dict[str, System]]:
    found = {name: System() for name in ("ERP10", "ERP20", "QMS")}
    yield found
    for system in found.values():
        system.shutdown()
        system.server_close()


def test_three_plants_on_one_bus(bus: StartBus, systems: dict[str, System], tmp_path: Path) -> None:  # type: ignore[misc]  # the fixture of this module
    root = tmp_path / "plants"
    shutil.copytree(
        PLANTS, root, ignore=shutil.ignore_patterns(".esb", "var", "qualification", *(f"{n}.yaml" for n in NEW))
    )
    drop = tmp_path / "c05"
    (drop / "out").mkdir(parents=True)
    urls = {f"{name}_URL": system.url for name, system in systems.items()}
    running = bus(root, **urls, C05_DROP=str(drop))
    assert {site["site"] for site in running.json("sites", "ls")} == {"P10"}
    load = Load(running)
    until(lambda: load.answers[202] > 20, within=30, what="load on P10")

    # the second plant: another ERP, other codes, another locale, another time zone
    assert post(f"{running.http}/p20/holds", {**HOLD, "hold_id": "early", "lot": "1"}) == 404
    before = files_of(root)
    shutil.copy(PLANTS / "routes" / "sites" / "P20.yaml", root / "routes" / "sites" / "P20.yaml")
    hold = {**HOLD, "hold_id": "P20-1", "lot": "0012", "defect": "FLASH"}
    until(lambda: post(f"{running.http}/p20/holds", hold) == 202, within=30, what="P20")
    until(lambda: systems["ERP20"].got, within=30, what="the block in the ERP of P20")
    path, body = systems["ERP20"].got[0]
    assert path == "/sap/xi/block?sap-client=200"
    for part in ("<WERKS>2000</WERKS>", "<MENGE>1234.5</MENGE>", "<GRUND>0207</GRUND>", "<BUDAT>20260301</BUDAT>"):
        assert part in body
    assert running.run("sites", "check", "P20", "--ping", "--out", str(tmp_path / "q")).returncode == 0
    record = json.loads((tmp_path / "q" / "P20.json").read_text(encoding="utf-8"))["items"][0]
    assert (record["verdict"], {one["check"]: one["verdict"] for one in record["checks"]}) == (
        "passed",
        dict.fromkeys(("configuration", "parameters", "tables", "tests", "endpoints"), "passed"),
    )

    # the third one: a contract manufacturer with nothing but a folder
    shutil.copy(PLANTS / "routes" / "sites" / "C05.yaml", root / "routes" / "sites" / "C05.yaml")
    shutil.copy(PLANTS / "samples" / "C05" / "results" / "results.csv", drop / "out" / "results.csv")
    until(lambda: len(systems["QMS"].got) == 2, within=30, what="the results of C05")
    results = sorted((json.loads(text) for _, text in systems["QMS"].got), key=lambda one: str(one["lot"]))
    assert results[0] == {
        "lot": "0012", "plant": "C05", "measured": 1234.5, "taken_at": "2026-03-02T09:30:00Z", "reason": "SCRATCH",
    }  # fmt: skip
    assert post(f"{running.http}/c05/holds", {**HOLD, "hold_id": "C05-1", "lot": "0012"}) == 202
    notice = drop / "in" / "C05-1.json"
    until(notice.exists, within=30, what="the notice for C05")

    # nothing failed at the first plant, nothing but the site documents is new, everything arrives
    sent = load.stop()
    assert load.answers == {202: sent}
    assert {path for path in files_of(root) - before if not path.startswith(("samples", "qualification"))} == {
        "routes/sites/P20.yaml", "routes/sites/C05.yaml",
    }  # fmt: skip
    # the target has it a moment before the bus knows that it has
    until(lambda: running.status()["hold-p10"]["done"] == sent, within=60, what="every block in the ERP of P10")
    assert len({json.loads(text)["Reference"] for _, text in systems["ERP10"].got}) == sent
    states = {site["site"]: {route["state"] for route in site["routes"]} for site in running.json("sites", "ls")}
    assert states == {"P10": {"running"}, "P20": {"running"}, "C05": {"running"}}
    status = {item["route"]: item for item in running.json("status")}
    assert (status["hold-p10"]["done"], status["hold-p10"]["dead"]) == (sent, 0)
    assert running.json("sites", "drift") == []

    # a bad edit of one plant is named, and stops none
    site = root / "routes" / "sites" / "P20.yaml"
    site.write_text(site.read_text(encoding="utf-8").replace('werks: "2000"', "werks: 2000"), encoding="utf-8")
    drift = running.run("sites", "drift")
    assert drift.returncode == 1
    assert "ESB316" in drift.stdout
    assert post(f"{running.http}/p20/holds", {**hold, "hold_id": "P20-2"}) == 202


def files_of(root: Path) -> set[str]:
    """The files of the workspace that somebody wrote."""
    every = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return {path for path in every if not path.startswith((".esb", "var"))}
