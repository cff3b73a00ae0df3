"""What a contract marks as sensitive is nowhere for who may not see payloads; what people search by stays."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from esb.contracts import JsonContract
from esb.contracts.marks import marked_names
from tests.admin.browsing import Browser
from tests.admin.conftest import send
from tests.hostile.tools import Target, attacked, esb

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "lot": {"type": "string"},
        "inspector": {"type": "object", "properties": {"badge": {"type": "string", "sensitive": True}}},
        "witnesses": {"type": "array", "items": {"$ref": "#/$defs/person"}},
        "pin": {"type": "integer", "x-esb-mask": True, "maximum": 999999},
    },
    "$defs": {"person": {"type": "object", "sensitive": True, "properties": {"full": {"type": "string"}}}},
}
ROUTES = """
route: inspection
key: body.lot
track: { lot: body.lot }
from: { http: { path: /inspection, method: POST, format: json } }
steps:
  - validate: inspection.v1
  - set: { vars.who: body.inspector.badge }
  - publish: checked
  - reject: "badge {{ body.inspector.badge }} is not known for lot {{ body.lot }}"
    if: starts_with(body.lot, 'X')
---
route: checked
from: { topic: checked }
steps:
  - map: { charge: body.lot, badge: body.inspector.badge }
  - reject: "no desk for {{ body.badge }}"
alert: desk
kpis:
  by-desk: { start: accepted, end: done, by: body.inspector.badge, per: body.inspector.badge }
---
route: compare
from: { http: { path: /compare, method: POST, format: json } }
steps:
  - reconcile:
      left: { name: ERP, items: body.erp, key: body.lot }
      right: { name: QMS, items: body.qms, key: body.lot }
      what: "lot {{ body.key }} is checked by {{ body.left.badge }}"
      repair: "ask {{ body.left.badge }}"
---
route: board
from: { topic: alert.desk }
steps: [ { set: { vars.seen: body.text } } ]
---
route: sheet
from: { http: { path: /sheet, method: POST, format: { csv: {} } } }
steps:
  - reject: "not today"
"""
CANARIES = ("BADGE-CANARY", "Wilhelmina", "987654", "777777", "SHEET-CANARY", "EDITED-CANARY")


@pytest.fixture(scope="module")
def plant(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Target, Callable[[str], dict[str, str]], list[str]]]:
    files = {
        "routes/a.yaml": ROUTES,
        "schemas/inspection.v1.json": json.dumps(SCHEMA),
        "esb.yaml": 'bus: plant-graz\nadmin: { token: "${secret:admin-token}" }\nalerts: { desk: { file: { path: "told/{{ body.message_id }}.json" } } }\n',
    }
    with attacked(tmp_path_factory.mktemp("masks"), files, "--no-watch", ESB_SECRET_ADMIN_TOKEN="t") as target:
        person = {"badge": "BADGE-CANARY-1"}
        witnesses = [{"full": "Wilhelmina Tell"}]
        ids = [
            send(target, "/inspection", lot="0012-1", inspector=person, witnesses=witnesses, pin=987654),
            send(target, "/inspection", lot="X-2", inspector=person, witnesses=witnesses),
            send(target, "/inspection", lot="0012-3", inspector=person, pin=7777777),
            send(target, "/inspection", lot="0012-4", inspector=person, witnesses=["Wilhelmina Tell"], pin="777777"),
        ]
        answer = target.http("POST", "/sheet", b"lot;badge\n1;SHEET-CANARY\n", Content_Type="text/csv")
        ids.append(answer.json["message_id"])
        sides = {"erp": [{"lot": "0012-1", "badge": "BADGE-CANARY-1"}], "qms": [{"lot": "0012-1", "badge": "none"}]}
        ids.append(send(target, "/compare", **sides))
        for route in ("inspection", "checked", "sheet", "compare", "board"):
            target.drained(route)
        made: dict[str, dict[str, str]] = {}

        def bearer(role: str) -> dict[str, str]:
            if role not in made:
                words = json.dumps({"name": role, "scopes": [role]}).encode()
                local = {"Authorization": f"Bearer {target.token()}", "Content-Type": "application/json"}
                item = target.admin.send("POST", "/api/v1/tokens", words, local).json["items"][0]
                made[role] = {"Authorization": f"Bearer {item['secret']}"}
            return made[role]

        edit = {"id": ids[2], "body_base64": "", "reason": "r", "body": '{"lot": "0012-3", "inspector": {"badge": "EDITED-CANARY"}}'}  # fmt: skip
        del edit["body_base64"]
        headers = {**bearer("engineer"), "Content-Type": "application/json"}
        assert target.admin.send("POST", "/api/v1/dlq/edit", json.dumps(edit).encode(), headers).status == 200
        yield target, bearer, ids


def everything(target: Target, headers: dict[str, str], ids: list[str]) -> dict[str, bytes]:
    items = target.admin.send("GET", "/api/v1/messages?limit=1000", None, headers).json["items"]
    places = ["messages?limit=1000", "dlq", "dlq/groups", "status", "routes", "trace/0012-1", "trace/0012-3"]
    places += [
        "differences",
        "kpis",
        "kpis/by-desk",
        "kpis/by-desk?label=BADGE-CANARY-1",
        "alerts",
        "approvals",
        "dlq/bulk",
    ]
    places += [f"messages/{item['id']}" for item in items] + [f"trace/{id_}" for id_ in ids]
    return {place: target.admin.send("GET", f"/api/v1/{place}", None, headers).body for place in places}


def test_nothing_that_is_marked_is_in_any_answer(plant: Any) -> None:
    target, bearer, ids = plant
    whole = b"".join(everything(target, bearer("engineer"), ids).values()).decode()
    assert [canary for canary in CANARIES if canary not in whole] == [], "they are there to be found"
    for role in ("viewer", "operator", "read"):
        for place, body in everything(target, bearer(role), ids).items():
            assert [canary for canary in CANARIES if canary in body.decode()] == [], (role, place)


def test_alerts_and_metrics_have_it_for_nobody(plant: Any) -> None:
    """They go to readers whose rights the bus does not know."""
    target, bearer, _ = plant
    items = target.admin.send("GET", "/api/v1/messages?route=board&limit=100", None, bearer("engineer")).json["items"]
    assert items
    for item in items:
        whole = target.admin.send("GET", f"/api/v1/messages/{item['id']}", None, bearer("engineer")).json["items"][0]
        assert json.loads(whole["body"])["text"] == "no desk for ***"
        assert "CANARY" not in json.dumps(whole)
    told = [path.read_text() for path in (target.root / "told").glob("*.json")]
    assert told
    assert all('"no desk for ***"' in text and "CANARY" not in text for text in told)
    metrics = target.admin.send("GET", "/metrics", None, bearer("engineer")).body.decode()
    assert 'esb_kpi_open_pairs{kpi="by-desk"}' in metrics
    assert "CANARY" not in metrics


def test_a_difference_and_an_indicator_hide_no_more_than_they_must(plant: Any) -> None:
    target, bearer, _ = plant

    def asked(path: str, role: str) -> dict[str, Any]:
        answer = target.admin.send("GET", f"/api/v1/{path}", None, bearer(role))
        return dict(answer.json["items"][0])

    hidden, whole = (asked("differences", role) for role in ("viewer", "engineer"))
    assert (hidden["what"], hidden["repair"]) == ("lot 0012-1 is checked by ***", "ask ***")
    assert hidden["sides"] == {"left": {"lot": "0012-1", "badge": "***"}, "right": {"lot": "0012-1", "badge": "***"}}
    assert whole["what"] == "lot 0012-1 is checked by BADGE-CANARY-1"
    seen = asked("kpis/by-desk", "viewer")
    assert {one["key"] for one in seen["items"]} == {one["label"] for one in seen["items"]} == {"***"}
    assert seen["open"] == asked("kpis/by-desk", "engineer")["open"] > 0
    assert {one["key"] for one in asked("kpis/by-desk", "engineer")["items"]} >= {"BADGE-CANARY-1"}


def test_pages_and_exports_hide_it_too(plant: Any, people: Callable[[Target], Browser]) -> None:
    target, bearer, ids = plant
    browser = people(target)
    browser.login(bearer("operator")["Authorization"].partition(" ")[2])
    for path in (
        "/",
        "/messages",
        "/dead",
        "/routes/inspection",
        "/routes/checked",
        "/differences",
        "/kpis",
        "/kpis/by-desk",
        *(f"/messages/{id_}" for id_ in ids),
    ):
        answer = browser.get(path)
        assert answer.status == 200
        assert [canary for canary in CANARIES if canary in answer.body.decode()] == [], path
    token = bearer("viewer")["Authorization"].partition(" ")[2]
    out = esb("messages", "export", cwd=target.root, ESB_TOKEN=token)
    assert (out.returncode, "0012-1" in out.stdout) == (0, True), out.stderr
    assert [canary for canary in CANARIES if canary in out.stdout] == []
    assert "BADGE-CANARY" in esb("messages", "export", cwd=target.root).stdout, "the local one may see it"


def test_the_rest_is_whole_and_lots_are_found(plant: Any) -> None:
    target, bearer, _ = plant
    (found,) = target.admin.send("GET", "/api/v1/messages?track=lot=X-2&route=inspection", None, bearer("viewer")).json[
        "items"
    ]
    assert found["error"]["message"] == "badge *** is not known for lot X-2"
    (item,) = target.admin.send("GET", f"/api/v1/messages/{found['id']}", None, bearer("viewer")).json["items"]
    assert json.loads(item["body"]) == {"lot": "X-2", "inspector": {"badge": "***"}, "witnesses": "***"}
    assert (item["key"], item["track"]) == ("X-2", {"lot": "X-2"})
    groups = target.admin.send("GET", "/api/v1/dlq/groups?route=checked", None, bearer("operator")).json["items"]
    assert {group["message"] for group in groups} == {"no desk for ***"}


def compiled(schema: Any, **others: Any) -> frozenset[str]:
    schemas = {f"schemas/{name}.json": other for name, other in others.items()}
    contract = JsonContract.compile("a.v1", schema, "schemas/a.v1.json", {**schemas, "schemas/a.v1.json": schema})
    assert contract.references is not None
    return marked_names(contract.references)


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        (SCHEMA, {"badge", "witnesses", "pin"}),
        ({"properties": {"a": {"sensitive": False}, "b": {"x-esb-mask": "yes"}}}, set()),
        ({"properties": {"sensitive": {"type": "boolean"}}}, set()),
        ({"properties": {"a": {"anyOf": [{"type": "null"}, {"sensitive": True}]}}}, {"a"}),
        ({"properties": {"a": {"additionalProperties": {"sensitive": True}}}}, {"a"}),
        ({"properties": {"a": {"patternProperties": {"^x": {"sensitive": True}}}}}, {"a"}),
        ({"items": {"prefixItems": [{"properties": {"a": {"sensitive": True}}}]}}, {"a"}),
        ({"sensitive": True, "properties": {"a": {}, "b": {}}}, {"a", "b"}),
        ({"properties": {"a": {"$ref": "#"}, "b": {"sensitive": True}}}, {"b"}),
        ({"if": {}, "then": {"properties": {"a": {"sensitive": True}}}}, {"a"}),
        ({"properties": {"a": {"$ref": "person.json"}}}, {"a", "full"}),
        ({"properties": {"a": {"$ref": "person.json#/properties/full"}}}, {"a"}),
    ],
)
def test_marks_count_wherever_a_schema_can_have_them(schema: Any, names: set[str]) -> None:
    person = {"sensitive": True, "properties": {"full": {"sensitive": True}}}
    assert compiled(schema, person=person) == names


def test_the_reference_workspace_marks_nobody_by_accident() -> None:
    from esb.config.loader import load_workspace

    workspace, _ = load_workspace(Path(__file__).parents[2], need_secrets=False)
    assert workspace is not None
    assert workspace.marked == frozenset()
