"""What a source left in hand where nobody looks any more: files that it had claimed when the process ended, before its route was edited.

The store remembers for each route the place that its source takes from. Where that is another one after an edit, or none, the version
that looked there gives back what it left, or files away what is stored already. What has to stay is said: in the log, by `esb status`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from esb.config.model import RouteSpec
from esb.endpoints.base import ClaimingSource, RunningSource
from esb.errors import EsbError
from esb.runtime.recall import Gone, made
from esb.runtime.rounds import Rounds
from esb.runtime.sources import Bus, bound
from esb.store.base import Store

#: Where the store keeps, by route, a list of ``place digest``, and of what stayed there ``files why``.
SPACE = "places"
#: Seconds that a start of the bus waits for one place.
PATIENCE = 5.0
#: Files that are named.
LISTED = 20
_HINT = "move it out of `.esb-claim/` there, or let the bus in there again: it looks every minute"
#: Seconds between two looks where something stays.
ROUND = 60.0
#: Which places are looked at: all, those where nothing is known to stay, those where something is.
Which = Literal["all", "fresh", "left"]


@dataclass(slots=True)
class Leftovers:
    """The places of all routes."""

    bus: Bus
    #: where something stays: the source that looks there, by route and place
    _looking: dict[tuple[str, str], ClaimingSource] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _rounds: Rounds | None = None

    def start(self) -> None:
        store, clock, log = self.bus.store, self.bus.clock, self.bus.log
        self._rounds = Rounds("leftovers", ROUND, self.retry, clock, log, store=store, rested=True)
        self._rounds.start()

    async def stop(self) -> None:
        if self._rounds is not None:
            await self._rounds.stop()

    async def at_start(self, specs: Mapping[str, RouteSpec]) -> None:
        """Before any source starts: look at every place that its route does not take from now."""
        for route in self._routes():
            spec = specs.get(route)
            try:
                place = place_of(await bound(self.bus, spec)) if spec is not None and spec.enabled else ""
            except EsbError:
                continue  # its start says what is wrong
            await self._leave(route, place, spec)

    async def moved(self, spec: RouteSpec, fresh: RunningSource, before: RunningSource | None) -> None:
        """A source is about to start: remember its place; ``before`` is its predecessor, which has ended."""
        place = place_of(fresh)
        if place or self._kept(spec.name):
            await self._leave(spec.name, place, spec, before, which="fresh")

    async def sweep(self) -> None:
        """After a reload: look at the places of routes that have no source (any more)."""
        self._looking.clear()  # their connections may have ended with it
        for route in self._routes():
            await self._leave(route, self._place(route), None)

    async def retry(self) -> None:
        """Look once more where something stays."""
        for route in left_behind(self.bus.store):
            await self._leave(route, self._place(route), None, which="left")

    async def _leave(
        self,
        route: str,
        place: str,
        spec: RouteSpec | None,
        before: RunningSource | None = None,
        *,
        which: Which = "all",
    ) -> None:
        """Look at the places of a route but ``place``. Where another source takes from one now, what lies there is its."""
        async with self._lock:
            kept, now = self._kept(route), []
            for one in kept:
                if one["place"] == place or self._is_of_another(route, one["place"]):
                    continue
                looks = which == "all" or (which == "left") == ("why" in one)
                stays = await self._look(route, one, spec, before) if looks else one
                now += [{**one, **stays}] if stays else []
            if place and spec is not None:
                now.append({"place": place, "digest": spec.digest})
            else:
                now += [one for one in kept if one["place"] == place]
            if now != kept:
                await self.bus.store.put_state(SPACE, route, now or None)

    async def _look(
        self, route: str, one: Mapping[str, Any], spec: RouteSpec | None, before: RunningSource | None
    ) -> Mapping[str, Any]:
        """What stays at a place and why, empty where nothing does."""
        place = one["place"]
        try:
            async with asyncio.timeout(PATIENCE):
                source = self._looking.get((route, place)) or await self._source(route, one, spec, before)
                self._looking[route, place] = source
                files = await source.hand_back(partial(self.bus.store.taken_under, route))
        except Gone as gone:
            hint = "look into `.esb-claim/` there"
            self.bus.log("warning", "source.place_unseen", route=route, place=place, why=str(gone), hint=hint)
            return {}
        except FileNotFoundError:
            files = []  # the folder is gone, and what lay there
        except (OSError, EsbError, TimeoutError) as error:
            return self._told(route, one, [], str(error) or f"no answer within {PATIENCE:g} s")
        if files:
            return self._told(route, one, files, "it could not be moved, or its name is taken again")
        self._looking.pop((route, place), None)
        return {}

    def _told(self, route: str, one: Mapping[str, Any], files: Sequence[str], why: str) -> Mapping[str, Any]:
        """What stays at a place, said once."""
        stays = {"files": list(files[:LISTED]), "why": why}
        if any(one.get(name) != value for name, value in stays.items()):
            self.bus.log("warning", "source.left_behind", route=route, place=one["place"], **stays, hint=_HINT)
        return stays

    async def _source(
        self, route: str, one: Mapping[str, Any], spec: RouteSpec | None, before: RunningSource | None
    ) -> ClaimingSource:
        """A source that looks there. Raises Gone."""
        source = before
        if source is None or place_of(source) != one["place"]:
            source = await bound(self.bus, spec) if spec is not None else None
        if source is None or place_of(source) != one["place"]:
            source = await bound(self.bus, self._older(route, one["digest"]))
        if place_of(source) != one["place"]:
            raise Gone("its connector has changed")
        found: Any = source
        claiming: ClaimingSource = found
        return claiming

    def _older(self, route: str, digest: str) -> RouteSpec:
        """An older version of a route, over a connector that there is. Raises Gone."""
        bus, now = self.bus, self.bus.workspace
        spec = made(route, digest, now, now.routes.get(route), bus.store, bus.clock)[1]
        if spec.source.connector and spec.source.connector not in now.connectors:
            raise Gone(f"there is no connector `{spec.source.connector}` any more")
        return spec

    def _is_of_another(self, route: str, place: str) -> bool:
        return any(name != route and place_of(live.source) == place for name, live in self.bus.routes.items())

    def _place(self, route: str) -> str:
        live = self.bus.routes.get(route)
        return place_of(live.source) if live is not None else ""

    def _kept(self, route: str) -> list[dict[str, Any]]:
        return list(self.bus.store.get_state(SPACE, route) or ())

    def _routes(self) -> list[str]:
        return [route for route, _ in _remembered(self.bus.store)]


def place_of(source: RunningSource | None) -> str:
    """Where a source takes from, empty for one that leaves nothing in hand."""
    return str(getattr(source, "place", ""))


def left_behind(store: Store) -> dict[str, list[dict[str, Any]]]:
    """``place files why`` of what could not be given back, by route."""
    found = {}
    for route, places in _remembered(store):
        if stays := [{name: one[name] for name in ("place", "files", "why")} for one in places if "why" in one]:
            found[route] = stays
    return found


def _remembered(store: Store) -> list[tuple[str, list[dict[str, Any]]]]:
    """The places of each route that has some."""
    return [(route, places) for space, route, places in store.states(SPACE, ("", ""), 100_000) if space == SPACE]


__all__ = ["Leftovers", "left_behind"]
