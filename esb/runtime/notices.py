"""Telling everybody who reads an alert: once each, whatever ends the process meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from esb.config.model import Workspace
from esb.endpoints.base import Incoming, Intake
from esb.errors import EsbError
from esb.formats.json import Json

_JSON = Json()


class Readers(Protocol):
    """Who reads alerts in the running bus."""

    @property
    def workspace(self) -> Workspace: ...

    def intake_of(self, route: str) -> Intake | None: ...


async def tell(readers: Readers, alert: str, incident: str, body: Mapping[str, Any], log: Callable[..., None]) -> bool:
    """Hand a notice to everybody who reads the alert; false where one of them cannot take it now.

    ``incident`` is its key: told again after a crash it is known as one.
    """
    for spec in readers.workspace.subscribers(f"alert.{alert}"):
        intake = readers.intake_of(spec.name)
        if intake is None:
            continue
        meta = {"source": {"type": "alert", "name": alert}}
        try:
            await intake.accept(Incoming(_JSON.encode(body), codec=_JSON, source_key=f"alert:{incident}", meta=meta))
        except EsbError as error:
            log("warning", "alerting.not_told", alert=alert, incident=incident, error=str(error))
            return False
    return True
