"""`esb db` from outside: backups of a running bus, restore, prune; and exit codes and answers of commands that act."""

from __future__ import annotations

import gzip
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from examples.demo.harness import Bus, until
from tests.acceptance.test_program import TO_FILE, TO_NOWHERE, conserved, ended, esb, items, post, workspace

pytestmark = pytest.mark.acceptance

StartBus = Callable[..., Bus]
CONTRACT = '{"type": "object", "required": ["lot"], "properties": {"qty": {"type": "number"}}}'


def test_a_backup_of_a_running_bus_is_whole_and_comes_back(tmp_path: Path, bus: StartBus) -> None:
    root, copy = workspace(tmp_path, routes__a_yaml=TO_FILE), tmp_path / "copy.db"
    running = bus(root)
    post(f"{running.http}/lots", {"id": "A", "lot": "1", "qty": 1})
    until(lambda: ended(root), within=60, what="the end of the message")
    assert items("db", "backup", str(copy), cwd=root)[0]["bytes"] == copy.stat().st_size
    assert copy.stat().st_mode & 0o077 == 0
    esb("db", "backup", str(copy), cwd=root, code=1)
    esb("db", "verify", "--file", str(copy), cwd=root)
    esb("db", "restore", str(copy), cwd=root, code=75)
    esb("db", "prune", "--done", "0s", cwd=root, code=75)
    post(f"{running.http}/lots", {"id": "B", "lot": "2", "qty": 1})
    until(lambda: ended(root), within=60, what="the end of the message")
    assert running.stop() == 0

    restored = items("db", "restore", str(copy), "--reason", "disk was changed", cwd=root)[0]
    assert [item["key"] for item in items("messages", "ls", cwd=root)] == ["1"]
    assert items("db", "verify", cwd=root) == []
    last = items("audit", "ls", cwd=root)[-1]
    assert (last["action"], last["reason"]) == ("db.restore", "disk was changed")
    esb("db", "verify", "--file", restored["kept"], cwd=root)
    again = bus(root)
    code, answer, _ = post(f"{again.http}/lots", {"id": "A", "lot": "1", "qty": 1})
    assert (code, answer["state"]) == (202, "duplicate")


def test_what_is_no_backup_is_refused_and_the_store_stays(tmp_path: Path) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_FILE)
    esb("db", "backup", str(tmp_path / "early.db"), cwd=root, code=66)
    esb("send", "lots", "-d", '{"id": "A", "lot": "1", "qty": 1}', cwd=root)
    (tmp_path / "text.db").write_text("no store " * 1000)
    esb("db", "restore", str(tmp_path / "text.db"), cwd=root, code=65)
    esb("db", "restore", str(tmp_path / "absent.db"), cwd=root, code=66)
    assert [item["state"] for item in items("messages", "ls", cwd=root)] == ["queued"]


def test_prune_removes_what_is_old_and_counts_it(tmp_path: Path, bus: StartBus) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_FILE)
    running = bus(root)
    post(f"{running.http}/lots", {"id": "A", "lot": "1", "qty": 1})
    until(lambda: ended(root), within=60, what="the end of the message")
    assert running.stop() == 0
    esb("db", "prune", cwd=root, code=2)
    assert items("db", "prune", "--done", "1d", cwd=root) == [{"removed": 0}]
    assert items("db", "prune", "--done", "0s", cwd=root) == [{"removed": 1}]
    assert items("messages", "ls", cwd=root) == []
    assert next(item for item in items("status", cwd=root) if item["route"] == "lots")["purged"] == 1
    assert items("db", "verify", cwd=root) == []
    conserved(root)


def test_prune_keeps_what_its_class_or_a_hold_keeps_and_writes_what_goes(tmp_path: Path, bus: StartBus) -> None:
    grave = TO_FILE.replace("route: lots", "route: grave\ncriticality: release-blocking").replace("/lots", "/grave")
    settings = (
        "bus: small\ncriticality: { release-blocking: { within: 1h } }\n"
        "retention: { done: 30d, classes: { release-blocking: { done: 730d } }, export: archive }\n"
    )
    root = workspace(tmp_path, routes__a_yaml=TO_FILE, routes__b_yaml=grave, esb_yaml=settings)
    running = bus(root)
    for path in ("lots", "grave"):
        post(f"{running.http}/{path}", {"id": "A", "lot": "1", "qty": 1})
    until(lambda: ended(root), within=60, what="the end of the messages")
    assert running.stop() == 0
    assert items("db", "prune", "--done", "0s", cwd=root) == [{"removed": 1}]
    assert [item["route"] for item in items("messages", "ls", cwd=root)] == ["grave"]
    (file,) = (root / "archive").iterdir()
    assert [json.loads(line)["route"] for line in gzip.decompress(file.read_bytes()).splitlines()] == ["lots"]
    (root / "routes" / "b.yaml").write_text("route: [")
    esb("db", "prune", "--done", "0s", cwd=root, code=78)
    assert [item["route"] for item in items("messages", "ls", cwd=root)] == ["grave"]


def test_exports_have_the_one_form_of_machine_output(tmp_path: Path) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_FILE)
    esb("send", "lots", "-d", '{"id": "A", "lot": "1", "qty": 1.10}', cwd=root)
    assert items("messages", "export", cwd=root)[0]["body"] == '{"id": "A", "lot": "1", "qty": 1.10}'
    assert [item["action"] for item in items("audit", "export", cwd=root)] == ["send"]


def test_an_unknown_message_is_missing_and_a_missing_reason_is_not_allowed(tmp_path: Path, bus: StartBus) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_NOWHERE)
    running = bus(root)
    esb("send", "lots", "-d", '{"lot": "1"}', "--wait", cwd=root, code=1)
    esb("dlq", "retry", "nobody", cwd=root, code=66)
    esb("replay", "nobody", cwd=root, code=66)
    id_ = items("dlq", "ls", cwd=root)[0]["id"]
    esb("dlq", "edit", id_, "-d", "{}", cwd=root, code=77)
    esb("dlq", "discard", id_, cwd=root, code=77)
    assert [item["result"] for item in items("dlq", "discard", id_, "--dry-run", cwd=root)] == ["would discard"]
    tried = esb("dlq", "edit", id_, "-d", "{", "--dry-run", cwd=root, code=1).stdout
    assert "\n  line 1, column 1: it ends" in tried, "no pointer of the body can be named"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{running.admin}/api/v1/replay", timeout=20)
    with refused.value as answer:
        assert (answer.code, answer.headers["Allow"]) == (405, "POST")
        assert json.loads(answer.read())["code"] == "method-not-allowed"


def test_a_message_against_its_contract_is_refused_with_every_violation(tmp_path: Path, bus: StartBus) -> None:
    route = TO_FILE.replace("method: POST", "method: POST, contract: lot.v1")
    root = workspace(tmp_path, routes__a_yaml=route)
    (root / "schemas").mkdir()
    (root / "schemas" / "lot.v1.json").write_text(CONTRACT)
    for _ in range(2):  # stopped, then running
        told = esb("send", "lots", "-d", '{"qty": "1"}', cwd=root, code=65).stderr
        assert "needs `lot`" in told
        assert "/qty" in told
        if not (root / ".esb" / "bus.lock").read_text():
            bus(root)
