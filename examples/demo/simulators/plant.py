"""Warehouse and shop floor: the two places where blocked stock must not be touched."""

from __future__ import annotations

from typing import Any, ClassVar

from examples.demo.simulators.base import Answer, Call, Handler, Problem, Simulator


def _unknown(lot: str) -> dict[str, Any]:
    return {"lot": lot, "status": "AVAILABLE", "history": [], "refused": 0, "used": 0}


class Wms(Simulator):
    """The warehouse: a lot has a status, and nobody picks what is blocked."""

    name: ClassVar[str] = "wms"

    def fresh(self) -> dict[str, Any]:
        return {"lots": {}, "numbers": 0}

    def routes(self) -> list[tuple[str, str, Handler]]:
        return [
            ("POST", "/wms/v2/stock-status", self.change_status),
            ("POST", "/wms/v2/lots/{lot}/picks", self.pick),
        ]

    def guard(self, call: Call) -> Answer | None:
        return None if call.path.endswith("/picks") else self.api_key(call, "wms-key")

    def lie(self, call: Call, error: str) -> Answer:
        code = "STOCK_LOCKED" if error == "transient" else "UNKNOWN_LOT"
        return Answer(200, {"result": "ERROR", "code": code, "message": "nothing was changed"})

    def change_status(self, call: Call) -> Answer:
        body = call.body
        if body["status"] not in ("BLOCKED", "AVAILABLE"):
            raise Problem(Answer(400, {"result": "ERROR", "code": "STATUS", "message": "BLOCKED or AVAILABLE"}))
        lot = self.state["lots"].setdefault(body["lot"], _unknown(body["lot"]))
        self.state["numbers"] += 1
        task = f"T{self.state['numbers']:06}"
        lot["status"] = body["status"]
        lot["history"].append({**body, "task": task, "correlation_id": call.correlation_id, "at": call.at})
        return Answer(200, {"result": "OK", "task": task})

    def pick(self, call: Call) -> Answer:
        lot = self.state["lots"].setdefault(call.params["lot"], _unknown(call.params["lot"]))
        if lot["status"] == "BLOCKED":
            lot["refused"] += 1
            return Answer(409, {"result": "ERROR", "code": "BLOCKED", "message": "this lot is on hold"})
        lot["used"] += 1
        return Answer(200, {"result": "OK"})


class Mes(Simulator):
    """The shop floor: materials and orders it knows, and lots it may consume."""

    name: ClassVar[str] = "mes"

    def fresh(self) -> dict[str, Any]:
        return {"lots": {}, "materials": {}, "orders": {}, "machine_failures": []}

    def routes(self) -> list[tuple[str, str, Handler]]:
        return [
            ("PUT", "/mes/v1/lots/{lot}/usability", self.set_usability),
            ("POST", "/mes/v1/lots/{lot}/consumption", self.consume),
            ("PUT", "/mes/v1/materials/{id}", self.put("materials")),
            ("PUT", "/mes/v1/orders/{id}", self.put("orders")),
            ("POST", "/mes/v1/machine-failures", self.machine_failure),
        ]

    def guard(self, call: Call) -> Answer | None:
        return None if call.path.endswith("/consumption") else self.basic(call, "esb", "mes-password")

    def lie(self, call: Call, error: str) -> Answer:
        code = "TRY_AGAIN" if error == "transient" else "UNKNOWN_LOT"
        return Answer(200, {"ok": False, "error": {"code": code, "message": "nothing was changed"}})

    def set_usability(self, call: Call) -> Answer:
        name, body = call.params["lot"], call.body
        lot = self.state["lots"].setdefault(name, _unknown(name))
        lot["status"] = "AVAILABLE" if body["usable"] else "BLOCKED"
        lot["history"].append({**body, "correlation_id": call.correlation_id, "at": call.at})
        return Answer(200, {"ok": True, "lot": name, "status": lot["status"]})

    def consume(self, call: Call) -> Answer:
        name = call.params["lot"]
        lot = self.state["lots"].setdefault(name, _unknown(name))
        if lot["status"] == "BLOCKED":
            lot["refused"] += 1
            return Answer(409, {"ok": False, "error": {"code": "BLOCKED", "message": "this lot is on hold"}})
        lot["used"] += 1
        return Answer(200, {"ok": True})

    def put(self, collection: str) -> Handler:
        def handler(call: Call) -> Answer:
            self.state[collection][call.params["id"]] = {**call.body, "correlation_id": call.correlation_id}
            return Answer(200, {"ok": True, "id": call.params["id"]})

        return handler

    def machine_failure(self, call: Call) -> Answer:
        self.state["machine_failures"].append({**call.body, "correlation_id": call.correlation_id})
        return Answer(201, {"ok": True})
