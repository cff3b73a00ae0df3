"""Holds and releases with each counterpart down, gone, slow, lying, flaky or losing its answers, and with a sender that repeats."""

from __future__ import annotations

from typing import Any

import pytest

from examples.demo.plant import Plant
from examples.demo.story import RECEIVED, Case

pytestmark = pytest.mark.acceptance

PLACES = ("erp", "wms", "mes")
FAULTS: dict[str, dict[str, Any]] = {
    "down": {"mode": "down"},
    "refusing connections": {},
    "slow": {"mode": "slow", "delay": 1.5, "times": 2},
    "lying": {"mode": "lying", "times": 2},
    "flaky": {"mode": "flaky", "times": 4},
    "losing answers": {"mode": "lost", "times": 2},
}


def held(plant: Plant, system: str, case: Case) -> bool:
    if system == "erp":
        return bool(plant.stock(case)["07"] == RECEIVED)
    return plant.status(system, case) == "BLOCKED"


def times_told(plant: Plant, system: str, case: Case) -> int:
    return len(plant.movements(case)) if system == "erp" else len(plant.history(system, case))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("system", PLACES)
def test_a_hold_is_effective_elsewhere_at_once_and_there_exactly_once_in_the_end(
    calm: Plant, system: str, fault: str
) -> None:
    case = calm.case()
    calm.receive(case)
    if fault == "refusing connections":
        calm.systems.stop(system)
    else:
        calm.systems.behave(system, **FAULTS[fault])

    calm.emit("qms", "stock-decision", case.hold())
    for other in PLACES:
        if other != system:
            calm.expect(lambda other=other: held(calm, other, case), f"the hold in {other}")
    if fault == "refusing connections":
        calm.systems.start(system)
    elif fault == "down":
        assert not held(calm, system, case)
        calm.systems.behave(system, "ok")

    calm.expect(lambda: held(calm, system, case), f"the hold in {system}")
    calm.expect(lambda: set(calm.effects(case.hold_id)) == {"ERP", "WMS", "MES"}, "all confirmations in the QMS")
    assert [times_told(calm, one, case) for one in PLACES] == [1, 1, 1]
    assert [len(told) for told in calm.effects(case.hold_id).values()] == [1, 1, 1]


def test_nobody_can_use_the_lot_although_the_erp_is_down(calm: Plant) -> None:
    case = calm.case()
    calm.receive(case)
    calm.systems.behave("erp", "down")
    calm.emit("qms", "stock-decision", case.hold())
    calm.expect(lambda: held(calm, "wms", case) and held(calm, "mes", case), "the hold in warehouse and MES")
    assert calm.systems.act("wms", "POST", f"/wms/v2/lots/{case.lot}/picks", {}) == 409
    assert calm.systems.act("mes", "POST", f"/mes/v1/lots/{case.lot}/consumption", {}) == 409
    calm.systems.behave("erp", "ok")
    calm.expect(lambda: held(calm, "erp", case), "the hold in the ERP")


def test_a_hold_that_comes_twice_is_posted_once(calm: Plant) -> None:
    case = calm.case()
    calm.receive(case)
    calm.systems.behave("qms", "double")
    first, second = calm.emit("qms", "stock-decision", case.hold())
    calm.systems.behave("qms", "ok")
    assert {first["body"]["state"], second["body"]["state"]} == {"queued", "duplicate"}
    calm.expect(lambda: set(calm.effects(case.hold_id)) == {"ERP", "WMS", "MES"}, "all confirmations")
    assert [times_told(calm, one, case) for one in PLACES] == [1, 1, 1]


def test_the_qms_may_be_down_while_its_hold_spreads(calm: Plant) -> None:
    case = calm.case()
    calm.receive(case)
    calm.systems.behave("qms", "down")
    calm.emit("qms", "stock-decision", case.hold(), correlation_id=case.correlation)
    for system in PLACES:
        calm.expect(lambda system=system: held(calm, system, case), f"the hold in {system}")
    assert calm.effects(case.hold_id) == {}
    calm.systems.behave("qms", "ok")
    calm.expect(lambda: set(calm.effects(case.hold_id)) == {"ERP", "WMS", "MES"}, "all confirmations")


def test_a_release_does_not_overtake_the_hold_before_it(calm: Plant) -> None:
    case = calm.case()
    calm.receive(case)
    calm.systems.behave("erp", "down")
    calm.emit("qms", "stock-decision", case.hold())
    calm.emit("qms", "stock-decision", case.release(quantity=RECEIVED))
    # it is available before the hold, too: two entries say that both have come
    calm.expect(lambda: len(calm.history("wms", case)) >= 2, "the hold and the release in the WMS")
    assert [one["status"] for one in calm.history("wms", case)] == ["BLOCKED", "AVAILABLE"]
    assert calm.movements(case) == []
    calm.systems.behave("erp", "ok")
    calm.expect(lambda: calm.posted(case) == ["350", "343"], "hold, then release in the ERP")
    assert calm.stock(case)["01"] == RECEIVED


def test_a_new_hold_supersedes_a_release_that_the_erp_has_not_seen(calm: Plant) -> None:
    case = calm.case()
    calm.receive(case)
    calm.emit("qms", "stock-decision", case.hold())
    calm.expect(lambda: held(calm, "erp", case), "the first hold")
    calm.systems.behave("erp", "down")
    calm.emit("qms", "stock-decision", case.release(quantity=RECEIVED))
    calm.expect(lambda: calm.status("wms", case) == "AVAILABLE", "the release in the WMS")
    again = {**case.hold(from_status="BLOCKED"), "decision_id": f"{case.hold_id}B"}
    calm.emit("qms", "stock-decision", again)
    calm.expect(lambda: held(calm, "wms", case) and held(calm, "mes", case), "the second hold")
    calm.systems.behave("erp", "ok")
    calm.expect(lambda: "ERP" in calm.effects(f"{case.hold_id}B"), "the second hold in the ERP")
    assert calm.posted(case) == ["350"]
    assert held(calm, "erp", case)
    superseded = calm.bus.json("messages", "ls", "--route", "stock-decisions", "--track", f"decision={case.release_id}")
    assert "superseded" in {one["state"] for one in superseded}


def test_a_release_with_another_hold_standing_frees_nothing(calm: Plant) -> None:
    case = calm.case()
    calm.receive(case)
    calm.emit("qms", "stock-decision", case.hold())
    calm.expect(lambda: all(held(calm, one, case) for one in PLACES), "the hold")
    calm.emit("qms", "stock-decision", case.release(quantity=RECEIVED, open_holds=["HOLD-OF-SOMEBODY"]))
    dead = calm.expect(lambda: _dead(calm, case), "a dead letter")
    assert dead["error"]["class"] == "rejected"
    assert "HOLD-OF-SOMEBODY stands" in dead["error"]["message"]
    assert all(held(calm, one, case) for one in PLACES)


def test_an_accepted_inspection_lot_is_freed_by_a_usage_decision(calm: Plant) -> None:
    case = calm.case()
    calm.receive(case)
    calm.emit("qms", "stock-decision", case.release(from_status="IN_INSPECTION", quantity=RECEIVED))
    calm.expect(lambda: calm.stock(case)["01"] == RECEIVED, "unrestricted stock")
    assert calm.posted(case) == []
    assert calm.systems.state("erp")["usage_decisions"][case.inspection_lot]["InspLotUsageDecisionValuation"] == "A"


def test_a_hold_that_the_erp_refuses_is_told_to_the_qms_and_to_a_person_and_works_after_the_repair(calm: Plant) -> None:
    case = calm.case()
    calm.receive(case)
    calm.systems.behave("erp", "lying", error="final", path="MATERIAL_DOCUMENT")
    calm.emit("qms", "stock-decision", case.hold())
    calm.expect(lambda: calm.effects(case.hold_id).get("ERP"), "an answer for the QMS")
    assert calm.effects(case.hold_id)["ERP"][0]["state"] == "FAILED"
    dead = calm.expect(lambda: _dead(calm, case), "a dead letter")
    assert dead["error"]["dead_letter"] == "stock"
    assert "Posting only possible in periods" in dead["error"]["message"]
    assert calm.movements(case) == []
    assert held(calm, "wms", case)
    assert held(calm, "mes", case)

    calm.systems.behave("erp", "ok")
    done = calm.bus.run("dlq", "retry", dead["id"], "--reason", "period opened")
    assert done.returncode == 0, done.stderr
    calm.expect(lambda: held(calm, "erp", case), "the hold in the ERP")
    assert calm.posted(case) == ["350"]


def test_a_hold_survives_the_sudden_death_of_the_bus(calm: Plant) -> None:
    case = calm.case()
    calm.receive(case)
    calm.systems.behave("erp", "lost")
    calm.emit("qms", "stock-decision", case.hold())
    calm.expect(lambda: calm.movements(case), "the ERP has it, the bus does not know")
    calm.bus.kill()
    calm.systems.behave("erp", "ok")
    calm.start_bus()
    calm.expect(lambda: set(calm.effects(case.hold_id)) == {"ERP", "WMS", "MES"}, "all confirmations")
    assert [times_told(calm, one, case) for one in PLACES] == [1, 1, 1]


def test_an_ended_erp_session_is_opened_again(calm: Plant) -> None:
    case = calm.case()
    calm.receive(case)
    calm.systems.behave("erp", "ok", how="logout")
    calm.emit("qms", "stock-decision", case.hold())
    calm.expect(lambda: held(calm, "erp", case), "the hold in the ERP")


def _dead(plant: Plant, case: Case) -> dict[str, Any] | None:
    found = plant.bus.json("dlq", "ls", "--route", "stock-decisions", "--track", f"lot={case.lot}")
    return found[0] if found else None
