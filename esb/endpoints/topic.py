"""The ``topic`` endpoint: publish and subscribe inside the bus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from esb.endpoints.base import Delivery, RunningSource, SourceContext
from esb.errors import InternalFault
from esb.message import Message
from esb.registry import sink, source
from esb.spec import option
from esb.steps.base import Context, HandOff, Reply


class HandedOver:
    """A :class:`~esb.endpoints.base.RunningSource` with nothing to run: messages arrive with the transaction that sends them."""

    async def start(self) -> None:
        return None

    async def stop(self) -> None:
        return None


@source("topic")
@dataclass(frozen=True, slots=True)
class TopicSource:
    """Every message that is published to a topic of this bus; any number of routes may listen to one.

    The message is stored together with the end of the one that published it: both or neither. It keeps body, headers and
    correlation id, and gets key, dedupe and tracked values by the rules of the listening route.
    """

    topic: str = option(doc="Name of the topic.", example="lot-blocked", shorthand=True, aliases=("name", "channel"))

    def bind(self, context: SourceContext) -> RunningSource:
        return HandedOver()


@sink("topic")
@dataclass(frozen=True, slots=True)
class TopicSink:
    """Publishes to a topic of this bus: one message for each route that listens, committed with the message that publishes."""

    topic: str = option(doc="Name of the topic.", example="lot-blocked", shorthand=True, aliases=("name", "channel"))

    def handoff(self, message: Message, step: str, context: Context) -> HandOff:
        """The message to be born when this one is settled. ``step`` makes its delivery ids stable."""
        return HandOff(kind="topic", target=self.topic, message=message, place=step)

    async def send(self, message: Message, delivery: Delivery, connection: Any) -> Reply:
        raise InternalFault(f"topic `{self.topic}` takes messages by hand-off only; this is a fault of esb")
