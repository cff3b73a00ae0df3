"""What an action of the API does not know it refuses: with a mistyped word more would be done, or shown, than was meant."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.hostile.tools import Target

TOKEN = {"Authorization": "Bearer token-of-the-test", "Content-Type": "application/json"}


def post(target: Target, path: str, body: Any) -> Any:
    return target.admin.send("POST", f"/api/v1{path}", json.dumps(body).encode(), TOKEN)


def dead(target: Target) -> list[str]:
    found = target.admin.send("GET", "/api/v1/dlq?limit=1000", b"", TOKEN).json["items"]
    return [one["id"] for one in found]


@pytest.mark.parametrize(
    ("path", "words", "said"),
    [
        ("/dlq/discard", {"all": True, "reason": "x", "dry-run": True}, "did you mean `dry_run`?"),
        ("/dlq/discard", {"all": True, "reason": "x", "dryRun": True}, "did you mean `dry_run`?"),
        ("/dlq/discard?dry_run=true", {"all": True, "reason": "x"}, "take out what is behind the `?`"),
        ("/dlq/discard", {"all": "false", "reason": "x"}, '`"all": true`'),
        ("/dlq/discard", {"all": True, "dry_run": "true", "reason": "x"}, '`"dry_run": true`'),
        ("/dlq/retry", {"all": True, "stale": "no", "reason": "x"}, '`"stale": true`'),
        ("/dlq/retry", {"all": True, "Route": "lot-hold"}, "did you mean `route`?"),
        ("/replay", {"all": True, "end": "2026-05-31T06:00:00Z"}, "known here: actor, all, before"),
        ("/replay", {"all": True, "from": "1h", "since": "1h"}, "give one of the two"),
        ("/dlq/retry", {"all": True, "from": "1h"}, "known here: actor, all, background"),
        ("/routes/lot-hold/pause", {"for": "1h"}, "known here: actor, reason, signature"),
    ],
)
def test_a_word_that_nobody_reads_does_nothing(target: Target, path: str, words: dict[str, Any], said: str) -> None:
    before = dead(target)
    answer = post(target, path, words)
    assert (answer.status, answer.json["code"]) == (400, "bad-request"), answer.body
    assert said in answer.json["hint"]
    assert dead(target) == before != []


def test_a_filter_that_does_not_exist_is_no_answer_for_all(target: Target) -> None:
    answer = target.admin.send("GET", "/api/v1/messages?sate=dead", b"", TOKEN)
    assert (answer.status, answer.json["hint"]) == (400, "did you mean `state`?")


def test_a_payload_may_be_json_as_it_stands(target: Target) -> None:
    words = {"body": {"lot": "0012", "severity": "MINOR", "qty": 1}, "reason": "by hand", "wait": "20s"}
    (receipt,) = post(target, "/routes/lot-hold/send", words).json["items"]
    assert receipt["state"] == "done"
    (message,) = target.admin.send("GET", f"/api/v1/messages/{receipt['message_id']}", b"", TOKEN).json["items"]
    assert json.loads(message["body"]) == words["body"]


def test_a_replay_takes_its_span_in_the_words_of_the_command_line(target: Target) -> None:
    def meant(**span: str) -> int:
        answer = post(target, "/replay", {"route": "lot-hold", "dry_run": True, **span})
        assert answer.status == 200, answer.body
        return len(answer.json["items"])

    assert meant(**{"from": "1h"}) == meant(since="1h") == meant() > 0
    assert meant(**{"from": "2h", "to": "1h"}) == meant(since="2h", until="1h") == 0
