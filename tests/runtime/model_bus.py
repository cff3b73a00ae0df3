"""What a bus must do, as dictionaries: the promises of delivery, order and conservation without store, lanes or tasks.

The model is asked for its prediction when the real bus has come to rest. It knows three routes (``ROUTES``), each with two
deliveries one after the other, and targets that stay in a mode until they are told otherwise.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from esb.message import OPEN_STATES, State, delivery_id

STEPS = ("first", "second")
RETRIES = 2
BACKOFF = timedelta(seconds=10)
TTL = timedelta(seconds=45)
RETRIED = ("unavailable", "timeout")
KEEP_DONE, KEEP_DEAD = timedelta(hours=1), timedelta(hours=10)

#: name → what the route file says of it beside its steps
ROUTES = {
    "lots": "key: body.lot\ndedupe: body.id\norder: { overtake: body.hold }\n",
    "skips": "key: body.lot\norder: { on_dead: skip }\n",
    "free": "ttl: 45s\n",
}
_ROUTE = """route: {name}
from: {{ route: {{}} }}
concurrency: 100
retry: {{ max: 2, backoff: 10s..40s, jitter: none }}
{own}steps:
  - set: {{ body.v: "'{version}'" }}
  - {{ to: {{ probe: {name}.first }}, name: first, timeout: 1d }}
  - {{ to: {{ probe: {name}.second }}, name: second, timeout: 1d }}
"""  # a send that hangs does so until the plan goes on, however slow the machine is

Lane = tuple[str, str]


def route_file(name: str, version: int) -> str:
    return _ROUTE.format(name=name, own=ROUTES[name], version=version)


@dataclass
class Kept:
    """A message as the model knows it."""

    id: str
    seq: int
    route: str
    origin: str
    lane: Lane  #: of its own where the route has no key
    body: dict[str, Any]
    accepted: datetime
    overtakes: bool = False
    state: State = State.QUEUED
    attempts: int = 0
    earlier: int = 0
    crashes: int = 0
    due: datetime | None = None
    finished: datetime | None = None
    version: int | None = None  #: that it started on
    born: int = 0  #: that it was accepted on
    blocks: bool = False
    overtaken: bool = False
    confirmed: set[str] = field(default_factory=set)
    hangs_at: str = ""

    @property
    def open(self) -> bool:
        return self.state in OPEN_STATES


class Model:
    def __init__(self, now: datetime) -> None:
        self.now = now
        self.kept: dict[int, Kept] = {}
        self.modes: dict[str, str] = defaultdict(lambda: "ok")  #: sink → ok, hang or a class of error
        self.versions = dict.fromkeys(ROUTES, 1)
        self.present = dict.fromkeys(ROUTES, True)  #: its file is there
        self.live = dict.fromkeys(ROUTES, True)  #: it runs, or drains
        self.paused = dict.fromkeys(ROUTES, False)
        self.owners: dict[str, int] = {}  #: dedupe key → seq
        self.discarded: set[int] = set()
        self.sends: dict[Lane, list[tuple[str, str, str]]] = defaultdict(list)  #: (sink, delivery id, version)
        self.accepted: Counter[str] = Counter()
        self.purged: Counter[str] = Counter()
        self.audited = 0

    # -- what can be asked --------------------------------------------------------------------------------------------
    def lane(self, lane: Lane) -> list[Kept]:
        return [one for _, one in sorted(self.kept.items()) if one.lane == lane]

    def first_block(self, lane: Lane) -> int:
        return min((one.seq for one in self.lane(lane) if one.blocks), default=1 << 60)

    def newer_done(self, one: Kept) -> bool:
        return self.keyed(one) and any(
            other.state is State.DONE
            or other.confirmed
            or (other.overtakes and (other.open or other.state is State.DEAD))
            for other in self.lane(one.lane)
            if other.seq > one.seq
        )

    @staticmethod
    def keyed(one: Kept) -> bool:
        return one.route != "free"

    # -- commands -----------------------------------------------------------------------------------------------------
    def accept(self, seq: int, id_: str, route: str, body: dict[str, Any], *, replay_of: Kept | None = None) -> Kept:
        """A message that the bus has stored under ``seq``; run() then works it off."""
        lane = (route, body["lot"] if route != "free" else f"#{seq}")
        one = Kept(id_, seq, route, replay_of.origin if replay_of else id_, lane, body, self.now)
        one.born = self.versions[route]
        self.kept[seq] = one
        self.accepted[route] += 1
        if replay_of is None and route == "lots":
            one.overtakes = bool(body["hold"])
            owner = self.owners.get(body["id"])
            if owner is not None and owner not in self.discarded:
                self.end(one, State.DUPLICATE)
                return one
            self.owners[body["id"]] = seq
        if one.overtakes:
            for other in self.lane(lane):
                if other.seq < seq and other.state is State.RUNNING:
                    other.overtaken = True
                elif other.seq < seq and (other.open or other.blocks):
                    self.end(other, State.SUPERSEDED)
        elif self.first_block(lane) < seq:
            one.state = State.HELD
        return one

    def end(self, one: Kept, state: State) -> None:
        one.state, one.finished, one.due, one.blocks = state, self.now, None, False

    def retry(self, one: Kept, *, stale: bool) -> bool:
        if one.state is not State.DEAD or (self.newer_done(one) and not stale):
            return False
        one.blocks, one.finished, one.version, one.crashes, one.overtaken = False, None, None, 0, False
        one.earlier, one.attempts = one.earlier + one.attempts, 0
        one.state = State.HELD if self.first_block(one.lane) < one.seq else State.QUEUED
        self.release(one.lane)
        self.audited += 1
        return True

    def discard(self, one: Kept) -> bool:
        if one.state is not State.DEAD and (not one.open or one.state is State.RUNNING):
            return False
        self.end(one, State.DISCARDED)
        self.discarded.add(one.seq)
        self.release(one.lane)
        self.audited += 1
        return True

    def release(self, lane: Lane) -> None:
        limit = self.first_block(lane)
        for one in self.lane(lane):
            if one.state is State.HELD and one.seq < limit:
                one.state = State.QUEUED

    def restart(self, *, killed: bool) -> None:
        for one in self.kept.values():
            if one.state is State.RUNNING:
                one.state, one.hangs_at = State.QUEUED, ""
                if killed:
                    one.crashes += 1
                else:
                    one.attempts -= 1  # it was given back
                over = [
                    other for other in self.lane(one.lane) if other.seq > one.seq and other.overtakes and other.open
                ]
                if (over and killed and not one.earlier) or (one.overtaken and not killed):
                    self.end(one, State.SUPERSEDED)
                    one.finished = over[-1].accepted if killed else self.now
            if one.open:  # one that has started stays on its version where that is still the one on disk
                stays = one.attempts and self.present[one.route] and one.born == self.versions[one.route]
                one.version, one.overtaken = one.born if stays else None, False
        self.live = dict(self.present)

    def purge(self) -> None:
        for seq, one in list(self.kept.items()):
            keep = KEEP_DEAD if one.state is State.DEAD else KEEP_DONE
            if one.finished is not None and one.finished < self.now - keep:
                del self.kept[seq]
                self.release(one.lane)
                self.purged[one.route] += 1

    # -- work ---------------------------------------------------------------------------------------------------------
    def run(self) -> None:
        """Everything that can run without time passing."""
        while heads := list(self._heads()):
            for one in heads:
                self._attempt(one)

    def _heads(self) -> Iterator[Kept]:
        for lane in {one.lane for one in self.kept.values() if one.open}:
            if not self.live[lane[0]] or self.paused[lane[0]]:
                continue
            waiting = [one for one in self.lane(lane) if one.open]
            if any(one.state is State.RUNNING for one in waiting):
                continue
            head = min(waiting, key=lambda one: (not one.overtakes, one.seq))
            if head.state is State.QUEUED or (
                head.state is State.WAITING and head.due is not None and head.due <= self.now
            ):
                yield head

    def _attempt(self, one: Kept) -> None:
        if one.route == "free" and not one.earlier and self.now >= one.accepted + TTL:
            self.end(one, State.EXPIRED)
            return
        one.attempts, one.state, one.due = one.attempts + 1, State.RUNNING, None
        if one.version is None:
            one.version = self.versions[one.route]
        self._go_on(one)

    def _go_on(self, one: Kept) -> None:
        for step in STEPS:
            if step in one.confirmed:
                continue
            sink = f"{one.route}.{step}"
            self.sends[one.lane].append((sink, delivery_id(one.origin, step), str(one.version)))
            mode = self.modes[sink]
            if mode == "hang":
                one.hangs_at = step
                return
            if mode != "ok":
                self._failed(one, mode)
                return
            one.confirmed.add(step)
        one.crashes = 0
        self.end(one, State.DONE)

    def answer(self, one: Kept, how: str) -> None:
        """A hanging target answers at last."""
        step, one.hangs_at = one.hangs_at, ""
        if how == "ok":
            one.confirmed.add(step)
            self._go_on(one)
        else:
            self._failed(one, how)

    def _failed(self, one: Kept, error: str) -> None:
        one.crashes = 0
        if error in RETRIED and one.attempts <= RETRIES:
            if one.overtaken:
                self.end(one, State.SUPERSEDED)
                return
            due = self.now + BACKOFF * 2 ** (one.attempts - 1)
            one.due = min(due, one.accepted + TTL) if one.route == "free" and not one.earlier else due
            one.state = State.WAITING
            return
        self.end(one, State.DEAD)
        if one.route == "lots" and not one.overtaken:
            one.blocks = True
            for other in self.lane(one.lane):
                if other.seq > one.seq and other.state in (State.QUEUED, State.WAITING):
                    other.state, other.due = State.HELD, None
