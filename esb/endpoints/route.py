"""The ``route`` endpoint: one route hands messages to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from esb.endpoints.base import Delivery, RunningSource, SourceContext
from esb.endpoints.topic import HandedOver
from esb.errors import InternalFault
from esb.message import Message
from esb.registry import sink, source
from esb.spec import option
from esb.steps.base import Context, ContractRef, HandOff, Reply


@source("route")
@dataclass(frozen=True, slots=True)
class RouteSource:
    """Messages that other routes hand over with `to: { route: <this one> }`. Write `from: { route: {} }`."""

    contract: ContractRef = option(
        default=None, doc="Contract that a message must keep; else it is a dead letter here.", example="lot.v1"
    )

    def bind(self, context: SourceContext) -> RunningSource:
        return HandedOver()


@sink("route")
@dataclass(frozen=True, slots=True)
class RouteSink:
    """Hands the message to another route of this bus: a message of its own there, committed with the end of this one.

    It keeps body, headers and correlation id, and has its own key, retries and dead letters.
    """

    route: str = option(doc="Name of the route.", example="qms-notify", shorthand=True, aliases=("name",))

    def handoff(self, message: Message, step: str, context: Context) -> HandOff:
        """The message to be born when this one is settled. ``step`` makes its delivery ids stable."""
        return HandOff(kind="route", target=self.route, message=message, place=step)

    async def send(self, message: Message, delivery: Delivery, connection: Any) -> Reply:
        raise InternalFault(f"route `{self.route}` takes messages by hand-off only; this is a fault of esb")
