"""Real files of other people, digested by the reference workspace: IDocs, OData rows, Catena-X, certificates, machine data."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from examples.demo.plant import DATA, Plant

pytestmark = pytest.mark.acceptance


def record(plant: Plant, system: str, collection: str, key: str) -> dict[str, Any]:
    """A record of a system, waited for."""

    def look() -> Any:
        return plant.systems.state(system)[collection].get(key)

    return dict(plant.expect(look, f"{key} in {system}"))


def test_a_material_idoc_keeps_its_meaning_in_qms_and_mes(calm: Plant) -> None:
    calm.post("/erp/idocs", "idoc/MATMAS05_3pl.xml", system="erp", kind="application/xml")
    for system in ("qms", "mes"):
        material = record(calm, system, "materials", "123456789")
        assert material["type"] == "FINISHED"
        assert material["gross_weight"] == Decimal("5.555")
        assert material["gtin"] == "1234567891011"
        assert material["changed_on"] == "2025-01-05"
        assert {one["language"] for one in material["descriptions"]} == {"EN", "DE"}


def test_an_idoc_file_with_empty_weights_gives_null_not_zero(calm: Plant) -> None:
    calm.drop("idoc", ["idoc/R1CH01007_RAW_MAT_IDOC.xml"])
    material = record(calm, "qms", "materials", "R1CH01007")
    assert material["gross_weight"] is None
    assert material["plants"] == ["DM01"]
    gone = calm.workspace / "var" / "done" / "idoc" / "R1CH01007_RAW_MAT_IDOC.xml"
    calm.expect(gone.exists, "the file in `done`")


def test_production_orders_come_by_http_and_as_files(calm: Plant) -> None:
    calm.post("/erp/idocs", "idoc/LOIPRO05_Original.xml", system="erp", kind="application/xml")
    calm.drop("idoc", ["idoc/LOIPRO05_from_non_sap_erp.xml"])
    order = record(calm, "mes", "orders", "1895938")
    assert (order["status"], order["inspection_lot"]) == ("RELEASED", None)
    assert len(order["operations"]) == 3
    other = record(calm, "mes", "orders", "208277437")
    part = other["operations"][1]["components"][0]
    assert (part["material_id"], part["quantity"], part["unit"]) == ("R1CH01007", Decimal("3560.1"), "CMT")


def test_odata_rows_lose_their_flags_paddings_and_shifted_dates(calm: Plant) -> None:
    samples = {
        "production-order": "odata/production-order-01-general-sample.json",
        "defect": "odata/defect-header-01-sample.json",
        "material-stock": "odata/material-stock-material-stock-01-sample.json",
    }
    for entity, file in samples.items():
        calm.post(f"/erp/odata/{entity}", file, system="erp")
    order = record(calm, "qms", "production_orders", "1000000")
    assert (order["status"], order["planned_start"]) == ("TECO", "2017-06-06")
    defect = record(calm, "qms", "erp_defects", "4")
    assert (defect["created_on"], defect["inspection_lot"], defect["deleted"]) == ("2019-10-28", None, False)
    stock = record(calm, "analytics", "stock", "FG29 1710 0000000109")
    assert (stock["stock_status"], stock["quantity"], stock["unit"]) == ("AVAILABLE", 100, "BO")


def test_catena_x_notifications_become_complaints_and_repeats_do_not(calm: Plant) -> None:
    for name in ("alert_okay", "notification_okay", "notification_okay_update", "alert_okay"):
        calm.post("/supplier/quality-notifications", f"catenax/edc_{name}.json", system="portal")
    key = "cda2d956-fa91-4a75-bb4a-8e5ba39b268a"
    calm.expect(lambda: len(calm.systems.state("qms")["complaints"].get(key, [])) == 3, "three complaints")
    calm.expect(lambda: calm.open() == 0, "nothing left to do")
    complaints = calm.systems.state("qms")["complaints"][key]
    assert sorted(one["kind"] for one in complaints) == ["ALERT", "INVESTIGATION", "UPDATE"]


def test_certificates_pass_or_fail_as_their_sources_say(calm: Plant) -> None:
    coa = sorted(path for path in (DATA / "certificates").iterdir() if path.name.startswith("CoA"))
    mill = sorted(path for path in (DATA / "certificates").iterdir() if path.name.startswith("EN10168"))
    calm.drop("certificates/coa", coa)
    calm.drop("certificates/en10168", mill)
    folder = calm.workspace / "var"
    calm.expect(lambda: len(list((folder / "done" / "certificates").rglob("*.json"))) == 6, "six good certificates")
    rejected = folder / "rejected" / "certificates" / "coa"
    bad = {"CoA_v1.1.0_invalid_cert.json", "CoA_v1.1.0_missing_languages.json"}
    calm.expect(lambda: bad <= {path.name for path in rejected.glob("*.json")}, "two bad ones")
    report = rejected / "CoA_v1.1.0_invalid_cert.json.error.json"
    calm.expect(report.exists, "a report")
    told = json.loads(report.read_text())
    letters = {letter["id"]: letter["error"] for letter in calm.bus.json("dlq", "ls", "--route", "certificates-coa")}
    assert {error["class"] for error in letters.values()} == {"invalid"}
    wrong = told["error"]["errors"]
    assert wrong == letters[told["message_id"]]["errors"]
    assert [one["pointer"] for one in wrong] == [
        "/Certificate/Analysis/Inspections/1",
        "/Certificate/BusinessTransaction/Delivery/Id",
        "/Certificate/Parties/Manufacturer",
        "/Certificate/Parties/Manufacturer/Identifiers",
    ]
    calm.expect(lambda: len(calm.systems.state("qms")["certificates"]) == 2, "both kinds in the QMS")


def test_ten_thousand_machine_readings_become_keyed_messages(calm: Plant) -> None:
    calm.drop("machines", ["csv/ai4i2020.csv"])

    def finished() -> bool:
        route = calm.bus.status()["machine-readings-p10"]
        return bool(route["accepted"] == 10_001 and route["states"]["done"] == 10_001)

    calm.expect(finished, "all readings", within=240)
    machines = calm.systems.state("analytics")["machines"]
    assert machines["readings"] == 339
    assert machines["causes"]["HEAT_DISSIPATION"] == 115
    assert len(calm.systems.state("mes")["machine_failures"]) == 339


def test_a_document_type_in_an_idoc_is_refused_at_the_door(calm: Plant, tmp_path: Any) -> None:
    bad = tmp_path / "bomb.xml"
    bad.write_text('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><MATMAS05><IDOC>&a;</IDOC></MATMAS05>')
    with pytest.raises(Exception, match="400"):
        calm.post("/erp/idocs", bad, system="erp", kind="application/xml")


def test_a_json_with_a_key_twice_is_refused(calm: Plant, tmp_path: Any) -> None:
    bad = tmp_path / "twice.json"
    bad.write_text('{"header": {}, "header": {}, "content": {}}')
    with pytest.raises(Exception, match="400"):
        calm.post("/supplier/quality-notifications", bad, system="portal")
    assert json.loads('{"a": 1, "a": 2}') == {"a": 2}, "which is why it matters"
