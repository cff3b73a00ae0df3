"""The reference workspace keeps its own rules: it lints, its events keep the contracts, real files become valid entities."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from esb.config.loader import require_workspace
from esb.config.model import Workspace
from esb.contracts import JsonContract
from esb.errors import Invalid
from esb.formats.csv import Csv
from esb.formats.json import Json
from esb.formats.xml import Xml
from esb.language import Expression
from examples.demo.harness import new_secrets
from examples.demo.story import Case

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / "examples" / "data"
SEGMENTS = ("E1MAKTM", "E1MARCM", "E1JSTKL", "E1AFFLL", "E1AFVOL", "E1RESBL")


@pytest.fixture(scope="module")
def workspace() -> Workspace:
    return require_workspace(ROOT, environ=new_secrets())


def contract(name: str) -> JsonContract:
    path = f"schemas/{name}.json"
    return JsonContract.compile(name, json.loads((ROOT / path).read_text()), path)


def transformed(workspace: Workspace, name: str, body: Any) -> Any:
    compiled: Expression = workspace.language.expression((ROOT / "transforms" / f"{name}.jmes").read_text())
    meta = {"received_at": "2026-11-24T08:00:00Z"}
    return compiled({"body": body, "headers": {}, "vars": {}, "meta": meta, "site": {}})


def rows(file: str) -> list[Any]:
    return list(Json().decode((DATA / file).read_bytes())["message"])


def test_the_reference_workspace_lints_without_a_word(workspace: Workspace) -> None:
    assert [str(problem) for problem in workspace.problems] == []
    assert len(workspace.routes) > 20


def test_every_route_has_owner_criticality_key_and_description(workspace: Workspace) -> None:
    bare = [
        route.name
        for route in workspace.routes.values()
        if route.position.path != "esb.yaml"  # the alerts' own
        and not (route.owner and route.criticality and route.key and route.description and route.track)
    ]
    assert bare == []


def test_every_operation_of_every_connector_is_used(workspace: Workspace) -> None:
    declared = {f"{name}.{word}" for name, one in workspace.connectors.items() for word in one.operations}
    used = {target for route in workspace.routes.values() for target in route.targets}
    assert declared - used == set()


def test_every_schema_is_a_schema_with_title_and_description() -> None:
    for path in sorted((ROOT / "schemas").glob("*.json")):
        schema = json.loads(path.read_text())
        contract(path.stem)
        if path.stem != "certificate-en10168.v0":
            assert schema["title"], path
            assert schema["description"], path


CASE = Case(117)
EVENTS = {
    "erp-goods-receipt.v1": CASE.goods_receipt(),
    "inspection-result.v1": CASE.inspection_result("INSP-00001"),
    "nonconformance.v1": CASE.nonconformance(),
    "stock-decision.v1": CASE.hold(),
    "disposition.v1": CASE.disposition(),
    "audit-evidence.v1": CASE.evidence(),
    "scar-step.v1": CASE.scar_step("SCAR-0001"),
}


@pytest.mark.parametrize("name", EVENTS)
def test_the_events_of_the_story_keep_their_contracts(name: str) -> None:
    contract(name).check(EVENTS[name])


@pytest.mark.parametrize("name", [name for name in EVENTS if not name.startswith("erp-")])
def test_a_field_that_no_contract_knows_is_found(name: str) -> None:
    with pytest.raises(Invalid):
        contract(name).check({**EVENTS[name], "sverity": "MAJOR"})


def test_the_story_ends_with_every_part_accounted_for() -> None:
    disposition = CASE.disposition()
    assert sum(line["quantity"] for line in disposition["lines"]) == disposition["quantity"]


def real_entities() -> Iterator[tuple[str, str, Any]]:
    """Contract, transform and decoded input of every real file that one message is made of."""
    idoc = Xml(always_list=SEGMENTS)
    for name in ("MATMAS05_3pl", "R1CH01007_RAW_MAT_IDOC"):
        yield "material.v1", "matmas05", idoc.decode((DATA / f"idoc/{name}.xml").read_bytes())
    for name in ("LOIPRO05_Original", "LOIPRO05_from_non_sap_erp"):
        yield "production-order.v1", "loipro05", idoc.decode((DATA / f"idoc/{name}.xml").read_bytes())
    for file in ("edc_alert_okay", "edc_notification_okay", "edc_notification_okay_update"):
        body = Json().decode((DATA / f"catenax/{file}.json").read_bytes())
        yield "quality-notification.v1", "catenax_notification", body
    for body in rows("odata/production-order-01-general-sample.json"):
        yield "production-order.v1", "odata_production_order", body
    for body in rows("odata/defect-header-01-sample.json"):
        yield "erp-defect.v1", "odata_defect", body
    for body in rows("odata/material-stock-material-stock-01-sample.json"):
        yield "inventory-status.v1", "odata_material_stock", body
    for path in sorted((DATA / "certificates").glob("*valid_certificate*.json")):
        name = "certificate_coa" if path.name.startswith("CoA") else "certificate_en10168"
        yield "certificate-summary.v1", name, Json().decode(path.read_bytes())
    yield "goods-receipt.v1", "goods_receipt", CASE.goods_receipt()


def test_real_files_become_valid_canonical_entities(workspace: Workspace) -> None:
    for name, transform, body in real_entities():
        contract(name).check(transformed(workspace, transform, body))


def test_every_machine_reading_is_valid_and_exact(workspace: Workspace) -> None:
    readings = Csv().decode((DATA / "csv" / "ai4i2020.csv").read_bytes())
    assert len(readings) == 10_000
    check = contract("machine-reading.v1")
    for row in readings[::50]:
        check.check(transformed(workspace, "machine_reading", row))
    assert str(transformed(workspace, "machine_reading", readings[0])["torque"]) == "42.8"


def test_certificates_pass_or_fail_as_their_sources_say() -> None:
    verdicts = {}
    for path in sorted((DATA / "certificates").glob("*.json")):
        name = "certificate-coa.v1" if path.name.startswith("CoA") else "certificate-en10168.v0"
        try:
            contract(name).check(Json().decode(path.read_bytes()))
            verdicts[path.name] = True
        except Invalid:
            verdicts[path.name] = False
    assert [name for name, good in verdicts.items() if not good] == [
        "CoA_v1.1.0_invalid_cert.json",
        "CoA_v1.1.0_missing_languages.json",
    ]
    assert len(verdicts) == 8


def test_every_folder_of_real_data_names_the_source_of_every_file() -> None:
    for folder in sorted(path for path in DATA.iterdir() if path.is_dir()):
        listed = (folder / "SOURCES.md").read_text()
        strangers = [p.name for p in folder.iterdir() if p.name != "SOURCES.md" and f"`{p.name}`" not in listed]
        assert strangers == [], folder
