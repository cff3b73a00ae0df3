"""A route's AMQP source at work: from a delivery to a committed message, and only then to its acknowledgement."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from esb.endpoints._amqp.consume import Arrival, Subscription
from esb.endpoints._amqp.properties import Choice, headers_of, meta_of
from esb.endpoints._http.media import Refusal
from esb.endpoints.base import Incoming, Receipt, SourceContext
from esb.endpoints.carried import correlation_id, trace_of
from esb.errors import StoreBusy, Unavailable
from esb.failpoints import hit
from esb.failpoints import pause as failpoint

if TYPE_CHECKING:
    from esb.endpoints._amqp.live import LiveAmqp
    from esb.endpoints.amqp import AmqpSource

#: Seconds between two looks at a closed intake, and how long it may be closed before the messages in hand go back.
LOOK, PATIENCE = 0.1, 1.0
#: Seconds between two looks at a route that is behind, and how many there are before what is in hand goes to the store all
#: the same: after 2 s.
SOON, LOOKS = 0.02, 100


class Tags:
    """Which deliveries of a channel are still open, in the order of the broker."""

    def __init__(self) -> None:
        self._done: dict[int, bool] = {}

    def opened(self, tag: int) -> None:
        self._done[tag] = False

    def done(self, tag: int) -> None:
        if tag in self._done:
            self._done[tag] = True

    def clear(self) -> None:
        self._done.clear()

    def take(self) -> list[tuple[int, bool]]:
        """What to acknowledge now: all up to the first open one at once, later ones singly."""
        last, together, alone = 0, 0, []
        unbroken = True
        for tag, done in list(self._done.items()):
            if not done:
                unbroken = False
                continue
            if unbroken:
                last, together = tag, together + 1
            else:
                alone.append((tag, False))
            del self._done[tag]
        return [(last, together > 1), *alone] if together else alone


class AmqpReceiver:
    """A :class:`~esb.endpoints.base.RunningSource`: accepts in the order of the queue, with at most ``prefetch`` in hand."""

    def __init__(self, source: AmqpSource, context: SourceContext) -> None:
        self._source = source
        self._context = context
        self._live: LiveAmqp = context.connection
        self._subscription = Subscription(
            source.queue, source.prefetch, source.declare, self._arrived, self._over, most=source.in_hand
        )
        self._choice = Choice(source.format)
        self._epoch = 0
        self._tags = Tags()
        self._backlog: deque[Arrival] = deque()
        self._working: set[asyncio.Task[None]] = set()
        self._unbegun = 0  #: of these, those whose turn of the loop has not come yet
        self._open = 0  #: deliveries that the store has not answered for yet, without a task
        self._closed: asyncio.Event | None = None  #: set when the last of them has its answer
        self._resting: asyncio.Task[None] | None = None
        self._looking: asyncio.TimerHandle | None = None  #: at a route that is behind
        self._stopping = False
        self._flushing = False
        self._trouble = ""

    async def start(self) -> None:
        self._stopping = False
        if self._context.intake.open:
            self._live.consumer.subscribe(self._subscription)
        else:
            self._rest(0.0, given_back=True)

    async def stop(self) -> None:
        """Take nothing new, end what is in hand, acknowledge it, and give back the rest."""
        self._stopping = True
        if self._resting is not None:
            self._resting.cancel()
            with suppress(asyncio.CancelledError):
                await self._resting
        self._live.consumer.cancel(self._subscription)
        while self._working or self._open:
            if self._open:
                self._closed = asyncio.Event()
                await self._closed.wait()
            if self._working:
                await asyncio.wait(self._working)
        self._flush()
        await self._live.consumer.end(self._subscription)

    # -- what the link tells ------------------------------------------------------------------------------------------
    def _arrived(self, epoch: int, burst: list[Arrival]) -> None:
        if self._stopping or epoch != self._epoch:
            return  # not acknowledged: it goes back to its queue with the channel
        for arrival in burst:
            self._tags.opened(arrival.tag)
        self._backlog.extend(burst)
        self._pump()

    def _over(self, epoch: int, reason: str) -> None:
        """A new channel, or none any more: what was not accepted comes again."""
        self._epoch = epoch
        self._backlog.clear()
        self._tags.clear()
        if reason != self._trouble:
            self._trouble = reason
            if reason and not self._live.consumer.trouble:  # trouble of the whole connection is told by the link, once
                self._log("warning", "amqp.subscription_lost", error=reason)

    # -- accepting ----------------------------------------------------------------------------------------------------
    def _pump(self, looks: int = LOOKS) -> None:
        """Hand over what has come, in the order of the queue: all of a burst in one turn, so that one commit serves it.

        While the route is behind it waits, for so many ``looks``: what lies in the broker need not be read twice.
        """
        while self._backlog and self._resting is None and not self._stopping:
            if not self._context.intake.open:
                self._rest(0.0)
                return
            if looks and self._context.intake.behind:
                self._look_again(looks)
                return
            arrival = self._backlog.popleft()
            epoch = self._epoch
            try:
                incoming = self._incoming(arrival)
                # behind one whose task has not begun yet the others have theirs, too: none overtakes it here
                soon = not self._unbegun and self._context.intake.accept_soon(
                    incoming, partial(self._told, epoch, arrival, incoming)
                )
            except Exception as error:  # noqa: BLE001 - the source loop: not stored, so it is tried again
                self._refused(epoch, arrival, error)
                return
            if soon:
                self._open += 1
            else:
                self._work_on(epoch, arrival, incoming)

    def _look_again(self, looks: int) -> None:
        if self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(SOON, self._looked, looks - 1)

    def _looked(self, looks: int) -> None:
        self._looking = None
        self._pump(looks)

    def _told(self, epoch: int, arrival: Arrival, incoming: Incoming, answer: Receipt | Exception) -> None:
        self._open -= 1
        if not self._open and self._closed is not None:
            self._closed.set()
        if isinstance(answer, Exception):
            self._refused(epoch, arrival, answer)
        else:
            hit("amqp.accepted")
            self._stored(epoch, arrival, incoming, answer)

    def _work_on(self, epoch: int, arrival: Arrival, incoming: Incoming) -> None:
        self._unbegun += 1
        task = asyncio.create_task(self._take(epoch, arrival, incoming))
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _take(self, epoch: int, arrival: Arrival, incoming: Incoming) -> None:
        """One delivery, large or slow, from accept to acknowledgement. The intake keeps the order of the calls."""
        self._unbegun -= 1
        if self._resting is not None:
            self._put_back(epoch, arrival)
            return
        try:
            receipt = await self._context.intake.accept(incoming)
        except Exception as error:  # noqa: BLE001 - as above
            self._refused(epoch, arrival, error)
            return
        await failpoint("amqp.accepted")
        self._stored(epoch, arrival, incoming, receipt)

    def _stored(self, epoch: int, arrival: Arrival, incoming: Incoming, receipt: Receipt) -> None:
        if receipt.reused:
            self._log("warning", "amqp.message_id_reused", first=receipt.reused, key=incoming.source_key)
        if receipt.state == "dead" and receipt.error is not None:
            self._log("warning", "amqp.dead", message=receipt.message_id, error=receipt.error.message)
        if epoch == self._epoch:
            self._tags.done(arrival.tag)
            self._flush_soon()

    def _refused(self, epoch: int, arrival: Arrival, error: Exception) -> None:
        """It is not stored: it is tried again when the intake takes messages again."""
        self._put_back(epoch, arrival)
        if isinstance(error, (StoreBusy, Unavailable)):
            self._rest(error.retry_after.total_seconds() if error.retry_after else 5.0, error.message)
            return
        self._log("error", "amqp.not_accepted", error=f"{type(error).__name__}: {error}")
        self._rest(5.0)

    def _incoming(self, arrival: Arrival) -> Incoming:
        source, properties = self._source, arrival.properties
        codec, content_type = self._choice.codec_of(properties)
        if arrival.fault:
            codec = Refusal(arrival.fault)
        elif len(arrival.body) > source.max_size:
            codec = Refusal(f"the message has {len(arrival.body)} bytes, `max_size` is {source.max_size}")
        headers = headers_of(properties)
        trace = trace_of(headers.get("traceparent", ""))
        told = meta_of(properties)
        id_ = told.get("message_id") if source.seen_by == "message_id" else None
        meta: dict[str, Any] = {
            "amqp": {
                **told,
                "queue": source.queue,
                "exchange": arrival.exchange,
                "routing_key": arrival.routing_key,
                "redelivered": arrival.redelivered,
            },
            "source": {"type": "amqp", "queue": source.queue},
        }
        if trace:
            meta["traceparent"] = headers["traceparent"]
        own = str(properties.get("correlation_id") or "")
        return Incoming(
            payload=arrival.body,
            codec=codec,
            content_type=content_type,
            headers=headers,
            meta=meta,
            contract=source.contract,
            source_key=f"amqp:{source.queue}:{id_}" if id_ else None,
            fingerprint=hashlib.sha256(arrival.body).hexdigest() if id_ else "",
            correlation_id=correlation_id({"x-correlation-id": own} if own else headers, trace),
            on_invalid="dead",
            in_order=True,
            on_reused="store",  # two messages of one id are two messages: the sender's slip must not lose the second
        )

    # -- resting ------------------------------------------------------------------------------------------------------
    def _put_back(self, epoch: int, arrival: Arrival) -> None:
        if epoch != self._epoch:
            return
        self._backlog.append(arrival)
        self._backlog = deque(sorted(self._backlog, key=lambda one: one.tag))

    def _rest(self, seconds: float, reason: str = "", *, given_back: bool = False) -> None:
        if self._resting is None and not self._stopping:
            if reason:
                self._log("info", "amqp.rests", reason=reason, seconds=seconds)
            self._resting = asyncio.create_task(self._wait_for_intake(seconds, given_back))

    async def _wait_for_intake(self, seconds: float, given_back: bool) -> None:
        """Wait; where the intake stays closed the messages in hand go back to the queue, for whoever can take them."""
        clock = self._context.clock
        await clock.sleep(seconds)
        closed = seconds
        while not self._context.intake.open:
            await clock.sleep(LOOK)
            closed += LOOK
            if closed >= PATIENCE and not given_back and not self._working and not self._open:
                given_back = True
                self._live.consumer.give_back(self._subscription)
        self._resting = None
        if given_back:
            self._live.consumer.subscribe(self._subscription)
        else:
            self._pump()

    # -- acknowledging ------------------------------------------------------------------------------------------------
    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if tags := self._tags.take():
            self._live.consumer.acknowledge(self._subscription, self._epoch, tags)

    def _log(self, level: str, event: str, **fields: Any) -> None:
        self._context.log(level, event, route=self._context.route, queue=self._source.queue, **fields)
