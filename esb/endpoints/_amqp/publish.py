"""Publishing with confirms in flight: one channel for each exchange, so that a missing one fails nobody else's messages."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import takewhile
from typing import Any

from msgspec import Struct

from esb.endpoints._amqp.frames import place_of, properties_of
from esb.endpoints._amqp.link import MOST_UNSENT, Address, Link
from esb.endpoints._amqp.properties import Outgoing
from esb.endpoints._amqp.wire import Wire, WireChannel
from esb.endpoints.expiries import Expiries
from esb.errors import MessageError, Rejected, Timeout, Unavailable

#: Messages in flight without their confirm; more gains nothing, fewer cost round trips.
WINDOW = 200
#: Exchanges with a channel of their own; the others share one.
MOST_LANES = 64


def _nobody(error: MessageError | None) -> None:
    del error


class Parcel(Struct, eq=False):
    """One message on its way. ``sent`` once it is written: from then on its outcome may be unknown."""

    exchange: str
    routing_key: str
    message: Outgoing
    mandatory: bool
    told: Callable[[MessageError | None], None] = (
        _nobody  #: hears on the loop when its confirm is there, or what stands for it
    )
    timeout: float = 0.0
    over: bool = False  #: its sender has its answer, or waits no longer; the loop's alone
    sent: bool = False
    confirms: int = 0  #: that its channel had seen when it was sent
    abandoned: bool = False
    returned: str = ""
    lane: Lane | None = None


@dataclass(slots=True, eq=False)
class Lane:
    """A channel in confirm mode, with what waits for its confirm by delivery tag."""

    channel: WireChannel
    flying: dict[int, Parcel] = field(default_factory=dict)
    tag: int = 0
    confirms: int = 0  #: answers of the broker so far, of either kind


class Publisher:
    """Sends messages over one link. ``publish`` belongs to the loop, everything else to the link's thread."""

    def __init__(self, address: Address, log: Callable[..., None], name: str) -> None:
        self._name = name
        self._waiting: deque[Parcel] = deque()
        self._overdue: deque[Parcel] = deque()
        self._lanes: dict[str, Lane] = {}
        self._flying = 0
        self._halted = ""
        self._expiries = Expiries(self._overtime)
        self._link = Link(address, self, log, f"{name} (out)")

    async def close(self) -> None:
        await self._link.close()

    # -- on the loop --------------------------------------------------------------------------------------------------
    async def publish(self, parcel: Parcel, timeout: float) -> None:
        """Return once the broker has confirmed it. Raises Rejected, Unavailable or Timeout within ``timeout`` seconds."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        parcel.told = partial(resolve, future)
        self.begin(parcel, timeout)
        try:
            await future
        except asyncio.CancelledError:
            self.give_up(parcel)
            raise

    def begin(self, parcel: Parcel, timeout: float) -> None:
        """The same for a parcel that is told of its end. Raises Unavailable at once where there is no broker."""
        if self._link.trouble:
            raise Unavailable(self._link.trouble)
        parcel.timeout = timeout
        self._waiting.append(parcel)
        self._link.wake_soon()
        self._expiries.begin(parcel, timeout)

    def _overtime(self, parcel: Parcel) -> None:
        if not parcel.over:
            self.give_up(parcel)
            parcel.told(self._late(parcel, parcel.timeout))

    def give_up(self, parcel: Parcel) -> None:
        """Nobody waits any more; whether it arrived stays unknown."""
        self._expiries.end(parcel)
        parcel.over = parcel.abandoned = True
        if parcel.sent:
            self._overdue.append(parcel)
        self._link.wake()

    def _late(self, parcel: Parcel, timeout: float) -> MessageError:
        where = self._link.address.where
        why = f"; {self._halted}" if self._halted else ""
        if parcel.sent:
            return Timeout(f"{where}: no confirm within {timeout:g}s{why}")
        return Unavailable(f"{where}: could not be sent within {timeout:g}s{why}")

    # -- in the thread ------------------------------------------------------------------------------------------------
    def connected(self, wire: Wire) -> None:
        self._halted = ""

    def blocked(self, reason: str) -> None:
        self._halted = "the broker takes no messages (memory or disk alarm)" if reason else ""

    def work(self, wire: Wire) -> None:
        while self._overdue:
            self._look_after(self._overdue.popleft())
        if self._halted:
            for _ in range(len(self._waiting)):  # those that nobody waits for any more must not pile up
                parcel = self._waiting.popleft()
                if not parcel.abandoned:
                    self._waiting.append(parcel)
        out = wire.transport.out
        while self._waiting and self._flying < WINDOW and not self._halted and len(out) < MOST_UNSENT:
            parcel = self._waiting.popleft()
            if not parcel.abandoned:
                self._send(wire, parcel)

    def lost(self, reason: str) -> None:
        self._halted = ""
        for lane in list(self._lanes.values()):
            self._fail(lane, reason)
        self._overdue.clear()
        while self._waiting:
            self._settle(self._waiting.popleft(), Unavailable(reason))

    def _send(self, wire: Wire, parcel: Parcel) -> None:
        lane = self._lanes.get(parcel.exchange) or self._lanes.get("*")
        if lane is None:
            try:
                lane = self._open(wire, parcel.exchange if len(self._lanes) < MOST_LANES else "*")
            except Exception:
                self._waiting.appendleft(parcel)  # `lost` tells its sender why
                raise
        lane.tag += 1
        lane.flying[lane.tag] = parcel
        parcel.lane, parcel.sent, parcel.confirms = lane, True, lane.confirms
        self._flying += 1
        place, message = place_of(parcel.exchange, parcel.routing_key, mandatory=parcel.mandatory), parcel.message
        lane.channel.publish(place, properties_of(message.properties), message.body)

    def _open(self, wire: Wire, name: str) -> Lane:
        with wire.waiting():
            channel = wire.open_channel()
            lane = Lane(channel)
            channel.confirm_select()
        channel.on_lost = lambda reason: self._fail(lane, f"{self._link.address.where}: {reason}")
        channel.on_confirm = lambda tag, multiple: self._confirmed(lane, tag, multiple, None)
        channel.events["basic_nack"].add(lambda tag, multiple: self._confirmed(lane, tag, multiple, "refused"))
        channel.events["basic_return"].add(lambda *words: self._returned(lane, *words))
        self._lanes[name] = lane
        return lane

    def _returned(self, lane: Lane, error: Any, exchange: str, routing_key: str, message: Any) -> None:
        """Comes before the confirm of the same message, which then means nothing."""
        id_ = message.properties.get("message_id")
        words = f"{self._link.address.where}: {error.reply_code} {error.reply_text}"
        for parcel in lane.flying.values():
            if parcel.message.properties.get("message_id") == id_ and not parcel.returned:
                place = f"no queue is bound to exchange `{exchange}` for key `{routing_key}`"
                parcel.returned = f"{words}: {place if exchange else f'there is no queue `{routing_key}`'}"
                return

    def _confirmed(self, lane: Lane, tag: int, multiple: bool, fault: str | None) -> None:
        lane.confirms += 1
        tags = list(takewhile(tag.__ge__, lane.flying)) if multiple else [tag]  # they fly in the order of their tags
        for known in tags:
            parcel = lane.flying.pop(known, None)
            if parcel is None:
                continue
            self._flying -= 1
            if fault:
                words = (
                    f"{self._link.address.where}: the broker did not take the message (nack: queue full or in trouble)"
                )
                self._settle(parcel, Unavailable(words, retry_after=timedelta(seconds=1)))
            elif parcel.returned:
                hint = "declare and bind the queue, or set `mandatory: false` where nobody needs to listen"
                self._settle(parcel, Rejected(parcel.returned, hint=hint))
            else:
                self._settle(parcel, None)

    def _look_after(self, parcel: Parcel) -> None:
        """Close the channel of a broker that does not confirm, so that what it owes does not fill the window.

        One that has confirmed others since is slow and goes on: closing would fail all that is in flight, and the broker
        would have it to do again.
        """
        lane = parcel.lane
        if lane is None:
            return
        owed = sum(one.abandoned for one in lane.flying.values())
        if parcel.confirms == lane.confirms or owed > WINDOW // 2:
            self._retire(lane)

    def _retire(self, lane: Lane) -> None:
        if lane in self._lanes.values():
            lane.channel.on_lost = None
            lane.channel.leave()
            self._fail(lane, f"{self._link.address.where}: the channel was closed after a confirm that did not come")

    def _fail(self, lane: Lane, reason: str) -> None:
        """Nobody will confirm what flies on this channel: it goes again, under the same id."""
        self._lanes = {name: known for name, known in self._lanes.items() if known is not lane}
        self._flying -= len(lane.flying)
        for parcel in lane.flying.values():
            self._settle(parcel, Unavailable(reason))
        lane.flying.clear()

    def _settle(self, parcel: Parcel, error: MessageError | None) -> None:
        self._link.tell(self._over, parcel, error)

    def _over(self, parcel: Parcel, error: MessageError | None) -> None:
        """On the loop again."""
        if not parcel.over:
            parcel.over = True
            self._expiries.end(parcel)
            parcel.told(error)


def resolve(future: asyncio.Future[None], error: MessageError | None) -> None:
    """Tell a sender that waits for a future."""
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
