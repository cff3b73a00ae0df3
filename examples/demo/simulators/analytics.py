"""Analytics and the supplier scorecard: it counts, and says when a supplier has crossed the line."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any, ClassVar

from examples.demo.simulators.base import Answer, Call, Handler, Simulator

#: Rejected parts per million from which a supplier is on probation.
TOLERANCE_PPM = 5000


class Analytics(Simulator):
    """Inspections by result, defects by supplier, stock snapshots and machine readings."""

    name: ClassVar[str] = "analytics"

    def fresh(self) -> dict[str, Any]:
        return {"inspections": {}, "scorecards": {}, "stock": {}, "machines": {}, "alerts": [], "evidence": {}}

    def routes(self) -> list[tuple[str, str, Handler]]:
        return [
            ("POST", "/v1/inspections", self.inspection),
            ("POST", "/v1/scorecard/receipts", self.receipt),
            ("POST", "/v1/scorecard/defects", self.defect),
            ("POST", "/v1/stock", self.stock),
            ("POST", "/v1/machine-readings", self.reading),
            ("POST", "/v1/evidence", self.evidence),
            ("POST", "/v1/alerts", self.alert),
        ]

    def guard(self, call: Call) -> Answer | None:
        return self.api_key(call, "analytics-key")

    def lie(self, call: Call, error: str) -> Answer:
        return Answer(200, {"accepted": 0, "error": "the ingest queue is full" if error == "transient" else "schema"})

    def inspection(self, call: Call) -> Answer:
        body = call.body
        self.state["inspections"].setdefault(body["inspection_id"], []).append(body)
        return Answer(202, {"accepted": 1})

    def receipt(self, call: Call) -> Answer:
        card = self._card(call.body["supplier_id"])
        card["received"] = Decimal(card["received"]) + Decimal(call.body["quantity"])
        return Answer(202, {"accepted": 1})

    def defect(self, call: Call) -> Answer:
        """Count the defect; from ``TOLERANCE_PPM`` on the answer says ``breached``."""
        body = call.body
        card = self._card(body["supplier_id"])
        card["rejected"] = Decimal(card["rejected"]) + Decimal(body["quantity"])
        card["nonconformances"].append(body["nc_id"])
        received = max(Decimal(card["received"]), Decimal(card["rejected"]), Decimal(1))
        ppm = int(Decimal(card["rejected"]) * 1_000_000 / received)
        breached = ppm >= TOLERANCE_PPM
        card.update(ppm=ppm, breached=breached, tier="PROBATION" if breached else "A")
        answer = {"accepted": 1, "supplier_id": body["supplier_id"], "period": body["period"], "ppm": ppm}
        return Answer(200, {**answer, "breached": breached, "tier": card["tier"]})

    def _card(self, supplier: str) -> dict[str, Any]:
        blank = {"received": 0, "rejected": 0, "ppm": 0, "breached": False, "tier": "A", "nonconformances": []}
        card: dict[str, Any] = self.state["scorecards"].setdefault(supplier, blank)
        return card

    def stock(self, call: Call) -> Answer:
        body = call.body
        self.state["stock"][f"{body['material_id']} {body['plant']} {body['lot']}"] = body
        return Answer(202, {"accepted": 1})

    def reading(self, call: Call) -> Answer:
        body = call.body
        machines = self.state["machines"]
        machines["readings"] = machines.get("readings", 0) + 1
        causes = Counter(machines.get("causes", {}))
        causes.update(body["failures"])
        machines["causes"] = dict(causes)
        return Answer(202, {"accepted": 1})

    def evidence(self, call: Call) -> Answer:
        body = call.body
        self.state["evidence"].setdefault(body["evidence_id"], []).append(
            {**body, "correlation_id": call.correlation_id, "at": call.at}
        )
        return Answer(202, {"accepted": 1})

    def alert(self, call: Call) -> Answer:
        self.state["alerts"].append(call.body)
        return Answer(202, {"accepted": 1})
