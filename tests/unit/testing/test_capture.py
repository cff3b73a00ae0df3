"""Stored messages as cases: masked, in the words of a test, and passing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from esb.formats.json import Json
from esb.message import Envelope
from esb.testing.capture import CannotCapture, capture
from esb.testing.masking import Mask
from esb.testing.rehearse import Trial

FILES = {
    "connectors/erp.yaml": """
connector: erp
type: http
base_url: "${ERP_URL}"
operations:
  lot: { path: "/lots/{{ body.Lot }}", rejected_message: meta.reply.body.error }
""",
    "schemas/lot.v1.json": json.dumps(
        {
            "type": "object",
            "required": ["lot", "person"],
            "properties": {
                "lot": {"type": "string"},
                "person": {
                    "type": "object",
                    "sensitive": True,
                    "properties": {"mail": {"pattern": "^[a-z.]+@[a-z.]+$"}},
                },
            },
        }
    ),
    "routes/lots.yaml": """
route: lots
key: body.lot
from: { http: { path: "/lots/{plant}", contract: lot.v1 } }
steps:
  - map: { Lot: body.lot, Qty: body.qty, By: body.person.mail, At: now(), Nr: uuid(), Plant: meta.params.plant }
  - to: erp.lot
    retry: { max: 3, backoff: 1s..1s }
on_error:
  - { for: [rejected], dead_letter: erp }
---
route: rows
from: { file: { path: "in/*.csv", format: csv } }
steps:
  - publish: rows
---
route: handed-on
from: { topic: rows }
steps:
  - publish: further
""",
}
ID = "0190a0a0-0000-7000-8000-000000000000"
AT = datetime(2026, 5, 31, 6, 0, 0, 5, tzinfo=UTC)
BODY = {
    "lot": "0012",
    "qty": Decimal("12.10"),
    "person": {"mail": "anna.huber@plant.at", "pin": 4711, "ok": True},
    "text": "on",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def trial(state: str = "done", route: str = "lots", content: str = "source", body: bytes = b"", **more: Any) -> Trial:
    replies = more.pop("replies", {})
    fields = {
        "meta": {
            "content_type": "application/json",
            "params": {"plant": "P10"},
            "source": {"type": "http"},
            "query": {},
        },
        "headers": {
            "x-plant": "P10",
            "authorization": "Bearer hunter2",
            "user-agent": "curl",
            "x-by": "anna.huber@plant.at",
        },
        **more,
    }
    envelope = Envelope(
        id=ID, origin=ID, route=route, body=body or Json().encode(BODY), content=content, accepted_at=AT, **fields
    )
    return Trial(envelope, state, replies)


def captured(root: Path, one: Trial, *names: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    found = capture(root, {"ERP_URL": "https://erp.intern.plant.at:8443"}, one, seed=b"1", names=names)
    suite = yaml.load(found.text, yaml.BaseLoader)
    assert found.path == "routes/lots.test.yaml"
    return found.text, suite, suite["cases"][0]


def test_what_is_marked_is_masked_everywhere_and_the_case_passes(root: Path) -> None:
    replies = {"erp.lot": [{"status": 201, "headers": {}, "body": {"by": "anna.huber@plant.at", "pin": 4711}}]}
    text, suite, case = captured(root, trial(replies=replies), "lot")
    for gone in ("anna", "huber", "4711", "0012", "hunter2", "curl", "intern", "user-agent"):
        assert gone not in text
    assert suite["env"] == {"ERP_URL": "https://erp-url.example"}
    assert case["clock"] == AT.isoformat()
    sent = case["send"]["json"]
    assert sent["qty"] == "12.10"
    assert sent["text"] == "on"
    assert sent["person"]["ok"] == "true"
    assert len(sent["lot"]) == 4
    assert case["send"]["headers"] == {"x-plant": "P10", "x-by": sent["person"]["mail"]}
    assert case["send"]["params"] == {"plant": "P10"}
    assert case["stubs"] == {
        "erp.lot": [
            {"status": "201", "json": {"by": sent["person"]["mail"], "pin": case["stubs"]["erp.lot"][0]["json"]["pin"]}}
        ]
    }
    [delivery] = case["expect"]["sent"]
    assert delivery["json"]["By"] == sent["person"]["mail"]
    assert delivery["json"]["Qty"] == "12.10"
    assert delivery["json"]["Plant"] == "P10"
    assert delivery["json"]["At"].startswith("2026-05-31T06:00")
    assert "Nr" not in delivery["json"]  # another one in every run


def test_failures_of_targets_are_part_of_the_story(root: Path) -> None:
    down = {"status": None, "body": None, "error": "unavailable: erp: connection refused"}
    refused = {"status": 422, "body": {"error": "lot is locked"}, "error": "rejected: lot is locked"}
    _, _, case = captured(root, trial("dead", replies={"erp.lot": [down, down, refused]}))
    assert case["stubs"]["erp.lot"] == [
        {"fail": "unavailable", "message": "erp: connection refused", "times": "2"},
        {"status": "422", "json": {"error": "lot is locked"}},
    ]
    assert case["expect"] == {"state": "dead", "error": {"class": "rejected", "step": "to:erp.lot"}}


def test_a_text_is_masked_where_the_values_stand_and_bytes_are_refused(root: Path) -> None:
    csv = "lot,name\n0012,Anna Huber\n"
    _, _, case = captured(
        root, trial(route="rows", body=csv.encode(), meta={"file_name": "a.csv", "source": {"type": "file"}}), "name"
    )
    assert case["send"]["body"].startswith("lot,name\n0012,")
    assert "Anna" not in case["send"]["body"]
    assert case["send"]["meta"] == {"file_name": "a.csv"}
    assert case["expect"]["published"][0]["topic"] == "rows"
    with pytest.raises(CannotCapture, match="no UTF-8 text"):
        captured(root, trial(route="rows", body=b"\xff\xfe\x00", meta={}))
    with pytest.raises(CannotCapture, match="not in the workspace"):
        captured(root, trial(route="gone"))


def test_a_text_is_read_in_the_encoding_of_its_source(root: Path) -> None:
    route = root / "routes/lots.yaml"
    route.write_text(
        route.read_text().replace("format: csv", "format: { csv: { encoding: cp1252 } }"), encoding="utf-8"
    )
    csv = "lot,Prüfer\n0012,Jürgen\n"
    _, _, case = captured(root, trial(route="rows", body=csv.encode("cp1252"), meta={"file_name": "a.csv"}))
    assert case["send"]["body"] == csv


def test_a_mask_keeps_form_and_identity() -> None:
    mask = Mask({"iban"}, b"seed")
    mask.learn({"iban": "AT61 1904-3002"})
    hidden = mask.hide(
        {"iban": "AT61 1904-3002", "text": "paid to AT61 1904-3002.", "n": [{"iban": 120}, {"iban": Decimal("-12.50")}]}
    )
    assert hidden["iban"] != "AT61 1904-3002"
    assert [sign if not sign.isalnum() else "d" if sign.isdigit() else "l" for sign in hidden["iban"]] == [
        *"lldd dddd-dddd"
    ]
    assert hidden["text"] == f"paid to {hidden['iban']}."
    assert len(str(hidden["n"][0]["iban"])) == 3
    assert hidden["n"][1]["iban"].as_tuple().exponent == -2
    assert Mask({"iban"}, b"other").hide({"iban": "AT61 1904-3002"}) != {"iban": hidden["iban"]}


def test_a_message_that_was_handed_on_is_what_it_is_not_what_its_ancestor_was(root: Path) -> None:
    meta = {"file_name": "a.xml", "content_type": "application/xml", "source": {"type": "topic"}}
    one = trial(
        route="handed-on",
        content="json",
        body=b'{"lot":"0012"}',
        meta=meta,
        headers={"content-type": "application/xml"},
    )
    _, _, case = captured(root, one)
    assert case["send"] == {
        "json": {"lot": "0012"},
        "headers": {"content-type": "application/json"},
        "meta": {"file_name": "a.xml"},
    }
    assert case["expect"]["published"] == [{"topic": "further", "json": {"lot": "0012"}}]
