"""The QMS: a cloud service with OAuth2, JSON and the record of every quality decision."""

from __future__ import annotations

import base64
import secrets
import time
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import parse_qs

from examples.demo.simulators.base import Answer, Call, Handler, Problem, Simulator

_TOKEN_SECONDS = 300


class Qms(Simulator):
    """Inspections, nonconformances, holds, dispositions, SCARs, certificates and evidence."""

    name: ClassVar[str] = "qms"
    events: ClassVar = {
        "inspection-result": "/qms/inspection-results",
        "nonconformance": "/qms/nonconformances",
        "stock-decision": "/qms/stock-decisions",
        "disposition": "/qms/dispositions",
        "evidence": "/qms/evidence",
    }

    def __init__(self, **options: Any) -> None:
        self._tokens: dict[str, float] = {}
        super().__init__(**options)

    def fresh(self) -> dict[str, Any]:
        return {
            "inspections": {},
            "effects": {},
            "held": {},
            "erp_documents": {},
            "suppliers_informed": {},
            "scars": {},
            "scar_steps": [],
            "supplier_status": {},
            "postings": [],
            "certificates": {},
            "complaints": {},
            "materials": {},
            "production_orders": {},
            "erp_defects": {},
            "numbers": {},
        }

    def routes(self) -> list[tuple[str, str, Handler]]:
        return [
            ("POST", "/oauth/token", self.token),
            ("POST", "/api/v1/inspections", self.create_inspection),
            ("POST", "/api/v1/stock-decisions/{id}/effects", self.add_effect),
            ("GET", "/api/v1/held-stock", self.read_held),
            ("POST", "/api/v1/nonconformances/{id}/erp-document", self.set_erp_document),
            ("POST", "/api/v1/nonconformances/{id}/supplier-informed", self.set_supplier_informed),
            ("POST", "/api/v1/scars", self.create_scar),
            ("POST", "/api/v1/scars/{id}/steps", self.add_scar_step),
            ("PUT", "/api/v1/suppliers/{id}/status", self.set_supplier_status),
            ("POST", "/api/v1/dispositions/{id}/postings", self.add_posting),
            ("POST", "/api/v1/certificates", self.add_certificate),
            ("POST", "/api/v1/complaints", self.add_complaint),
            ("PUT", "/api/v1/materials/{id}", self.put("materials")),
            ("PUT", "/api/v1/production-orders/{id}", self.put("production_orders")),
            ("PUT", "/api/v1/erp-defects/{id}", self.put("erp_defects")),
        ]

    # -- manners ------------------------------------------------------------------------------------------------------
    def guard(self, call: Call) -> Answer | None:
        if call.path == "/oauth/token" or not self.secret("qms-client-secret"):
            return None
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._tokens.get(token, 0) > call.at:
            return None
        return Answer(401, {"error": "invalid_token"}, {"WWW-Authenticate": "Bearer"})

    def token(self, call: Call) -> Answer:
        """OAuth2 client credentials (RFC 6749, 4.4), by form field or HTTP Basic."""
        form = {name: values[0] for name, values in parse_qs(call.raw.decode()).items()}
        client, secret = form.get("client_id", ""), form.get("client_secret", "")
        scheme, _, credentials = call.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            client, _, secret = base64.b64decode(credentials).decode().partition(":")
        expected = self.secret("qms-client-secret")
        if form.get("grant_type") != "client_credentials" or client != "esb" or (expected and secret != expected):
            raise Problem(Answer(401, {"error": "invalid_client"}))
        token = secrets.token_urlsafe(24)
        self._tokens[token] = call.at + _TOKEN_SECONDS
        return Answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": _TOKEN_SECONDS})

    def lie(self, call: Call, error: str) -> Answer:
        if call.path == "/oauth/token":
            return self.token(call)
        code = "RECORD_LOCKED" if error == "transient" else "UNKNOWN_RECORD"
        return Answer(200, {"data": None, "errors": [{"code": code, "message": "the record was not changed"}]})

    # -- what it decides ----------------------------------------------------------------------------------------------
    def prepare(self, event: str, data: Any) -> Any:
        """Keep the record of held stock: a hold adds to it, releases and dispositions take away."""
        if event == "stock-decision" and data.get("kind") == "HOLD" and data.get("from_status") != "BLOCKED":
            self._held(data, Decimal(data["quantity"]))
        elif event == "stock-decision" and data.get("kind") == "RELEASE" and data.get("from_status") == "BLOCKED":
            self._held(data, -Decimal(data["quantity"]))
        elif event == "disposition":
            for line in data.get("lines", ()):
                if line["from_status"] == "BLOCKED" and line["action"] in ("SCRAP", "RETURN_TO_SUPPLIER"):
                    self._held(data, -Decimal(line["quantity"]))
        return data

    def _held(self, data: dict[str, Any], quantity: Decimal) -> None:
        record = self.state["held"].setdefault(
            data["lot"], {"material_id": data["material_id"], "plant": data["plant"], "quantity": Decimal(0)}
        )
        record["quantity"] = Decimal(record["quantity"]) + quantity

    def read_held(self, call: Call) -> Answer:
        """Lots with stock on hold, as the QMS has it."""
        rows = [{"lot": lot, **one} for lot, one in sorted(self.state["held"].items()) if Decimal(one["quantity"])]
        return Answer(200, {"data": rows})

    # -- what the bus brings ------------------------------------------------------------------------------------------
    def create_inspection(self, call: Call) -> Answer:
        body = call.body
        number = f"INSP-{self._next('inspection'):05}"
        self.state["inspections"][number] = self._stamped(call, body)
        return Answer(201, {"data": {"inspection_id": number, "lot": body["lot"]}})

    def add_effect(self, call: Call) -> Answer:
        effects = self.state["effects"].setdefault(
            call.params["id"], {"kind": call.body.get("kind", ""), "systems": {}}
        )
        effects["systems"].setdefault(call.body["system"], []).append(self._stamped(call, call.body))
        return Answer(201, {"data": {"recorded": True}})

    def set_erp_document(self, call: Call) -> Answer:
        self.state["erp_documents"].setdefault(call.params["id"], []).append(self._stamped(call, call.body))
        return Answer(200, {"data": {"recorded": True}})

    def set_supplier_informed(self, call: Call) -> Answer:
        self.state["suppliers_informed"].setdefault(call.params["id"], []).append(self._stamped(call, call.body))
        return Answer(200, {"data": {"recorded": True}})

    def create_scar(self, call: Call) -> Answer:
        """One SCAR per nonconformance: a second request finds the first."""
        body = call.body
        for number, scar in self.state["scars"].items():
            if scar["nc_id"] == body["nc_id"]:
                scar["requests"] += 1
                return Answer(200, {"data": {"scar_id": number, "existing": True}})
        number = f"SCAR-{self._next('scar'):04}"
        self.state["scars"][number] = {**self._stamped(call, body), "state": "OPEN", "requests": 1, "steps": {}}
        return Answer(201, {"data": {"scar_id": number, "existing": False}})

    def add_scar_step(self, call: Call) -> Answer:
        scar = self.state["scars"].get(call.params["id"])
        if scar is None:
            raise Problem(Answer(404, {"errors": [{"code": "UNKNOWN_RECORD", "message": "no such SCAR"}]}))
        step = call.body
        scar["steps"][step["step"]] = self._stamped(call, step)
        self.state["scar_steps"].append({"scar_id": call.params["id"], **self._stamped(call, step)})
        return Answer(201, {"data": {"recorded": True}})

    def set_supplier_status(self, call: Call) -> Answer:
        self.state["supplier_status"].setdefault(call.params["id"], []).append(self._stamped(call, call.body))
        return Answer(200, {"data": {"recorded": True}})

    def add_posting(self, call: Call) -> Answer:
        self.state["postings"].append({"disposition_id": call.params["id"], **self._stamped(call, call.body)})
        return Answer(201, {"data": {"recorded": True}})

    def add_certificate(self, call: Call) -> Answer:
        body = call.body
        key = f"{body['scheme']} {body['certificate_id']} {body['lot']}"
        self.state["certificates"].setdefault(key, []).append(self._stamped(call, body))
        return Answer(201, {"data": {"recorded": True}})

    def add_complaint(self, call: Call) -> Answer:
        body = call.body
        self.state["complaints"].setdefault(body["notification_id"], []).append(self._stamped(call, body))
        return Answer(201, {"data": {"recorded": True}})

    def put(self, collection: str) -> Handler:
        def handler(call: Call) -> Answer:
            self.state[collection][call.params["id"]] = self._stamped(call, call.body)
            return Answer(200, {"data": {"id": call.params["id"]}})

        return handler

    # -- helpers ------------------------------------------------------------------------------------------------------
    def correlation_for(self, event: str, data: Any) -> str:
        """The case began with the inspection of the lot; its correlation id goes with everything about that lot."""
        lot = data.get("lot") or next((line.get("lot") for line in data.get("lots", [])), None)
        for inspection in reversed(self.state["inspections"].values()):
            if inspection["lot"] == lot:
                return str(inspection["correlation_id"])
        return ""

    @staticmethod
    def _stamped(call: Call, body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "correlation_id": call.correlation_id, "received_at": time.time()}

    def _next(self, name: str) -> int:
        numbers = self.state["numbers"]
        numbers[name] = numbers.get(name, 0) + 1
        return int(numbers[name])
