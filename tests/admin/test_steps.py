"""What each step made of a message: over the API, on its page, and with `esb messages steps` of a stopped bus."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.admin.browsing import Browser
from tests.admin.conftest import ROOT, send
from tests.hostile.tools import Target, attacked

ROUTES = """
route: lots
key: body.lot
from: { http: { path: /lots, method: POST, format: json } }
steps:
  - set: { vars.seen: body.lot }
  - map: { lot: body.lot, pieces: body.qty }
  - choose:
      - when: body.pieces > `10`
        steps:
          - set: { body.size: "'big'" }
      - otherwise:
          - set: { body.size: "'small'" }
  - filter: body.lot != 'NONE'
  - reject: "the ERP knows no lot {{ body.lot }}"
    if: starts_with(body.lot, 'X')
  - to: { http: { url: "http://127.0.0.1:9/erp" } }
    if: body.lot == 'DOWN'
    retry: { max: 0 }
  - fanout:
      mes:
        - set: { body.system: "'MES'" }
      erp:
        - remove: [body.size]
---
route: code
from: { http: { path: /code, method: POST, format: json } }
steps:
  - python: own.mark
---
route: parsed
from: { http: { path: /parsed, method: POST, format: json } }
steps:
  - parse: { from: body.text, as: shouted }
---
route: shouted
from: { http: { path: /shouted, method: POST, format: shouted } }
steps:
  - set: { vars.seen: body }
"""
CODE = "def mark(body):\n    return {**body, 'by': 'old'}\n"
FORMAT = """
from dataclasses import dataclass
from esb.registry import format_

@format_("shouted")
@dataclass(frozen=True, slots=True)
class Shouted:
    content_type = "text/x-shouted"
    media_types = ("text/x-shouted",)
    also_accepts = ("application/json",)
    suffixes = ()

    def decode(self, data):
        return data.decode().lower()

    def encode(self, body):
        return str(body).encode()
"""
TOKEN = {"Authorization": "Bearer token-of-the-test"}
FILES = {
    "routes/a.yaml": ROUTES,
    "connectors/own.py": CODE,
    "connectors/loud.py": FORMAT,
    "esb.yaml": 'bus: plant-graz\nadmin: { token: "${secret:admin-token}" }\n',
}


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Target]:
    with attacked(tmp_path / "plant", FILES, "--no-watch", ESB_SECRET_ADMIN_TOKEN="token-of-the-test") as target:
        yield target


def sent(target: Target, lot: str, qty: int = 20) -> str:
    found = send(target, "/lots", lot=lot, qty=qty)
    target.drained("lots")
    return found


def steps(target: Target, id_: str, headers: dict[str, str] = TOKEN) -> list[dict[str, Any]]:
    answer = target.admin.send("GET", f"/api/v1/messages/{id_}/steps", None, headers)
    assert answer.status == 200, answer.body
    assert answer.json["kind"] == "MessageSteps"
    return list(answer.json["items"])


def test_each_step_says_what_it_changed(plant: Target) -> None:
    found = steps(plant, sent(plant, "L-1"))
    own = {item["step"]: item for item in found if not item["message"]}
    assert list(own) == ["set", "map", "choose", "choose[0]/set", "filter", "reject", "to:http", "fanout"]
    assert json.loads(own["set"]["before"]) == {"body": {"lot": "L-1", "qty": 20}}
    assert json.loads(own["set"]["after"])["vars"] == {"seen": "L-1"}
    assert json.loads(own["map"]["after"])["body"] == {"lot": "L-1", "pieces": 20}
    assert '+    "pieces": 20' in own["map"]["diff"]
    assert '-    "qty": 20' in own["map"]["diff"]
    assert own["choose"]["diff"] == own["choose[0]/set"]["diff"] != ""
    assert (own["filter"]["diff"], own["reject"]["diff"], own["filter"]["ended"]) == ("", "", "")
    parts = {item["message"]: item for item in found if item["message"]}
    assert set(parts) == {"fanout/mes", "fanout/erp"}
    assert '+    "system": "MES"' in parts["fanout/mes"]["diff"]
    assert '-    "size": "big"' in parts["fanout/erp"]["diff"]
    assert all(item["its_version"] and not item["more"] for item in found)


@pytest.mark.parametrize(
    ("lot", "step", "ended"),
    [
        ("NONE", "filter", "done: "),
        ("X-1", "reject", "dead: rejected: the ERP knows no lot X-1"),
        ("DOWN", "to:http", "dead: unavailable: "),
    ],
)
def test_the_step_that_ended_it_says_how(plant: Target, lot: str, step: str, ended: str) -> None:
    found = steps(plant, sent(plant, lot, 3))
    assert found[-1]["step"] == step
    assert found[-1]["ended"].startswith(ended)
    assert found[-1]["after"] is None
    assert [item["ended"] for item in found[:-1]] == [""] * (len(found) - 1)
    assert "choose[1]/set" in [item["step"] for item in found]


def test_it_runs_on_the_version_of_the_message_after_a_reload(plant: Target) -> None:
    id_ = sent(plant, "L-1")
    place = plant.root / "routes/a.yaml"
    place.write_text(ROUTES.replace("pieces: body.qty }", "pieces: body.qty, new: body.lot }"))
    found = steps(plant, id_)
    assert all(item["its_version"] for item in found)
    assert '"new"' not in found[1]["after"]


def test_where_the_version_cannot_be_read_again_the_files_as_they_stand_are_taken_and_it_says_so(plant: Target) -> None:
    id_ = send(plant, "/code", lot="L-1")
    plant.drained("code")
    (plant.root / "connectors/own.py").write_text(CODE.replace("'old'", "'new'"))
    (found,) = steps(plant, id_)
    assert not found["its_version"]
    assert '"new"' in found["after"]


@pytest.mark.parametrize("route", ["code", "parsed", "shouted"])
def test_who_may_not_edit_does_not_run_code_of_the_workspace(plant: Target, route: str) -> None:
    id_ = send(plant, f"/{route}", text="LOT")
    plant.drained(route)
    refused = plant.admin.send("GET", f"/api/v1/messages/{id_}/steps", None, reader(plant))
    assert refused.status == 409, refused.body
    assert "would run once more" in refused.json["detail"]
    assert len(steps(plant, id_)) == 1


def reader(plant: Target) -> dict[str, str]:
    words = json.dumps({"name": "eyes", "scopes": ["read"], "reason": "a test"}).encode()
    made = plant.admin.send("POST", "/api/v1/tokens", words, {**TOKEN, "Content-Type": "application/json"})
    return {"Authorization": f"Bearer {made.json['items'][0]['secret']}"}


def test_who_may_not_see_payloads_gets_the_steps_without_them(plant: Target) -> None:
    id_ = sent(plant, "X-1")
    own = reader(plant)
    found = steps(plant, id_, own)
    assert [item["step"] for item in found][-1] == "reject"
    assert {(item["before"], item["after"], item["diff"]) for item in found} == {(None, None, None)}
    assert found[-1]["ended"] == "***"
    assert "X-1" not in json.dumps(found)
    page = plant.admin.send("GET", f"/messages/{id_}/steps", None, {**own, "Accept": "text/html"})
    assert page.status == 200, page.body
    assert b"Payloads are hidden from you" in page.body
    assert b"X-1" not in page.body


def test_the_page_tells_the_same_and_is_reached_from_the_message(plant: Target) -> None:
    id_ = sent(plant, "X-7 <b>")
    somebody = Browser(plant.bus.admin)
    try:
        somebody.login("token-of-the-test")
        assert f'href="/messages/{id_}/steps"' in somebody.get(f"/messages/{id_}").body.decode()
        page = somebody.get(f"/messages/{id_}/steps").body.decode()
    finally:
        somebody.client.close()
    assert "<del>-    &#34;qty&#34;: 20</del>\n<ins>+    &#34;pieces&#34;: 20</ins>\n" in page
    assert "It is the version that the message ran on" in page
    assert "the ERP knows no lot X-7 &lt;b&gt;" in page


def test_a_stopped_bus_says_it_on_the_command_line(tmp_path: Path) -> None:
    with attacked(tmp_path / "plant", FILES, "--no-watch", ESB_SECRET_ADMIN_TOKEN="token-of-the-test") as target:
        id_, root = sent(target, "L-1"), target.root
    said = cli(root, "messages", "steps", id_)
    assert "recomputed on the version that it ran on" in said
    assert '+    "pieces": 20' in said
    assert "== filter  changed nothing" in said
    assert "== fanout/mes: fanout/mes/set" in said
    items = json.loads(cli(root, "messages", "steps", id_, "--json"))["items"]
    assert {"step", "before", "after", "diff", "ended"} <= set(items[0])


def cli(root: Path, *words: str) -> str:
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "ESB_SECRET_ADMIN_TOKEN": "token-of-the-test"}
    done = subprocess.run(
        [sys.executable, "-m", "esb", *words, "-C", str(root)],
        capture_output=True,
        text=True,
        env=environ,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
