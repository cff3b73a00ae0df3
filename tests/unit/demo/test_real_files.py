"""Files of real systems become canonical entities: read by their format, mapped by a shipped transform, valid by their contract.

The facts are by value: quantities as exact decimals, numbers with the zeros that they have in the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from esb.config.loader import require_workspace
from esb.config.model import Workspace
from esb.contracts import JsonContract
from esb.errors import Invalid
from esb.formats.aqdef import Aqdef
from esb.formats.base import Codec
from esb.formats.csv import Csv
from esb.formats.edifact import Edifact
from esb.formats.idoc import Idoc
from esb.formats.odata import OData
from esb.formats.x12 import X12
from esb.formats.xml import Xml
from esb.transforms import read_transform
from examples.demo.harness import new_secrets

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / "examples" / "data"
META = {"received_at": "2026-11-24T08:00:00Z", "message_id": "01a21556-033e-712f-90a2-b50d81b89b24"}


@dataclass(frozen=True)
class Case:
    """``facts``: expression on the entities (a list, in their order) → its value as text."""

    file: str
    codec: Codec
    transform: str
    contract: str
    facts: Mapping[str, str] = field(default_factory=dict)


def x12(file: str, transform: str, contract: str, loop: str, facts: Mapping[str, str]) -> Case:
    return Case(f"x12/{file}", X12(loop=loop, faults="report"), transform, contract, facts)


CASES = [
    # -- EDIFACT -------------------------------------------------------------------------------------------------------
    Case(
        "edifact/DESADV_D96A_mockedi.edi", Edifact(loop="LIN"), "edifact_desadv.jmes", "advance-ship-notice.v1",
        {
            "[0].shipment_id": "SHP8000002", "[0].shipped_on": "2026-11-23", "[0].tracking": "1Z999AA1008000002",
            "[0].lines[].to_text(quantity) | join(' ', @)": "120 36", "[0].lines[0].gtin": "076123400003",
            "[0].lines[0].unit": "H87", "[0].lines[1].po_id": "4500018101", "[0].lines[1].po_item": "00020",
            "[0].supplier.name": "Mock EDI Supply Co",
        },
    ),
    Case(
        "edifact/RECADV_smooks.txt", Edifact(loop="LIN"), "edifact_recadv.jmes", "receiving-advice.v1",
        {
            "[0].advice_id": "20220808112809950", "[0].received_on": "2022-08-23", "[0].delivery_note": "0017128652",
            "[0].lines[0].lot": "U23362", "[0].lines[0].quantity": "200", "[0].lines[0].expires_on": "2024-10-31",
            "[0].lines[0].buyer_item": "1000629", "[0].lines[0].po_id": "5502284066", "[0].lines[0].po_item": "00010",
            "[0].receiver.name": "报文测试天津有限公司", "[0].supplier.name": "CSP test d'This is also a test section",
        },
    ),
    Case(
        "edifact/ORDERS_D96A_kramp.edi", Edifact(loop="LIN", faults="report"), "edifact_orders.jmes", "purchase-order.v1",
        {
            "[0].po_id": "2738662", "[0].buyer.id": "8716106198368", "[0].currency": "EUR", "length([0].lines)": "4",
            "[0].lines[0].price": "117.84", "[0].lines[2].price": "66.2", "[0].lines[0].gtin": "8712100000003",
            "[0].lines[0].supplier_item": "ABC1234", "[0].lines[0].buyer_item": "DEF345", "[0].lines[3].quantity": "7",
            "[0].lines[3].due_on": "2020-03-11",
        },
    ),
    Case(
        "edifact/ORDERS_D96A_sap_b2b_factory.edi", Edifact(loop="LIN", faults="report"), "edifact_orders.jmes",
        "purchase-order.v1",
        {"[0].po_id": "5YGVX1VT", "[0].due_on": "2024-03-15", "[0].lines[0].quantity": "38", "[0].lines[0].price": "75.55"},
    ),
    Case(
        "edifact/order.edi", Edifact(loop="LIN", faults="report"), "edifact_orders.jmes", "purchase-order.v1",
        {"[0].po_id": "801715918011", "[0].ordered_on": "2015-08-03", "[0].lines[1].gtin": "5020436373108"},
    ),
    Case(
        "edifact/orders-with-group.edi", Edifact(loop="LIN", faults="report"), "edifact_orders.jmes", "purchase-order.v1",
        {"[0].po_id": "C1441747", "[0].lines[0].price": "12.80", "[0].lines[0].quantity": "288", "[0].lines[0].buyer_item": "8641800"},
    ),
    Case(
        "edifact/ORDRSP_latin1_mockedi.edi", Edifact(loop="LIN"), "edifact_ordrsp.jmes", "order-response.v1",
        {
            "[0].response_id": "5100002", "[0].po_id": "4500018101", "[0].answer": "CHANGED", "[0].lines[0].price": "12.50",
            "[0].lines[1].confirmed": "36", "[0].lines[1].promised_on": "2026-11-25",
            "[0].lines[1].remark": "Priced at 13.75, the order said 3.75",
        },
    ),
    Case(
        "edifact/invoic_d97b_una.edi", Edifact(loop="LIN", faults="report"), "edifact_invoic.jmes", "invoice.v1",
        {
            "[0].invoice_id": "342459", "[0].kind": "INVOICE", "[0].po_id": "521052", "[0].total": "2137.58",
            "[0].supplier.id": "005435656", "[0].lines[0].price": "1.179", "[0].lines[0].quantity": "1020",
            "[0].lines[1].amount": "410",
        },
    ),
    Case(
        "edifact/invoice1.edi", Edifact(loop="LIN", faults="report"), "edifact_invoic.jmes", "invoice.v1",
        {
            "[0].kind": "CREDIT", "[0].issued_on": "1999-10-06", "[0].lines[0].buyer_item": "090346642",
            "[0].lines[0].price": "3630.1724", "[0].lines[0].price_per": "100", "[0].lines[0].po_id": "X18V00003",
        },
    ),
    Case(
        "edifact/CONTRL_ack_mockedi.edi", Edifact(loop="UCM"), "edifact_contrl.jmes", "acknowledgement.v1",
        {"[0].state": "ACCEPTED", "[0].interchange": "000801", "[0].by": "MOCKEDI", "[0].to": "EURODIS", "[0].documents[0].type": "ORDERS"},
    ),
    Case(
        "edifact/CONTRL_uci7_but_ucm4_mockedi.edi", Edifact(loop="UCM"), "edifact_contrl.jmes", "acknowledgement.v1",
        {"[0].state": "REJECTED", "[0].documents[0].errors[0].code": "29", "[0].documents[0].errors[0].segment": "UNT"},
    ),
    Case(
        "edifact/messages_v3_aperak.edi", Edifact(loop="ERC", faults="report"), "edifact_aperak.jmes", "acknowledgement.v1",
        {
            "[0].state": "UNKNOWN", "[0].documents[0].reference": "PO123456", "[0].errors[0].code": "1",
            "[0].errors[0].text": "Message accepted without errors",
        },
    ),
    # -- X12 -----------------------------------------------------------------------------------------------------------
    x12(
        "856_mockedi.edi", "x12_856.j2", "advance-ship-notice.v1", "HL",
        {
            "[0].shipment_id": "SHP8000002", "[0].ship_to.id": "1710", "[0].carrier": "United Parcel Service",
            "[0].lines[].to_text(quantity) | join(' ', @)": "100 40", "[0].lines[1].po_id": "4500017222",
            "[0].lines[1].gtin": "076123400010",
        },
    ),
    x12("856_node-x12.edi", "x12_856.j2", "advance-ship-notice.v1", "HL", {"[0].lines[1].supplier_item": "99887D", "[0].lines[1].quantity": "6"}),
    x12("asn856_gozer.txt", "x12_856.j2", "advance-ship-notice.v1", "HL", {"[0].shipment_id": "829716", "[0].lines[0].po_id": "99999817"}),
    x12(
        "850_node-x12.edi", "x12_850.jmes", "purchase-order.v1", "PO1",
        {
            "[0].po_id": "08292233294", "[0].ship_to.id": "0003947268292", "[0].lines[0].buyer_item": "065322-117",
            "[0].lines[0].price": "9.25", "[0].lines[5].quantity": "696", "[0].due_on": "2010-12-14",
        },
    ),
    x12("850_sap_b2b_factory.edi", "x12_850.jmes", "purchase-order.v1", "PO1", {"[0].po_id": "68DHHA7B", "[0].lines[1].quantity": "186"}),
    x12(
        "997_accepted_mockedi.edi", "x12_acknowledgement.j2", "acknowledgement.v1", "AK2",
        {"[0].state": "ACCEPTED", "[0].group": "101", "[0].documents[0].reference": "0001"},
    ),
    x12(
        "997_rejected_ak3_ak4_mockedi.edi", "x12_acknowledgement.j2", "acknowledgement.v1", "AK2",
        {
            "[0].state": "REJECTED", "[0].group": "102", "[0].documents[0].errors[0].segment": "PO1",
            "[0].documents[0].errors[0].position": "5", "[0].documents[0].errors[1].value": "ABC",
        },
    ),
    x12("simple997.edi", "x12_acknowledgement.j2", "acknowledgement.v1", "AK2", {"[0].group": "000001", "[0].documents[0].reference": "0021"}),
    x12("simple997-multiple-interchanges.edi", "x12_acknowledgement.j2", "acknowledgement.v1", "AK2", {"length(@)": "3", "[2].state": "REJECTED"}),
    x12(
        "simple999.edi", "x12_acknowledgement.j2", "acknowledgement.v1", "AK2",
        {"[0].kind": "999", "[0].state": "PARTIAL", "[0].documents[].state | join(' ', @)": "ACCEPTED REJECTED REJECTED"},
    ),
    x12(
        "TA1_duplicate_interchange_mockedi.edi", "x12_acknowledgement.j2", "acknowledgement.v1", "AK2",
        {"[0].kind": "TA1", "[0].state": "REJECTED", "[0].interchange": "000000101", "[0].errors[0].code": "025"},
    ),
    x12("x12_interchange_ack.txt", "x12_acknowledgement.j2", "acknowledgement.v1", "AK2", {"[0].state": "ACCEPTED", "[0].interchange": "000000050"}),
    # -- IDoc, SOAP ----------------------------------------------------------------------------------------------------
    Case(
        "idoc/ORDERS05_purchase_order.xml", Idoc(), "orders05.jmes", "purchase-order.v1",
        {
            "[0].po_id": "4500000670", "[0].lines[1].line": "00020", "[0].lines[0].quantity": "1.000", "[0].lines[0].price": "50",
            "[0].lines[0].unit": "H87", "[0].ship_to.id": "1010", "[0].supplier.id": "10100099",
        },
    ),
    Case(
        "idoc/ORDERS05_orderresponse.xml", Idoc(), "orders05_response.jmes", "order-response.v1",
        {
            "[0].response_id": "2001319044", "[0].po_id": "2C9YS43Z", "[0].lines[0].price": "479.62",
            "[0].lines[0].confirmed": "432.000", "[0].lines[0].supplier_item": "000000688001000182",
            "[0].lines[0].promised_on": "2024-05-07",
        },
    ),
    Case(
        "idoc/DELVRY07_inbound_3pl.xml", Idoc(), "delvry07.jmes", "delivery.v1",
        {
            "[0].delivery_id": "0123456789", "[0].direction": "INBOUND", "[0].gross_weight": "40.830",
            "[0].lines[0].material_id": "654321234567", "[0].lines[1].quantity": "60.000", "[0].lines[1].po_id": "4800012345",
            "[0].lines[1].po_item": "00030", "[0].external_id": "8001234567",
        },
    ),
    Case(
        "idoc/DELVRY07_outbound_x12.xml", Idoc(), "delvry07.jmes", "delivery.v1",
        {"[0].direction": "OUTBOUND", "[0].lines[0].po_id": "3101097064", "[0].lines[0].reference_id": "2000461293"},
    ),
    Case(
        "idoc/LOIWCS03.xml", Idoc(), "loiwcs03.jmes", "work-center.v1",
        {"[0].work_center": "TEST_AZ", "[0].plant": "DM01", "join(' ', [0].formulas)": "QTB ST PT PPQ TT QTA"},
    ),
    Case(
        "idoc/PRODORDCONF_CREATE_TT_RESPONSE.xml", Xml(), "prodordconf.jmes", "production-confirmation.v1",
        {
            "[0].state": "POSTED", "[0].confirmation": "0000001114", "[0].counter": "00000001", "[0].order_id": "208277436",
            "[0].goods_movements[0].lot": "1001003071", "[0].goods_movements[0].quantity": "3.000",
            "[0].goods_movements[0].order_id": "1001528", "[0].messages[0].code": "RU 100",
        },
    ),
    Case(
        "soap/DeliveryRequest_inbound.xml", Xml(), "soap_delivery_request.jmes", "delivery.v1",
        {
            "[0].delivery_id": "0080000849", "[0].lines[0].quantity": "1.000", "[0].lines[0].unit": "H87",
            "[0].lines[0].po_id": "4500003532", "[0].lines[0].po_item": "00010", "[0].lines[0].storage_location": "301A",
            "[0].lines[0].expires_on": "2024-11-19", "length([0].parties)": "4",
        },
    ),
    # -- B2MML, GS1 ----------------------------------------------------------------------------------------------------
    Case(
        "b2mml/INV-20121210175555-0001L0001_01.xml", Xml(), "b2mml_inventory.j2", "inventory-status.v2",
        {
            "[0].lot": "CRBN0001_LOT01", "[0].sublot": "CRBN0001_LOT01_01", "[0].stock_status": "BLOCKED", "[0].quantity": "24.910",
            "[0].unit": "KGM", "[0].as_of": "2012-12-10T17:55:54Z",
        },
    ),
    Case(
        "b2mml/LOT-20121210170718-0001L0001.xml", Xml(), "b2mml_lot.jmes", "lot.v1",
        {"[0].lot": "CRBN0001_LOT01", "[0].status": "AVAILABLE", "[0].expires_on": "2013-12-08", "[0].material_id": "CRBN0001"},
    ),
    Case(
        "b2mml/PRO-20121210181416-27942.xml", Xml(), "b2mml_production_schedule.jmes", "production-order.v2",
        {
            "[0].order_id": "258456", "[0].material_id": "SO1215", "[0].quantity": "1.000",
            "[0].operations[2].components[0].lot": "CRBN0001_LOT01", "[0].operations[2].components[1].quantity": "2152.3",
            "[0].operations[2].components[1].sublot": "412345670021003212",
        },
    ),
    Case(
        "gs1xml/logisticsInventoryReport_goods_movement.xml", Xml(), "gs1_inventory_movements.j2", "stock-movement.v1",
        {
            "[].direction | join(' ', @)": "DECREASE INCREASE", "[].stock_status | join(' ', @)": "AVAILABLE BLOCKED",
            "[1].sub_location": "QUAL", "[1].quantity": "12", "[0].material_id": "0123456789",
            "[0].moved_at": "2024-03-01T18:15:06Z",
        },
    ),
    Case(
        "gs1xml/logisticsInventoryReport_goods_movement.xml", Xml(), "gs1_inventory_status.j2", "inventory-status.v2",
        {"[0].stock_status": "BLOCKED", "[0].plant": "FR20", "[0].quantity": "12"},
    ),
    Case(
        "gs1xml/warehousingInboundNotification.xml", Xml(), "gs1_inbound_notification.jmes", "receiving-advice.v1",
        {
            "[0].lines[1].quantity": "60", "[0].lines[1].supplier_item": "000000887766554433", "[0].lines[0].po_item": "00020",
            "[0].lines[0].gtin": "01234567891011", "[0].received_on": "2025-01-19",
        },
    ),
    Case(
        "gs1xml/warehousingOutboundNotification.xml", Xml(), "gs1_outbound_notification.jmes", "delivery.v1",
        {
            "[0].delivery_id": "8001583749", "[0].external_id": "2024110280", "[0].lines[0].material_id": "4108531",
            "[0].lines[0].gtin": "08720389026751", "[0].status": "PRODUCT_PICKED",
        },
    ),
    Case(
        "csv/batch-fake-data.csv", Csv(), "csv_measurements.j2", "measurement-report.v2",
        {
            "length(@)": "2", "[1].characteristics[0].values[0].lot": "746", "[0].characteristics[].id | join(' ', @)": "UCI_minutes Temp1 Temp2 Pressure1",
            "[0].characteristics[3].values[0].value": "35.62373673", "[0].characteristics[3].values[0].lot": "1",
            "[0].characteristics[1].values[0].measured_at": "2018-06-29T07:20:00Z",
        },
    ),
    Case(
        "csv/batch-yield-and-purity.csv", Csv(), "csv_measurements.j2", "measurement-report.v2",
        {"[0].characteristics[].id | join(' ', @)": "yield purity", "[0].characteristics[1].values[2].value": "50.7"},
    ),
    Case(
        "csv/rubber-colour.csv", Csv(), "csv_measurements.j2", "measurement-report.v2",
        {"[0].characteristics[0].values[2].value": "230", "[0].characteristics[0].id": "Colour"},
    ),
    # -- measurements --------------------------------------------------------------------------------------------------
    Case(
        "aqdef/testmeasures.dfq", Aqdef(), "aqdef.jmes", "measurement-report.v1",
        {
            "[0].part_id": "Teil 123.456.789", "length([0].characteristics)": "2", "[0].characteristics[0].upper": "300",
            "[0].characteristics[0].unit": "cm", "[0].characteristics[0].values[0].value": "249.960000000000",
            "[0].characteristics[0].values[0].original_value": "2.49960000000000E+0002",
            "[0].characteristics[0].values[0].order_id": "615 647",
            "[0].characteristics[1].values[4].measured_at": "2002-05-18T16:14:57Z",
        },
    ),
    Case(
        "aqdef/basicDfq_singlePart_threeCharacteristics.dfq", Aqdef(), "aqdef.jmes", "measurement-report.v1",
        {"[0].characteristics[2].nominal": "4.5", "[0].characteristics[0].lower": "1.0", "[0].characteristics[2].values[2].value": "4.8"},
    ),
    Case(
        "aqdef/attributiveDfq_attributiveCharacteristic_and_errorLogSheet.dfq", Aqdef(), "aqdef.jmes", "measurement-report.v1",
        {"[0].characteristics[1].values[0].sample_size": "155000", "[0].characteristics[1].values[0].nonconforming": "8"},
    ),
    Case("aqdef/basicDfq_singlePart_noCharacteristics.dfq", Aqdef(), "aqdef.jmes", "measurement-report.v1", {"[0].part_id": "<part_number_1>"}),
    Case(
        "aqdef/characteristicHierarchy_characteristicOrder.dfq", Aqdef(), "aqdef.jmes", "measurement-report.v1",
        {"[0].characteristics[1].id": "<characteristic_code_4>"},
    ),
    Case(
        "aqdef/characteristicHierarchy_singlePart_singleGroup_twoCharacteristics.dfq", Aqdef(), "aqdef.jmes",
        "measurement-report.v1", {"[0].characteristics[1].values[0].value": "0.1"},
    ),
    Case("aqdef/multipleParts.dfq", Aqdef(), "aqdef.jmes", "measurement-report.v1", {"[1].part_id": "part 2", "[1].characteristics[0].values[0].value": "7.2"}),
    Case(
        "qif/Exploded_Results1.QIF", Xml(), "qif.jmes", "measurement-report.v1",
        {
            "[0].report_id": "C88AAECB-1345-45ca-8946-7AAADB6C0336", "[0].outcome": "REJECT",
            "[0].characteristics[0].values[0].value": "25.008279671621001", "[0].characteristics[1].values[0].valuation": "REJECT",
        },
    ),
    Case(
        "qif/mitutoyo_results_serialized_pass_fail_sample.QIF", Xml(), "qif.jmes", "measurement-report.v1",
        {"[0].outcome": "ACCEPT", "[0].serial_numbers[0]": "SN#1234-56789", "[0].part_id": "Widget"},
    ),
    Case(
        "qif/mitutoyo_statistics_attribute_sample.QIF", Xml(), "qif.jmes", "measurement-report.v1",
        {"[].outcome | join(' ', @)": "ACCEPT ACCEPT REJECT", "[2].characteristics[0].name": "Scratched"},
    ),
    Case(
        "qif/QIF_Results_Sample.QIF", Xml(), "qif.jmes", "measurement-report.v1",
        {"[0].part_id": "QM_X_123456", "length([0].characteristics)": "13", "[0].characteristics[0].values[0].value": "-0.020323885079998"},
    ),
    Case(
        "qif/SheetMetal_QIF_Results_sample_1.QIF", Xml(), "qif.jmes", "measurement-report.v1",
        {"[0].serial_numbers[0]": "SN5802801", "length([0].characteristics)": "38", "[0].characteristics[0].name": "W1RFTMRA02V"},
    ),
    Case(
        "qif/WIDGET_QIF_RESULTS.QIF", Xml(), "qif.jmes", "measurement-report.v1",
        {"[0].outcome": "REJECT", "length([0].characteristics)": "42", "[0].characteristics[0].values[0].value": "0.088"},
    ),
    Case("qif/simplePlan.QIF", Xml(), "qif.jmes", "measurement-report.v1", {"length(@)": "0"}),  # a plan has no results
]  # fmt: skip


@pytest.fixture(scope="module")
def workspace() -> Workspace:
    return require_workspace(ROOT, environ=new_secrets())


def mapped(workspace: Workspace, transform: str, body: Any) -> Any:
    path = f"transforms/{transform}"
    compiled = read_transform(transform, (ROOT / path).read_text(encoding="utf-8"), path, workspace.language)
    return compiled.apply({"body": body, "headers": {}, "vars": {}, "meta": META, "site": {}})


def contract(name: str) -> JsonContract:
    path = f"schemas/{name}.json"
    return JsonContract.compile(name, json.loads((ROOT / path).read_text(encoding="utf-8")), path)


def fact(workspace: Workspace, entities: Any, expression: str) -> str:
    scope = {"body": entities, "headers": {}, "vars": {}, "meta": META, "site": {}}
    return str(workspace.language.expression(f"body | {expression}")(scope))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file}-{case.transform}")
def test_a_real_file_becomes_valid_entities(workspace: Workspace, case: Case) -> None:
    found = mapped(workspace, case.transform, case.codec.decode((DATA / case.file).read_bytes()))
    entities = found if isinstance(found, list) else [found]
    checked = contract(case.contract)
    assert entities or case.facts.get("length(@)") == "0"
    for entity in entities:
        checked.check(entity)
        with pytest.raises(Invalid):
            checked.check({**entity, "a_slip": "1"})
    assert {expression: fact(workspace, entities, expression) for expression in case.facts} == case.facts


# -- rows of OData services, and parts as Catena-X has them ---------------------------------------------------------------


def told(file: str) -> Any:
    """What a file of these folders holds; the rows that a client of an OData service has written under `message`, as `odata` reads them."""
    body = OData().decode((DATA / file).read_bytes())
    return body["message"] if isinstance(body, dict) and "message" in body else body


def joined() -> Any:
    """An order with its components and statuses, as one request with `$expand` gives it; here they are three files."""
    [order] = told("odata/production-order-01-general-sample.json")
    parts = {"Component": "02-component", "Status": "05-status"}
    more = {
        f"to_ProductionOrder{name}": told(f"odata/production-order-{file}-sample.json") for name, file in parts.items()
    }
    return order | more


def bought() -> Any:
    """The same of a purchase order and its item."""
    [order] = told("odata/purchase-order-header-01-sample.json")
    return order | {"to_PurchaseOrderItem": told("odata/purchase-order-item-01-sample.json")}


#: files → what a message of their route holds, transform, contract, facts
ROWS: list[tuple[str, Callable[[], Any], str, str, Mapping[str, str]]] = [
    (
        "odata/batch-master-record-sample.json", lambda: told("odata/batch-master-record-sample.json")[0],
        "odata_batch.jmes", "lot.v2",
        {"[0].material_id": "D2C_C_104", "[0].lot": "0000000136", "[0].deleted": "False", "[0].as_of": META["received_at"]},
    ),
    (
        "odata/business-partner-supplier-supplier-01-sample.json",
        lambda: told("odata/business-partner-supplier-supplier-01-sample.json")[0], "odata_supplier.jmes", "supplier.v1",
        {"[0].supplier_id": "1018", "[0].name": "Bechtle AG Kriek street", "[0].purchasing_blocked": "False", "[0].created_on": "2018-10-29"},
    ),
    (
        "odata/defect-defect-text-01-sample.json", lambda: told("odata/defect-defect-text-01-sample.json")[0],
        "odata_defect.jmes", "erp-defect.v1",
        {"[0].defect_id": "4", "[0].text": "Incomplete Packing", "[0].group": "DEF-PACK", "[0].inspection_lot": "None", "[0].count": "1"},
    ),
    (
        "odata/inspection-plan-header-01-sample.json", lambda: told("odata/inspection-plan-header-01-sample.json")[0],
        "odata_inspection_plan.jmes", "inspection-plan.v1",
        {
            "[0].group": "9", "[0].text": "E-Bike Battery (Quality)", "[0].lot_size.most": "99999999", "[0].lot_size.unit": "H87",
            "[0].valid_from": "2019-12-17", "[0].valid_to": "None",
        },
    ),
    (
        "odata/inspection-plan-material-assignment-01-sample.json",
        lambda: told("odata/inspection-plan-material-assignment-01-sample.json")[0], "odata_inspection_plan_material.jmes",
        "inspection-plan.v1",
        {"[0].group": "52000011", "[0].materials[0].material_id": "ELECTRIC FAN", "[0].site": "1010", "[0].materials[0].valid_from": "2021-02-01"},
    ),
    (
        "odata/production-order-01-general-sample.json odata/production-order-02-component-sample.json odata/production-order-05-status-sample.json",
        joined, "odata_production_order_expanded.jmes", "production-order.v2",
        {
            "[0].order_id": "1000000", "[0].status": "TECO", "[0].operations[].number": "['0020']",
            "[0].operations[0].components[].to_text(quantity) | join(' ', @)": "1500 500 500 500 500 1000 500",
            "[0].operations[0].components[5].material_id": "MZ-RM-R10-04", "[0].operations[0].components[0].unit": "H87",
        },
    ),
    (
        "odata/purchase-order-header-01-sample.json odata/purchase-order-item-01-sample.json", bought,
        "odata_purchase_order.jmes", "purchase-order.v1",
        {
            "[0].po_id": "4500000028", "[0].ordered_on": "2016-09-12", "[0].supplier.id": "17300001", "[0].ship_to.id": "1710",
            "[0].lines[0].line": "00010", "[0].lines[0].buyer_item": "TG0012", "[0].lines[0].price": "40.00",
        },
    ),
    (
        "odata/purchase-order-item-01-sample.json", lambda: told("odata/purchase-order-item-01-sample.json")[0],
        "odata_purchase_order_line.jmes", "purchase-order-line.v1",
        {"[0].po_id": "4500000028", "[0].po_item": "00010", "[0].price": "40.00", "[0].unit": "H87", "[0].delivered": "True", "[0].deleted": "False"},
    ),
    (
        "sap_gateway_exchanges/v2_purchaseorders_expand_inlinecount.json",
        lambda: told("sap_gateway_exchanges/v2_purchaseorders_expand_inlinecount.json")[0], "odata_purchase_order.jmes",
        "purchase-order.v1",
        {"[0].po_id": "4500000101", "[0].ordered_on": "2025-07-22", "[0].lines[1].unit": "MTR", "[0].lines[0].price": "301.14", "[0].lines[0].quantity": "213.000"},
    ),
    (
        "catenax/validImportFile-onlyAsBuiltAsset.json", lambda: told("catenax/validImportFile-onlyAsBuiltAsset.json"),
        "catenax_parts.jmes", "lot.v2",
        {
            "[0].material_id": "3500011-11", "[0].lot": "OMAOYGBDTSRCMYSCX", "[0].supplier_id": "BPNL00000003AXS3", "[0].made_on": "2024-01-15",
            "[0].children[0].external_id": "urn:uuid:7eeeac86-7b69-444d-81e6-655d0f1513bd", "[0].children[0].unit": "H87",
            "[0].parents[0].external_id": "urn:uuid:f11ddc62-3bd5-468f-b7b0-110fe13ed0cd", "[0].properties[0].name": "van",
        },
    ),
    (
        "catenax/irs_assets_tractionbatterycode.json", lambda: told("catenax/irs_assets_tractionbatterycode.json"),
        "catenax_parts.jmes", "lot.v2",
        {
            "length(@)": "1", "[0].material_id": "KR-09", "[0].lot": "OMA-TGFAYUHXFLHHUQQMPLTE", "[0].origin_country": "DEU",
            "[0].as_of": "2022-09-01T10:53:12.845072Z", "[0].children": "[]",
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("files", "body", "transform", "name", "facts"), ROWS, ids=lambda one: one if isinstance(one, str) else ""
)
def test_rows_of_a_service_become_valid_entities(
    workspace: Workspace, files: str, body: Callable[[], Any], transform: str, name: str, facts: Mapping[str, str]
) -> None:
    found = mapped(workspace, transform, body())
    entities = found if isinstance(found, list) else [found]
    for entity in entities:
        contract(name).check(entity)
        with pytest.raises(Invalid):
            contract(name).check({**entity, "a_slip": "1"})
    assert {expression: fact(workspace, entities, expression) for expression in facts} == facts


def test_every_defect_with_its_text_is_valid(workspace: Workspace) -> None:
    for row in told("odata/defect-defect-text-01-sample.json"):
        contract("erp-defect.v1").check(mapped(workspace, "odata_defect.jmes", row))


def test_every_file_with_rows_has_a_case() -> None:
    there = {f"{name}/{path.name}" for name in ("odata", "catenax") for path in (DATA / name).glob("*.json")}
    cases = {file for files, *_ in ROWS for file in files.split()}
    # mapped in test_workspace.py, and examples of the protocol, which are nobody's documents
    elsewhere = ("odata/defect-header", "odata/material-stock", "catenax/edc_")
    protocol = ("odata/Ticket_Collection", "odata/odata-v")
    assert {file for file in there if not file.startswith((*elsewhere, *protocol))} <= cases


def test_every_file_of_these_folders_has_a_case() -> None:
    folders = {case.file.partition("/")[0] for case in CASES}
    there = {f"{name}/{path.name}" for name in folders for path in (DATA / name).iterdir() if path.name != "SOURCES.md"}
    # MATMAS05 and LOIPRO05, and each reading of a machine, become entities in test_workspace.py
    known = ("idoc/MATMAS05", "idoc/LOIPRO05", "idoc/R1CH01007", "csv/ai4i2020")
    elsewhere = {file for file in there if file.startswith(known)}
    assert there - elsewhere == {case.file for case in CASES}


# -- acknowledgements that are written ---------------------------------------------------------------------------------
DESADV = (DATA / "edifact" / "DESADV_D96A_mockedi.edi").read_bytes()
UNG = b"UNG+DESADV+A+B+260101:1200+9+UN+D:96A'"
NOTICE = (DATA / "x12" / "856_mockedi.edi").read_bytes()


@pytest.mark.parametrize(
    ("original", "state", "documents", "errors"),
    [
        (DESADV, "ACCEPTED", ["3 ACCEPTED"], []),
        (DESADV.replace(b"UNT+20", b"UNT+19"), "REJECTED", ["3 REJECTED 29 UNT"], []),
        (DESADV.replace(b"UNT+20+3", b"UNT+20+4"), "REJECTED", ["3 REJECTED 28 UNT"], []),
        (DESADV.replace(b"UNZ+1+3", b"UNZ+2+3"), "REJECTED", [], ["29"]),
        (DESADV.replace(b"UNH+", UNG + b"UNH+").replace(b"UNZ", b"UNE+1+9'UNZ"), "ACCEPTED", ["3 ACCEPTED"], []),
        (DESADV.replace(b"UNH+", UNG + b"UNH+").replace(b"UNZ", b"UNE+2+9'UNZ"), "REJECTED", [], ["29"]),
        (DESADV.replace(b"UNH+", UNG + b"UNH+"), "REJECTED", [], ["13"]),
        (DESADV.replace(b"UNZ+1+3'", b""), "REJECTED", [], ["13"]),
    ],
)
def test_a_contrl_answers_an_interchange(
    workspace: Workspace, original: bytes, state: str, documents: list[str], errors: list[str]
) -> None:
    body = mapped(workspace, "answer_contrl.jmes", Edifact(faults="report").decode(original))
    read = Edifact(loop="UCM").decode(Edifact().encode(body))
    [said] = mapped(workspace, "edifact_contrl.jmes", read)
    contract("acknowledgement.v1").check(said)
    assert (said["interchange"], said["by"], said["to"]) == ("3", "EURODIS", "MOCKEDI")
    assert (read["interchange"]["sender"], read["interchange"]["recipient"]) == ("EURODIS", "MOCKEDI")
    assert said["state"] == state
    assert [summary(document) for document in said["documents"]] == documents
    assert [error["code"] for error in said["errors"]] == errors


@pytest.mark.parametrize(
    ("original", "state", "documents", "errors"),
    [
        (NOTICE, "997 ACCEPTED 3", ["0003 ACCEPTED"], []),
        (NOTICE.replace(b"SE*24", b"SE*23"), "997 REJECTED 3", ["0003 REJECTED 4"], []),
        (NOTICE.replace(b"SE*24*0003", b"SE*24*0004"), "997 REJECTED 3", ["0003 REJECTED 3"], []),
        (NOTICE.replace(b"GE*1*3", b"GE*2*3"), "997 REJECTED 3", ["0003 ACCEPTED"], ["5"]),
        (
            NOTICE.replace(b"GE*1*3", b"ST*856*0004~\nBSN*00*X*20261123~\nSE*5*0004~\nGE*2*3"),
            "997 PARTIAL 3",
            ["0003 ACCEPTED", "0004 REJECTED 4"],
            [],
        ),
        (NOTICE.replace(b"IEA*1", b"IEA*2"), "TA1 REJECTED 000000003", [], ["021"]),
    ],
)
def test_a_997_or_ta1_answers_an_interchange(
    workspace: Workspace, original: bytes, state: str, documents: list[str], errors: list[str]
) -> None:
    body = mapped(workspace, "answer_997.jmes", X12(faults="report").decode(original))
    read = X12(loop="AK2").decode(X12().encode(body))
    [said] = mapped(workspace, "x12_acknowledgement.j2", read)
    contract("acknowledgement.v1").check(said)
    assert (said["by"], said["to"]) == ("ACME", "MOCKEDI")
    assert f"{said['kind']} {said['state']} {said['group'] or said['interchange']}" == state
    assert [summary(document) for document in said["documents"]] == documents
    assert [error["code"] for error in said["errors"]] == errors


def test_an_item_knows_its_order_through_its_pack(workspace: Workspace) -> None:
    levels = [
        "HL*1**S", "DTM*011*20261123",
        "HL*2*1*O", "PRF*4500000001", "HL*3*2*P", "HL*4*3*I", "LIN*1*VP*A*LT*0007", "SN1**1.50*EA",
        "HL*5*1*O", "PRF*4500000002", "HL*6*5*I", "LIN*2*VP*B", "SN1**2*EA",
    ]  # fmt: skip
    head, _, rest = NOTICE.decode().partition("HL*1")
    file = head + "~\n".join(levels) + "~\nSE*16*0003" + rest.partition("SE*24*0003")[2]
    [notice] = mapped(workspace, "x12_856.j2", X12(loop="HL").decode(file.encode()))
    contract("advance-ship-notice.v1").check(notice)
    lines = [(line["po_id"], line["lot"], str(line["quantity"])) for line in notice["lines"]]
    assert lines == [("4500000001", "0007", "1.50"), ("4500000002", None, "2")]


def test_an_acknowledgement_is_not_acknowledged(workspace: Workspace) -> None:
    received = X12().decode((DATA / "x12" / "997_accepted_mockedi.edi").read_bytes())
    assert mapped(workspace, "answer_997.jmes", received) == {"interchanges": []}


def summary(document: Mapping[str, Any]) -> str:
    codes = [text for error in document["errors"] for text in (error["code"], error["segment"]) if text]
    return " ".join([document["reference"], document["state"], *codes])
