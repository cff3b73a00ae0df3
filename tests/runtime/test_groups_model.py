"""`aggregate` and `resequence` in random plans of failures, operators, edits, restarts and time: every member is in one aggregate, once."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, defaultdict
from typing import Any

import pytest

from esb.errors import Rejected, Unavailable
from esb.steps.base import Reply
from esb.store.base import Filter, State

from .conftest import WHO, ProbeTarget, Start, TestBus

ROUTES = """
route: groups
from: { route: {} }
order: { on_dead: ON_DEAD }
retry: { max: 3, backoff: 1s, jitter: none }
steps:
  - set: { vars.version: "'VERSION'" }
  - aggregate: { by: body.g, complete: COMPLETE }
  - to: { probe: first }
  - to: { probe: second }
---
route: lines
from: { route: {} }
order: { on_dead: ON_DEAD }
retry: { max: 3, backoff: 1s, jitter: none }
steps:
  - set: { vars.version: "'VERSION'" }
  - resequence: { by: body.n, key: body.g, gap_timeout: 20s, first: 1 }
  - to: { probe: line }
"""
COMPLETE = (
    "{ size: 3 }",
    "{ size: 3, timeout: 30s }",
    "{ when: 'length(body) == body[0].c', timeout: 60s }",
    "{ timeout: 15s }",
)
OPEN = ("waiting", "queued", "dead", "held")
ACTIONS = (*["send"] * 6, *["line"] * 3, *["time"] * 3, "retry", "stale", "replay", "discard", "edit", "pause")
STEPS, LIVES = 20, 4


class Plan:
    """What happens, and what is known of it."""

    def __init__(self, seed: int, probe: ProbeTarget) -> None:
        self.chance, self.probe = random.Random(seed), probe
        self.complete, self.on_dead = self.chance.choice(COMPLETE), self.chance.choice(["skip", "block"])
        self.failing, self.version = 0.25, 0
        self.sent: list[int] = []
        self.discarded: set[int] = set()
        self.numbers: Counter[str] = Counter()
        self.lines: list[tuple[str, int]] = []
        probe.by_call = self.chance.random() < 0.5
        probe.script = {name: _Answers(self) for name in ("first", "second", "line")}

    @property
    def files(self) -> dict[str, str]:
        self.version += 1
        text = ROUTES.replace("ON_DEAD", self.on_dead).replace("VERSION", str(self.version))
        return {"routes/r.yaml": text.replace("COMPLETE", self.complete)}

    async def act(self, bus: TestBus) -> None:
        await getattr(self, f"_{self.chance.choice(ACTIONS)}")(bus)
        await asyncio.wait_for(bus.settle(), 30)
        bus.whole()

    async def member(self, bus: TestBus, group: str) -> None:
        self.sent.append(len(self.sent))
        await bus.send("groups", {"g": group, "n": self.sent[-1], "c": 3})

    async def _send(self, bus: TestBus) -> None:
        await self.member(bus, self.chance.choice("xyz"))

    async def _line(self, bus: TestBus) -> None:
        group = self.chance.choice("pq")
        self.numbers[group] += 2
        given = [self.numbers[group] - 1, self.numbers[group]]
        for number in self.chance.sample(given, self.chance.choice([1, 2, 2])):
            self.lines.append((group, number))
            await bus.send("lines", {"g": group, "n": number})

    async def _time(self, bus: TestBus) -> None:
        await bus.advance(self.chance.choice([1, 2, 4, 16, 31]))

    async def _retry(self, bus: TestBus) -> None:
        await bus.operations.retry(Filter(states=(State.DEAD,)), WHO)

    async def _stale(self, bus: TestBus) -> None:
        await bus.operations.retry(Filter(states=(State.DEAD,)), WHO, stale=True)

    async def _replay(self, bus: TestBus) -> None:
        if found := [one for one in bus.messages() if one.envelope.scope and one.state.value in ("done", "dead")]:
            await bus.operations.replay(Filter(ids=(self.chance.choice(found).envelope.id,)), WHO)

    async def _discard(self, bus: TestBus) -> None:
        found = [one for one in bus.messages(route="groups") if one.envelope.scope and one.state.value in OPEN]
        if not found:
            return
        one = self.chance.choice(found)
        body = json.loads(bus.store.payload(one.envelope.seq)[0].payload())
        (told,) = await bus.operations.discard(Filter(ids=(one.envelope.id,)), WHO)
        if told["result"] == "discarded":
            self.discarded |= {member["n"] for member in (body if isinstance(body, list) else [body])}

    async def _edit(self, bus: TestBus) -> None:
        bus.write(self.files)
        await bus.reload()

    async def _pause(self, bus: TestBus) -> None:
        for paused in (True, False):
            await bus.operations.pause("groups", WHO, paused=paused)
            await bus.settle()

    async def end(self, bus: TestBus) -> None:
        """Everything works again, and every group gets what it waits for."""
        self.failing = 0
        for _ in range(25):
            await self._stale(bus)
            await bus.advance(31)
        for group in "xyz":
            while any(one.envelope.key == group and one.finished_at is None for one in bus.messages(route="groups")):
                await self.member(bus, group)
                await bus.advance(61)
        assert [one for one in bus.messages() if one.finished_at is None] == []

    def check(self, name: str) -> None:
        """Each aggregate is one list under one delivery id, of one group, in order; each member is in one of them."""
        sent: dict[str, set[tuple[int, ...]]] = defaultdict(set)
        for got in self.probe.got:
            if got.to == name:
                members = [member["n"] for member in got.body]
                assert members == sorted(set(members))
                assert len({member["g"] for member in got.body}) == 1
                sent[got.id].add(tuple(members))
        assert all(len(lists) == 1 for lists in sent.values())
        times = Counter(member for lists in sent.values() for one in lists for member in one)
        assert {member for member, count in times.items() if count > 1} == set()
        assert set(self.sent) - set(times) <= self.discarded

    def check_lines(self) -> None:
        """Each line is sent, under one delivery id. (Its order is not asked: gaps are given up, and people retry.)"""
        ids: dict[tuple[str, int], set[str]] = defaultdict(set)
        for got in self.probe.got:
            if got.to == "line":
                ids[got.body["g"], got.body["n"]].add(got.id)
        assert {line: len(found) for line, found in ids.items()} == dict.fromkeys(self.lines, 1)


class _Answers(list[Any]):
    """What a target says, for as long as it is asked."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    def __bool__(self) -> bool:
        return True

    def pop(self, index: Any = -1) -> Any:
        drawn = self.plan.chance.random()
        if drawn < self.plan.failing / 3:
            return Rejected("no")
        return Unavailable("503") if drawn < self.plan.failing else Reply(200)


@pytest.mark.parametrize("seed", range(6))
def test_every_member_is_in_one_aggregate_once_whatever_happens(start: Start, probe: ProbeTarget, seed: int) -> None:
    plan = Plan(seed, probe)

    async def go() -> None:
        clock, files = None, plan.files
        for life in range(LIVES):
            async with start(files, clock=clock) as bus:
                for _ in range(STEPS):
                    await plan.act(bus)
                if life == LIVES - 1:
                    await plan.end(bus)
                clock = bus.clock
            files = plan.files if plan.chance.random() < 0.5 else {}

    asyncio.run(go())
    plan.check("first")
    plan.check("second")
    plan.check_lines()
