"""What a start that cannot be, or a stopped bus, leaves alone and says."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from examples.demo.harness import Bus
from tests.acceptance.test_program import TO_FILE, esb, items, workspace
from tests.runtime.conftest import MOODY
from tests.servers.require import free_port

pytestmark = pytest.mark.acceptance

StartBus = Callable[..., Bus]

BATCH = "criticality: { batch: { priority: low } }\n"
FROM_FOLDER = """
route: dropped
owner: plant-it
criticality: batch
from: { file: { path: "in/*.json", every: 50ms, ready: { stable_for: 0s }, done: { delete: true }, format: json } }
steps:
  - to: { file: { path: "out/dropped-{{ body.id }}.json" } }
"""


@pytest.mark.parametrize("listener", ["http", "admin"])
def test_a_port_that_is_taken_ends_the_start_before_anything_is_done(tmp_path: Path, listener: str) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_FILE, routes__b_yaml=FROM_FOLDER, esb_yaml=BATCH)
    esb("send", "lots", "--data", '{"id":"A","lot":"1","qty":1}', cwd=root)
    (root / "in").mkdir()
    (root / "in" / "one.json").write_text('{"id":"B"}', encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = {"http": "127.0.0.1:0", "admin": "127.0.0.1:0", listener: f"127.0.0.1:{port}"}
        refused = esb("run", ".", "--http", words["http"], "--admin", words["admin"], cwd=root, code=78)
    assert f"cannot listen on 127.0.0.1:{port}" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert [(one["state"], one["attempts"]) for one in items("messages", "ls", cwd=root)] == [("queued", 0)]
    assert (root / "in" / "one.json").exists()
    assert not (root / "out").exists()
    assert not [one for one in items("audit", "ls", cwd=root) if one["action"] == "reload"]


def test_a_source_that_cannot_start_ends_the_start_at_its_place(tmp_path: Path) -> None:
    own = FROM_FOLDER.replace(FROM_FOLDER.splitlines()[4], 'from: { moody: "COM7 is taken" }')
    root = workspace(tmp_path, routes__a_yaml=own, esb_yaml=BATCH)
    (root / "connectors").mkdir()
    (root / "connectors" / "moody.py").write_text(MOODY, encoding="utf-8")
    refused = esb("run", ".", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", cwd=root, code=78)
    assert "routes/a.yaml:5:16: ESB801 route `dropped` cannot start: COM7 is taken" in refused.stderr


def test_a_folder_that_cannot_be_named_is_found_before_the_start(tmp_path: Path) -> None:
    path = FROM_FOLDER.replace("in/*.json", "in/{{ site.supplier }}/*.json")
    root = workspace(tmp_path, routes__a_yaml=path, esb_yaml=BATCH)
    refused = esb("run", ".", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", cwd=root, code=78)
    assert (
        "routes/a.yaml:5:30: ESB402 `site.supplier` is not there: `site` in esb.yaml has no `supplier`"
        in refused.stderr
    )
    assert refused.stderr == esb("lint", ".", cwd=root, code=1).stdout


def test_one_port_for_both_listeners_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    port = free_port()
    root = workspace(tmp_path, routes__a_yaml=TO_FILE)
    esb("send", "lots", "--data", '{"id":"A","lot":"1","qty":1}', cwd=root)
    at = f"127.0.0.1:{port}"
    refused = esb("run", ".", "--http", at, "--admin", at, cwd=root, code=78)
    assert f"`http` and `admin` are both on port {port}" in refused.stderr
    assert not (root / "out").exists()


@pytest.mark.parametrize("command", ["run", "status", "lint"])
def test_a_planted_fault_that_cannot_be_read_is_one_line(tmp_path: Path, command: str) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_FILE)
    refused = esb(command, cwd=root, code=2, ESB_TEST="1", ESB_FAILPOINTS="accept.committed=explode")
    assert refused.stderr.splitlines() == [
        "esb: ESB_FAILPOINTS: 'accept.committed=explode' is not `name=kill|error|sleep:SECONDS[@n]`"
    ]


def test_a_stopped_bus_lists_what_the_files_of_its_routes_say(tmp_path: Path, bus: StartBus) -> None:
    root = workspace(tmp_path, routes__b_yaml=FROM_FOLDER, esb_yaml=BATCH)

    def listed() -> list[Any]:
        wanted = ("route", "state", "source", "owner", "criticality", "file")
        return [tuple(item.get(name) for name in wanted) for item in items("routes", "ls", cwd=root)]

    says = ("file", "plant-it", "batch", "routes/b.yaml")
    assert listed() == [("dropped", "stopped", *says)]
    running = bus(root)
    assert listed() == [("dropped", "running", *says)]
    assert running.stop() == 0
    assert listed() == [("dropped", "stopped", *says)]
    (root / "routes" / "b.yaml").write_text("route: [", encoding="utf-8")
    assert listed()[0][:2] == ("dropped", "stopped")  # broken files, and still a list


def test_a_disabled_route_takes_nothing_from_a_hand(tmp_path: Path, bus: StartBus) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_FILE.replace("key:", "enabled: false\nkey:"))
    words = ("send", "lots", "--data", '{"id":"A","lot":"1","qty":1}')
    for running in (False, True):
        if running:
            bus(root)
        refused = esb(*words, cwd=root, code=77)
        assert "route lots takes nothing in: its file says `enabled: false`" in refused.stderr
        assert "routes/a.yaml" in refused.stderr
        assert items("messages", "ls", cwd=root) == []


def test_a_removed_route_takes_nothing_from_a_hand(tmp_path: Path, bus: StartBus) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_FILE, routes__b_yaml=TO_FILE.replace("lots", "other"))
    bus(root, "--no-watch")
    (root / "routes" / "a.yaml").unlink()
    esb("routes", "reload", cwd=root)
    refused = esb("send", "lots", "--data", '{"id":"A","lot":"1","qty":1}', cwd=root, code=66)
    assert "no route lots" in refused.stderr
    assert items("messages", "ls", cwd=root) == []


def test_a_message_for_a_stopped_bus_whose_files_have_faults_is_refused_with_the_fault(tmp_path: Path) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_FILE.replace("map:", "mapp:"))
    refused = esb("send", "lots", "--data", '{"id":"A","lot":"1","qty":1}', cwd=root, code=78)
    assert "routes/a.yaml:8:5: ESB203" in refused.stderr
