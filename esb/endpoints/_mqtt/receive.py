"""A route's MQTT source at work: from a message to its commit, and only then to its acknowledgement."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
from paho.mqtt.subscribeoptions import SubscribeOptions

from esb.endpoints._http.media import Refusal, codec_or_refusal
from esb.endpoints._mqtt.link import Link, Room, Session, user_properties
from esb.endpoints.base import Incoming, Receipt, SourceContext
from esb.endpoints.carried import correlation_id, trace_of
from esb.errors import StoreBusy, Unavailable
from esb.failpoints import pause as failpoint
from esb.formats.base import Codec

if TYPE_CHECKING:
    from esb.endpoints._mqtt.live import LiveMqtt
    from esb.endpoints.mqtt import MqttSource

#: Seconds between two looks at a closed intake, and after a refusal that says nothing else.
LOOK, LATER = 0.1, 5.0
#: Names under which the source keeps its session over restarts.
_CLIENT, _FILTERS = "mqtt.client", "mqtt.filters"
#: MQTT 5, 3.8.3.1: send retained messages only for a new subscription, or never
_IF_NEW, _NEVER = 1, 2


@dataclass(slots=True, eq=False)
class Arrival:
    message: Any
    done: bool = False


class MqttReceiver:
    """A :class:`~esb.endpoints.base.RunningSource`: accepts in the order of the broker, with at most ``prefetch`` in hand."""

    def __init__(self, source: MqttSource, context: SourceContext) -> None:
        self._source = source
        self._context = context
        self._live: LiveMqtt = context.connection
        self._link: Link | None = None
        self._client: Any = None
        #: Of this connection, in the order of the broker: so are they acknowledged.
        self._in_hand: deque[Arrival] = deque()
        self._waiting: deque[Arrival] = deque()
        self._bell = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._stale: tuple[str, ...] = ()
        self._stopping = False
        self._acknowledged = False  #: something, over this connection

    async def start(self) -> None:
        self._stopping = False
        source = self._source
        client_id = source.client_id or await self._own_name()
        known = tuple(await self._context.state.get(_FILTERS) or ())
        self._stale = tuple(one for one in known if one not in source.topics)
        await self._context.state.put(_FILTERS, list(dict.fromkeys((*known, *source.topics))))
        session = Session(client_id, max(1, int(source.session.total_seconds())), source.prefetch)
        room = Room(source.prefetch + 1, source.in_hand)
        self._link = Link(self._live.address, session, self, self._context.log, self._live.name, room)
        self._link.start()
        self._worker = asyncio.create_task(self._work(), name=f"mqtt {self._context.route}")

    async def stop(self) -> None:
        """Take nothing new, end what is in hand, acknowledge it; the broker keeps the rest for the session."""
        self._stopping = True
        self._bell.set()
        if self._worker is not None:
            await self._worker
        if self._link is not None:
            if self._acknowledged and self._client is not None:
                await self._link.settle(self._client)
            await self._link.close()

    async def _own_name(self) -> str:
        """Two buses with one name would push each other out for ever, so each route of each store has its own."""
        kept = await self._context.state.get(_CLIENT)
        if not kept:
            kept = f"esb-{self._context.route[:60]}-{uuid.uuid4().hex[:12]}"
            await self._context.state.put(_CLIENT, kept)
        return str(kept)

    # -- what the link tells ------------------------------------------------------------------------------------------
    def connected(self, client: Any, *, session_present: bool) -> None:
        self._client = client
        source = self._source
        if self._stale:
            client.unsubscribe(list(self._stale))
        if self._live.address.version == paho.MQTTv5:
            how = SubscribeOptions(
                qos=source.qos,
                retainAsPublished=True,
                retainHandling=_IF_NEW if source.retained == "take" else _NEVER,
            )
            client.subscribe([(topic, how) for topic in source.topics])
        elif not session_present or self._stale:
            client.subscribe([(topic, source.qos) for topic in source.topics])
        self._log("info", "mqtt.subscribed", topics=list(source.topics), session_present=session_present)

    def subscribed(self, codes: list[Any]) -> None:
        refused = [
            f"{topic}: {code}" for topic, code in zip(self._source.topics, codes, strict=False) if code.is_failure
        ]
        if refused:
            self._log("error", "mqtt.not_subscribed", error="; ".join(refused))

    def lost(self, reason: str) -> None:
        """What was not acknowledged comes again, and in the same order."""
        self._client, self._acknowledged = None, False
        for arrival in self._waiting:
            self._leave(arrival.message)
        self._waiting.clear()
        self._in_hand.clear()

    def arrived(self, client: Any, message: Any) -> None:
        if client is not self._client or self._stopping:
            self._leave(message)
            return
        arrival = Arrival(message)
        self._in_hand.append(arrival)
        self._waiting.append(arrival)
        self._bell.set()

    def published(self, client: Any, mid: int, code: Any) -> None:
        """Nothing is sent here."""

    def _leave(self, message: Any) -> None:
        if self._link is not None:
            self._link.room.leave(len(message.payload))

    # -- accepting ----------------------------------------------------------------------------------------------------
    async def _work(self) -> None:
        """Accepts begin in the order of arrival; up to ``prefetch`` wait for their commit together."""
        working: set[asyncio.Task[bool]] = set()
        while not self._stopping:
            if not self._waiting:
                self._bell.clear()
                await self._bell.wait()
                continue
            if not self._context.intake.open:
                await self._context.clock.sleep(LOOK)
                continue
            burst = list(self._waiting)
            self._waiting.clear()
            working = {asyncio.create_task(self._take(arrival)) for arrival in burst}
            results = await asyncio.gather(*working)
            if again := [arrival for arrival, taken in zip(burst, results, strict=True) if not taken]:
                for arrival in reversed(again):
                    if arrival in self._in_hand:
                        self._waiting.appendleft(arrival)
                    else:  # the connection broke meanwhile: it comes again
                        self._leave(arrival.message)
                await self._context.clock.sleep(LOOK)

    async def _take(self, arrival: Arrival) -> bool:
        """One message from accept to acknowledgement; False where it has to be tried again."""
        try:
            receipt = await self._accept(arrival.message)
        except (StoreBusy, Unavailable) as error:
            await self._pause(error.retry_after.total_seconds() if error.retry_after else LATER)
            return False
        except Exception as error:  # noqa: BLE001 - the source loop: not stored, so it is tried again
            self._log("error", "mqtt.not_accepted", error=f"{type(error).__name__}: {error}")
            await self._pause(LATER)
            return False
        await failpoint("mqtt.accepted")
        if receipt.state == "dead" and receipt.error is not None:
            self._log("warning", "mqtt.dead", message=receipt.message_id, error=receipt.error.message)
        self._leave(arrival.message)
        arrival.done = True
        self._acknowledge()
        return True

    async def _pause(self, seconds: float) -> None:
        """Rest, but not over a stop."""
        sleeping = asyncio.ensure_future(self._context.clock.sleep(seconds))
        try:
            while not sleeping.done() and not self._stopping:
                await asyncio.wait({sleeping}, timeout=LOOK)
        finally:
            sleeping.cancel()
            with suppress(asyncio.CancelledError):
                await sleeping

    def _acknowledge(self) -> None:
        """In the order of the broker (MQTT 5, 4.6), so up to the first that is still open."""
        while self._in_hand and self._in_hand[0].done:
            message = self._in_hand.popleft().message
            if message.qos and self._client is not None:
                self._client.ack(message.mid, message.qos)
                self._acknowledged = True

    async def _accept(self, message: Any) -> Receipt:
        incoming = self._incoming(message)
        receipt = await self._context.intake.accept(incoming)
        if receipt.reused:
            self._log("warning", "mqtt.message_id_reused", first=receipt.reused, key=incoming.source_key)
        return receipt

    def _incoming(self, message: Any) -> Incoming:
        source, topic = self._source, message.topic
        properties = user_properties(message)
        headers = {name: value for name, value in properties.items() if not name.startswith(("esb-", "esb_"))}
        content_type = str(getattr(getattr(message, "properties", None), "ContentType", "") or "")
        codec = self._codec(content_type, len(message.payload))
        trace = trace_of(headers.get("traceparent", ""))
        id_ = properties.get(source.seen_by.lower()) if source.seen_by != "none" else None
        told = {"topic": topic, "qos": message.qos, "retained": bool(message.retain), "again": bool(message.dup)}
        meta: dict[str, Any] = {"mqtt": told, "source": {"type": "mqtt", "topic": topic}}
        if trace:
            meta["traceparent"] = headers["traceparent"]
        return Incoming(
            payload=message.payload,
            codec=codec,
            content_type=content_type,
            headers=headers,
            meta=meta,
            contract=source.contract,
            source_key=f"mqtt:{topic}:{id_}" if id_ else None,
            fingerprint=hashlib.sha256(message.payload).hexdigest() if id_ else "",
            correlation_id=correlation_id(headers, trace),
            on_invalid="dead",
            in_order=True,
            on_reused="store",  # two messages of one id are two messages: the sender's slip must not lose the second
        )

    def _codec(self, content_type: str, size: int) -> Codec:
        source = self._source
        if size > source.max_size:
            return Refusal(f"the message has {size} bytes, `max_size` is {source.max_size}")
        return codec_or_refusal(content_type, source.format)

    def _log(self, level: str, event: str, **fields: Any) -> None:
        self._context.log(level, event, route=self._context.route, **fields)
