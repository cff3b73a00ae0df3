"""What hangs on a field, a contract, a system, a table, a topic: by file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from esb.cli import cli
from esb.config.impact import impact, is_field

from .conftest import Read

FILES = {
    "esb.yaml": "bus: graz\nownership: { lot.status: erp }\n",
    "schemas/lot.v1.json": '{ "type": "object", "properties": { "id": { "type": "string" },\n  "status": { "type": "string" } } }\n',
    "schemas/receipt.v1.json": '{ "properties": { "lots": { "type": "array", "items": { "$ref": "lot.v1.json" } },\n "status": {} } }\n',
    "connectors/erp.yaml": "connector: erp\ntype: http\nbase_url: https://erp.example.com\n"
    "operations: { hold: { path: '/h/{{ body.status }}' } }\nwrites: { hold: [lot.status] }\n",
    "transforms/lot.jmes": "{ Lot: body.id, State: body.status }\n",
    "transforms/tables/plants.csv": "plant,werks\nP10,1000\n",
    "routes/r.yaml": """route: lots
from: { http: { path: /lots, contract: lot.v1 } }
key: body.id
steps:
  - filter: body.status == 'HOLD'
  - lookup: { table: plants, by: body.id, into: vars.werks }
  - to: erp.hold
  - publish: lots
  - transform: lot.jmes
  - log: "{{ body.State }}"
---
route: receipts
from: { http: { path: /receipts, contract: receipt.v1 } }
steps:
  - set: { vars.states: "body.lots[].status" }
  - log: "receipt {{ body.status }}: {% for lot in body.lots %}{{ lot.status }}{% endfor %}"
  - to: { route: unknown-shape }
---
route: unknown-shape
from: { route: {} }
steps:
  - map:
      lot: { status: body.lot.status }
---
route: listener
from: { topic: lots }
steps: [ { log: x } ]
""",
}


def touches(read: Read, what: str) -> list[str]:
    kind, _, name = what.partition(":")
    found = impact(read(FILES, need_secrets=False), kind, name)
    return [f"{one.what} {one.how} {one.at.path}:{one.at.line}:{one.at.column}" for one in found]


def test_who_reads_and_writes_a_field(read: Read) -> None:
    assert touches(read, "field:lot.status") == [
        "route lots reads routes/r.yaml:5:18",  # a field of the entity that the contract is of
        "route lots reads routes/r.yaml:7:9",  # its operation reads it
        "route lots writes routes/r.yaml:7:9",  # and changes it in the ERP
        "route lots reads routes/r.yaml:9:5",  # the transform file reads it
        "route receipts reads routes/r.yaml:15:38",  # items of a list are lots
        "route receipts reads routes/r.yaml:16:67",
        "route unknown-shape writes routes/r.yaml:23:14",
        "route unknown-shape reads routes/r.yaml:23:31",
        "contract lot.v1 declares schemas/lot.v1.json:2:13",
    ]


@pytest.mark.parametrize(
    ("what", "places"),
    [
        ("contract:lot.v1", ["route lots takes routes/r.yaml:2:9", "route receipts needs routes/r.yaml:12:8"]),
        ("table:plants", ["route lots uses routes/r.yaml:6:5"]),
        ("transform:lot.jmes", ["route lots uses routes/r.yaml:9:5"]),
        ("connector:erp", ["route lots sends routes/r.yaml:7:9"]),
        ("operation:erp.hold", ["route lots sends routes/r.yaml:7:9"]),
        ("topic:lots", ["route lots publishes routes/r.yaml:8:5", "route listener takes routes/r.yaml:26:16"]),
        ("route:unknown-shape", ["route receipts hands over routes/r.yaml:17:18"]),
        ("table:nothing", []),
    ],
)
def test_who_uses_a_thing(read: Read, what: str, places: list[str]) -> None:
    assert touches(read, what) == places


def test_a_field_is_meant_by_its_path_or_by_its_entity() -> None:
    assert is_field("lot.status", "body.head.lot.status")
    assert is_field("lot.status", "body.lots[].status", "lot")
    assert is_field("status", "body.status")
    assert not is_field("lot.status", "body.status")
    assert not is_field("lot.status", "body.pilot.status")


def test_the_command_tells_places_and_exits_1_where_nothing_hangs_on_it(read: Read, tmp_path: Path) -> None:
    read(FILES)
    run = CliRunner()
    result = run.invoke(cli, ["impact", "topic:lots", str(tmp_path), "--json"])
    items = json.loads(result.stdout)["items"]
    assert (result.exit_code, [item["how"] for item in items]) == (0, ["publishes", "takes"])
    assert "routes/r.yaml:8:5" in run.invoke(cli, ["impact", "topic:lots", str(tmp_path)]).stdout
    assert run.invoke(cli, ["impact", "topic:none", str(tmp_path)]).exit_code == 1
    assert run.invoke(cli, ["impact", "lot.status", str(tmp_path)]).exit_code == 2
