"""The story of a defect in electronic components, from the goods receipt to the evidence, asked of each system's own state."""

from __future__ import annotations

import hashlib
import json
import re
import urllib.request
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from examples.demo.indicators import compared, kpis
from examples.demo.plant import Plant
from examples.demo.story import RECEIVED, RELEASED, RETURNED, SCRAP_COST, SCRAPPED, SUPPLIER, Case

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def told(plant: Plant) -> Case:
    """The whole story, told once; the tests look at what it left behind."""
    case = plant.case()
    plant.receive(case)
    number = plant.inspection(case)
    plant.expect(lambda: _inspection_lot(plant, case)["InspLotExternalNumber"] == number, "its number in the ERP")
    plant.emit("qms", "inspection-result", case.inspection_result(number))
    plant.emit("qms", "stock-decision", case.hold())
    plant.emit("qms", "nonconformance", case.nonconformance())
    plant.expect(lambda: set(plant.effects(case.hold_id)) == {"ERP", "WMS", "MES"}, "the hold in all systems")
    scar = plant.expect(lambda: _scar(plant, case), "a SCAR")
    plant.expect(lambda: plant.systems.state("portal")["scars"].get(scar), "the SCAR at the portal")
    plant.emit("portal", "scar-step", case.scar_step(scar))
    plant.emit("qms", "disposition", case.disposition())
    plant.expect(lambda: len(plant.of_case("qms", "postings", case)) == 3, "three posted lines")
    plant.emit("qms", "stock-decision", case.release())
    plant.expect(lambda: set(plant.effects(case.release_id)) == {"ERP", "WMS", "MES"}, "the release in all systems")
    plant.emit("qms", "evidence", case.evidence())
    plant.expect(lambda: plant.of_case("erp", "links", case), "the evidence in the ERP")
    plant.expect(lambda: not plant.open(), "every message at its end")
    return case


def _inspection_lot(plant: Plant, case: Case) -> dict[str, Any]:
    return dict(plant.systems.state("erp")["inspection_lots"][case.inspection_lot]["fields"])


def _scar(plant: Plant, case: Case) -> str:
    scars = plant.systems.state("qms")["scars"]
    return next((number for number, scar in scars.items() if scar["nc_id"] == case.nc), "")


def test_the_inspection_request_has_canonical_numbers_and_units(plant: Plant, told: Case) -> None:
    request = plant.systems.state("qms")["inspections"][plant.inspection(told)]
    assert request["material_id"] == "104711"
    assert request["supplier_id"] == SUPPLIER
    assert (request["plant"], request["unit"]) == ("P10", "H87")
    assert request["quantity"] == Decimal("5000.000")
    assert request["source_document"] == f"{told.document}/2026/0001"


def test_every_result_is_in_the_erp_with_its_original_value(plant: Plant, told: Case) -> None:
    results = plant.of_case("erp", "inspection_results", told)
    found = {one["InspectionCharacteristic"]: one for one in results}
    assert sorted(found) == ["0010", "0020", "0030"]
    assert found["0010"]["InspectionResultMeanValue"] == "41.250"
    assert found["0010"]["InspectionResultOriginalValue"] == "41,25"
    assert found["0010"]["InspectionValuationResult"] == "R"
    assert "InspectionResultMeanValue" not in found["0030"]


def test_stock_ends_where_the_decisions_put_it(plant: Plant, told: Case) -> None:
    stock = plant.stock(told)
    assert stock["01"] == RELEASED
    assert (stock["02"], stock["07"]) == (0, 0)
    assert (stock["scrapped"], stock["returned"]) == (SCRAPPED, RETURNED)
    assert plant.posted(told) == ["350", "555", "122", "343"]
    assert plant.movements(told)[0]["quantity"] == RECEIVED


def test_the_scrap_costs_what_it_costs_once(plant: Plant, told: Case) -> None:
    (cost,) = plant.of_case("erp", "costs", told)
    assert cost["Amount"] == str(SCRAP_COST)
    assert cost["CostObject"] == told.nc


def test_lost_stock_is_ordered_again(plant: Plant, told: Case) -> None:
    wanted = [one["RequestedQuantity"] for one in plant.of_case("erp", "requisitions", told)]
    assert wanted == [str(SCRAPPED), str(RETURNED)]


def test_the_inspection_lot_is_closed_as_rejected(plant: Plant, told: Case) -> None:
    decision = plant.systems.state("erp")["usage_decisions"][told.inspection_lot]
    assert decision["InspLotUsageDecisionValuation"] == "R"


def test_warehouse_and_shop_floor_were_told_first_hold_then_release(plant: Plant, told: Case) -> None:
    assert [one["status"] for one in plant.history("wms", told)] == ["BLOCKED", "AVAILABLE"]
    assert [one["usable"] for one in plant.history("mes", told)] == [False, True]


def test_the_erp_has_the_defect_under_its_own_codes(plant: Plant, told: Case) -> None:
    (defect,) = plant.of_case("erp", "defects", told)
    assert (defect["DefectCodeGroup"], defect["DefectCode"], defect["DefectClass"]) == ("DEF-SOLD", "0001", "91")
    (known,) = plant.of_case("qms", "erp_documents", told)
    assert known["document"].isdigit()


def test_the_supplier_knows_order_lot_and_defect_and_nothing_about_our_costs(plant: Plant, told: Case) -> None:
    notice = plant.systems.state("portal")["notifications"][told.nc]
    assert notice["times"] == 1
    assert (notice["po_id"], notice["lots"][0]["lot"]) == (told.purchase_order, told.lot)
    assert notice["defects"] == ["solder does not wet the pad (37)"]
    assert "cost" not in str(notice).lower()
    (informed,) = plant.of_case("qms", "suppliers_informed", told)
    assert informed["answer"] == 201


def test_the_corrective_action_has_due_dates_and_its_first_step(plant: Plant, told: Case) -> None:
    scar = plant.systems.state("qms")["scars"][_scar(plant, told)]
    assert scar["due"] == {"D3": "2026-11-25", "D5": "2026-12-08", "D8": "2026-12-24"}
    assert list(scar["steps"]) == ["D3"]


def test_the_exceeded_tolerance_reaches_quality_and_procurement(plant: Plant, told: Case) -> None:
    card = plant.systems.state("analytics")["scorecards"][SUPPLIER]
    assert card["breached"] is True
    (status,) = plant.systems.state("qms")["supplier_status"][SUPPLIER]
    assert status["status"] == "PROBATION"
    (task,) = plant.of_case("erp", "tasks", told)
    assert "Nordlicht Components GmbH exceeded the tolerance" in task["Text"]


def test_the_evidence_is_linked_in_the_erp_and_in_the_index(plant: Plant, told: Case) -> None:
    (link,) = plant.of_case("erp", "links", told)
    assert link["LinkedObject"] == f"nonconformance {told.nc}, lot {told.lot}"
    (entry,) = plant.systems.state("analytics")["evidence"][told.evidence_id]
    assert entry["sha256"] == link["Sha256"]


def test_every_call_carries_the_one_correlation_id(plant: Plant, told: Case) -> None:
    strangers = [
        (name, one["path"], one["correlation_id"])
        for name in ("erp", "qms", "wms", "mes", "portal", "analytics")
        for one in plant.systems.requests(name)
        if one["method"] != "GET" and one["path"] != "/oauth/token" and one["correlation_id"] != told.correlation
    ]
    assert strangers == []


def test_one_word_finds_every_message_of_the_story(plant: Plant, told: Case) -> None:
    found = plant.bus.json("trace", told.lot)
    assert {one["correlation_id"] for one in found} == {told.correlation}
    routes = {one["route"] for one in found}
    assert {"goods-receipts", "stock-decisions", "dispositions", "scar-to-portal", "audit-evidence"} <= routes
    assert {one["state"] for one in found} == {"done"}


def test_the_indicators_say_what_the_systems_say_also_after_a_kill_and_a_replay(plant: Plant, told: Case) -> None:
    """Every number of `esb kpi` against the state of the simulators."""

    def wrong(*, but: str = "") -> list[Any]:
        return [one for one in compared(plant) if one[1] != one[2] and one[0] != but]

    assert wrong() == []
    decisions = plant.bus.json("messages", "ls", "--route", "stock-decisions", "--key", told.lot, "--state", "done")
    hold = next(one for one in decisions if one["track"]["decision"] == told.hold_id and not one["scope"])
    (replayed,) = plant.bus.json("replay", hold["id"])
    assert replayed["new_id"]
    plant.expect(lambda: not plant.open(), "the end of the replay")
    before = kpis(plant)
    assert wrong(but="accepted messages") == []  # the books count the children of a replay, too
    assert before["replay-activity"]["count"] == 1
    plant.bus.kill()
    plant.start_bus()
    after = kpis(plant)
    times = ("since", "overdue")
    for name, item in before.items():
        assert {k: v for k, v in item.items() if k not in times} == {
            k: v for k, v in after[name].items() if k not in times
        }


def test_the_evidence_of_a_lot_is_one_archive_that_shows_every_change(plant: Plant, told: Case, tmp_path: Path) -> None:
    target = tmp_path / "lot.zip"
    made = plant.bus.run("evidence", "--track", f"lot={told.lot}", "-o", str(target), "--reason", "complaint 17")
    assert made.returncode == 0, made.stderr
    for words in ((), ("-C", ".")):
        checked = plant.bus.run("evidence", "verify", str(target), *words)
        assert (checked.returncode, checked.stdout.startswith("unchanged: ")) == (0, True), checked.stdout
    with zipfile.ZipFile(target) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    messages = [json.loads(text) for name, text in content.items() if name.startswith("messages/")]
    assert {one["id"] for one in messages} >= {one["id"] for one in plant.bus.json("trace", told.lot)}
    for one in messages:
        assert hashlib.sha256(content[one["payload_file"]]).hexdigest() == one["payload_sha256"]
        assert "routes/" in content[f"versions/{one['route']}/{one['version']}.json"].decode()
    hold = next(one for one in messages if one["route"] == "stock-decisions" and one["scope"] == "fanout/erp")
    sent = [entry["delivery_id"] for entry in hold["trace"] if entry.get("delivery_id")]
    assert {one["key"] for one in plant.systems.requests("erp")} >= set(sent) != set()
    assert told.lot in content["summary.html"].decode()
    assert hold["id"] in content["summary.html"].decode()
    assert plant.bus.json("audit", "ls")[-1]["action"] == "evidence.export"

    def spoilt(name: str, change: Any) -> list[str]:
        other = tmp_path / "spoilt.zip"
        with zipfile.ZipFile(other, "w") as archive:
            for member, text in content.items():
                new = change(text) if member == name else text
                if new is not None:
                    archive.writestr(zipfile.ZipInfo(member, (2000, 1, 1, 0, 0, 0)), new)
        done = plant.bus.run("evidence", "verify", str(other), "--json")
        assert done.returncode == 1
        return [item["fault"] for item in json.loads(done.stdout)["items"]]

    payload = hold["payload_file"]
    assert spoilt(payload, lambda text: text.replace(b"5000", b"4000")) == [f"{payload} was changed"]
    assert spoilt(payload, lambda _: None) == [f"{payload} is missing"]
    forged = json.dumps({**json.loads(content["manifest.json"]), "reason": "another"}).encode()
    assert spoilt("manifest.json", lambda _: forged) == ["manifest.json is not the one that was sealed"]
    assert spoilt("audit.json", lambda _: b"[]") == ["audit.json was changed"]
    # a whole new manifest with its own seal: it has not the key, and the bus knows that it never made this one
    own = json.loads(content["seal.json"]) | {"manifest_sha256": hashlib.sha256(forged).hexdigest()}
    other = tmp_path / "forged.zip"
    with zipfile.ZipFile(other, "w") as archive:
        for member, text in {**content, "manifest.json": forged, "seal.json": json.dumps(own).encode()}.items():
            archive.writestr(zipfile.ZipInfo(member, (2000, 1, 1, 0, 0, 0)), text)
    asked = plant.bus.run("evidence", "verify", str(other))
    assert (asked.returncode, "is not signed" in asked.stdout) == (1, True)


def test_dashboard_and_rules_name_nothing_that_the_bus_does_not_measure(plant: Plant) -> None:
    case = plant.case()  # counters begin with the process, and another test has killed one
    plant.receive(case)
    plant.emit("qms", "stock-decision", case.hold())
    plant.expect(lambda: set(plant.effects(case.hold_id)) == {"ERP", "WMS", "MES"}, "the hold in all systems")
    with urllib.request.urlopen(f"{plant.bus.admin}/metrics", timeout=10) as answer:
        page = answer.read().decode()
    known = set(re.findall(r"^(?:# TYPE )?(esb_[a-z_]+)", page, re.MULTILINE))
    for what in ("dashboard", "rules"):
        done = plant.bus.run("metrics", what)
        named = set(re.findall(r"\besb_[a-z_]+", done.stdout))
        assert named, done.stderr
        assert named - known == set()
    labels = 'route="stock-decisions",target="erp.goods-movement",result="ok"'
    counts = [
        line.split()[-1]
        for line in page.splitlines()
        if line.startswith(f"esb_delivery_duration_seconds_count{{{labels}}}")
    ]
    assert counts == [str(len(plant.movements(case)))] == ["1"]
