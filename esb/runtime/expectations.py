"""Arrival windows: looks whether what a route expects has come, and tells when it has not, and when it has after all.

What is known of a route's window is in the store: its beginning, and whether it was missed. A window stays open while it is
missed, so that what comes late closes it and is not taken for the next. A bus that was down cannot have heard anything: a span
begins anew at its start, and a time of the day that passed meanwhile is judged a moment after it. A clock that jumps ahead is
the same: the machine slept, or somebody set it. Where it was set back a window does not wait until it is as late again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from esb.clock import Clock
from esb.config.expect import Expect
from esb.config.model import RouteSpec
from esb.runtime.notices import Readers, tell
from esb.runtime.rounds import Rounds
from esb.store.base import Store

#: Seconds between two looks.
ROUND = 10.0
#: What sources have after a start to hand over what has come while the bus was down.
GRACE = timedelta(minutes=1)
#: A clock that is ahead by more than this since the last look has jumped.
JUMP = timedelta(minutes=1)
#: Where the store keeps the windows.
SPACE = "expect"


class Routes(Readers, Protocol):
    """What this needs of the running bus."""

    def facts(self, route: str) -> Mapping[str, Any]: ...


@dataclass(slots=True)
class Expectations:
    """One quiet task. A round that fails is logged, and the next one tries again."""

    store: Store
    clock: Clock
    routes: Routes
    log: Callable[..., None]
    _began: datetime | None = None
    _zero: datetime | None = None  #: the wall clock at zero of the clock that cannot be set, at the last look
    _seen: set[str] = field(default_factory=set)  #: routes whose window this process has looked at
    _without: set[str] = field(default_factory=set)  #: routes that expect nothing
    _resting: set[str] = field(default_factory=set)  #: routes that take nothing by somebody's will
    _rounds: Rounds | None = None

    def start(self) -> None:
        self._began = self.clock.now()
        self._rounds = Rounds("expectations", ROUND, self.round, self.clock, self.log, store=self.store)
        self._rounds.start()

    async def stop(self) -> None:
        if self._rounds is not None:
            await self._rounds.stop()

    @property
    def firing(self) -> list[dict[str, Any]]:
        """The windows that are missed now, as alerts that hold."""
        found = []
        for name, spec in self.routes.workspace.routes.items():
            state = self.store.get_state(SPACE, name) if spec.expect is not None else None
            if spec.expect is not None and state is not None and state["missed"]:
                item = {"name": name, "text": f"too little since {state['since']}"}
                rule = f"expect/{name}"
                found.append({"alert": _alert(spec), "rule": rule, "since": state["missed"], "items": [item]})
        return found

    async def round(self) -> None:
        """Look at every route once."""
        self._notice_jump()
        specs = self.routes.workspace.routes
        for name, spec in specs.items():
            if spec.expect is None:
                await self._forget(name)
                continue
            if self.routes.facts(name)["state"] in ("paused", "disabled"):
                self._resting.add(name)
            else:
                await self._look(spec, spec.expect)
            self._seen.add(name)
            self._without.discard(name)

    def _notice_jump(self) -> None:
        now = self.clock.now()
        before, self._zero = self._zero, now - timedelta(seconds=self.clock.monotonic())
        if before is not None and self._zero - before > JUMP:
            self._began = now
            self._seen.clear()
        self._began = min(self._began or now, now)

    async def _forget(self, route: str) -> None:
        """Forget the window of a route that expects nothing any more."""
        if route not in self._without:
            if self.store.get_state(SPACE, route) is not None:
                await self.store.put_state(SPACE, route, None)
            self._without.add(route)
            self._seen.discard(route)

    async def _look(self, spec: RouteSpec, expect: Expect) -> None:
        now, state = self.clock.now(), self.store.get_state(SPACE, spec.name)
        if state is None or state["rule"] != expect.rule or spec.name in self._resting:
            self._resting.discard(spec.name)
            total = int(state["total"]) if state is not None else 0
            await self._keep(spec, expect, now, None, total)
            return
        since, began = datetime.fromisoformat(state["since"]), self._began or now
        missed = datetime.fromisoformat(state["missed"]) if state["missed"] else None
        # a window of the day that is open was judged already, before the clock was set back: the next one is looked at
        anew = now if expect.every is not None or missed is not None else expect.due(now, self._zone(spec))
        if since > anew:
            await self._keep(spec, expect, anew, missed, int(state["total"]))
            return
        if spec.name not in self._seen and expect.every is not None and missed is None and since < began:
            await self._keep(spec, expect, began, None, int(state["total"]))
            return
        if missed is not None and await self._come_late(spec, expect, since, missed, int(state["total"])):
            return
        await self._judge(spec, expect, since, missed, int(state["total"]))

    async def _come_late(self, spec: RouteSpec, expect: Expect, since: datetime, missed: datetime, total: int) -> bool:
        """Close a window that was missed where it is full now."""
        now = self.clock.now()
        if len(self._arrivals(spec, since, now, expect.at_least)) < expect.at_least:
            return False
        words = f"what was missed at {missed.isoformat()} has come"
        if await self._told(spec, "resolved", missed, words):
            await self._keep(spec, expect, now, None, total)
        return True

    async def _judge(
        self, spec: RouteSpec, expect: Expect, since: datetime, missed: datetime | None, total: int
    ) -> None:
        """Look at the window where it has ended."""
        now, began = self.clock.now(), self._began or self.clock.now()
        zone = self._zone(spec)
        due = expect.due(missed or since, zone)
        if missed is not None and expect.every is not None:
            return  # one silence is one alert
        if now < (due if due > began else began + GRACE):
            return
        until = due if due > began else now
        while (later := expect.due(due, zone)) <= now and expect.every is None:
            due = later  # several have passed while the bus was down: they are one
        found = self._arrivals(spec, since, until, expect.at_least)
        if len(found) >= expect.at_least:
            rolls = expect.every is not None and expect.at_least == 1
            await self._keep(spec, expect, found[0] if rolls else max(due, until), None, total)
            return
        what = f"{len(found)} of {expect.at_least} messages" if expect.at_least > 1 else "no message"
        if await self._told(spec, "firing", due, f"{what} since {since.isoformat()}, expected by {due.isoformat()}"):
            await self._keep(spec, expect, since, due, total + 1)

    def _arrivals(self, spec: RouteSpec, since: datetime, until: datetime, most: int) -> list[datetime]:
        return self.store.arrivals(spec.name, since, until, most)

    def _zone(self, spec: RouteSpec) -> ZoneInfo:
        return ZoneInfo(spec.zone_name(self.routes.workspace.settings.timezone))

    async def _keep(
        self, spec: RouteSpec, expect: Expect, since: datetime, missed: datetime | None, total: int
    ) -> None:
        state = {
            "rule": expect.rule,
            "since": since.isoformat(),
            "due": expect.due(missed or since, self._zone(spec)).isoformat(),
            "missed": missed.isoformat() if missed is not None else None,
            "total": total,
        }
        await self.store.put_state(SPACE, spec.name, state)

    async def _told(self, spec: RouteSpec, what: str, window: datetime, words: str) -> bool:
        """Tell of a window; false where that has to be tried again."""
        self.log("warning" if what == "firing" else "info", f"expect.{what}", route=spec.name, text=words)
        alert = _alert(spec)
        if not alert:
            return True
        incident = f"expect/{spec.name}@{window.isoformat()}" + ("" if what == "firing" else "/resolved")
        body = {
            "alert": alert,
            "state": what,
            "incident": incident,
            "rule": f"expect/{spec.name}",
            "class": "missed",
            "route": spec.name,
            "step": "",
            "text": words,
            "items": [{"name": spec.name, "text": words}],
            "since": window.isoformat(),
            "at": self.clock.now().isoformat(),
        }
        return await tell(self.routes, alert, incident, body, self.log)


def _alert(spec: RouteSpec) -> str:
    own = spec.expect.alert if spec.expect is not None else None
    return own if own is not None else spec.alert


def shown(state: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The window of a route for people; None for a route that expects nothing."""
    if state is None:
        return None
    return {
        "state": "missed" if state["missed"] else "waiting",
        "since": state["since"],
        "due": state["due"],
        "missed_at": state["missed"],
        "missed": int(state["total"]),
    }
