"""The rest of the story with portal, QMS, analytics and ERP down, lying, losing answers, and senders that repeat themselves."""

from __future__ import annotations

from typing import Any

import pytest

from examples.demo.plant import Plant
from examples.demo.story import RECEIVED, SCRAPPED, Case

pytestmark = pytest.mark.acceptance


def scars(plant: Plant, case: Case) -> list[tuple[str, dict[str, Any]]]:
    return [(number, scar) for number, scar in plant.systems.state("qms")["scars"].items() if scar["nc_id"] == case.nc]


def notice(plant: Plant, case: Case) -> dict[str, Any] | None:
    found = plant.systems.state("portal")["notifications"].get(case.nc)
    return dict(found) if found is not None else None


def informed(plant: Plant, case: Case) -> list[dict[str, Any]]:
    return list(plant.systems.state("qms")["suppliers_informed"].get(case.nc, []))


def dead(plant: Plant, route: str, track: str) -> dict[str, Any] | None:
    found = plant.bus.json("dlq", "ls", "--route", route, "--track", track)
    return found[0] if found else None


# -- the supplier portal --------------------------------------------------------------------------------------------------


def test_the_corrective_action_does_not_wait_for_a_portal_that_is_gone(calm: Plant) -> None:
    case = calm.case()
    calm.receive(case)
    calm.systems.stop("portal")
    calm.emit("qms", "nonconformance", case.nonconformance())
    calm.expect(lambda: scars(calm, case), "the SCAR")
    calm.expect(lambda: calm.of_case("erp", "defects", case), "the defect in the ERP")
    calm.expect(
        lambda: case.nc in calm.systems.state("analytics")["scorecards"]["100042"]["nonconformances"],
        "the defect in the scorecard",
    )
    assert informed(calm, case) == []
    calm.systems.start("portal")
    calm.expect(lambda: informed(calm, case), "the supplier informed")
    known = notice(calm, case)
    assert known is not None
    assert known["times"] == 1
    (number, _) = scars(calm, case)[0]
    calm.expect(lambda: number in calm.systems.state("portal")["scars"], "the SCAR at the portal")


@pytest.mark.parametrize(
    "order",
    [
        {"mode": "down", "times": 4},
        {"mode": "slow", "delay": 1.5, "times": 2},
        {"mode": "lying", "times": 3},
        {"mode": "flaky", "times": 4},
        {"mode": "lost", "times": 2},
    ],
    ids=lambda order: str(order["mode"]),
)
def test_the_supplier_is_informed_once_whatever_the_portal_does(calm: Plant, order: dict[str, Any]) -> None:
    case = calm.case()
    calm.systems.behave("portal", **order)
    calm.emit("qms", "nonconformance", case.nonconformance())
    calm.expect(lambda: informed(calm, case), "the supplier informed")
    known = notice(calm, case)
    assert known is not None
    assert known["times"] == 1
    assert len(informed(calm, case)) == 1


def test_already_there_counts_as_informed(calm: Plant) -> None:
    case = calm.case()
    calm.systems.behave("portal", "lost", times=1, path="notifications", idempotent=False)
    calm.emit("qms", "nonconformance", case.nonconformance())
    calm.expect(lambda: informed(calm, case), "the supplier informed")
    assert informed(calm, case)[0]["answer"] == 409
    known = notice(calm, case)
    assert known is not None
    assert known["times"] == 2


def test_a_refusal_of_the_portal_goes_to_the_supplier_desk_and_can_be_repaired(calm: Plant) -> None:
    case = calm.case()
    calm.systems.behave("portal", "reject", path="notifications")
    calm.emit("qms", "nonconformance", case.nonconformance())
    letter = calm.expect(lambda: dead(calm, "supplier-notification", f"nc={case.nc}"), "a dead letter")
    assert letter["error"]["dead_letter"] == "supplier-desk"
    assert "portal does not accept this" in letter["error"]["message"]
    calm.expect(lambda: scars(calm, case), "the SCAR nevertheless")
    calm.systems.behave("portal", "ok")
    assert calm.bus.run("dlq", "retry", letter["id"], "--reason", "portal repaired").returncode == 0
    calm.expect(lambda: informed(calm, case), "the supplier informed")


def test_a_nonconformance_that_comes_twice_has_every_effect_once(calm: Plant) -> None:
    case = calm.case()
    calm.systems.behave("qms", "double")
    calm.emit("qms", "nonconformance", case.nonconformance(), correlation_id=case.correlation)
    calm.systems.behave("qms", "ok")
    calm.expect(lambda: informed(calm, case), "the supplier informed")
    calm.expect(lambda: calm.of_case("qms", "erp_documents", case), "the defect in the ERP")
    ((_, scar),) = scars(calm, case)
    assert scar["requests"] == 1
    assert len(calm.of_case("erp", "defects", case)) == 1
    counted = calm.systems.state("analytics")["scorecards"]["100042"]["nonconformances"]
    assert counted.count(case.nc) == 1


def test_a_minor_defect_needs_no_scar(calm: Plant) -> None:
    case = calm.case()
    calm.emit("qms", "nonconformance", case.nonconformance(severity="MINOR"))
    calm.expect(lambda: informed(calm, case), "the supplier informed")
    assert scars(calm, case) == []


# -- QMS and analytics ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["down", "lying", "lost", "flaky"])
def test_an_inspection_is_asked_for_once_whatever_the_qms_does(calm: Plant, mode: str) -> None:
    case = calm.case()
    calm.systems.behave("qms", mode, times=3, path="/api/v1/inspections")
    calm.systems.behave("erp", "double")
    calm.emit("erp", "goods-receipt", case.goods_receipt())
    calm.systems.behave("erp", "ok")
    number = calm.expect(lambda: calm.inspection(case), "the inspection")
    lots = lambda: calm.systems.state("erp")["inspection_lots"]  # noqa: E731 - asked again and again
    calm.expect(
        lambda: lots()[case.inspection_lot]["fields"]["InspLotExternalNumber"] == number, "its number in the ERP"
    )
    known = [one for one in calm.systems.state("qms")["inspections"].values() if one["lot"] == case.lot]
    assert len(known) == 1
    assert calm.stock(case)["02"] == 5000


def test_results_reach_the_erp_although_analytics_is_down(calm: Plant) -> None:
    case = calm.case()
    calm.receive(case)
    number = calm.inspection(case)
    calm.systems.behave("analytics", "down")
    calm.emit("qms", "inspection-result", case.inspection_result(number))
    calm.expect(lambda: len(calm.of_case("erp", "inspection_results", case)) == 3, "results in the ERP")
    assert number not in calm.systems.state("analytics")["inspections"]
    calm.systems.behave("analytics", "ok")
    calm.expect(lambda: number in calm.systems.state("analytics")["inspections"], "results in analytics")


def test_the_bus_refuses_what_breaks_a_contract_and_says_where(calm: Plant) -> None:
    case = calm.case()
    broken = {**case.hold(), "quantity": 0}
    (answer,) = calm.systems.emit("qms", "stock-decision", broken)
    assert answer["status"] == 422
    assert [error["pointer"] for error in answer["body"]["errors"]] == ["/quantity"]


def test_an_unknown_plant_waits_for_master_data_at_the_desk(calm: Plant) -> None:
    case = calm.case()
    calm.emit("erp", "goods-receipt", {**case.goods_receipt(), "Plant": "9999"})
    letter = calm.expect(lambda: dead(calm, "goods-receipts", f"lot={case.lot}"), "a dead letter")
    assert letter["error"]["class"] == "unmapped"
    assert letter["error"]["dead_letter"] == "master-data"
    assert calm.inspection(case) == ""
    about = {"alert": "integration-desk", "route": "goods-receipts", "class": "unmapped", "message_id": letter["id"]}
    alerts = lambda: [one for one in calm.systems.state("analytics")["alerts"] if one["message_id"] == letter["id"]]  # noqa: E731 - asked twice
    told = calm.expect(alerts, "the alert")
    assert [{name: one[name] for name in about} for one in told] == [about]


# -- disposition ----------------------------------------------------------------------------------------------------------


def blocked(plant: Plant) -> Case:
    """A lot on hold in every system."""
    case = plant.case()
    plant.receive(case)
    plant.emit("qms", "stock-decision", case.hold())
    plant.expect(lambda: set(plant.effects(case.hold_id)) == {"ERP", "WMS", "MES"}, "the hold in all systems")
    return case


FAULTS: list[dict[str, Any]] = [
    {"mode": "ok"},
    {"mode": "down", "times": 6},
    {"mode": "slow", "delay": 1.5, "times": 2},
    {"mode": "lying", "times": 4},
    {"mode": "flaky", "times": 8},
    {"mode": "lost", "times": 3},
    {"mode": "lost", "times": 1, "path": "ZQM_COST_SRV"},
    {"mode": "lost", "times": 1, "path": "PURCHASEREQ"},
]


@pytest.mark.parametrize("order", FAULTS, ids=lambda order: f"{order['mode']} {order.get('path', '')}".strip())
def test_stock_cost_and_replenishment_are_posted_once_whatever_the_erp_does(calm: Plant, order: dict[str, Any]) -> None:
    case = blocked(calm)
    calm.systems.behave("erp", **order)
    calm.systems.behave("qms", "double")
    calm.emit("qms", "disposition", case.disposition())
    calm.systems.behave("qms", "ok")
    calm.expect(lambda: len(calm.of_case("qms", "postings", case)) == 3, "three posted lines", within=30)
    calm.expect(
        lambda: case.inspection_lot in calm.systems.state("erp")["usage_decisions"], "the usage decision", within=30
    )
    assert calm.posted(case) == ["350", "555", "122"]
    assert [one["Amount"] for one in calm.of_case("erp", "costs", case)] == ["13.69"]
    assert len(calm.of_case("erp", "requisitions", case)) == 2
    assert calm.stock(case)["scrapped"] == SCRAPPED


def test_a_disposition_that_does_not_add_up_posts_nothing(calm: Plant) -> None:
    case = blocked(calm)
    wrong = case.disposition()
    wrong["lines"][2]["quantity"] = 2999
    calm.emit("qms", "disposition", wrong)
    letter = calm.expect(lambda: dead(calm, "dispositions", f"lot={case.lot}"), "a dead letter")
    assert letter["error"]["class"] == "rejected"
    assert "add up to something else" in letter["error"]["message"]
    assert calm.posted(case) == ["350"]


def test_a_disposition_waits_for_the_hold_that_is_still_on_its_way(calm: Plant) -> None:
    case = calm.case()
    calm.receive(case)
    calm.systems.behave("erp", "down", path="MATERIAL_DOCUMENT")
    calm.emit("qms", "stock-decision", case.hold())
    calm.emit("qms", "disposition", case.disposition())
    calm.expect(lambda: calm.status("mes", case) == "BLOCKED", "the hold in the MES")
    calm.systems.behave("erp", "ok")
    calm.expect(lambda: len(calm.of_case("qms", "postings", case)) == 3, "three posted lines", within=30)
    assert calm.posted(case) == ["350", "555", "122"]


def test_decider_and_approver_are_two_persons(calm: Plant) -> None:
    case = blocked(calm)
    calm.emit("qms", "disposition", {**case.disposition(), "approved_by": "Q001"})
    letter = calm.expect(lambda: dead(calm, "dispositions", f"lot={case.lot}"), "a dead letter")
    assert "the same person" in letter["error"]["message"]
    assert calm.posted(case) == ["350"]


def test_a_hold_that_the_erp_lacks_is_a_difference_until_it_has_it(calm: Plant) -> None:
    """The reference comparison of blocked stock with held stock, against the state of both systems."""
    case = calm.case()
    calm.receive(case)

    def differences() -> dict[str, dict[str, Any]]:
        done = calm.bus.run("send", "stock-against-holds", "--data", "{}", "--wait")
        assert done.returncode == 0, done.stderr
        return {one["key"]: one for one in calm.bus.json("reconcile", "ls")}

    assert case.lot not in differences()
    calm.systems.behave("erp", "down", path="MATERIAL_DOCUMENT")
    calm.emit("qms", "stock-decision", case.hold())
    found = differences()[case.lot]
    assert (found["what"], found["owner"]) == ("the ERP blocks nothing, QMS holds 5000", "quality-it")
    assert (found["value"], found["unit"]) == (-1850, "EUR")
    calm.systems.behave("erp", "ok")
    calm.expect(lambda: calm.stock(case)["07"] == RECEIVED, "the hold in the ERP")
    assert case.lot not in differences()
    closed = next(one for one in calm.bus.json("reconcile", "ls", "--all") if one["key"] == case.lot)
    assert closed["how"] == "agrees"
