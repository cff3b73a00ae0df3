"""The acts of the demo: first the story of one lot, then systems that misbehave, then real files of other people."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from examples.demo.account import Account
from examples.demo.plant import DATA, Plant
from examples.demo.servers import Servers
from examples.demo.story import RECEIVED, RELEASED, RETURNED, SCRAP_COST, SCRAPPED, SUPPLIER, Case


def story(plant: Plant, account: Account) -> None:
    """The defect in electronic components, one correlation id from the goods receipt to the evidence."""
    case = plant.case()
    _goods_arrive(plant, account, case)
    _inspection(plant, account, case)
    _hold(plant, account, case)
    scar = _supplier(plant, account, case)
    _answer(plant, account, case, scar)
    _disposition(plant, account, case)
    _release(plant, account, case)
    _whole_case(plant, account, case)


def _goods_arrive(plant: Plant, account: Account, case: Case) -> None:
    account.act("Goods arrive")
    account.say(
        f"The ERP posts {RECEIVED} parts as lot {case.lot}, order {case.purchase_order}, case {case.correlation}"
    )
    plant.emit("erp", "goods-receipt", case.goods_receipt())
    account.expect("the QMS has an inspection request, in canonical numbers and units", lambda: plant.inspection(case))
    number = plant.inspection(case)

    def written_back() -> bool:
        lot = plant.systems.state("erp")["inspection_lots"][case.inspection_lot]
        return bool(lot["fields"]["InspLotExternalNumber"] == number)

    account.expect(f"the ERP's inspection lot carries {number} (CSRF token, ETag, PATCH)", written_back)


def _inspection(plant: Plant, account: Account, case: Case) -> None:
    account.act("The inspection finds a defect")
    account.say("The QMS reports three characteristics; the solder does not wet")
    plant.emit("qms", "inspection-result", case.inspection_result(plant.inspection(case)))
    account.expect(
        "the ERP has all three results, `41,25` as it was typed beside 41.250",
        lambda: len(plant.of_case("erp", "inspection_results", case)) == 3,
    )


def _hold(plant: Plant, account: Account, case: Case) -> None:
    account.act("Hold, while the supplier portal is down")
    plant.systems.behave("portal", "down")
    account.say(f"The portal is down. The QMS puts lot {case.lot} on hold and opens {case.nc}")
    (sent,) = plant.emit("qms", "stock-decision", case.hold())
    plant.emit("qms", "nonconformance", case.nonconformance())
    account.expect("the ERP has the lot in blocked stock", lambda: plant.stock(case)["07"] == RECEIVED)
    account.expect("the warehouse has it blocked", lambda: plant.status("wms", case) == "BLOCKED")
    account.expect("the shop floor may not use it", lambda: plant.status("mes", case) == "BLOCKED")
    arrived = {
        "ERP": plant.movements(case)[0]["at"],
        "WMS": plant.history("wms", case)[0]["at"],
        "MES": plant.history("mes", case)[0]["at"],
    }
    took = "  ".join(f"{system} {float(at - sent['sent_at']) * 1000:.0f} ms" for system, at in arrived.items())
    account.check(
        "from the QMS's decision to the effect", all(at - sent["sent_at"] < 5 for at in arrived.values()), detail=took
    )
    picked = plant.systems.act("wms", "POST", f"/wms/v2/lots/{case.lot}/picks", {})
    used = plant.systems.act("mes", "POST", f"/mes/v1/lots/{case.lot}/consumption", {})
    account.check("somebody tries to pick it and to use it: refused, twice", (picked, used) == (409, 409))
    account.expect("the QMS knows that all three have it", lambda: len(plant.effects(case.hold_id)) == 3)


def _supplier(plant: Plant, account: Account, case: Case) -> str:
    account.act("The corrective action does not wait for the portal")

    def scar() -> str:
        scars = plant.systems.state("qms")["scars"]
        return next((number for number, one in scars.items() if one["nc_id"] == case.nc), "")

    number = account.expect("the QMS has a SCAR with its due dates", scar) or ""
    account.expect("the ERP has the defect under its own codes", lambda: plant.of_case("erp", "defects", case))
    account.expect(
        "the scorecard says: tolerance exceeded; quality status and procurement know",
        lambda: plant.of_case("erp", "tasks", case) and plant.systems.state("qms")["supplier_status"].get(SUPPLIER),
    )
    card = plant.systems.state("analytics")["scorecards"][SUPPLIER]
    account.aside(f"supplier {SUPPLIER}: {card['ppm']} ppm, tier {card['tier']}")
    told = plant.systems.state("portal")["notifications"]
    account.check("the supplier knows nothing yet; the notification waits in the bus", case.nc not in told)
    account.say("The portal comes back")
    plant.systems.behave("portal", "ok")
    account.expect("the supplier has the notification, with order and lot", lambda: _notified(plant, case))
    account.expect("the supplier has the SCAR", lambda: number in plant.systems.state("portal")["scars"])
    account.check("exactly one notification in spite of the retries", _notified(plant, case).get("times") == 1)
    return number


def _notified(plant: Plant, case: Case) -> dict[str, Any]:
    return dict(plant.systems.state("portal")["notifications"].get(case.nc, {}))


def _answer(plant: Plant, account: Account, case: Case, scar: str) -> None:
    account.act("The supplier answers")
    account.say(f"Step D3 of {scar} comes in through the portal")
    plant.emit("portal", "scar-step", case.scar_step(scar))
    account.expect("the QMS has D3", lambda: "D3" in plant.systems.state("qms")["scars"][scar]["steps"])


def _disposition(plant: Plant, account: Account, case: Case) -> None:
    account.act("Disposition")
    account.say(f"Approved: scrap {SCRAPPED}, return {RETURNED}, use {RELEASED} as they are")
    plant.emit("qms", "disposition", case.disposition())
    account.expect("the QMS knows every line as posted", lambda: len(plant.of_case("qms", "postings", case)) == 3)
    stock, costs = plant.stock(case), plant.of_case("erp", "costs", case)
    account.check(
        "stock in the ERP", (stock["scrapped"], stock["returned"]) == (SCRAPPED, RETURNED), detail=_stock_words(stock)
    )
    account.check(
        "scrap cost, posted once", [one["Amount"] for one in costs] == [str(SCRAP_COST)], detail=f"{SCRAP_COST} EUR"
    )
    wanted = [one["RequestedQuantity"] for one in plant.of_case("erp", "requisitions", case)]
    account.check("lost parts are ordered again", wanted == [str(SCRAPPED), str(RETURNED)], detail=" + ".join(wanted))


def _release(plant: Plant, account: Account, case: Case) -> None:
    account.act("Release of the rest, and the evidence")
    plant.emit("qms", "stock-decision", case.release())
    account.expect(
        f"{RELEASED} parts are free in ERP, warehouse and MES",
        lambda: (
            plant.stock(case)["01"] == RELEASED
            and plant.status("wms", case) == plant.status("mes", case) == "AVAILABLE"
        ),
    )
    plant.emit("qms", "evidence", case.evidence())
    account.expect("the approval is linked in the ERP and in the dossier index", lambda: _linked(plant, case))


def _linked(plant: Plant, case: Case) -> bool:
    return (
        bool(plant.of_case("erp", "links", case)) and case.evidence_id in plant.systems.state("analytics")["evidence"]
    )


def _whole_case(plant: Plant, account: Account, case: Case) -> None:
    account.act(f"What everybody says about lot {case.lot}")
    moves = ", ".join(f"{one['movement']} {_plain(one['quantity'])}" for one in plant.movements(case))
    account.table(
        [
            ("ERP", f"{_stock_words(plant.stock(case))}; movements {moves}"),
            ("WMS", " → ".join(one["status"] for one in plant.history("wms", case))),
            ("MES", " → ".join("usable" if one["usable"] else "not usable" for one in plant.history("mes", case))),
            (
                "QMS",
                f"{case.hold_id} in {_names(plant, case.hold_id)}; {case.release_id} in {_names(plant, case.release_id)}",
            ),
            ("Portal", f"{case.nc} known, {_notified(plant, case).get('times')} time"),
        ]
    )
    account.expect("every message of the case has come to its end", lambda: not plant.open())
    strangers = [
        one["path"]
        for name in plant.systems.urls
        for one in plant.systems.requests(name)
        if one["key"] and one["correlation_id"] != case.correlation
    ]
    account.check("one correlation id in every delivery to every system", not strangers, detail=case.correlation)
    found = plant.bus.json("trace", case.lot)
    routes = len({one["route"] for one in found})
    account.check(
        "`esb trace` finds the case by its lot", len(found) > 20, detail=f"{len(found)} messages, {routes} routes"
    )


def _stock_words(stock: dict[str, Any]) -> str:
    names = {"01": "free", "02": "in inspection", "07": "blocked", "scrapped": "scrapped", "returned": "returned"}
    return ", ".join(f"{_plain(stock[kind])} {name}" for kind, name in names.items() if stock[kind])


def _plain(quantity: Decimal | int) -> str:
    """`5000`, not `5000.000` and not `5E+3`."""
    return f"{Decimal(quantity).normalize():f}"


def _names(plant: Plant, decision: str) -> str:
    return ", ".join(sorted(plant.effects(decision)))


def misbehaviour(plant: Plant, account: Account) -> None:
    """Systems that are down, lie, lose answers, and a sender that repeats itself."""
    account.act("Systems misbehave")
    case = plant.case()
    plant.receive(case)
    account.say("The ERP answers 200 and means no, twice. The QMS sends the same hold twice")
    plant.systems.behave("erp", "lying", times=2, path="MATERIAL_DOCUMENT")
    plant.systems.behave("qms", "double")
    answers = plant.emit("qms", "stock-decision", case.hold())
    plant.systems.behave("qms", "ok")
    account.check("the second copy is known as a duplicate", "duplicate" in [one["body"]["state"] for one in answers])
    account.expect("the lot is blocked in the ERP", lambda: plant.stock(case)["07"] == RECEIVED)
    account.say("The ERP posts and loses its answer")
    plant.systems.behave("erp", "lost", times=1)
    plant.emit("qms", "disposition", case.disposition())
    account.expect("the disposition is posted", lambda: len(plant.of_case("qms", "postings", case)) == 3)
    account.check(
        "every posting exactly once", plant.posted(case) == ["350", "555", "122"], detail=" ".join(plant.posted(case))
    )
    account.check("the cost exactly once", len(plant.of_case("erp", "costs", case)) == 1)

    other = plant.case()
    plant.receive(other)
    account.say("The ERP is down. Hold, then release, of the same lot")
    plant.systems.behave("erp", "down")
    plant.emit("qms", "stock-decision", other.hold())
    plant.emit("qms", "stock-decision", other.release(quantity=RECEIVED))
    account.expect("warehouse and MES go on in order", lambda: len(plant.history("wms", other)) == 2)
    plant.systems.behave("erp", "ok")
    account.expect("the ERP gets the hold first, then the release", lambda: plant.posted(other) == ["350", "343"])


def inputs(plant: Plant, account: Account) -> None:
    """Real files of other people (see SOURCES.md in examples/data)."""
    account.act("Real input")
    state = plant.systems.state
    for file in ("MATMAS05_3pl", "LOIPRO05_Original"):
        plant.post("/erp/idocs", f"idoc/{file}.xml", system="erp", kind="application/xml")
    plant.drop("idoc", ["idoc/LOIPRO05_from_non_sap_erp.xml", "idoc/R1CH01007_RAW_MAT_IDOC.xml"])
    for name in ("alert_okay", "notification_okay", "notification_okay_update"):
        plant.post("/supplier/quality-notifications", f"catenax/edc_{name}.json", system="portal")
    plant.post("/erp/odata/production-order", "odata/production-order-01-general-sample.json", system="erp")
    plant.post("/erp/odata/defect", "odata/defect-header-01-sample.json", system="erp")
    plant.post("/erp/odata/material-stock", "odata/material-stock-material-stock-01-sample.json", system="erp")
    certificates = sorted((DATA / "certificates").glob("*.json"))
    plant.drop("certificates/coa", [path for path in certificates if path.name.startswith("CoA")])
    plant.drop("certificates/en10168", [path for path in certificates if path.name.startswith("EN10168")])
    plant.drop("machines", ["csv/ai4i2020.csv"])
    account.expect(
        "IDoc MATMAS05: material 000000000123456789 is 123456789 in QMS and MES, 5.555 kg exactly",
        lambda: "123456789" in state("qms")["materials"] and "123456789" in state("mes")["materials"],
    )
    account.expect(
        "IDoc LOIPRO05, by HTTP and as a file: orders 1895938 and 208277437 with their operations",
        lambda: {"1895938", "208277437"} <= set(state("mes")["orders"]),
    )
    account.expect(
        "OData rows: order 1000000 is TECO, defect 4 has no inspection lot, stock of lot 0000000109 keeps its name",
        lambda: (
            "1000000" in state("qms")["production_orders"]
            and "4" in state("qms")["erp_defects"]
            and "FG29 1710 0000000109" in state("analytics")["stock"]
        ),
    )
    account.expect("Catena-X: alert, investigation and update", lambda: _complaints(plant) == 3)
    account.expect("certificates: six are good and in the QMS", lambda: _certificates(plant) == 6, within=60)
    account.expect(
        "certificates: two break their schema and lie on the supplier desk", lambda: _bad(plant) == 2, within=60
    )
    account.expect(
        "AI4I: 10 000 rows are 10 000 messages, 339 failures at MES and analytics", lambda: _rows(plant), within=180
    )


def inlets(plant: Plant, servers: Servers, account: Account) -> None:
    """The doors that are no HTTP: a transfer table, an SFTP server, a broker."""
    account.act("Through other doors")
    for what, which in servers.words:
        account.aside(f"{what}: {which}")
    known: list[str] = servers.orders()  # of the acts before
    account.say("The ERP lays two released orders into its transfer table")
    numbers = ("000002770001", "000002770002")
    for number, quantity in zip(numbers, (Decimal("250.500"), Decimal(40)), strict=True):
        servers.release_order(number, quantity)
    account.expect(
        "by database polling: orders 2770001 and 2770002 in QMS and MES",
        lambda: {"2770001", "2770002"} <= set(plant.systems.state("mes")["orders"]),
    )
    got = [json.loads(text, parse_float=Decimal) for text in known]

    def on_the_floor() -> bool:
        got.extend(json.loads(text, parse_float=Decimal) for text in servers.orders())
        found = {one["order_id"]: one["quantity"] for one in got}
        return found.get("2770001") == Decimal("250.500") and "2770002" in found

    account.expect("on the shop floor, 250.5 pieces exactly", on_the_floor)
    times = [one["order_id"] for one in got].count("2770001")
    account.check("each order once", times == 1, detail=f"{len(got)} orders")
    if "PARTNER_SFTP_PORT" not in servers.environment:
        return
    account.say("A supplier uploads a certificate of analysis")
    before = _certificates(plant)
    certificate = json.loads((DATA / "certificates" / "CoA_v1.1.0_valid_certificate_9.json").read_bytes())
    certificate["Certificate"]["Id"] = "CoA-SFTP-0001"
    servers.upload("CoA-SFTP-0001.json", json.dumps(certificate).encode())
    account.expect("by SFTP: it is in the QMS", lambda: _certificates(plant) == before + 1)
    account.expect("and filed away", (servers.files / "done" / "CoA-SFTP-0001.json").exists)


def _complaints(plant: Plant) -> int:
    return sum(len(found) for found in plant.systems.state("qms")["complaints"].values())


def _certificates(plant: Plant) -> int:
    return sum(len(found) for found in plant.systems.state("qms")["certificates"].values())


def _bad(plant: Plant) -> int:
    return int(plant.bus.status()["certificates-coa"]["states"]["dead"])


def _rows(plant: Plant) -> bool:
    done = plant.bus.status()["machine-readings-p10"]["states"]["done"]
    return bool(done == 10_001 and len(plant.systems.state("mes")["machine_failures"]) == 339)


def books(plant: Plant, account: Account) -> None:
    """Nothing got lost: the books of the bus."""
    account.act("The books of the bus")
    account.expect("nothing is left to do", lambda: not plant.open(), within=60)
    total = {"accepted": 0, "done": 0, "dead": 0, "duplicate": 0}
    for one in plant.bus.status().values():
        for name in total:
            total[name] += one["accepted"] if name == "accepted" else one["states"][name]
    account.table([tuple(total), tuple(total.values())])
    wrong = plant.conserved()
    account.check("accepted = done + dead + duplicate + …, on every route", not wrong, detail=", ".join(wrong))
