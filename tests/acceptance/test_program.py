"""The program from outside: one process, its exit codes, its files, its listeners and its command line."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from examples.demo.harness import Bus, until

pytestmark = pytest.mark.acceptance

StartBus = Callable[..., Bus]

TO_FILE = """
route: lots
key: body.lot
dedupe: body.id
track: { lot: body.lot }
from: { http: { path: /lots, method: POST } }
steps:
  - map: { Lot: body.lot, Id: body.id, Qty: body.qty }
  - to: { file: { path: "out/{{ body.Id }}.json" } }
"""
TO_NOWHERE = """
route: lots
key: body.lot
from: { http: { path: /lots, method: POST } }
retry: { max: 1, backoff: 50ms }
steps:
  - to: { http: { url: "http://127.0.0.1:9/closed", method: POST } }
on_error:
  - { for: exhausted, dead_letter: erp }
"""


def workspace(tmp_path: Path, **files: str) -> Path:
    root = tmp_path / "workspace"
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_yaml", ".yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def esb(*words: str, cwd: Path, code: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """One command; its exit code must be ``code`` (None: any)."""
    command = [sys.executable, "-m", "esb", *words]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert code is None or done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def items(*words: str, cwd: Path) -> list[dict[str, Any]]:
    found = json.loads(esb(*words, "--json", cwd=cwd).stdout)
    assert set(found) == {"kind", "items"}
    return list(found["items"])


def post(url: str, body: Any, **headers: str) -> tuple[int, dict[str, Any], dict[str, str]]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method="POST")
    for name, value in {"Content-Type": "application/json", **headers}.items():
        request.add_header(name.replace("_", "-"), value)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read()), _lower(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read() or b"{}"), _lower(error.headers)


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def ended(root: Path, *, route: str = "lots") -> bool:
    status = next(item for item in items("status", cwd=root) if item["route"] == route)
    return bool(status["queued"] + status["running"] + status["waiting"] == 0)


def conserved(root: Path) -> None:
    for item in items("status", cwd=root):
        assert item["accepted"] == sum(item["states"].values()) + item["purged"], item


def test_a_message_is_accepted_delivered_and_explained_running_and_stopped(tmp_path: Path, bus: StartBus) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_FILE)
    running = bus(root)
    code, answer, _ = post(f"{running.http}/lots", b'{"id":"A","lot":"0012","qty":12.10}', X_Correlation_ID="case-7")
    assert (code, answer["correlation_id"]) == (202, "case-7")
    until(lambda: ended(root), within=60, what="the end of the message")
    assert (root / "out" / "A.json").read_text() == '{"Lot":"0012","Id":"A","Qty":12.10}'
    assert running.stop() == 0
    for _ in range(2):  # the second time the bus is stopped, and so it was the first time
        found = items("trace", "0012", cwd=root)
        assert [(one["id"], one["state"], one["track"]) for one in found] == [
            (answer["message_id"], "done", {"lot": "0012"})
        ]
        shown = items("messages", "show", answer["message_id"], cwd=root)[0]
        assert shown["body"] == '{"id":"A","lot":"0012","qty":12.10}'
    conserved(root)
    esb("db", "verify", cwd=root)


def test_a_message_has_every_field_that_scripts_rely_on(tmp_path: Path, bus: StartBus) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_NOWHERE)
    running = bus(root)
    post(f"{running.http}/lots", {"lot": "1"})
    until(lambda: ended(root), within=60, what="the dead letter")
    one = items("messages", "ls", cwd=root)[0]
    wanted = [
        "id",
        "route",
        "state",
        "key",
        "correlation_id",
        "parent_id",
        "replay_of",
        "accepted_at",
        "finished_at",
        "attempts",
        "error",
        "track",
    ]
    assert set(wanted) <= set(one)
    assert set(one["error"]) >= {"class", "message", "step", "pointer"}
    assert (one["state"], one["attempts"], one["error"]["class"]) == ("dead", 2, "exhausted")
    states = ["queued", "running", "waiting", "held", "done", "dead", "expired", "duplicate", "superseded", "discarded"]
    status = items("status", cwd=root)[0]
    assert set(states) | {"route", "state", "version", "accepted", "purged"} <= set(status)
    assert status["dead"] == status["states"]["dead"] == 1


def test_dead_letters_are_retried_edited_discarded_and_audited_by_the_command_line(
    tmp_path: Path, bus: StartBus
) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_NOWHERE)
    running = bus(root)
    ids = [post(f"{running.http}/lots", {"lot": str(n)})[1]["message_id"] for n in range(3)]
    until(lambda: len(items("dlq", "ls", cwd=root)) == 3, within=60, what="three dead letters")
    groups = items("dlq", "groups", cwd=root)
    assert [(one["count"], one["class"]) for one in groups] == [(3, "exhausted")]
    assert "would retry" in esb("dlq", "retry", "--all", "--dry-run", cwd=root).stdout
    (root / "routes" / "a.yaml").write_text(TO_FILE.replace("body.id", "body.lot"), encoding="utf-8")
    until(lambda: "reload.done" in running.log(), within=60, what="the reload")
    esb("dlq", "discard", ids[0], cwd=root, code=77)
    esb("dlq", "discard", ids[0], "--reason", "test data", cwd=root)
    esb("dlq", "edit", ids[1], "--data", '{"lot":"edited"}', "--reason", "mistyped", "--retry", cwd=root)
    esb("dlq", "retry", "--route", "lots", "--reason", "fixed", cwd=root)
    until(lambda: ended(root) and not items("dlq", "ls", cwd=root), within=60, what="the retries")
    assert {path.name for path in (root / "out").iterdir()} == {"edited.json", "2.json"}
    done = [
        (one["action"], one["object"], one["reason"]) for one in items("audit", "ls", cwd=root) if one["actor"] != "bus"
    ]
    assert sorted(done) == sorted(
        [
            ("dlq.discard", ids[0], "test data"),
            ("dlq.edit", ids[1], "mistyped"),
            ("dlq.retry", ids[1], "mistyped"),
            ("dlq.retry", ids[2], "fixed"),
        ]
    )
    assert "whole" in esb("audit", "verify", cwd=root).stdout
    replayed = json.loads(esb("replay", ids[2], "--reason", "again", "--json", cwd=root).stdout)["items"][0]
    until(lambda: ended(root), within=60, what="the replay")
    new = items("messages", "show", replayed["new_id"], cwd=root)[0]
    assert new["replay_of"] == ids[2]
    conserved(root)


def test_a_stopped_bus_takes_a_message_and_runs_it_at_the_next_start(tmp_path: Path, bus: StartBus) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_FILE)
    sent = json.loads(esb("send", "lots", "--data", '{"id":"B","lot":"1","qty":1}', "--json", cwd=root).stdout)
    assert sent["items"][0]["state"] == "queued"
    bus(root)
    until(lambda: ended(root), within=60, what="the message")
    assert (root / "out" / "B.json").exists()


def test_send_waits_for_the_end_and_says_no_for_a_dead_message(tmp_path: Path, bus: StartBus) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_NOWHERE)
    bus(root)
    done = esb("send", "lots", "--data", '{"lot":"1"}', "--wait", "--json", cwd=root, code=1)
    answer = json.loads(done.stdout)["items"][0]
    assert (answer["state"], answer["error"]["class"]) == ("dead", "exhausted")
    assert "= help: line 1" in esb("send", "lots", "--data", "{", cwd=root, code=65).stderr
    esb("send", "nothing", "--data", "{}", cwd=root, code=66)


def test_who_waits_for_a_message_gets_its_id_when_the_bus_stops(tmp_path: Path, bus: StartBus) -> None:
    root = workspace(
        tmp_path,
        routes__a_yaml="route: lots\nfrom: { http: { path: /lots } }\nsteps: [ { delay: { for: 1h } }, { set: { vars.x: body.lot } } ]\n",
    )
    running = bus(root)
    words = [sys.executable, "-m", "esb", "send", "lots", "--data", '{"lot":"1"}', "--wait", "--json"]
    waits = subprocess.Popen(words, cwd=root, stdout=subprocess.PIPE, text=True)
    until(lambda: [one["state"] for one in items("messages", "ls", cwd=root)] == ["waiting"], within=60, what="it")
    assert running.stop() == 0
    said, _ = waits.communicate(timeout=60)
    (answer,) = json.loads(said)["items"]
    assert (waits.returncode, answer["state"], answer["finished"]) == (1, "queued", False)
    assert [one["id"] for one in items("messages", "ls", cwd=root)] == [answer["message_id"]]


def test_a_stopped_bus_cannot_be_waited_for_and_a_mistyped_route_is_named(tmp_path: Path) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_FILE)
    esb("send", "lots", "--data", '{"id":"1"}', "--wait", cwd=root, code=69)
    assert "no route lost" in esb("messages", "ls", "--route", "lost", cwd=root, code=66).stderr


def test_an_edited_payload_goes_out_byte_for_byte(tmp_path: Path, bus: StartBus) -> None:
    """cp1252 on purpose: the bytes are no UTF-8, so whoever takes them for text breaks them."""
    head = "route: rows\nfrom: { file: { path: 'in/*.csv', format: { csv: { encoding: cp1252 } } } }\n"
    root = workspace(tmp_path, routes__a_yaml=head + "steps: [ { reject: wrong } ]\n")
    running = bus(root)
    (root / "bad.csv").write_bytes(b"name\r\ngr\xf6\xdfer\r\n")
    sent = esb("send", "rows", "--data", "@bad.csv", "--wait", "--json", cwd=root, code=1)
    id_ = json.loads(sent.stdout)["items"][0]["message_id"]
    (root / "fixed.csv").write_bytes(b"name\r\ngr\xf6\xdfe\r\n")
    (root / "routes" / "a.yaml").write_text(head + 'steps: [ { to: { file: { path: "out/x.json" } } } ]\n')
    until(lambda: "reload.done" in running.log(), within=60, what="the reload")
    esb("dlq", "edit", id_, "--data", "@fixed.csv", "--reason", "mistyped", "--retry", cwd=root)
    until((root / "out" / "x.json").exists, within=60, what="the message")
    assert (root / "out" / "x.json").read_text(encoding="utf-8") == '[{"name":"größe"}]'


def test_many_items_append_to_one_file_and_none_is_refused(tmp_path: Path, bus: StartBus) -> None:
    route = (
        "route: lines\nfrom: { http: { path: /lines } }\nretry: { max: 0 }\nsteps:\n"
        "  - split: { each: body, steps: [ { to: { file: { path: out/all.jsonl, exists: append } } } ] }\n"
    )
    root = workspace(tmp_path, routes__a_yaml=route)
    running = bus(root)
    assert post(f"{running.http}/lines", [{"n": n} for n in range(300)])[0] == 202
    until(lambda: ended(root, route="lines"), within=60, what="the items")
    lines = (root / "out" / "all.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["n"] for line in lines) == list(range(300))
    assert items("dlq", "ls", cwd=root) == []


def test_an_answer_header_that_is_not_ascii_reaches_the_caller_of_a_message_that_is_done(
    tmp_path: Path, bus: StartBus
) -> None:
    route = (
        "route: orders\nfrom: { http: { path: /orders, reply: delivered } }\nsteps:\n"
        '  - respond: { status: 201, headers: { Location: "/o/{{ body.id }}" } }\n'
    )
    root = workspace(tmp_path, routes__a_yaml=route)
    running = bus(root)
    request = urllib.request.Request(f"{running.http}/orders", data='{"id": "größe"}'.encode(), method="POST")
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert (answer.status, answer.headers["Location"]) == (201, "/o/gr%C3%B6%C3%9Fe")


def test_a_paused_route_says_so_to_its_callers(tmp_path: Path, bus: StartBus) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_FILE)
    running = bus(root)
    esb("routes", "pause", "lots", "--reason", "stocktaking", cwd=root)
    code, problem, headers = post(f"{running.http}/lots", {"id": "F", "lot": "1", "qty": 1})
    assert (code, "paused" in problem["detail"], "retry-after" in headers) == (503, True, True)
    esb("routes", "resume", "lots", cwd=root)
    assert post(f"{running.http}/lots", {"id": "F", "lot": "1", "qty": 1})[0] == 202


def test_one_process_owns_the_store_and_the_second_says_who(tmp_path: Path, bus: StartBus) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_FILE)
    running = bus(root)
    refused = esb("run", ".", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", cwd=root, code=75)
    assert str(running.process.popen.pid) in refused.stderr


def test_invalid_configuration_ends_with_78_and_every_fault(tmp_path: Path) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_FILE.replace("map:", "mapp:").replace("path: /lots", "paths: /lots"))
    refused = esb("run", ".", cwd=root, code=78)
    assert "routes/a.yaml:8:5: ESB203" in refused.stderr
    assert "routes/a.yaml:6:17: ESB101" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert esb("lint", ".", cwd=root, code=1).stdout.count("ESB") >= 2
    found = json.loads(esb("lint", ".", "--format", "json", cwd=root, code=1).stdout)
    assert {one["code"] for one in found["items"]} >= {"ESB203", "ESB101"}


def test_a_bad_edit_keeps_the_last_good_version_and_the_next_good_one_is_live(tmp_path: Path, bus: StartBus) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_FILE)
    running = bus(root)
    route = root / "routes" / "a.yaml"
    route.write_text(TO_FILE.replace("Qty: body.qty", "Qty: body.qty +"), encoding="utf-8")
    until(lambda: "reload.refused" in running.log(), within=60, what="the refusal")
    assert "routes/a.yaml:8" in running.log()
    assert "files on disk are not live: routes/a.yaml:8" in esb("status", cwd=root).stderr
    assert post(f"{running.http}/lots", {"id": "C", "lot": "1", "qty": 1})[0] == 202
    until((root / "out" / "C.json").exists, within=60, what="the message")
    route.write_text(TO_FILE.replace("Qty: body.qty", "Menge: body.qty"), encoding="utf-8")
    until(lambda: "reload.done" in running.log(), within=60, what="the reload")
    post(f"{running.http}/lots", {"id": "D", "lot": "1", "qty": 1})
    until((root / "out" / "D.json").exists, within=60, what="the message")
    assert json.loads((root / "out" / "D.json").read_text()) == {"Lot": "1", "Id": "D", "Menge": 1}


def test_a_full_queue_is_answered_with_503_and_retry_after(tmp_path: Path, bus: StartBus) -> None:
    route = TO_NOWHERE.replace("backoff: 50ms", "backoff: 1h")
    root = workspace(tmp_path, routes__a_yaml=route, esb_yaml="bus: small\nlimits: { queue: 2 }\n")
    running = bus(root)
    codes = [post(f"{running.http}/lots", {"lot": str(n)}) for n in range(3)]
    assert [code for code, _, _ in codes] == [202, 202, 503]
    assert int(codes[2][2]["retry-after"]) >= 1
    assert codes[2][1]["code"]
    conserved(root)


def test_health_metrics_and_api_answer_and_actions_need_the_token(tmp_path: Path, bus: StartBus) -> None:
    root = workspace(tmp_path, routes__a_yaml=TO_FILE)
    running = bus(root)
    assert get(f"{running.admin}/livez")[0] == get(f"{running.admin}/readyz")[0] == 200
    post(f"{running.http}/lots", {"id": "E", "lot": "1", "qty": 1})
    until(lambda: ended(root), within=60, what="the message")
    page = get(f"{running.admin}/metrics")[1]
    assert 'esb_messages_total{route="lots",status="accepted"} 1' in page
    assert 'esb_messages{route="lots",state="done"} 1' in page
    assert 'esb_messages_total{route="lots",status="done"} 1' in page
    assert 'esb_step_duration_seconds_count{route="lots",step="' in page
    assert re.search(r'^esb_build_info{bus="[^"]+",version="[^"]+",python="[^"]+"} 1$', page, re.MULTILINE)
    assert json.loads(get(f"{running.admin}/api/v1/status")[1])["items"][0]["route"] == "lots"
    code, problem, _ = post(f"{running.admin}/api/v1/dlq/retry", {"all": True})
    assert (code, problem["code"]) == (401, "unauthorized")
    code, text = get(f"{running.admin}/api/v1/messages/nothing")
    assert (code, json.loads(text)["code"]) == (404, "not-found")


def test_nothing_acknowledged_is_lost_when_the_process_is_killed_under_load(tmp_path: Path, bus: StartBus) -> None:
    """Five kills under load; then every acknowledged message has its file, and no message is in two states."""
    root = workspace(tmp_path, routes__a_yaml=TO_FILE)
    acknowledged: list[str] = []
    for round_ in range(5):
        running = bus(root)
        enough, goal = threading.Event(), len(acknowledged) + 81 + 7 * round_

        def client(
            name: int, url: str = running.http, round_: int = round_, enough: threading.Event = enough, goal: int = goal
        ) -> None:
            for number in range(10_000):
                id_ = f"{round_}-{name}-{number}"
                try:
                    code = post(f"{url}/lots", {"id": id_, "lot": f"L{number % 7}", "qty": number})[0]
                except (OSError, http.client.HTTPException):
                    return
                if code == 202:
                    acknowledged.append(id_)
                if len(acknowledged) >= goal:
                    enough.set()

        clients = [threading.Thread(target=client, args=(name,)) for name in range(4)]
        for one in clients:
            one.start()
        assert enough.wait(60)
        running.kill()
        for one in clients:
            one.join()
    running = bus(root)
    until(lambda: ended(root), within=60, what="the drain")
    written = {path.stem for path in (root / "out").iterdir() if not path.name.startswith(".")}
    assert len(acknowledged) > 400
    assert set(acknowledged) <= written
    conserved(root)
    assert running.stop() == 0
    esb("db", "verify", cwd=root)


def test_help_lists_every_command_and_a_typo_is_named(tmp_path: Path) -> None:
    text = esb("--help", cwd=tmp_path).stdout
    for command in [
        "run",
        "lint",
        "schema",
        "catalog",
        "send",
        "status",
        "routes",
        "messages",
        "trace",
        "dlq",
        "replay",
        "audit",
        "db",
    ]:
        assert f"  {command} " in text
    assert "Did you mean `status`" in esb("statsu", cwd=tmp_path, code=2).stderr
    assert "no workspace" in esb("status", cwd=tmp_path, code=66).stderr


def test_schema_and_catalog_come_from_the_components(tmp_path: Path) -> None:
    schema = json.loads(esb("schema", cwd=tmp_path).stdout)
    assert "$defs" in schema or "definitions" in schema
    names = {(one["family"], one["name"]) for one in items("catalog", cwd=tmp_path)}
    assert {("step", "fanout"), ("source", "http"), ("sink", "file"), ("format", "csv")} <= names
    assert "Splitter" in esb("catalog", "step", "split", cwd=tmp_path).stdout
    assert "ESB101" in esb("explain", "esb101", cwd=tmp_path).stdout
