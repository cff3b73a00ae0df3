"""The whole bus against a model of dictionaries: real loader, runtime and store, on a clock that the plan moves.

Whatever the order of messages, failing targets, deaths of the process, operators, reloads and time: after every step each
message is in the state that the promises say, every target was asked exactly as often, in the order and under the delivery
ids that they say, and the counters add up. ``ESB_TORTURE=long`` runs 2 000 plans of 50 steps.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import types
from collections import Counter, defaultdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from esb.bus import Bus
from esb.clock import ManualClock
from esb.endpoints.base import Incoming, Receipt
from esb.errors import MessageError, Rejected, StoreBusy, StoreError, Timeout, Unavailable
from esb.formats.json import Json
from esb.message import State
from esb.operations import Operations, Who
from esb.steps.base import Reply
from esb.store.base import Filter
from tests.runtime.conftest import PLUGIN, begun, write
from tests.runtime.model_bus import ROUTES, STEPS, Kept, Lane, Model, route_file

LONG = os.environ.get("ESB_TORTURE") == "long"
WHO = Who("mia", "because")
ERRORS: dict[str, type[MessageError]] = {"unavailable": Unavailable, "timeout": Timeout, "rejected": Rejected}
SETTINGS = "bus: model\nhttp: { port: 0 }\nadmin: { port: 0 }\nretention: { done: 1h, dead: 10h }\n"
ROUTE = st.sampled_from(["lots", "lots", "skips", "free"])
LOT = st.sampled_from(["A", "A", "B"])
PICK = st.integers(0, 10_000)
STEP = st.sampled_from(STEPS)
MODE = st.sampled_from(["unavailable", "timeout", "rejected", "rejected", "hang", "hang", "ok"])
HOLD = st.sampled_from([False, False, False, True])
ANSWER = st.sampled_from(["ok", "ok", "unavailable", "timeout", "rejected"])


class Targets:
    """What the routes send to. It answers by the modes of the model, and keeps what it saw."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.sends: dict[Lane, list[tuple[str, str, str]]] = defaultdict(list)
        self.hanging: dict[Lane, asyncio.Future[Reply]] = {}
        self.broken: list[str] = []
        self.begun = 0

    async def take(self, name: str, message: Any, delivery: Any) -> Reply:
        route = name.partition(".")[0]
        lane = (route, delivery.key) if delivery.key is not None else (route, f"#{message.body['n']}")
        if lane in self.hanging:
            self.broken.append(f"{name} was asked for two messages of {lane} at the same time")
        self.sends[lane].append((name, delivery.id, message.body["v"]))
        mode = self.model.modes[name]
        if mode == "hang":
            self.hanging[lane] = asyncio.get_running_loop().create_future()
            try:
                return await self.hanging[lane]
            finally:
                self.hanging.pop(lane, None)
        if mode != "ok":
            raise ERRORS[mode]("as told")
        return Reply(200)

    def begin(self, name: str, message: Any, delivery: Any, answered: Any) -> Any:
        """Every second delivery is told of by a call, the others need a task."""
        self.begun += 1
        return begun(self.take(name, message, delivery), answered) if self.begun % 2 else None


class PlantBus(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory(dir=_MEMORY)
        self.root = Path(self.folder.name)
        self.clock = ManualClock()
        self.model = Model(self.clock.now())
        self.targets = Targets(self.model)
        module: Any = types.ModuleType("esb_probe")
        module.target = self.targets
        sys.modules["esb_probe"] = module
        self.numbers = 0
        self.lanes_of: dict[int, Lane] = {}
        self.broken_file = False
        write(self.root, {"esb.yaml": SETTINGS, "connectors/probe.py": PLUGIN})
        for name in ROUTES:
            self.write_route(name)
        self.wait(self.open())

    # -- the bus under test -------------------------------------------------------------------------------------------
    def wait(self, what: Any) -> Any:
        return self.loop.run_until_complete(what)

    async def open(self) -> None:
        self.bus = await Bus.open(self.root, clock=self.clock, log=lambda *_, **__: None)  # type: ignore[arg-type]  # a double, or none
        await self.bus.supervisor.start()
        await self.rest()

    async def rest(self) -> None:
        """Until nothing is left that can go on without time or an answer."""
        quiet, before = 0, ()
        while quiet < 12:
            await asyncio.sleep(0)
            now = tuple(len(live.runner.lanes) for live in self.bus.supervisor.routes.values())
            at_work = sum(live.runner.running for live in self.bus.supervisor.routes.values())
            same = now == before and at_work <= len(self.targets.hanging)
            quiet, before = (quiet + 1 if same else 0), now

    def checked(self, what: Any = None) -> Any:
        """Do it, let the bus and the model come to rest."""

        async def main() -> Any:
            done = await what if what is not None else None
            await self.rest()
            return done

        return self.wait(main())

    @property
    def operations(self) -> Operations:
        return Operations(self.bus.store, self.clock, self.bus.supervisor)

    def write_route(self, name: str) -> None:
        write(self.root, {f"routes/{name}.yaml": route_file(name, self.model.versions[name])})

    def teardown(self) -> None:
        assert self.bus.store.verify_audit() == []
        self.wait(self.end(killed=False))
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        self.folder.cleanup()
        del sys.modules["esb_probe"]

    async def end(self, *, killed: bool) -> None:
        supervisor, store = self.bus.supervisor, self.bus.store
        if killed:
            # nothing of this process reaches the files any more; its tasks end only to leave no litter
            store._submit = _dead
            committer, writer = store._committer, store._writer
            assert committer is not None
            assert writer is not None
            committer._queue.clear()
            committer.broken = StoreError("this process is dead")
            committer.close()  # a commit in its thread is through, and nobody heard of it
            for part in (store._hot, store._search, writer):
                part.close()
            for live in supervisor.routes.values():
                live.runner.stopping = True
            mine = asyncio.current_task()
            others = [task for task in asyncio.all_tasks() if task is not mine]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        else:
            await supervisor.stop(_NO_GRACE)
            await store.close()
        self.bus.lock.release()

    def pick(self, number: int, *states: State) -> Kept:
        """A message, nine times out of ten one on which the command has an effect."""
        seqs = sorted(self.model.kept)
        fitting = [seq for seq in seqs if self.model.kept[seq].state in states]
        seqs = fitting if fitting and number % 10 else seqs
        return self.model.kept[seqs[number // 10 % len(seqs)]]

    def body(self, lot: str, id_: int, hold: bool) -> dict[str, Any]:
        self.numbers += 1
        return {"lot": lot, "id": f"i{id_ or self.numbers + 1000}", "hold": hold, "n": self.numbers}

    async def send(self, route: str, body: dict[str, Any]) -> Receipt:
        data = Json().encode(body)
        return await self.bus.supervisor.routes[route].intake.accept(Incoming(data, codec=Json()))

    def stored(self, id_: str) -> Any:
        return self.bus.store.get(id_, trace=False)

    # -- what may happen ----------------------------------------------------------------------------------------------
    @rule(route=ROUTE, lots=st.lists(LOT, min_size=1, max_size=3), id_=st.integers(0, 3), hold=HOLD)
    def accept(self, route: str, lots: list[str], id_: int, hold: bool) -> None:
        for lot in lots:
            self._accept(route, self.body(lot, id_, hold))

    @rule(route=ROUTE, lots=st.lists(LOT, min_size=1, max_size=3), step=STEP, mode=MODE, hold=HOLD)
    def accept_in_trouble(self, route: str, lots: list[str], step: str, mode: str, hold: bool) -> None:
        """The first message meets a target that fails; those behind it are there when it does."""
        self.a_target_changes(route, step, mode)
        for number, lot in enumerate(lots):
            self._accept(route, self.body(lot, 0, hold and number > 0))

    def _accept(self, route: str, body: dict[str, Any]) -> None:
        if not self.model.present[route]:
            return
        try:
            receipt = self.checked(self.send(route, body))
        except StoreBusy:
            assert self.model.paused[route]
            return
        assert not self.model.paused[route]
        one = self.model.accept(self.stored(receipt.message_id).envelope.seq, receipt.message_id, route, body)
        assert (receipt.state == "duplicate") == (one.state is State.DUPLICATE)
        self.model.run()

    @rule(route=ROUTE, step=STEP, mode=MODE)
    def a_target_changes(self, route: str, step: str, mode: str) -> None:
        if mode != "hang" or not any(one.crashes for one in self.model.kept.values()):
            self.model.modes[f"{route}.{step}"] = mode

    @rule()
    def all_targets_are_well(self) -> None:
        self.model.modes.clear()

    @precondition(lambda self: self.targets.hanging)
    @rule(number=PICK, how=ANSWER)
    def a_hanging_target_answers(self, number: int, how: str) -> None:
        lanes = sorted(self.targets.hanging)
        lane = lanes[number % len(lanes)]
        future = self.targets.hanging[lane]
        one = next(one for one in self.model.kept.values() if one.lane == self.of_model(lane) and one.hangs_at)
        future.set_result(Reply(200)) if how == "ok" else future.set_exception(ERRORS[how]("as told"))
        self.checked()
        self.model.answer(one, how)

    @rule(seconds=st.sampled_from([5, 10, 20, 40, 60]))
    def time_goes_on(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.model.now = self.clock.now()
        self.checked()

    @rule(hours=st.sampled_from([0, 2, 12]))
    def housekeeping(self, hours: int) -> None:
        self.clock.advance(hours * 3600)
        self.model.now = self.clock.now()
        self.checked()
        self.model.run()
        self.checked(self.bus.housekeeping.round())
        self.model.purge()

    @rule(route=ROUTE, paused=st.booleans())
    def pause(self, route: str, paused: bool) -> None:
        if not self.model.live[route]:
            return
        self.checked(self.operations.pause(route, WHO, paused=paused))
        self.model.paused[route] = paused
        self.model.audited += 1

    @precondition(lambda self: self.model.kept)
    @rule(number=PICK, stale=st.booleans())
    def retry(self, number: int, stale: bool) -> None:
        one = self.pick(number, State.DEAD)
        (result,) = self.checked(self.operations.retry(Filter(ids=(one.id,)), WHO, stale=stale))
        assert self.model.retry(one, stale=stale) is (result["result"] in ("queued", "held")), result

    @precondition(lambda self: self.model.kept)
    @rule(number=PICK)
    def discard(self, number: int) -> None:
        one = self.pick(number, State.DEAD, State.HELD, State.WAITING, State.QUEUED)
        (result,) = self.checked(self.operations.discard(Filter(ids=(one.id,)), WHO))
        assert self.model.discard(one) is (result["result"] == "discarded"), result

    @precondition(lambda self: self.model.kept)
    @rule(number=PICK)
    def edit(self, number: int) -> None:
        one = self.pick(number, State.DEAD)
        body = {**one.body, "edited": True}
        result = self.checked(self.operations.edit(one.id, Json().encode(body), WHO))
        assert (one.state is State.DEAD) is (result["result"] == "edited")
        if one.state is State.DEAD:
            one.body = body
            self.model.audited += 1

    @precondition(lambda self: self.model.kept)
    @rule(number=PICK)
    def replay(self, number: int) -> None:
        one = self.pick(number, State.DONE, State.DEAD)
        blocked = self.model.keyed(one) and self.model.first_block(one.lane) < 1 << 60
        (result,) = self.checked(self.operations.replay(Filter(ids=(one.id,)), WHO))
        # what was overtaken: by its id and with a reason, as here
        possible = one.state in (State.DONE, State.SUPERSEDED) or (one.state is State.DEAD and not blocked)
        assert possible is (result["result"] == "replayed"), result
        if possible:
            new = self.stored(result["new_id"])
            assert new.envelope.replay_of == one.id
            self.model.accept(new.envelope.seq, new.envelope.id, one.route, one.body, replay_of=one)
            self.model.audited += 1

    # -- the workspace ------------------------------------------------------------------------------------------------
    @rule(route=ROUTE, what=st.sampled_from(["change", "change", "break", "remove"]))
    def reload(self, route: str, what: str) -> None:
        path = self.root / "routes" / f"{route}.yaml"
        if what == "break":
            path.write_text("route: [broken\n")
            assert self.checked(self.bus.reload())["result"] == "refused"
            path.unlink()
            if self.model.present[route]:
                self.write_route(route)
            assert self.checked(self.bus.reload())["result"] == "unchanged"
            return
        if what == "remove":
            if not self.model.present[route] or sum(self.model.present.values()) == 1:
                return
            path.unlink()
        else:
            self.model.versions[route] += 1
            self.write_route(route)
        assert self.checked(self.bus.reload())["result"] == "reloaded"
        self.model.present[route] = what != "remove"
        self.model.live[route] = self.model.live[route] or what != "remove"

    # -- the process --------------------------------------------------------------------------------------------------
    @rule(killed=st.sampled_from([True, True, False]))
    def restart(self, killed: bool) -> None:
        self.wait(self.end(killed=killed))
        for sink, mode in self.model.modes.items():
            if mode == "hang":
                self.model.modes[sink] = "ok"
        self.model.restart(killed=killed)
        self.wait(self.open())

    @precondition(lambda self: not self.targets.hanging and set(self.model.modes.values()) <= {"ok"})
    @rule(route=ROUTE, lots=st.lists(LOT, min_size=1, max_size=5), turns=st.integers(0, 40))
    def killed_at_work(self, route: str, lots: list[str], turns: int) -> None:
        """Messages arrive, and the process dies some turns of the loop later: anywhere between the body and the end."""
        if not self.model.present[route] or self.model.paused[route]:
            return
        bodies = [self.body(lot, 0, hold=False) for lot in lots]
        before = {lane: len(sends) for lane, sends in self.targets.sends.items()}
        promised = self.wait(self._die_at_work(route, bodies, turns))
        self.model.restart(killed=True)
        self.wait(self.open())
        found = {one.envelope.id: one.envelope for one in self.bus.store.find(Filter(route=route, limit=1000))}
        known = {one.id for one in self.model.kept.values()}
        assert promised <= set(found), "an acknowledged message is gone"
        by_number = {body["n"]: body for body in bodies}
        born = sorted((envelope for id_, envelope in found.items() if id_ not in known), key=lambda one: one.seq)
        for envelope in born:
            body = by_number.pop(Json().decode(self.bus.store.payload(envelope.seq)[0].body)["n"])
            self.model.accept(envelope.seq, envelope.id, route, body)
        self.model.run()
        for one in born:
            self._sent_again_at_most_once(self.model.kept[one.seq], before)

    async def _die_at_work(self, route: str, bodies: list[dict[str, Any]], turns: int) -> set[str]:
        sending = [asyncio.create_task(self.send(route, body)) for body in bodies]
        for _ in range(turns):
            await asyncio.sleep(0)
        promised = {task.result().message_id for task in sending if task.done()}
        await self.end(killed=True)
        return promised

    def _sent_again_at_most_once(self, one: Kept, before: dict[Lane, int]) -> None:
        """In the gap between a target's yes and the commit: the same id, in order, at most once more. Then go on from there."""
        lane = self.of_probe(one)
        seen = self.targets.sends[lane]
        fresh = Counter(id_ for _, id_, _ in seen[before.get(lane, 0) :])
        told = self.model.sends[one.lane][before.get(lane, 0) :]
        assert set(fresh) == {id_ for _, id_, _ in told}
        assert all(n <= 2 for n in fresh.values()), fresh
        firsts = list(dict.fromkeys(seen[before.get(lane, 0) :]))
        assert firsts == list(dict.fromkeys(told)), "out of order"
        self.model.sends[one.lane] = list(seen)
        before[lane] = len(seen)

    # -- what always holds --------------------------------------------------------------------------------------------
    def of_probe(self, one: Kept) -> Lane:
        return one.lane if self.model.keyed(one) else (one.route, f"#{one.body['n']}")

    def of_model(self, lane: Lane) -> Lane:
        if lane[0] != "free":
            return lane
        return next(one.lane for one in self.model.kept.values() if self.of_probe(one) == lane and one.hangs_at)

    @invariant()
    def as_promised(self) -> None:
        self.model.run()
        self._every_state()
        self._every_delivery()
        self._every_number()

    def _every_state(self) -> None:
        kept = self.model.kept
        found = {one.envelope.seq: one.state for one in self.bus.store.find(Filter(limit=10_000))}
        same(found, {seq: one.state for seq, one in kept.items()})
        pending = {row.seq: (row.attempts, row.earlier, row.due) for row in self.bus.store.pending()}
        same(pending, {seq: (one.attempts, one.earlier, one.due) for seq, one in kept.items() if one.open})
        for route, live in self.bus.supervisor.routes.items():
            known = {entry.seq: "in a lane" for entry in live.runner.lanes}
            same(known, {seq: "in a lane" for seq, one in kept.items() if one.route == route and one.open})

    def _every_delivery(self) -> None:
        assert self.targets.broken == []
        seen, told = defaultdict(list), defaultdict(list)
        for sends, found in ((self.targets.sends, seen), (self.model.sends, told)):
            for lane, of_lane in sends.items():
                found[lane if lane[0] != "free" else "free"] += of_lane
        for found in (seen, told):  # messages without a key have no order among each other
            found["free"].sort()
        same(seen, told)

    def _every_number(self) -> None:
        assert self.bus.store.verify_conservation() == []
        counts = {one.route: one for one in self.bus.store.counts() if one.accepted}
        assert {name: one.accepted for name, one in counts.items()} == dict(self.model.accepted)
        for name, one in counts.items():
            assert one.purged == self.model.purged[name]
        human = [entry for entry in self.bus.store.audit_entries(10_000) if entry["actor"] == WHO.actor]
        assert len(human) == self.model.audited


def same(seen: dict[Any, Any], told: dict[Any, Any]) -> None:
    """What the bus shows is what the model says; a difference is shown alone, as (bus, model)."""
    names = [name for name in {**seen, **told} if seen.get(name) != told.get(name)]
    assert not names, {name: (seen.get(name), told.get(name)) for name in names}


def _dead(*_: Any, **__: Any) -> Any:
    raise StoreError("this process is dead")


_NO_GRACE = timedelta(0)
#: A death of the process loses nothing that was written, so the plans need no disk; where there is one in memory they are faster.
_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None

TestPlantBus = PlantBus.TestCase
TestPlantBus.pytestmark = [pytest.mark.timeout(7200 if LONG else 600)]
TestPlantBus.settings = settings(
    max_examples=2_000 if LONG else 25,
    stateful_step_count=50 if LONG else 30,
    derandomize=not LONG,
    database=None,
    # making a failing plan short takes minutes; the long tier does it, and the blob repeats the plan anywhere
    phases=[Phase.generate, Phase.shrink] if LONG else [Phase.generate],
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
