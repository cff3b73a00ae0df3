"""The failure workbench over a real listener: what is edited is tried first, what is retried in bulk shows how far it is."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from tests.admin.browsing import Browser, Page
from tests.admin.conftest import ROOT, send
from tests.hostile.tools import Target, attacked

ROUTES = """
route: lot-block
key: body.lot
track: { lot: body.lot }
order: { on_dead: skip }
from: { http: { path: /block, method: POST, format: json } }
kpis:
  to-block: { start: accepted, end: done, by: lot, weigh: body.price, unit: EUR }
steps:
  - validate: lot.v1
  - to: { http: { url: "http://127.0.0.1:9/erp" } }
    if: body.qty == `99`
    retry: { max: 0 }
  - to: { file: { path: "var/out/{{ body.lot }}.json", exists: replace } }
"""
SCHEMA = {"type": "object", "required": ["lot", "qty"], "properties": {"lot": {"type": "string"}, "qty": {"type": "integer"}}}  # fmt: skip
TOKEN = {"Authorization": "Bearer token-of-the-test"}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    files = {
        "routes/a.yaml": ROUTES,
        "schemas/lot.v1.json": json.dumps(SCHEMA),
        "esb.yaml": 'bus: plant-graz\nadmin: { token: "${secret:admin-token}" }\n',
    }
    with attacked(
        tmp_path_factory.mktemp("bench"), files, "--no-watch", ESB_SECRET_ADMIN_TOKEN="token-of-the-test"
    ) as target:
        yield target


@pytest.fixture
def person(bench: Target) -> Iterator[Browser]:
    browser = Browser(bench.bus.admin)
    browser.login("token-of-the-test")
    yield browser
    browser.client.close()


def dead(target: Target, lot: str, **more: Any) -> str:
    found = send(target, "/block", lot=lot, **more)
    target.drained("lot-block")
    return found


def api(target: Target, path: str, words: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    method, body = ("GET", None) if words is None else ("POST", json.dumps(words).encode())
    answer = target.admin.send(method, f"/api/v1{path}", body, {**TOKEN, "Content-Type": "application/json"})
    assert answer.status < 300, answer.body
    return list(answer.json["items"])


def esb(target: Target, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "esb", *words, "-C", str(target.root)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=env, stdin=subprocess.DEVNULL, timeout=60
    )


# -- edit, dry run, retry ----------------------------------------------------------------------------------------------------
def test_a_payload_is_edited_tried_against_its_contract_and_retried(bench: Target, person: Browser) -> None:
    id_ = dead(bench, "E-1", qty="seven")
    at, out = f"/messages/{id_}/edit", bench.root / "var" / "out" / "E-1.json"
    assert at in Page(person.get(f"/messages/{id_}")).links
    form = Page(person.get(at))
    assert form.strange == []
    assert '"qty": "seven"' in form.text
    csrf = person.csrf()

    def posted(payload: str, do: str) -> Any:
        return person.post(at, {"csrf": csrf, "reason": "as the scale says", "payload": payload, "do": do})

    wrong = Page(posted('{\r\n  "lot": "E-1",\r\n  "qty": "eight"\r\n}', "try"))
    assert "Dry run ✗ dead" in wrong.text
    assert "/qty" in wrong.text
    assert "Save and retry" not in wrong.text
    answer = posted('{"lot": "E-1", "qty": 7}', "try")
    right = Page(answer)
    assert right.strange == []
    assert '- "qty": "seven" + "qty": 7' in right.text
    assert "Dry run ✓ done" in right.text
    assert "would get" in right.text
    kept = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", answer.body.decode(), re.DOTALL)
    assert kept is not None
    assert unescape(kept[1]) == '{"lot": "E-1", "qty": 7}'
    assert not out.exists(), "a dry run sends nothing"
    assert api(bench, f"/messages/{id_}")[0]["state"] == "dead"
    assert posted('{"lot": "E-1", "qty": 7}', "retry").status == 303
    bench.drained("lot-block")
    assert json.loads(out.read_text()) == {"lot": "E-1", "qty": 7}
    (item,) = api(bench, f"/messages/{id_}")
    assert item["state"] == "done"
    assert '"seven"' in json.dumps([entry for entry in item["trace"] if entry.get("edit") == "original"]).replace(
        "\\", ""
    )
    (entry,) = [one for one in api(bench, "/audit") if one["action"] == "dlq.edit" and one["object"] == id_]
    assert entry["detail"]["changed"] == ["/qty"]
    assert "seven" not in json.dumps(entry)
    assert person.get(at).status == 409, "a message that is done is not edited"


def test_the_dry_run_of_an_edit_is_the_same_on_the_command_line(bench: Target) -> None:
    id_ = dead(bench, "E-2", qty="x")
    wrong = esb(bench, "dlq", "edit", id_, "--data", '{"lot": "E-2"}', "--dry-run")
    assert (wrong.returncode, "qty" in wrong.stdout) == (1, True), wrong.stderr
    right = esb(bench, "dlq", "edit", id_, "--data", '{"lot": "E-2", "qty": 1}', "--dry-run", "--json")
    assert right.returncode == 0, right.stderr
    (item,) = json.loads(right.stdout)["items"]
    assert (item["state"], item["sent"][0]["body"]) == ("done", {"lot": "E-2", "qty": 1})
    assert api(bench, f"/messages/{id_}")[0]["state"] == "dead"


def test_who_saves_an_edit_does_not_undo_what_somebody_else_saved_meanwhile(bench: Target, person: Browser) -> None:
    id_ = dead(bench, "E-3", qty="x", unit="mm")
    at = f"/messages/{id_}/edit"

    def opened(answer: Any) -> str:
        found = re.search(r'name="replaces" value="([0-9a-f]{64})"', answer.body.decode())
        assert found is not None
        return found[1]

    def save(payload: str, replaces: str) -> Any:
        words = {"reason": "as the scale says", "payload": payload, "do": "save", "replaces": replaces}
        return person.post(at, {"csrf": person.csrf(), **words})

    seen = opened(person.get(at))
    theirs = '{"lot": "E-3", "qty": "x", "unit": "m"}'
    assert api(bench, "/dlq/edit", {"id": id_, "body": theirs, "reason": "in metres"})[0]["result"] == "edited"
    answer = save('{"lot": "E-3", "qty": 3, "unit": "mm"}', seen)
    page = Page(answer)
    assert page.strange == []
    assert "Somebody else edited it" in page.text
    assert '- "unit": "m"' in page.text, "what the save would undo"
    assert api(bench, f"/messages/{id_}")[0]["body"] == theirs
    mine = '{"lot": "E-3", "qty": 3, "unit": "m"}'
    assert save(mine, opened(answer)).status == 303
    assert api(bench, f"/messages/{id_}")[0]["body"] == mine


def test_an_edit_says_over_the_api_which_payload_it_replaces(bench: Target) -> None:
    id_ = dead(bench, "E-4", qty="x")
    body = api(bench, f"/messages/{id_}")[0]["body"]
    words = {"id": id_, "reason": "why", "replaces": hashlib.sha256(body.encode()).hexdigest()}
    assert api(bench, "/dlq/edit", {**words, "body": '{"lot": "E-4", "qty": 1}'})[0]["result"] == "edited"
    (late,) = api(bench, "/dlq/edit", {**words, "body": '{"lot": "E-4", "qty": 2}'})
    assert (late["result"], late["why"]) == ("skipped", "token:admin edited it meanwhile: look at it again")


@pytest.mark.skipif(sys.platform == "win32", reason="the editor is a script of a shell")
def test_what_was_typed_in_an_editor_undoes_nothing_and_is_not_lost(bench: Target, tmp_path: Path) -> None:
    id_ = dead(bench, "E-5", qty="x")
    editor = tmp_path / "editor"
    theirs = '{"lot": "E-5", "qty": "theirs"}'
    again = f"{sys.executable} -m esb dlq edit {id_} --data '{theirs}' --reason faster -C {bench.root}"
    editor.write_text(f'#!/bin/sh\n{again} >/dev/null && echo \'{{"lot": "mine"}}\' > "$1"\n', encoding="utf-8")
    editor.chmod(0o755)
    done = esb(bench, "dlq", "edit", id_, "--reason", "slower", EDITOR=str(editor), TMPDIR=str(tmp_path))
    assert (done.returncode, "edited it meanwhile" in done.stdout) == (1, True), done.stderr
    assert api(bench, f"/messages/{id_}")[0]["body"] == theirs
    kept = re.search(r"--data @(\S+)", done.stderr)
    assert kept is not None
    assert json.loads(Path(kept[1]).read_text(encoding="utf-8")) == {"lot": "mine"}


def test_an_edit_without_a_terminal_or_an_editor_says_what_to_give(bench: Target) -> None:
    id_ = dead(bench, "E-6", qty="x")
    done = esb(bench, "dlq", "edit", id_, "--reason", "why", EDITOR="", VISUAL="")
    assert (done.returncode, "--data" in done.stderr) == (2, True)
    assert esb(bench, "dlq", "edit", id_, EDITOR="false").returncode == 77, "before anything is typed"


# -- bulk retry --------------------------------------------------------------------------------------------------------------
def group_of(target: Target, id_: str) -> dict[str, Any]:
    found = api(target, "/dlq/groups?route=lot-block")
    return next(one for one in found if any(item["id"] == id_ for item in api(target, f"/dlq?group={one['group']}")))


def test_a_group_is_retried_at_a_rate_in_order_and_stopped_on_the_page(bench: Target, person: Browser) -> None:
    sent = [dead(bench, f"B-{n}") for n in range(4)]
    group = group_of(bench, sent[0])
    form = {"group": group["group"], "route": "lot-block", "rate": "1/h"}
    page = Page(person.act("/dead/retry", **form))
    assert page.strange == []
    assert "progress" in page.tags
    assert "Bulk retry: 1 started" in page.text
    (job, *_) = api(bench, "/dlq/bulk")
    assert (job["state"], job["total"], job["rate"]) == ("running", group["count"], "1/h")
    stop = f"/dead/bulk/{job['job']}/stop"
    assert stop in page.links
    stopped = Page(person.act(stop))
    assert f"Bulk retry stopped: 1 of {group['count']}" in stopped.text
    assert stop not in stopped.links
    (one,) = api(bench, f"/dlq/bulk/{job['job']}?messages=1")
    assert [item["id"] for item in one["messages"]] == sent[:1], "the oldest first"
    bench.drained("lot-block")
    (first, second) = (api(bench, f"/messages/{id_}")[0] for id_ in sent[:2])
    assert (first["attempts"] > second["attempts"], second["state"]) == (True, "dead")
    actions = [(entry["action"], entry["object"]) for entry in api(bench, "/audit")]
    assert [action for action, about in actions if about == job["job"]] == ["bulk.start", "bulk.stop", "bulk.end"]
    bench.drained("lot-block")


def test_the_command_line_follows_a_bulk_retry_to_its_end(bench: Target) -> None:
    sent = [dead(bench, f"C-{n}", qty="x") for n in range(3)]
    done = esb(bench, "dlq", "retry", *sent, "--rate", "500/s", "--reason", "again", "--json")
    assert done.returncode == 0, done.stderr
    assert "of 3" in done.stderr
    found = json.loads(done.stdout)
    assert found["kind"] == "RetryResult"
    assert [(item["id"], item["result"]) for item in found["items"]] == [(id_, "queued") for id_ in sent]
    listed = esb(bench, "dlq", "bulk")
    assert "done" in listed.stdout
    again = esb(bench, "dlq", "bulk", api(bench, "/dlq/bulk")[0]["job"], "--stop", "--reason", "late")
    assert again.returncode == 1, "it does not run any more"
    bench.drained("lot-block")


def test_a_message_says_who_retried_it_and_why_where_a_reason_was_given(bench: Target, person: Browser) -> None:
    id_ = dead(bench, "W-1", qty="x")
    assert api(bench, f"/messages/{id_}")[0]["actions"] == []
    assert esb(bench, "dlq", "retry", id_).returncode == 0, "a plain retry goes without a reason"
    bench.drained("lot-block")
    assert esb(bench, "dlq", "retry", id_, "--reason", "masters loaded \x1b[31m").returncode == 0
    bench.drained("lot-block")
    (replayed,) = json.loads(esb(bench, "replay", id_, "--reason", "look again", "--json").stdout)["items"]
    first, second, third = api(bench, f"/messages/{id_}")[0]["actions"]
    assert (first["action"], first["reason"]) == ("dlq.retry", "")
    assert (second["action"], second["reason"].startswith("masters loaded")) == ("dlq.retry", True)
    assert (third["action"], third["new"]) == ("replay", replayed["new_id"])
    (traced,) = [one for one in api(bench, "/trace/W-1") if one["id"] == id_]
    assert traced["actions"] == [first, second, third]
    for words in (("trace", "W-1"), ("messages", "show", id_)):
        said = esb(bench, *words).stdout
        assert f"by {first['actor']}, no reason given" in said
        assert f"by {first['actor']}: masters loaded \\x1b[31m" in said
        assert f"replay -> {replayed['new_id']}" in said
    page = Page(person.get(f"/messages/{id_}"))
    assert "What people did" in page.text
    assert "look again" in page.text
    assert f"/messages/{replayed['new_id']}" in page.links
    bench.drained("lot-block")


# -- groups ------------------------------------------------------------------------------------------------------------------
def test_a_group_says_what_it_is_about_what_is_in_the_way_and_who_looks_after_it(
    bench: Target, person: Browser
) -> None:
    sent = [dead(bench, f"G-{n}", qty=99, price=12.5) for n in range(3)]
    assert api(bench, f"/messages/{sent[0]}")[0]["state"] == "dead"
    dead(bench, "G-0", qty=1)
    group = group_of(bench, sent[0])
    assert group["tracked"] == {"lot": {"count": 3, "values": ["G-0", "G-1", "G-2"]}}
    assert (group["count"], group["looked_at"], group["stale"]) == (3, 3, 1)
    assert [(one["kpi"], one["open"], one["weight"], one["unit"]) for one in group["affected"]] == [
        ("to-block", 2, 25, "EUR")
    ]
    (trouble,) = group["troubled"].values()
    assert trouble == "the last 3 tries failed"
    page = Page(person.get("/dead"))
    for said in (
        "lot 3: G-0 , G-1 , G-2",
        "25 EUR in 2 open of to-block",
        "the last 3 tries failed",
        "1 of a key that was",
    ):
        assert said in page.text, said
    one = Page(person.get(f"/messages/{sent[0]}"))
    assert one.strange == []
    assert "a newer one of its key was delivered" in one.text
    assert "the last 3 tries failed" in one.text
    assert "a newer one of its key" not in Page(person.get(f"/messages/{sent[1]}")).text
    assert "1 skipped (stale:" in Page(person.act(f"/messages/{sent[0]}/retry")).text
    words = {"group": group["group"], "route": "lot-block", "to": "Ana <b>", "reason": "asks the ERP team"}
    noted = Page(person.act("/dead/note", **words))
    assert noted.strange == []
    assert "looked after by Ana <b>" in noted.text
    assert "asks the ERP team" in noted.text
    again = esb(bench, "dlq", "note", group["group"], "--note", "ERP is up at noon")
    assert (again.returncode, "Ana <b> looks after" in again.stdout) == (0, True), again.stderr
    after = group_of(bench, sent[0])
    assert (after["assigned"], [note["text"] for note in after["notes"]]) == (
        "Ana <b>",
        ["ERP is up at noon", "asks the ERP team"],
    )
    listed = esb(bench, "dlq", "groups")
    assert all(word in listed.stdout for word in ("3 lot", "25 EUR", "1 stale", "Ana")), listed.stdout
    assert "Retry: 1 queued" in Page(person.act(f"/messages/{sent[0]}/retry", stale="yes")).text
    bench.drained("lot-block")
    notes = [entry["reason"] for entry in api(bench, "/audit") if entry["action"] == "group.note"]
    assert notes == ["asks the ERP team", "ERP is up at noon"]


def test_a_new_payload_that_cannot_be_read_is_refused(bench: Target) -> None:
    id_ = dead(bench, "E-3", qty="x")
    wrong = esb(bench, "dlq", "edit", id_, "--data", '{"lot": "E-3"', "--reason", "typing")
    assert (wrong.returncode, "is not valid JSON" in wrong.stderr) == (65, True)
    (item,) = api(bench, f"/messages/{id_}")
    assert not [entry for entry in item["trace"] if "edit" in entry]
    assert esb(bench, "dlq", "edit", id_, "--data", '{"lot": "E-3"}', "--reason", "typing").returncode == 0
