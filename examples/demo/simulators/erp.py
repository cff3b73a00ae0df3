"""The ERP: SAP-like OData services over one small stock ledger."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any, ClassVar

from examples.demo.simulators.base import Answer, Call, Handler, Simulator
from examples.demo.simulators.behaviour import Behaviour
from examples.demo.simulators.odata import SERVICE_ROOT, Sessions, bapi_return, date, entity, error, refuse

#: Movement type → stock type it takes from and stock type it adds to.
MOVEMENTS = {
    "321": ("02", "01"),
    "322": ("01", "02"),
    "343": ("07", "01"),
    "344": ("01", "07"),
    "349": ("07", "02"),
    "350": ("02", "07"),
    "551": ("01", "scrapped"),
    "553": ("02", "scrapped"),
    "555": ("07", "scrapped"),
    "122": ("07", "returned"),
    "331": ("02", "sampled"),
}
STOCK_TYPES = ("01", "02", "07", "scrapped", "returned", "sampled")


class Erp(Simulator):
    """Stock by lot and stock type: 01 unrestricted, 02 in quality inspection, 07 blocked.

    Writes need a CSRF token and its cookie. Stock under an inspection lot leaves it to unrestricted use by a usage decision
    only. A movement of more than there is answers M7/021.
    """

    name: ClassVar[str] = "erp"
    events: ClassVar = {
        "goods-receipt": "/erp/goods-receipts",
        "matmas": "/erp/idocs",
        "loipro": "/erp/idocs",
        "odata": "/erp/odata",
    }

    def __init__(self, **options: Any) -> None:
        self.sessions = Sessions()
        super().__init__(**options)

    def fresh(self) -> dict[str, Any]:
        return {
            "stock": {},
            "inspection_lots": {},
            "material_documents": [],
            "usage_decisions": {},
            "inspection_results": [],
            "defects": {},
            "costs": [],
            "requisitions": [],
            "tasks": [],
            "links": [],
            "numbers": {},
        }

    def routes(self) -> list[tuple[str, str, Handler]]:
        def service(path: str) -> str:
            return f"{SERVICE_ROOT}/{path}"

        return [
            ("GET", SERVICE_ROOT + "/{service}/", self.service_document),
            ("POST", service("API_MATERIAL_DOCUMENT_SRV/A_MaterialDocumentHeader"), self.post_movement),
            ("GET", service("API_MATERIAL_STOCK_SRV/A_MatlStkInAcctMod"), self.read_stock),
            ("GET", service("API_INSPECTIONLOT_SRV/A_InspectionLot('{lot}')"), self.read_lot),
            ("PATCH", service("API_INSPECTIONLOT_SRV/A_InspectionLot('{lot}')"), self.patch_lot),
            ("POST", service("API_INSPECTIONLOT_SRV/A_InspectionResult"), self.post_result),
            ("POST", service("API_INSPECTIONLOT_SRV/A_InspLotUsageDecision"), self.post_usage_decision),
            ("POST", service("API_DEFECT_SRV/A_Defect"), self.post_defect),
            ("POST", service("API_PURCHASEREQ_PROCESS_SRV/A_PurchaseRequisitionHeader"), self.post_requisition),
            ("POST", service("ZQM_COST_SRV/CostPostingSet"), self.post_cost),
            ("POST", service("ZQM_TASK_SRV/TaskSet"), self.post_task),
            ("POST", service("API_CV_ATTACHMENT_SRV/AttachmentContentSet"), self.post_link),
        ]

    # -- manners ------------------------------------------------------------------------------------------------------
    def guard(self, call: Call) -> Answer | None:
        stranger = self.basic(call, "ESB", "erp-password")
        if stranger is not None:
            return stranger
        return None if call.method == "GET" else self.sessions.check(call)

    def obey(self, behaviour: Behaviour) -> None:
        if behaviour.how == "logout":
            self.sessions.forget()

    def lie(self, call: Call, error: str) -> Answer:
        if error == "transient":
            return Answer(200, bapi_return("E", "M3", "897", "Plant data of the material is locked by user MEIER"))
        return Answer(200, bapi_return("E", "M7", "053", "Posting only possible in periods 2026/12 and 2027/01"))

    def rejection(self, call: Call) -> Answer:
        return error(400, "M7/053", "Posting only possible in periods 2026/12 and 2027/01")

    def service_document(self, call: Call) -> Answer:
        return Answer(200, {"d": {"EntitySets": []}}, self.sessions.fetch(call))

    # -- stock --------------------------------------------------------------------------------------------------------
    def post_movement(self, call: Call) -> Answer:
        body = call.body
        items = body["to_MaterialDocumentItem"]
        rows = items["results"] if isinstance(items, dict) else items
        for row in rows:
            self._check_movement(row)
        number = self._number("material_document", 4900000000)
        for place, row in enumerate(rows, start=1):
            self._book(number, place, row, body, call)
        year = time.strftime("%Y", time.gmtime(call.at))
        return entity(
            "API_MATERIAL_DOCUMENT_SRV.A_MaterialDocumentHeaderType",
            {
                "MaterialDocument": number,
                "MaterialDocumentYear": year,
                "PostingDate": date(call.at),
                "ReferenceDocument": body.get("ReferenceDocument", ""),
            },
        )

    def _check_movement(self, row: dict[str, Any]) -> None:
        movement, lot = row["GoodsMovementType"], row["Batch"]
        if movement not in MOVEMENTS:
            raise refuse(400, "M7/001", f"Movement type {movement} does not exist")
        stock = self._stock(lot)
        source, target = MOVEMENTS[movement]
        there, wanted = Decimal(stock[source]), Decimal(row["QuantityInEntryUnit"])
        if wanted <= 0:
            raise refuse(400, "M7/018", "Enter a quantity")
        if (source, target) == ("02", "01") and self._open_lot(lot):
            text = f"Stock of lot {lot} is in quality inspection: make the usage decision for {self._open_lot(lot)}"
            raise refuse(400, "QA/INSP_STOCK", text)
        if there < wanted:
            text = f"Deficit of stock type {source} {wanted - there} {row.get('EntryUnit', '')}: lot {lot}"
            raise refuse(400, "M7/021", text)

    def _book(self, number: str, place: int, row: dict[str, Any], body: dict[str, Any], call: Call) -> None:
        movement, lot = row["GoodsMovementType"], row["Batch"]
        quantity = Decimal(row["QuantityInEntryUnit"])
        source, target = MOVEMENTS[movement]
        stock = self._stock(lot)
        stock[source] = Decimal(stock[source]) - quantity
        stock[target] = Decimal(stock[target]) + quantity
        self.state["material_documents"].append(
            {
                "number": number,
                "item": f"{place:04}",
                "movement": movement,
                "lot": lot,
                "plant": row.get("Plant", ""),
                "quantity": quantity,
                "reference": body.get("ReferenceDocument", ""),
                "text": row.get("MaterialDocumentItemText", ""),
                "correlation_id": call.correlation_id,
                "at": call.at,
            }
        )

    def _stock(self, lot: str) -> dict[str, Any]:
        stock: dict[str, Any] | None = self.state["stock"].get(lot)
        if stock is None:
            raise refuse(404, "M7/042", f"Lot {lot} does not exist")
        return stock

    def read_stock(self, call: Call) -> Answer:
        """Blocked stock by batch, as the stock API answers it: one row for each batch that has some."""
        rows = [
            {
                "Batch": lot,
                "Material": str(stock["material"]).lstrip("0"),
                "Plant": stock["plant"],
                "InventoryStockType": "07",
                "MatlWrhsStkQtyInMatlBaseUnit": str(stock["07"]),
            }
            for lot, stock in sorted(self.state["stock"].items())
            if Decimal(stock["07"])
        ]
        return Answer(200, {"d": {"results": rows}})

    # -- inspection lots ----------------------------------------------------------------------------------------------
    def read_lot(self, call: Call) -> Answer:
        lot = self._lot(call.params["lot"])
        answer = entity("API_INSPECTIONLOT_SRV.A_InspectionLotType", lot["fields"], status=200, etag=_etag(lot))
        return Answer(200, answer.body, {**answer.headers, **self.sessions.fetch(call)})

    def patch_lot(self, call: Call) -> Answer:
        lot = self._lot(call.params["lot"])
        match = call.headers.get("if-match")
        if match is None:
            raise refuse(428, "/IWBEP/CM_MGW_RT/021", "Header If-Match is required for this request")
        if match not in ("*", _etag(lot)):
            raise refuse(412, "/IWBEP/CX_MGW_BUSI_EXCEPTION", "The entity was changed after it was read")
        unknown = set(call.body) - set(lot["fields"])
        if unknown:
            raise refuse(400, "/IWBEP/CM_MGW_RT/025", f"Property {min(unknown)} is invalid")
        lot["fields"].update(call.body)
        lot["version"] += 1
        lot["changes"].append({"at": call.at, "correlation_id": call.correlation_id, **call.body})
        return Answer(204, None, {"ETag": _etag(lot)})

    def post_result(self, call: Call) -> Answer:
        body = call.body
        self._lot(body["InspectionLot"])
        self.state["inspection_results"].append({**body, "correlation_id": call.correlation_id, "at": call.at})
        return entity("API_INSPECTIONLOT_SRV.A_InspectionResultType", body)

    def post_usage_decision(self, call: Call) -> Answer:
        body = call.body
        number = body["InspectionLot"]
        lot = self._lot(number)
        if number in self.state["usage_decisions"]:
            raise refuse(400, "QV/103", f"A usage decision has already been made for inspection lot {number}")
        valuation = body["InspLotUsageDecisionValuation"]
        if valuation not in ("A", "R"):
            raise refuse(400, "QV/111", f"Valuation {valuation} does not exist")
        self.state["usage_decisions"][number] = {**body, "correlation_id": call.correlation_id, "at": call.at}
        stock = self._stock(lot["fields"]["Batch"])
        target = "01" if valuation == "A" else "07"
        stock[target] = Decimal(stock[target]) + Decimal(stock["02"])
        stock["02"] = Decimal(0)
        lot["fields"]["InspectionLotHasUsageDecision"] = "X"
        lot["version"] += 1
        return entity("API_INSPECTIONLOT_SRV.A_InspLotUsageDecisionType", body)

    def _lot(self, number: str) -> dict[str, Any]:
        lot: dict[str, Any] | None = self.state["inspection_lots"].get(number)
        if lot is None:
            raise refuse(404, "QA/102", f"Inspection lot {number} does not exist")
        return lot

    def _open_lot(self, batch: str) -> str:
        for number, lot in self.state["inspection_lots"].items():
            if lot["fields"]["Batch"] == batch and not lot["fields"]["InspectionLotHasUsageDecision"]:
                return str(number)
        return ""

    # -- everything else that the routes post -------------------------------------------------------------------------
    def post_defect(self, call: Call) -> Answer:
        number = self._number("defect", 0).rjust(12, "0")
        self.state["defects"][number] = {**call.body, "correlation_id": call.correlation_id, "at": call.at}
        return entity("API_DEFECT_SRV.A_DefectType", {"DefectInternalID": number, **call.body})

    def post_cost(self, call: Call) -> Answer:
        return self._append("costs", "cost_document", 1900000000, "CostDocument", call)

    def post_requisition(self, call: Call) -> Answer:
        return self._append("requisitions", "requisition", 10000000, "PurchaseRequisition", call)

    def post_task(self, call: Call) -> Answer:
        return self._append("tasks", "task", 800000, "Task", call)

    def post_link(self, call: Call) -> Answer:
        return self._append("links", "document", 10000000000, "DocumentInfoRecordDocNumber", call)

    def _append(self, list_name: str, range_name: str, start: int, field: str, call: Call) -> Answer:
        number = self._number(range_name, start)
        record = {field: number, **call.body}
        self.state[list_name].append({**record, "correlation_id": call.correlation_id, "at": call.at})
        return entity(f"SIM.{field}", record)

    def _number(self, range_name: str, start: int) -> str:
        numbers = self.state["numbers"]
        numbers[range_name] = numbers.get(range_name, start) + 1
        return str(numbers[range_name])

    # -- own events ---------------------------------------------------------------------------------------------------
    def prepare(self, event: str, data: Any) -> Any:
        """Book a goods receipt before it is told to anybody: stock in inspection and an inspection lot."""
        if event != "goods-receipt":
            return data
        lot = data["Batch"]
        if lot not in self.state["stock"]:
            stock = dict.fromkeys(STOCK_TYPES, Decimal(0))
            stock[data["InventoryStockType"]] = Decimal(data["QuantityInEntryUnit"])
            self.state["stock"][lot] = {"material": data["Material"], "plant": data["Plant"], **stock}
            if data.get("InspectionLot", "").strip("0"):
                self.state["inspection_lots"][data["InspectionLot"]] = _inspection_lot(data)
        return data

    def correlation_for(self, event: str, data: Any) -> str:
        return f"GR-{data['MaterialDocument']}-{data['MaterialDocumentYear']}" if event == "goods-receipt" else ""


def _inspection_lot(data: dict[str, Any]) -> dict[str, Any]:
    fields = {
        "InspectionLot": data["InspectionLot"],
        "Material": data["Material"],
        "Batch": data["Batch"],
        "Plant": data["Plant"],
        "InspectionLotQuantity": data["QuantityInEntryUnit"],
        "InspectionLotQuantityUnit": data["EntryUnit"],
        "InspLotExternalNumber": "",
        "InspectionLotHasUsageDecision": "",
    }
    return {"fields": fields, "version": 1, "changes": []}


def _etag(lot: dict[str, Any]) -> str:
    return f"W/\"datetime'2026-01-01T00%3A00%3A{lot['version']:02}'\""
