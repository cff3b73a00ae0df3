"""The story: a defect in electronic components, from the goods receipt to the evidence, under one correlation id.

Every function gives one event as the system that tells it would send it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

SUPPLIER = "100042"
MATERIAL = "104711"
PLANT, WERKS, STORAGE = "P10", "1010", "0001"
#: Parts of the delivery, and how they are disposed of.
RECEIVED, SCRAPPED, RETURNED = 5000, 37, 1963
RELEASED = RECEIVED - SCRAPPED - RETURNED
UNIT_COST = Decimal("0.37")
SCRAP_COST = Decimal("13.69")


@dataclass(frozen=True, slots=True)
class Case:
    """One delivery and everything that is named after it; ``number`` keeps cases apart."""

    number: int

    @property
    def lot(self) -> str:
        return f"L24{self.number:04}A"

    @property
    def document(self) -> str:
        return f"50000{self.number:05}"

    @property
    def purchase_order(self) -> str:
        return f"45000{self.number:05}"

    @property
    def inspection_lot(self) -> str:
        return f"0100000{self.number:05}"

    @property
    def nc(self) -> str:
        return f"NC-2026-{self.number:04}"

    @property
    def hold_id(self) -> str:
        return f"HOLD-26-{self.number:04}"

    @property
    def release_id(self) -> str:
        return f"REL-26-{self.number:04}"

    @property
    def disposition_id(self) -> str:
        return f"DISP-26-{self.number:04}"

    @property
    def evidence_id(self) -> str:
        return f"EV-2026-{self.number:04}"

    @property
    def correlation(self) -> str:
        """Made by the ERP with the goods receipt; nobody makes another one."""
        return f"GR-{self.document}-2026"

    # -- events of the ERP --------------------------------------------------------------------------------------------
    def goods_receipt(self) -> dict[str, Any]:
        """As an ERP says it: padded numbers, own units and stock types, `/Date(…)/`."""
        return {
            "MaterialDocument": self.document,
            "MaterialDocumentYear": "2026",
            "MaterialDocumentItem": "0001",
            "GoodsMovementType": "101",
            "Material": MATERIAL.rjust(18, "0"),
            "Plant": WERKS,
            "StorageLocation": STORAGE,
            "Batch": self.lot,
            "Supplier": SUPPLIER.rjust(10, "0"),
            "PurchaseOrder": self.purchase_order,
            "PurchaseOrderItem": "00010",
            "InspectionLot": self.inspection_lot,
            "QuantityInEntryUnit": f"{RECEIVED}.000",
            "EntryUnit": "ST",
            "InventoryStockType": "02",
            "ReferenceDocument": f"DN-{self.number:05}",
            "PostingDate": "/Date(1795478400000)/",
        }

    # -- events of the QMS --------------------------------------------------------------------------------------------
    def inspection_result(self, inspection_id: str, *, valuation: str = "REJECT") -> dict[str, Any]:
        bad = valuation == "REJECT"

        def characteristic(number: str, name: str, value: str | None, typed: str, **more: Any) -> dict[str, Any]:
            return {
                "operation": "0010",
                "characteristic": number,
                "name": name,
                "value": Decimal(value) if value is not None else None,
                "original_value": typed,
                "sample_size": 80,
                "nonconforming": 0,
                "valuation": "ACCEPT",
                "unit": None,
                "lower": None,
                "upper": None,
                **more,
            }

        wetting = characteristic(
            "0010",
            "Solder wetting angle",
            "41.250" if bad else "28.10",
            "41,25" if bad else "28,1",
            unit="deg",
            upper=35,
        )
        wetting |= {"valuation": valuation, "nonconforming": 37 if bad else 0}
        return {
            "inspection_id": inspection_id,
            "version": 1,
            "inspection_lot": self.inspection_lot,
            "material_id": MATERIAL,
            "plant": PLANT,
            "lot": self.lot,
            "valuation": valuation,
            "inspector": "Q017",
            "characteristics": [
                wetting,
                characteristic(
                    "0020", "Capacitance", "9.98", "9,98", unit="uF", lower=Decimal("9.5"), upper=Decimal("10.5")
                ),
                characteristic("0030", "Marking", None, "ok"),
            ],
            "completed_at": "2026-11-24T10:00:00Z",
        }

    def nonconformance(self, *, severity: str = "MAJOR") -> dict[str, Any]:
        return {
            "nc_id": self.nc,
            "version": 1,
            "title": "Solder wetting out of limits",
            "source": "INCOMING",
            "severity": severity,
            "state": "OPEN",
            "material_id": MATERIAL,
            "plant": PLANT,
            "lots": [{"lot": self.lot, "quantity": RECEIVED, "unit": "H87"}],
            "defects": [{"group": "SOLDER", "code": "WETTING", "quantity": 37, "location": "pad 3"}],
            "supplier_id": SUPPLIER,
            "po_id": self.purchase_order,
            "po_item": "00010",
            "inspection_lot": self.inspection_lot,
            "detected_at": "2026-11-24T10:01:00Z",
        }

    def _decision(self, kind: str, id_: str, **more: Any) -> dict[str, Any]:
        return {
            "decision_id": id_,
            "version": 1,
            "kind": kind,
            "lot": self.lot,
            "material_id": MATERIAL,
            "plant": PLANT,
            "storage_location": STORAGE,
            "quantity": RECEIVED,
            "unit": "H87",
            "reason": "Solder wetting out of limits",
            "severity": "MAJOR",
            "nc_id": self.nc,
            "inspection_lot": self.inspection_lot,
            "open_holds": [],
            "decided_by": "Q001",
            "decided_at": "2026-11-24T10:01:30Z",
            **more,
        }

    def hold(self, **more: Any) -> dict[str, Any]:
        what = {"from_status": "IN_INSPECTION", "open_holds": [self.hold_id], **more}
        return self._decision("HOLD", self.hold_id, **what)

    def release(self, **more: Any) -> dict[str, Any]:
        """The rest of the lot, after the disposition."""
        what = {"from_status": "BLOCKED", "quantity": RELEASED, "reason": "Concession for the good parts", **more}
        return self._decision("RELEASE", self.release_id, **what)

    def disposition(self) -> dict[str, Any]:
        def line(number: int, action: str, quantity: int, reason: str) -> dict[str, Any]:
            return {"line": number, "action": action, "quantity": quantity, "from_status": "BLOCKED", "reason": reason}

        return {
            "disposition_id": self.disposition_id,
            "version": 1,
            "nc_id": self.nc,
            "lot": self.lot,
            "material_id": MATERIAL,
            "plant": PLANT,
            "storage_location": STORAGE,
            "supplier_id": SUPPLIER,
            "po_id": self.purchase_order,
            "quantity": RECEIVED,
            "unit": "H87",
            "inspection_lot": self.inspection_lot,
            "unit_cost": UNIT_COST,
            "currency": "EUR",
            "replenish": True,
            "lines": [
                line(1, "SCRAP", SCRAPPED, "cannot be reworked"),
                line(2, "RETURN_TO_SUPPLIER", RETURNED, "same reel"),
                line(3, "USE_AS_IS", RELEASED, "within limits"),
            ],
            "decided_by": "Q001",
            "approved_by": "Q002",
            "decided_at": "2026-11-24T14:00:00Z",
        }

    def evidence(self) -> dict[str, Any]:
        return {
            "evidence_id": self.evidence_id,
            "subjects": [{"entity": "nonconformance", "key": self.nc}, {"entity": "lot", "key": self.lot}],
            "kind": "APPROVAL",
            "uri": f"https://dms.example/{self.evidence_id}",
            "sha256": hashlib.sha256(self.evidence_id.encode()).hexdigest(),
            "mime": "application/pdf",
            "lot": self.lot,
            "signed_by": "Q002",
            "signed_at": "2026-11-24T14:00:00Z",
            "retention_until": "2041-11-24",
        }

    # -- events of the supplier portal --------------------------------------------------------------------------------
    def scar_step(self, scar_id: str) -> dict[str, Any]:
        return {
            "scar_id": scar_id,
            "step": "D3",
            "revision": 1,
            "text": "Reel 7 and 8 are isolated, 100 % inspection until the profile of the oven is corrected.",
            "submitted_at": "2026-11-25T07:30:00Z",
        }
