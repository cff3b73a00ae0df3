"""`esb db move`: a store in a file becomes one on PostgreSQL, whole or not at all, and the bus goes on there."""

from __future__ import annotations

import json
import re
import secrets
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from examples.demo.harness import Bus, until
from tests.acceptance.test_postgres_store import PASSWORD, lot, plant
from tests.acceptance.test_program import conserved, ended, esb, items, post
from tests.servers.postgres import Postgres

pytestmark = pytest.mark.acceptance

StartBus = Callable[..., Bus]
REST = "criticality:\n  release-blocking: { within: 5s, priority: high }\nlimits: { blob: 1MB }\n"
BEFORE = f"bus: plant\n{REST}"


@pytest.fixture
def after(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> str:
    """`esb.yaml` with the address of a database in which no store is."""
    monkeypatch.setenv("ESB_SECRET_STORE", PASSWORD)
    postgres.execute("drop schema if exists moved cascade")
    address = f"postgresql+psycopg://esb:${{secret:store}}@127.0.0.1:{postgres.port}/postgres?schema=moved"
    return f"bus: plant\nstore: {address}\n{REST}"


def everything(root: Path) -> dict[str, list[dict[str, object]]]:
    """What the commands say of a store."""
    commands = {
        "messages": ("messages", "ls", "--limit", "500"),
        "trace": ("trace", "L-B"),
        "audit": ("audit", "ls"),
    }
    return {name: items(*words, cwd=root) for name, words in commands.items()}


def test_a_bus_outgrows_its_file_and_goes_on_in_a_database(tmp_path: Path, bus: StartBus, after: str) -> None:
    root = plant(tmp_path, BEFORE)
    running = bus(root)
    post(f"{running.http}/lots", lot("A", note="naïve \U0001f600 \\u0000"))
    _, wrong, _ = post(f"{running.http}/lots", lot("B", plant="P99"))
    _, large, _ = post(f"{running.http}/lots", lot("C", note="x" * 1_500_000))
    until(lambda: ended(root), within=30, what="the end of the messages")
    assert running.stop() == 0
    esb("send", "lots", "-d", json.dumps(lot("D")), cwd=root)  # waits for the next start
    before = everything(root)

    (root / "esb.yaml").write_text(after)
    (item,) = items("db", "move", "--reason", "a second machine", cwd=root)
    assert (item["messages"], item["faults"]) == (4, [])
    assert Path(item["kept"]).is_file()
    assert not (root / ".esb" / "bus.db").exists()
    moved = everything(root)
    last = moved["audit"].pop()
    assert (last["action"], last["reason"], last["detail"]["messages"]) == ("db.move", "a second machine", 4)
    assert moved == before
    esb("db", "verify", "--file", item["kept"], cwd=root)

    again = bus(root)
    until(lambda: ended(root), within=30, what="the end of what was open")
    assert json.loads((root / "out" / "D.json").read_text())["Lot"] == "L-D"
    assert post(f"{again.http}/lots", lot("A"))[1]["state"] == "duplicate"
    esb("replay", large["message_id"], "--reason", "is its payload there?", cwd=root)
    esb("dlq", "retry", wrong["message_id"], cwd=root)
    until(lambda: ended(root), within=30, what="the end of both")
    assert again.stop() == 0
    states = [one["state"] for one in items("messages", "ls", cwd=root)]
    assert sorted(states) == ["dead", "done", "done", "done", "done", "duplicate"]
    conserved(root)
    esb("db", "verify", cwd=root)


def test_what_a_crash_left_open_runs_there(tmp_path: Path, bus: StartBus, after: str) -> None:
    root = plant(tmp_path, BEFORE)
    running = bus(root)
    taken = [post(f"{running.http}/lots", lot(f"{n}"))[1]["message_id"] for n in range(30)]
    running.kill()
    (root / "esb.yaml").write_text(after)
    esb("db", "move", cwd=root)
    bus(root)
    until(lambda: ended(root), within=30, what="the end of what was open")
    assert {one["id"]: one["state"] for one in items("messages", "ls", "--limit", "100", cwd=root)} == dict.fromkeys(
        taken, "done"
    )
    conserved(root)


def test_a_move_that_cannot_be_leaves_the_file_as_it_was(
    tmp_path: Path, bus: StartBus, after: str, postgres: Postgres
) -> None:
    root = plant(tmp_path, BEFORE)
    assert "no file" in esb("db", "move", cwd=root, code=66).stderr
    esb("send", "lots", "-d", json.dumps(lot("B") | {"lot": secrets.token_hex(4000)}), cwd=root)
    assert "names no database" in esb("db", "move", cwd=root, code=2).stderr
    before = items("messages", "ls", cwd=root)
    (root / "esb.yaml").write_text(after)
    refused = esb("db", "move", cwd=root, code=None)
    assert "2 600 bytes" in refused.stderr
    assert postgres.execute("select to_regclass('moved.message') is null") == [(True,)]
    postgres.execute("create schema moved create table message (id int)")
    assert "?schema=NAME" in esb("db", "move", cwd=root, code=None).stderr
    postgres.execute("drop schema moved cascade")
    wrong = re.sub(r":\d+/postgres", ":1/postgres", after)
    (root / "esb.yaml").write_text(wrong)
    assert "start the database" in esb("db", "move", cwd=root, code=75).stderr
    (root / "esb.yaml").write_text(BEFORE)
    assert items("messages", "ls", cwd=root) == before
    bus(root)
    (root / "esb.yaml").write_text(after)
    assert "runs this workspace" in esb("db", "move", cwd=root, code=75).stderr


def test_a_move_that_dies_leaves_one_whole_store(tmp_path: Path, after: str, postgres: Postgres) -> None:
    root = plant(tmp_path, BEFORE)
    esb("send", "lots", "-d", json.dumps(lot("A")), cwd=root)
    (root / "esb.yaml").write_text(after)
    dies: dict[str, Any] = {"ESB_TEST": "1", "cwd": root, "code": -signal.SIGKILL}
    esb("db", "move", **dies, ESB_FAILPOINTS="move.filled=kill")
    assert postgres.execute("select to_regclass('moved.message') is null") == [(True,)]
    esb("db", "move", **dies, ESB_FAILPOINTS="move.committed=kill")
    assert (root / ".esb" / "bus.db").is_file()
    assert "holds a store already" in esb("db", "move", cwd=root, code=None).stderr
    assert [(one["key"], one["state"]) for one in items("messages", "ls", cwd=root)] == [("L-A", "queued")]
    esb("db", "verify", cwd=root)


def test_a_database_that_has_a_store_is_not_mixed_with_another(tmp_path: Path, after: str) -> None:
    root = plant(tmp_path / "one", BEFORE)
    esb("send", "lots", "-d", json.dumps(lot("A")), cwd=root)
    other = plant(tmp_path / "two", after)
    esb("send", "lots", "-d", json.dumps(lot("Z")), cwd=other)
    (root / "esb.yaml").write_text(after)
    assert "holds a store already" in esb("db", "move", cwd=root, code=None).stderr
    assert [one["key"] for one in items("messages", "ls", cwd=other)] == ["L-Z"]
    assert (root / ".esb" / "bus.db").is_file()
