"""The supplier portal: notifications and SCARs go out through it, 8D steps and notifications come in."""

from __future__ import annotations

from typing import Any, ClassVar

from examples.demo.simulators.base import Answer, Call, Handler, Simulator


class Portal(Simulator):
    """Takes each nonconformance and each SCAR once: 201 the first time, 409 from then on."""

    name: ClassVar[str] = "portal"
    events: ClassVar = {
        "scar-step": "/supplier/scar-steps",
        "quality-notification": "/supplier/quality-notifications",
    }

    def fresh(self) -> dict[str, Any]:
        return {"notifications": {}, "scars": {}}

    def routes(self) -> list[tuple[str, str, Handler]]:
        return [
            ("POST", "/portal/v1/notifications", self.notify),
            ("POST", "/portal/v1/scars", self.take_scar),
        ]

    def guard(self, call: Call) -> Answer | None:
        return self.bearer(call, self.secret("portal-token"))

    def lie(self, call: Call, error: str) -> Answer:
        """What a single sign-on in front of an application does when a session is over."""
        return Answer(200, "<!doctype html><title>Sign in</title><form>…</form>")

    def notify(self, call: Call) -> Answer:
        return self._once("notifications", call.body["nc_id"], call)

    def take_scar(self, call: Call) -> Answer:
        return self._once("scars", call.body["scar_id"], call)

    def _once(self, collection: str, key: str, call: Call) -> Answer:
        known = self.state[collection].get(key)
        if known is not None:
            known["times"] += 1
            return Answer(409, {"error": {"code": "ALREADY_THERE", "message": f"{key} is known"}})
        self.state[collection][key] = {
            **call.body,
            "times": 1,
            "correlation_id": call.correlation_id,
            "at": call.at,
        }
        return Answer(201, {"id": key})

    def correlation_for(self, event: str, data: Any) -> str:
        """A step of a SCAR belongs to the case that the SCAR came from."""
        scar = self.state["scars"].get(data.get("scar_id", "")) if event == "scar-step" else None
        return str(scar["correlation_id"]) if scar is not None else ""
