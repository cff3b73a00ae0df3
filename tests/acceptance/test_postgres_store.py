"""`store: postgresql+psycopg://…` from outside: the same words, one owner, and clear ends where the database is not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from examples.demo.harness import Bus, until
from tests.acceptance.test_program import conserved, ended, esb, get, items, post, workspace
from tests.servers.postgres import Postgres, empty_store
from tests.servers.require import free_port

pytestmark = pytest.mark.acceptance

StartBus = Callable[..., Bus]
PASSWORD = "Zwiebelkuchen!7"
CONTRACT = json.dumps({"type": "object", "required": ["lot", "result"], "properties": {"qty": {"type": "number"}}})
ROUTE = """
route: lots
owner: quality-it
criticality: release-blocking
key: body.lot
dedupe: body.id
track: { lot: body.lot }
from: { http: { path: /lots, method: POST, contract: inspection.v1 } }
retry: { max: 2, backoff: 20ms }
steps:
  - lookup: { table: plants, by: body.plant, into: vars.werks }
  - choose:
      - when: body.result == 'REJECT'
        steps: [ { set: { vars.decision: "'R'" } } ]
      - otherwise: [ { set: { vars.decision: "'A'" } } ]
  - map: { Lot: body.lot, Id: body.id, Plant: vars.werks, Decision: vars.decision, Qty: body.qty }
  - to: { file: { path: "out/{{ body.Id }}.json" } }
on_error:
  - { for: unmapped, dead_letter: master-data }
"""


@pytest.fixture
def settings(postgres: Postgres) -> str:
    url = empty_store(postgres, "acceptance").replace("esb@", "esb:${secret:store}@")
    return (
        f"bus: plant\nstore: {url}\ncriticality:\n  release-blocking: {{ within: 5s, priority: high }}\n"
        "limits: { blob: 1MB }\n"
    )


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESB_SECRET_STORE", PASSWORD)


def plant(tmp_path: Path, settings: str) -> Path:
    root = workspace(tmp_path, esb_yaml=settings, routes__lots_yaml=ROUTE)
    for name, text in (
        ("schemas/inspection.v1.json", CONTRACT),
        ("transforms/tables/plants.csv", "key,value\nP10,1010\n"),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def lot(id_: str, **parts: object) -> dict[str, object]:
    return {"id": id_, "lot": f"L-{id_}", "plant": "P10", "result": "REJECT", "qty": 12.5, **parts}


def test_a_bus_on_postgresql_takes_explains_repairs_and_goes_on(tmp_path: Path, bus: StartBus, settings: str) -> None:
    root = plant(tmp_path, settings)
    esb("lint", cwd=root)
    running = bus(root)
    _, first, _ = post(f"{running.http}/lots", lot("A"))
    assert post(f"{running.http}/lots", lot("A"))[1]["state"] == "duplicate"
    assert post(f"{running.http}/lots", {"lot": "x"})[0] == 422
    _, wrong, _ = post(f"{running.http}/lots", lot("B", plant="P99"))
    _, large, _ = post(f"{running.http}/lots", lot("C", note="x" * 1_500_000))
    until(lambda: ended(root), within=30, what="the end of the messages")
    assert json.loads((root / "out" / "A.json").read_text())["Decision"] == "R"
    (dead,) = items("dlq", "ls", cwd=root)
    assert (dead["id"], dead["error"]["class"]) == (wrong["message_id"], "unmapped")
    assert items("dlq", "groups", cwd=root)[0]["count"] == 1
    esb("dlq", "retry", dead["id"], "--reason", "the plant is known now", cwd=root)
    until(lambda: ended(root), within=60, what="the end of the retry")
    assert running.stop() == 0

    by_key = {one["key"]: one["state"] for one in items("messages", "ls", cwd=root)}
    assert (by_key["L-B"], by_key["L-C"], sorted(by_key)) == ("dead", "done", ["L-A", "L-B", "L-C"])
    assert [one["id"] for one in items("trace", "L-C", cwd=root)] == [large["message_id"]]
    shown = items("messages", "show", first["message_id"], cwd=root)[0]
    assert json.loads(shown["body"])["qty"] == 12.5
    assert "dlq.retry" in [one["action"] for one in items("audit", "ls", cwd=root)]
    conserved(root)
    esb("db", "verify", cwd=root)
    again = bus(root)
    assert post(f"{again.http}/lots", lot("A"))[1]["state"] == "duplicate"
    assert get(f"{again.admin}/readyz")[0] == 200
    assert PASSWORD not in again.log() + esb("config", cwd=root).stdout


def test_one_process_owns_the_store_from_wherever_it_is_opened(tmp_path: Path, bus: StartBus, settings: str) -> None:
    root = plant(tmp_path / "one", settings)
    running = bus(root)
    other = plant(tmp_path / "two", settings)
    owner = json.loads((root / ".esb" / "bus.lock").read_text())["pid"]
    for words in (
        ("run", str(other), "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"),
        ("status",),
        ("db", "verify"),
    ):
        refused = esb(*words, cwd=other, code=75).stderr
        assert f"process {owner}" in refused
        assert "owns the store" in refused
    assert "runs this workspace" in esb("run", str(root), cwd=root, code=75).stderr
    assert post(f"{running.http}/lots", lot("A"))[0] == 202
    assert running.stop() == 0
    assert [one["key"] for one in items("messages", "ls", cwd=other)] == ["L-A"]


def test_a_second_machine_goes_on_where_the_first_one_died(tmp_path: Path, bus: StartBus, settings: str) -> None:
    first, second = plant(tmp_path / "one", settings), plant(tmp_path / "two", settings)
    running = bus(first)
    taken = [post(f"{running.http}/lots", lot(f"{n}"))[1]["message_id"] for n in range(20)]
    running.kill()
    heir = bus(second)
    until(lambda: ended(second), within=30, what="the end of what was open")
    states = {one["id"]: one["state"] for one in items("messages", "ls", "--limit", "100", cwd=second)}
    assert states == dict.fromkeys(taken, "done")
    assert post(f"{heir.http}/lots", lot("0"))[1]["state"] == "duplicate"


def test_copies_are_made_by_the_tools_of_the_database(tmp_path: Path, settings: str) -> None:
    root = plant(tmp_path, settings)
    esb("send", "lots", "-d", json.dumps(lot("A")), cwd=root)
    backup = esb("db", "backup", str(tmp_path / "x.db"), cwd=root, code=2).stderr
    assert "pg_dump" in backup
    assert "--schema=acceptance" in backup
    (tmp_path / "x.db").touch()
    assert "pg_restore" in esb("db", "restore", str(tmp_path / "x.db"), cwd=root, code=2).stderr
    assert PASSWORD not in backup


def test_a_store_that_vanished_is_no_fresh_start(tmp_path: Path, settings: str, postgres: Postgres) -> None:
    root = plant(tmp_path, settings)
    esb("send", "lots", "-d", json.dumps(lot("A")), cwd=root)
    postgres.execute("drop schema acceptance cascade")
    refused = esb("run", str(root), cwd=root, code=65).stderr
    assert "is missing" in refused
    (root / ".esb" / "postgresql.exists").unlink()
    assert items("messages", "ls", cwd=root) == []


def test_a_database_that_cannot_be_reached_says_so(tmp_path: Path, settings: str, postgres: Postgres) -> None:
    root = plant(tmp_path, settings.replace(f":{postgres.port}/", f":{free_port()}/"))
    refused = esb("run", str(root), cwd=root, code=75).stderr
    assert "cannot be opened" in refused
    assert "start the database" in refused
    (root / "esb.yaml").write_text(settings.replace("/postgres?", "/nowhere?"), encoding="utf-8")
    refused = esb("run", str(root), cwd=root, code=78).stderr
    assert "does not exist" in refused
    assert "CREATE DATABASE nowhere OWNER esb" in refused
    assert "Traceback" not in refused
    faults = [
        item
        for item in json.loads(esb("doctor", "--json", cwd=root, code=None).stdout)["items"]
        if item["level"] == "fault"
    ]
    assert any("does not exist" in fault["said"] for fault in faults)


def test_a_server_that_forgets_on_a_power_cut_is_found_by_the_doctor(tmp_path: Path, settings: str) -> None:
    """The server of these tests runs without fsync."""
    root = plant(tmp_path, settings)
    found = json.loads(esb("doctor", "--json", cwd=root, code=None).stdout)["items"]
    said = [item["said"] for item in found if item["name"] == "store"]
    assert any("fsync = off" in one for one in said), said
    assert any("round trip" in one for one in said)
