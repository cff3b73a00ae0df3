"""The store against a model of dictionaries: any order of commands, restarts and deaths gives the same messages.

``ESB_MODEL_EXAMPLES=2000`` makes it a long run.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from esb.clock import ManualClock
from esb.errors import ErrorRecord, StoreError
from esb.message import MOVES, OPEN_STATES, Envelope, State, new_id
from esb.store import open_store
from esb.store.base import Accepted, AuditEntry, DedupeKey, Filter, NewMessage, Settlement

NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
WINDOW = timedelta(hours=3)
WHO = AuditEntry("mia", "dlq", "x", "why")
KEYS = st.sampled_from([None, "L1", "L1", "L2"])
SCOPES = st.sampled_from(["", "", "split"])
DEDUPE = st.sampled_from([None, None, "d1", "d2"])
PICK = st.integers(min_value=0, max_value=10_000)
END = st.sampled_from(
    [State.DONE, State.DONE, State.WAITING, State.DEAD, State.DEAD, State.QUEUED, State.EXPIRED, State.SUPERSEDED]
)
T = TypeVar("T")


@dataclass
class Kept:
    """A message as the model knows it."""

    id: str
    lane: tuple[str, str | None]
    state: State
    finished: datetime | None = None
    attempts: int = 0
    earlier: int = 0
    crashes: int = 0
    blocks: bool = False
    children: list[int] = field(default_factory=list)


class Bus(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = ManualClock(NOW)
        self.kept: dict[int, Kept] = {}
        self.owners: dict[tuple[str, str], tuple[int, str, datetime]] = {}
        self.accepted = self.purged = self.audited = self.highest = 0
        self.open()

    def open(self) -> None:
        root = Path(self.folder.name)
        self.store = self.wait(open_store("sqlite:///.esb/bus.db", root, clock=self.clock, min_free=0, threaded=False))

    def wait(self, what: Awaitable[T]) -> T:
        async def main() -> T:
            return await what

        return self.loop.run_until_complete(main())

    def call(self, name: str, *args: Any) -> Any:
        async def main() -> Any:
            return await getattr(self.store, name)(*args)

        return self.loop.run_until_complete(main())

    def teardown(self) -> None:
        assert self.store.verify_conservation() == []
        assert self.store.verify_audit() == []
        self.wait(self.store.close())
        self.loop.close()
        self.folder.cleanup()

    # -- the model ----------------------------------------------------------------------------------------------------
    @property
    def now(self) -> datetime:
        return self.clock.now()

    def pick(self, number: int, *states: State) -> tuple[int, Kept]:
        """A message, nine times out of ten one in a state where the command has something to do."""
        fitting = [seq for seq in sorted(self.kept) if self.kept[seq].state in states]
        seqs = fitting if fitting and number % 10 else sorted(self.kept)
        seq = seqs[number // 10 % len(seqs)]
        return seq, self.kept[seq]

    def lane(self, like: Kept, *states: State) -> list[tuple[int, Kept]]:
        if like.lane[1] is None:
            return []
        return [(seq, one) for seq, one in sorted(self.kept.items()) if one.lane == like.lane and one.state in states]

    def end(self, one: Kept, state: State) -> None:
        one.state, one.finished, one.blocks = state, self.now, False

    def expect_birth(self, new: NewMessage, accepted: Accepted) -> None:
        """Bring the model up to date with a message, and check the answer."""
        now, space = self.now, (new.dedupe.space, new.dedupe.key) if new.dedupe else None
        owner = self.owners.get(space) if space else None
        taken = owner is not None and owner[2] > now and not self.discarded(owner[0])
        state = State.DUPLICATE if taken else State.RUNNING if new.started else new.state
        one = Kept(new.envelope.id, (new.envelope.scope, new.envelope.key), state)
        if not taken and not new.supersede and any(other.blocks for _, other in self.lane(one, State.DEAD)):
            state = one.state = State.HELD
        elif state is State.RUNNING and self.lane(one, *OPEN_STATES):
            state = one.state = State.QUEUED
        if space and not taken:
            self.owners[space] = (accepted.seq, one.id, now + WINDOW)
        overtaken: list[int] = []
        if new.supersede and not taken:
            for seq, other in self.lane(one, State.QUEUED, State.WAITING, State.HELD, State.DEAD):
                if other.state is not State.DEAD or other.blocks:
                    overtaken.append(seq)
                    self.end(other, State.SUPERSEDED)
        one.finished = now if taken else None
        one.attempts = 1 if one.state is State.RUNNING else 0
        assert accepted.seq > self.highest
        assert accepted == Accepted(
            accepted.seq, one.id, state, first_id=owner[1] if taken and owner else None, superseded=tuple(overtaken)
        )
        self.highest = accepted.seq
        self.kept[accepted.seq] = one
        self.accepted += 1

    def discarded(self, seq: int) -> bool:
        return seq in self.kept and self.kept[seq].state is State.DISCARDED

    def message(self, scope: str, key: str | None, dedupe: str | None, **own: Any) -> NewMessage:
        id_ = new_id()
        envelope = Envelope(
            id=id_, route="r", body=b"1", content="json", accepted_at=self.now, origin=id_, scope=scope, key=key,
            track={"k": "v"},
        )  # fmt: skip
        space = DedupeKey("dedupe", dedupe, self.now + WINDOW) if dedupe else None
        return NewMessage(envelope, dedupe=space, **own)

    # -- what may happen ----------------------------------------------------------------------------------------------
    @rule(scope=SCOPES, key=KEYS, dedupe=DEDUPE, how=st.sampled_from(["queued", "started", "held", "overtakes"]))
    def accept(self, scope: str, key: str | None, dedupe: str | None, how: str) -> None:
        own: dict[str, Any] = {"queued": {}, "started": {"started": True}, "overtakes": {"supersede": True}}.get(
            how, {"state": State.HELD}
        )
        if how == "held" and key is None:
            return
        new = self.message(scope, key, dedupe, **own)
        self.expect_birth(new, self.call("accept", new))

    @rule(key=st.sampled_from(["L1", "L1", "L2"]), hold=st.booleans())
    def a_head_dies(self, key: str, hold: bool) -> None:
        new = self.message("", key, None, started=True)
        accepted = self.call("accept", new)
        self.expect_birth(new, accepted)
        if accepted.state is State.HELD:
            return  # the head before it is dead already
        self.call(
            "settle", Settlement(accepted.seq, State.DEAD, 1, self.now, error=ErrorRecord("x", "y"), hold_lane=hold)
        )
        one = self.kept[accepted.seq]
        one.attempts = 1
        self.end(one, State.DEAD)
        one.blocks = hold

    @precondition(lambda self: self.kept)
    @rule(number=PICK)
    def start(self, number: int) -> None:
        seq, one = self.pick(number, State.QUEUED, State.WAITING)
        startable = one.state in (State.QUEUED, State.WAITING)
        assert self.call("start", seq, one.attempts + 1, self.now) is startable
        if startable:
            one.state, one.attempts = State.RUNNING, one.attempts + 1

    @precondition(lambda self: self.kept)
    @rule(number=PICK, state=END, hold=st.booleans(), child=st.booleans(), dedupe=DEDUPE, at_once=st.booleans())
    def settle(self, number: int, state: State, hold: bool, child: bool, dedupe: str | None, at_once: bool) -> None:
        seq, one = self.pick(number, *OPEN_STATES)
        children = [self.message("split", one.lane[1], dedupe)] if child else []
        error = ErrorRecord("rejected", "no") if state is State.DEAD else None
        ending = Settlement(
            seq, state, one.attempts, self.now, due=self.now, error=error, children=children, hold_lane=hold
        )
        if at_once:
            startable = one.state in (State.QUEUED, State.WAITING)
            answers = self.wait(self._together(seq, one.attempts, ending))
            assert answers[0] is startable
            born = answers[1]
        else:
            (born,) = self.wait(self._gathered(ending))
        if one.state not in OPEN_STATES:
            assert born == ()
            return
        reachable = MOVES[one.state] | (MOVES[State.RUNNING] if State.RUNNING in MOVES[one.state] else frozenset())
        if state not in reachable:
            assert isinstance(born, StoreError)
            return
        one.crashes = 0
        if state in OPEN_STATES:
            one.state = state
        else:
            self.end(one, state)
        if state is State.DEAD and hold and one.lane[1] is not None:
            one.blocks = True
            for _, other in [pair for pair in self.lane(one, State.QUEUED, State.WAITING) if pair[0] > seq]:
                other.state = State.HELD
        for new, accepted in zip(children, born, strict=True):
            self.expect_birth(new, accepted)

    async def _together(self, seq: int, attempts: int, ending: Settlement) -> list[Any]:
        return await asyncio.gather(
            self.store.start(seq, attempts, self.now), self.store.settle(ending), return_exceptions=True
        )

    async def _gathered(self, ending: Settlement) -> list[Any]:
        return await asyncio.gather(self.store.settle(ending), return_exceptions=True)

    @precondition(lambda self: self.kept)
    @rule(number=PICK)
    def retry(self, number: int) -> None:
        seq, one = self.pick(number, State.DEAD)
        pending = self.call("retry", seq, WHO, self.now)
        if one.state is not State.DEAD:
            assert pending is None
            return
        self.audited += 1
        one.blocks, one.finished = False, None
        older = [other for before, other in self.lane(one, State.DEAD) if other.blocks and before < seq]
        one.state = State.HELD if older else State.QUEUED
        one.earlier, one.attempts, one.crashes = one.earlier + one.attempts, 0, 0
        assert (pending.state, pending.earlier) == (one.state, one.earlier)

    @precondition(lambda self: self.kept)
    @rule(number=PICK)
    def discard(self, number: int) -> None:
        seq, one = self.pick(number, State.DEAD, State.HELD)
        possible = one.state is State.DEAD or (one.state in OPEN_STATES and one.state is not State.RUNNING)
        assert self.call("discard", seq, WHO, self.now) is possible
        if possible:
            self.audited += 1
            self.end(one, State.DISCARDED)

    @precondition(lambda self: self.kept)
    @rule(number=PICK)
    def edit(self, number: int) -> None:
        seq, one = self.pick(number, State.DEAD)
        assert self.call("edit", seq, b"2", WHO, self.now) is (one.state is State.DEAD)
        self.audited += one.state is State.DEAD

    @rule(scope=SCOPES, key=st.sampled_from(["L1", "L2"]))
    def release_lane(self, scope: str, key: str) -> None:
        like = Kept("", (scope, key), State.HELD)
        limit = min((seq for seq, one in self.lane(like, State.DEAD) if one.blocks), default=10**9)
        expected = [(seq, one) for seq, one in self.lane(like, State.HELD) if seq < limit]
        assert self.call("release_lane", "r", scope, key) == tuple(seq for seq, _ in expected)
        for _, one in expected:
            one.state = State.QUEUED

    @rule(hours=st.integers(1, 4))
    def time_goes_on(self, hours: int) -> None:
        self.clock.advance(timedelta(hours=hours))

    @rule(states=st.sets(st.sampled_from([State.DONE, State.DEAD, State.DUPLICATE]), min_size=1))
    def purge(self, states: set[State]) -> None:
        border = self.now - timedelta(hours=2)
        gone = [seq for seq, one in self.kept.items() if one.state in states and one.finished and one.finished < border]
        assert self.call("purge", border, sorted(states), 10_000) == len(gone)
        # every lane that loses a dead message is looked at again, also where another one was freed by hand meanwhile
        dead = [one for seq in gone if (one := self.kept[seq]).state is State.DEAD and one.lane[1] is not None]
        lanes = {one.lane for one in dead}
        for seq in gone:
            del self.kept[seq]
        for lane in lanes:  # what the purged ones held goes on, up to the next that blocks
            limit = min(
                (n for n, one in self.kept.items() if one.lane == lane and one.blocks), default=self.highest + 1
            )
            for seq, one in self.kept.items():
                if one.lane == lane and seq < limit and one.state is State.HELD:
                    one.state = State.QUEUED
        self.purged += len(gone)

    @rule(peaceful=st.booleans())
    def restart(self, peaceful: bool) -> None:
        suspect = min((seq for seq, one in self.kept.items() if one.state is State.RUNNING), default=0)
        self.store.at_work(suspect)
        if peaceful:
            self.wait(self.store.close())
        else:
            for part in (self.store._hot, self.store._search, self.store._writer):
                assert part is not None
                part.close()
        self.open()
        assert self.store.clean_start is peaceful
        running = sorted(seq for seq, one in self.kept.items() if one.state is State.RUNNING)
        assert [row.seq for row in self.store.recovered] == running
        for seq in running:
            self.kept[seq].state = State.QUEUED
            self.kept[seq].crashes += seq == suspect and not peaceful
        for seq, one in self.kept.items():
            older = [before for before, other in self.lane(one, State.DEAD) if other.blocks and before < seq]
            if one.state is State.HELD and not older:
                one.state = State.QUEUED

    # -- what always holds --------------------------------------------------------------------------------------------
    @invariant()
    def the_counts_are_the_models(self) -> None:
        counts = {one.route: one for one in self.store.counts()}.get("r")
        if counts is None:
            assert self.accepted == 0
            return
        assert (counts.accepted, counts.purged) == (self.accepted, self.purged)
        assert {name: n for name, n in counts.states.items() if n} == Counter(
            one.state.value for one in self.kept.values()
        )
        assert counts.accepted == sum(counts.states.values()) + counts.purged

    @invariant()
    def the_open_messages_are_the_models(self) -> None:
        rows = [(r.seq, r.id, r.state, r.attempts, r.earlier, r.crashes) for r in self.store.pending("r")]
        expected = [
            (seq, one.id, one.state, one.attempts, one.earlier, one.crashes)
            for seq, one in sorted(self.kept.items())
            if one.state in OPEN_STATES
        ]
        assert rows == expected
        blocked = {("r", *one.lane) for one in self.kept.values() if one.blocks}
        assert set(self.store.blocked_lanes()) == blocked

    @invariant()
    def every_message_is_found_in_its_state(self) -> None:
        found = {s.envelope.seq: (s.envelope.id, s.state, s.finished_at) for s in self.store.find(Filter(limit=1000))}
        assert found == {seq: (one.id, one.state, one.finished) for seq, one in self.kept.items()}
        assert len(self.store.audit_entries(10_000)) == self.audited


TestModel = Bus.TestCase
TestModel.settings = settings(
    max_examples=int(os.environ.get("ESB_MODEL_EXAMPLES", "60")),
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
