"""What a person reads about a message: who sent it, on which version it ran, and what each target answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.admin.browsing import Browser, Page
from tests.hostile.tools import Listener, Target, attacked, esb, listening

ROUTES = """
route: lots
track: {{ lot: body.lot }}
from: {{ http: {{ path: /lots, auth: {{ api_key: [ {{ key: "${{ESB_TEST_KEY}}", client: qms }} ] }} }} }}
steps:
  - to: {{ http: {{ url: "{url}/check" }} }}
  - to: {{ http: {{ url: "{url}/book" }} }}
"""
SAID = b'{"code":"M7-021","text":"quantity <12.10> is not there"}'


def refuse(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(422)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(SAID)))
    handler.end_headers()
    handler.wfile.write(SAID)


def refused(target: Target, system: Listener) -> str:
    """A message that the first target took and the second one refused, in words of its own."""
    system.answers["/book"] = refuse
    answer = target.http.post_json("/lots", {"lot": "0012"}, X_API_Key="key-of-the-test")
    assert answer.status == 202, answer.body
    target.drained("lots")
    return str(answer.json["message_id"])


def test_people_read_who_sent_a_message_and_what_targets_answered(
    tmp_path: Path, people: Callable[[Target], Browser]
) -> None:
    with listening() as system:
        files = {"routes/lots.yaml": ROUTES.format(url=system.url), "esb.yaml": "bus: plant-graz\n"}
        with attacked(tmp_path / "bus", files, ESB_TEST_KEY="key-of-the-test") as target:
            id_ = refused(target, system)
            answer = json.dumps(json.loads(SAID), separators=(",", ":"))
            for words in (("trace", "0012"), ("messages", "show", id_), ("dlq", "show", id_)):
                told = esb(*words, cwd=target.root)
                assert told.returncode == 0, told.stderr
                assert f"answered={answer}" in told.stdout, words
                assert "status=200  answered={}" in told.stdout, words
            (item,) = json.loads(esb("messages", "show", id_, "--json", cwd=target.root).stdout)["items"]
            assert f"lots {item['version']}  dead" in esb("trace", id_, cwd=target.root).stdout
            sent_by = "http client=qms address=127.0.0.1"
            assert f"sent_by         {sent_by}\n" in esb("messages", "show", id_, cwd=target.root).stdout
            page = Page(people(target).get(f"/messages/{id_}"))
            assert f"answered {answer}" in page.text, "what the target answered stands where the page says so"
            assert sent_by in page.text
