"""The ``timer`` endpoint: a message at planned instants."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from esb.endpoints.base import Incoming, RunningSource, SourceContext
from esb.endpoints.cron import Cron
from esb.endpoints.polling import Poller
from esb.errors import EsbError, StoreBusy, Unavailable
from esb.failpoints import pause as failpoint
from esb.registry import source
from esb.secret import Secret
from esb.spec import MapNode, Node, Reader, option

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHORTEST = timedelta(milliseconds=100)
_LONGEST = timedelta(days=3660)
#: a slot that is not older than this counts as on time
_ON_TIME = timedelta(seconds=60)
#: the clock of the machine may be set: the plan is looked at again at least this often, in seconds
_NAP = 30.0
#: a remembered slot further ahead than this says that the clock was set back
_AHEAD = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class CatchUpAll:
    """Every missed slot, at most ``all`` of them, the newest ones, oldest first."""

    all: int = option(doc="Most missed slots that are made up for.", example=10, minimum=1, maximum=10_000)


@source("timer")
@dataclass(frozen=True, slots=True)
class TimerSource:
    """A message at every planned instant, one per slot and bus, also after a crash.

    Slots of `every` lie on multiples of it since 1970-01-01T00:00Z, so that a restart does not shift them. `meta.slot` is the
    planned instant in UTC. The first start makes up for nothing, nor does the first one of another plan.
    """

    every: timedelta | None = option(
        default=None,
        doc="Time between two messages, 100ms to 3660d.",
        example="5m",
        shorthand=True,
        aliases=("interval", "period", "delay"),
    )
    cron: Cron | None = option(
        default=None,
        doc="Minute, hour, day of month, month and day of week. A time that the change of the clocks leaves out runs once right "
        "after it, one that happens twice runs once.",
        example="0 6 * * 1-5",
        aliases=("schedule", "expression"),
    )
    timezone: str | None = option(
        default=None,
        doc="Time zone of `cron`; without it that of the bus.",
        example="Europe/Vienna",
        aliases=("zone", "tz"),
    )
    catch_up: Literal["once", "skip"] | CatchUpAll = option(
        default="once",
        doc="What a bus that was down or full does about missed slots: one message for all of them, none, or `{ all: n }`.",
        example="skip",
        aliases=("misfire", "catchup"),
    )
    body: Any = option(factory=dict, doc="Body of the message.", example="{ report: shift }")

    def bind(self, context: SourceContext) -> RunningSource:
        return Timer(self, context)

    def check(self, node: Node, reader: Reader) -> None:
        if (self.every is None) == (self.cron is None):
            reader.problem(
                "ESB107", "`timer` needs exactly one of `every`, `cron`", node,
                hint='write `every: 5m` or `cron: "0 6 * * 1-5"`',
            )  # fmt: skip
        if self.every is not None and self.every < _SHORTEST:
            reader.problem("ESB106", "`every` must be at least 100ms", _spot(node, "every"), hint="write `every: 1s`")
        if self.every is not None and self.every > _LONGEST:
            reader.problem("ESB106", "`every` is at most 3660 days", _spot(node, "every"), hint="write `every: 365d`")
        if self.timezone is not None and zone_of(self.timezone) is None:
            reader.problem(
                "ESB105", f"`{self.timezone}` is not a time zone", _spot(node, "timezone"),
                hint="write a name like `Europe/Vienna` or `UTC`",
            )  # fmt: skip
        if self.timezone is not None and self.cron is None:
            reader.problem(
                "ESB107", "`timezone` goes with `cron`; `every` has none", _spot(node, "timezone"), hint="remove it"
            )
        if _holds_secret(self.body):
            reader.problem(
                "ESB502", "a secret may not stand in a message", _spot(node, "body"), hint="use it in a connector"
            )

    def plan(self, zone: ZoneInfo) -> str:
        """What says when it sends, the same only for the same slots."""
        return f"every {self.every}" if self.cron is None else f"{self.cron.text} {zone.key}"

    def slots(self, after: datetime, zone: ZoneInfo) -> Iterator[datetime]:
        """Every slot later than ``after``, in order, in UTC."""
        if self.cron is not None:
            yield from self.cron.slots(after, zone)
        elif self.every is not None:
            slot = _EPOCH + ((after - _EPOCH) // self.every) * self.every
            while True:
                slot += self.every
                yield slot


class Timer(Poller):
    """A :class:`~esb.endpoints.base.RunningSource`. The last slot is kept in the source's state after its message, with its plan."""

    trouble = "timer.trouble"

    def __init__(self, options: TimerSource, context: SourceContext) -> None:
        super().__init__(context)
        self._options = options
        zone = zone_of(options.timezone or context.timezone)
        self._zone = zone if zone is not None else ZoneInfo("UTC")
        self._payload = msgspec.json.Encoder(decimal_format="number", enc_hook=_plain).encode(options.body)
        self._last: datetime | None = None

    async def poll_once(self) -> int:
        """Send what is due now; how many messages were accepted."""
        async with self._turn:
            if self.resting:
                return 0
            now = self._context.clock.now()
            last = await self._remembered(now)
            due, skipped = self._due(last, now)
            sent = 0
            for slot in due:
                if self.resting or not await self._send(slot):
                    return sent
                sent += 1
            if skipped is not None and (not due or skipped > due[-1]):
                await self._remember(skipped)
                self._log("info", "timer.skipped", until=_text(skipped))
            return sent

    def pause(self) -> float:
        """Seconds until the next look is worth it."""
        clock = self._context.clock
        rest = self.rest_left
        if self._last is None or not self._context.intake.open:
            return max(rest, 1.0)
        following = next(self._options.slots(self._last, self._zone), None)
        wait = _NAP if following is None else (following - clock.now()).total_seconds()
        return max(min(wait, _NAP), rest, 0.001)

    # -- inside -------------------------------------------------------------------------------------------------------
    async def _remembered(self, now: datetime) -> datetime:
        if self._last is None:
            text = await self._context.state.get("slot")
            self._last = datetime.fromisoformat(text) if isinstance(text, str) else None
            await self._begin_plan(now)
        if self._last is None or self._last > now + _AHEAD:
            if self._last is not None:
                self._log("warning", "timer.clock_set_back", last=_text(self._last), now=_text(now))
            await self._remember(now)  # the first start, or a clock that was wrong
        assert self._last is not None
        return self._last

    async def _begin_plan(self, now: datetime) -> None:
        """Slots that lie before a plan was written were not missed: it begins now, where another one was kept before."""
        plan = self._options.plan(self._zone)
        kept = await self._context.state.get("plan")
        if kept == plan:
            return
        if kept is not None and self._last is not None and self._last < now:
            await self._remember(now)
        await self._context.state.put("plan", plan)

    def _due(self, last: datetime, now: datetime) -> tuple[list[datetime], datetime | None]:
        """The slots to send by the catch-up policy, and the newest one that is given up (None where none is)."""
        policy = self._options.catch_up
        most = policy.all if isinstance(policy, CatchUpAll) else 1
        newest = self._newest(last, now, most)
        if policy == "skip" and newest and now - newest[-1] > _ON_TIME:
            return [], newest[-1]
        return newest, None

    def _newest(self, last: datetime, now: datetime, most: int) -> list[datetime]:
        """At most ``most`` slots after ``last`` until ``now``; looks back only as far as it must."""
        every = self._options.every
        window = every * (most + 1) if every is not None else timedelta(hours=1)
        while True:
            start = now - min(window, now - last)
            found: deque[datetime] = deque(maxlen=most)
            for slot in self._options.slots(start, self._zone):
                if slot > now:
                    break
                found.append(slot)
            if len(found) == most or start <= last:
                return list(found)
            window *= 8

    async def _send(self, slot: datetime) -> bool:
        incoming = Incoming(
            payload=self._payload,
            content_type="application/json",
            meta={"slot": _text(slot), "source": {"type": "timer"}},
            source_key=f"slot:{_text(slot)}",
        )
        try:
            await self._context.intake.accept(incoming)
        except (StoreBusy, Unavailable) as error:
            wait = (error.retry_after or timedelta(seconds=5)).total_seconds()
            self.rest(wait)
            self._log("info", "timer.rests", reason=error.message, seconds=wait)
            return False
        except EsbError as error:
            self._log("error", "timer.refused", slot=_text(slot), error=error.message)
        await failpoint("timer.accepted")
        await self._remember(slot)
        return True

    async def _remember(self, slot: datetime) -> None:
        await self._context.state.put("slot", _text(slot))
        self._last = slot

    def _log(self, level: str, event: str, **fields: Any) -> None:
        self._context.log(level, event, route=self._context.route, **fields)


def zone_of(name: str) -> ZoneInfo | None:
    """The time zone of this name, None where there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _text(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} has no JSON form")


def _holds_secret(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_secret, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_holds_secret, value))
    return isinstance(value, Secret)


def _spot(node: Node, name: str) -> Node:
    return (node.get(name) or node) if isinstance(node, MapNode) else node


__all__ = ["CatchUpAll", "Timer", "TimerSource", "zone_of"]
