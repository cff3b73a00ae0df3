"""Large payloads and slow steps in worker processes: the same results, bounded in time and memory, and harmless when they die."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from esb.bus import Bus
from esb.clock import SystemClock
from esb.config.loader import load_workspace
from esb.endpoints.base import Incoming, Outcome
from esb.endpoints.ingress import HttpIngress
from esb.errors import EsbError, InternalFault, Invalid, StoreBusy
from esb.formats.json import Json
from esb.runtime import workers
from esb.runtime.guard import Watch
from esb.runtime.supervisor import Supervisor
from esb.runtime.workers import Workers
from esb.store import open_store
from esb.store.base import Filter, Stored
from examples.demo.harness import until
from tests.unit.runtime.test_starting import alive

# the property tests' library hooks into the garbage collector: an interrupt that meets its hook is lost with a warning, and
# the watch interrupts again
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

ROUTES = """
route: order
key: body.no
dedupe: body.id
track: { customer: body.customer }
from: { route: {} }
steps:
  - choose:
      - when: length(body.lines) > `2`
        steps: [ { set: { vars.size: "'many'" } } ]
      - otherwise: [ { set: { vars.size: "'few'" } } ]
  - log: "{{ body.no }} has {{ vars.size }}"
  - split:
      each: body.lines
      key: to_string(body.pos)
      steps: [ { map: { pos: body.pos, qty: body.qty } }, { publish: lines } ]
  - map: { no: body.no, size: vars.size, total: "sum(body.lines[].qty)" }
  - publish: orders
  - respond: { status: 201, body: "{ total: body.total }" }
---
route: filtered
from: { route: {} }
steps: [ { filter: "body.keep == `true`" }, { publish: orders } ]
on_error: [ { for: internal, dead_letter: fixes } ]
---
route: broken
from: { route: {} }
steps: [ { set: { vars.seen: "'yes'" } }, { reject: { reason: "no {{ vars.seen }}" } } ]
on_error: [ { for: rejected, steps: [ { publish: "orders" } ] } ]
---
route: order-reader
from: { topic: orders }
steps: [ { log: "read" } ]
---
route: line-reader
from: { topic: lines }
steps: [ { log: "read" } ]
"""

SLOW = """
route: endless
from: { route: {} }
steps: [ { set: { vars.a: "body.l[].{x: $.body.l[].{y: $.body.l[].n}}" } } ]
---
route: slow
from: { route: {} }
steps:
  - publish: marks
  - transform: { jinja: "{% for a in range(20) %}{% for b in range(40000) %}{% set x = [a, b] | length + [b, a] | length %}{% endfor %}{% endfor %}{{ body.no }}" }
  - respond: {}
---
route: greedy
from: { route: {} }
steps: [ { set: { vars.a: "body.l[].[$.body.l[].[n, n, n, n], $.body.l[].[n, n]]" } } ]
---
route: quick
from: { route: {} }
steps: [ { map: { no: body.no } }, { respond: {} } ]
---
route: poison
from: { route: {} }
steps: [ { end-process: {} } ]
---
route: marks-reader
from: { topic: marks }
steps: [ { log: "read" } ]
"""

#: A step of the workspace's own that takes its process along.
PLUGIN = '''
from __future__ import annotations

import os
from dataclasses import dataclass

from esb.registry import step


@step("end-process")
@dataclass(frozen=True, slots=True)
class EndProcess:
    """Ends the process that runs it."""

    def apply(self, message, context):
        os._exit(3)
'''


@dataclass
class Working:
    """A supervisor with worker processes, on the clock of the machine."""

    supervisor: Supervisor
    store: Any
    logs: list[dict[str, Any]]

    async def send(self, route: str, body: Any, **more: Any) -> str:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        receipt = await self.supervisor.routes[route].intake.accept(Incoming(data, codec=Json(), **more))
        return receipt.message_id

    async def end(self, route: str, id_: str) -> Outcome:
        outcome = await self.supervisor.routes[route].intake.outcome(id_, 60)
        assert outcome is not None, "not within 60 s"
        return outcome

    async def run(self, route: str, body: Any, **more: Any) -> Outcome:
        return await self.end(route, await self.send(route, body, **more))

    async def rest(self) -> None:
        """Wait until nothing is open any more."""
        async with asyncio.timeout(60):
            while any(len(live.runner.lanes) for live in self.supervisor.routes.values()):
                await asyncio.sleep(0.01)

    def messages(self) -> list[Stored]:
        found = (self.store.get(stored.envelope.id) for stored in self.store.find(Filter(limit=10_000)))
        return sorted(found, key=lambda stored: stored.envelope.seq)

    def events(self, name: str) -> list[dict[str, Any]]:
        return [entry for entry in self.logs if entry["event"] == name]


Start = Callable[..., Any]


@pytest.fixture
def working(tmp_path: Path) -> Start:
    @asynccontextmanager
    async def begin(routes: str, limits: str, *, plugin: str = "") -> AsyncIterator[Working]:
        root = tmp_path / limits.replace(" ", "").replace(":", "-").replace("{", "").replace("}", "").replace(",", "_")
        for name, text in {
            "routes/all.yaml": routes,
            "esb.yaml": f"limits: {limits}",
            "connectors/own.py": plugin,
        }.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        workspace, problems = load_workspace(root)
        assert workspace is not None, problems
        own, clock, logs = workspace.settings.limits, SystemClock(), []
        log: Any = lambda level, event, **fields: logs.append({"level": level, "event": event, **fields})  # noqa: E731 - all that it does
        store = await open_store(workspace.settings.store, root, clock=clock, min_free=0)
        watch = Watch()
        watch.start()
        pool = Workers(own.workers, own.transform_memory, log)
        supervisor = Supervisor(store, clock, HttpIngress(), log, workspace, pool, watch)
        await supervisor.start()
        try:
            yield Working(supervisor, store, logs)
        finally:
            await supervisor.stop(timedelta(seconds=1))
            watch.stop()
            await store.close()

    return begin


def essence(bus: Working) -> list[Any]:
    """What matters of every message: all but ids and times."""
    found = []
    for stored in bus.messages():
        envelope, error = stored.envelope, stored.error
        where = (envelope.route, envelope.scope, stored.state.value, stored.reason, envelope.key)
        what = (envelope.body, dict(envelope.track), error.as_dict() if error else None)
        said = [
            {name: value for name, value in entry.items() if name not in ("at", "ms", "worker", "ended_at")}
            for entry in stored.trace
        ]
        found.append((*where, *what, said))
    return sorted(found, key=repr)


BODIES: list[tuple[str, Any]] = [
    ("order", {"id": "1", "no": "A", "customer": "C1", "lines": [{"pos": n, "qty": n} for n in range(3)]}),
    ("order", {"id": "1", "no": "A", "customer": "C1", "lines": []}),
    ("order", {"id": "2", "no": "B", "customer": "C1", "lines": [{"pos": 1, "qty": 2}]}),
    ("order", {"id": "3", "no": "A", "customer": "C1", "lines": "none"}),
    ("order", {"id": "4", "no": ["not", "a", "key"], "lines": []}),
    ("filtered", {"keep": False}),
    ("filtered", {"keep": True, "text": "ü" * 10}),
    ("broken", {"a": 1}),
    ("filtered", b'{"a": 1, "a": 2}'),
    ("filtered", b"\xff"),
]


def test_a_worker_makes_of_a_message_what_the_loop_makes_of_it(working: Start) -> None:
    async def scenario() -> None:
        found, said = [], []
        for limits in ("{ inline: 1B, transform: 60s }", "{ inline: 1MB, transform: 60s }"):
            async with working(ROUTES, limits) as bus:
                for route, body in BODIES:
                    await bus.send(route, body)
                    await bus.rest()
                outcome = await bus.run("order", {"id": "9", "no": "Z", "lines": [{"pos": 1, "qty": 2}]})
                await bus.rest()
                found.append(essence(bus))
                said.append((outcome.response, [entry["text"] for entry in bus.events("message.log")]))
                assert bus.store.verify_conservation() == []
                by_worker = [entry for stored in bus.messages() for entry in stored.trace if "worker" in entry]
                assert bool(by_worker) == (limits == "{ inline: 1B, transform: 60s }")
        assert found[0] == found[1]
        assert said[0] == said[1]

    asyncio.run(scenario())


def test_a_step_that_lasts_is_interrupted_and_goes_on_in_a_worker(working: Start) -> None:
    async def scenario() -> None:
        async with working(SLOW, "{ transform: 60s }", plugin=PLUGIN) as bus:
            outcome = await bus.run("slow", {"no": 7})
            assert (outcome.state, outcome.response) == ("done", (200, {}, 7))
            await bus.rest()
            states = [(stored.envelope.route, stored.state.value) for stored in bus.messages()]
            assert states == [("slow", "done"), ("marks-reader", "done")]
            steps = [(entry["step"], "worker" in entry) for entry in bus.messages()[0].trace]
            assert steps == [("publish", False), ("transform", True), ("respond", False)]

    asyncio.run(scenario())


def test_a_step_beyond_its_time_is_dead_and_the_others_go_on(working: Start) -> None:
    async def scenario() -> None:
        async with working(SLOW, "{ transform: 1s }", plugin=PLUGIN) as bus:
            ids = [await bus.send("endless", {"l": [{"n": n} for n in range(2_500)]}) for _ in range(2)]
            while not bus.supervisor.workers._all:
                await asyncio.sleep(0.01)
            for number in range(20):
                assert (await bus.run("quick", {"no": number})).state == "done"
            for id_ in ids:
                outcome = await bus.end("endless", id_)
                assert outcome.error is not None
                assert (outcome.state, outcome.error["class"], outcome.error["step"]) == ("dead", "internal", "set")
                assert outcome.error["message"] == "step `set` took longer than 1 s"
                assert "timeout" in outcome.error["hint"]
            assert bus.store.verify_conservation() == []

    asyncio.run(scenario())


def test_a_step_beyond_its_memory_is_dead(working: Start) -> None:
    async def scenario() -> None:
        async with working(SLOW, "{ transform: 100s, transform_memory: 64MB }", plugin=PLUGIN) as bus:
            outcome = await bus.run("greedy", {"l": [{"n": n} for n in range(3_000)]})
            assert outcome.error is not None
            assert outcome.error["message"] == "step `set` needs more than 64000000 bytes of memory"
            assert (await bus.run("quick", {"no": 1})).state == "done"

    asyncio.run(scenario())


def test_a_message_that_ends_its_worker_is_dead_after_three_tries(working: Start) -> None:
    async def scenario() -> None:
        async with working(SLOW, "{ inline: 1B, transform: 60s }", plugin=PLUGIN) as bus:
            outcome = await bus.run("poison", {"no": 1})
            assert outcome.error is not None
            assert outcome.error["message"] == "step `end-process` ended its worker process 3 times"
            assert [entry["attempt"] for entry in bus.events("worker.lost")] == [1, 2, 3]
            assert (await bus.run("quick", {"no": 1})).state == "done"

    asyncio.run(scenario())


def test_a_large_payload_that_is_refused_is_refused_at_the_door(working: Start) -> None:
    async def scenario() -> None:
        async with working(SLOW, "{ inline: 1B, transform: 60s }", plugin=PLUGIN) as bus:
            with pytest.raises(Invalid) as caught:
                await bus.send("quick", b'{"a": 1, "a": 2}', on_invalid="refuse")
            assert caught.value.violations
            assert bus.messages() == []

    asyncio.run(scenario())


def test_a_message_that_runs_keeps_its_version_in_the_worker(working: Start) -> None:
    async def scenario() -> None:
        async with working(SLOW, "{ inline: 1B, transform: 60s }", plugin=PLUGIN) as bus:
            root = bus.supervisor.workspace.root
            (root / "routes/all.yaml").write_text("route: other\nfrom: { route: {} }\nsteps: [ { log: x } ]\n")
            assert (await bus.run("quick", {"no": 1})).response == (200, {}, {"no": 1})

    asyncio.run(scenario())


def test_no_worker_is_left_when_the_bus_stops(working: Start) -> None:
    # servers of other tests, perhaps, which begin and end processes of their own
    before = set(psutil.Process().children())

    async def scenario() -> None:
        async with working(SLOW, "{ transform: 60s }", plugin=PLUGIN) as bus:
            await bus.send("endless", {"l": [{"n": n} for n in range(2_500)]})
            while not bus.supervisor.workers._all:
                await asyncio.sleep(0.01)
            own = set(psutil.Process().children()) - before
            workers = [worker for one in own for worker in one.children(recursive=True)]
            assert own
        assert set(psutil.Process().children()) - before == set()
        until(lambda: not any(alive(one) for one in workers), within=60, what="the end of every worker")

    asyncio.run(scenario())


def test_a_slow_step_does_not_begin_on_the_loop_twice_and_comes_back_when_it_is_quick(working: Start) -> None:
    async def scenario() -> None:
        async with working(SLOW, "{ transform: 60s }", plugin=PLUGIN) as bus:
            slow = bus.supervisor.watch.slow
            assert (await bus.run("slow", {"no": 1})).state == "done"
            assert [node.id for node in slow.values()] == ["transform"]
            node = bus.supervisor.routes["quick"].runner.spec.steps.nodes[0]
            slow[id(node)] = node  # as if it had been slow once
            assert (await bus.run("quick", {"no": 1})).state == "done"
            assert [node.id for node in slow.values()] == ["transform"]

    asyncio.run(scenario())


BLOCKING = (
    "route: own\nfrom: { route: {} }\nsteps: [ { python: own.hold, timeout: 300ms }, { respond: { body: body } } ]\n"
)
HOLDS = """
import os
import time


def hold(body):
    if body["long"]:
        time.sleep(60 if body["long"] is True else float(body["long"]))
    return os.getpid()
"""


def test_a_function_that_blocks_is_ended_in_its_worker(working: Start) -> None:
    async def go() -> None:
        async with working(BLOCKING, "{ workers: 1 }", plugin=HOLDS) as bus:
            said = (await bus.run("own", {"long": False})).response
            assert said is not None
            assert said[2] != os.getpid()
            assert (await bus.run("own", {"long": True})).state == "dead"
            error = bus.messages()[-1].error
            assert error is not None
            assert "longer than 0.3 s" in error.message
            assert (await bus.run("own", {"long": False})).state == "done"

    asyncio.run(go())


@pytest.mark.parametrize(("long", "state"), [(0.9, "done"), (60, "dead")])
def test_a_step_that_is_kept_from_the_processors_has_more_time_but_not_for_ever(
    working: Start, monkeypatch: pytest.MonkeyPatch, long: float, state: str
) -> None:
    """Workers give way to everything else: what a busy machine does to them is no fault of the message."""
    waited = itertools.count(0, 1_000)
    monkeypatch.setattr(workers, "kept_waiting", lambda _: next(waited))

    async def go() -> None:
        async with working(BLOCKING, "{ workers: 1 }", plugin=HOLDS) as bus:
            assert (await bus.run("own", {"long": long})).state == state

    asyncio.run(go())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
def test_a_process_that_competes_for_its_processor_is_seen_to_wait() -> None:
    """Two that compute, both on one processor."""
    one = min(os.sched_getaffinity(0))
    program = f"import os; os.sched_setaffinity(0, [{one}])\nwhile True: pass"
    both = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]
    try:
        until(lambda: all(workers.kept_waiting(process.pid) > 0.05 for process in both), within=60, what="a wait")
    finally:
        for process in both:
            process.kill()
            process.wait()
    assert workers.kept_waiting(both[0].pid) == 0.0


def test_the_command_line_says_how_many_before_the_settings_do(tmp_path: Path) -> None:
    (tmp_path / "esb.yaml").write_text("limits: { workers: 3 }\n")

    async def scenario(asked: int | None) -> int:
        bus = await Bus.open(tmp_path, log=lambda *_, **__: None, workers=asked)  # type: ignore[arg-type]  # a double, or none
        await bus.start(watch=False)
        try:
            return bus.supervisor.workers._size
        finally:
            await bus.stop()

    assert asyncio.run(scenario(None)) == 3
    assert asyncio.run(scenario(5)) == 5


def test_deliveries_of_a_source_with_an_order_are_accepted_in_it_however_large_they_are(working: Start) -> None:
    """The large one is read in a worker process, which takes longer than to accept what comes behind it."""
    route = "route: lots\nfrom: { route: {} }\nsteps: [ { filter: 'body.id == `0`' } ]\n"
    bodies = [b'{"id":1,"text":"' + b"x" * 200_000 + b'"}', b'{"id":2}', b'{"id":3}']

    async def scenario() -> None:
        async with working(route, "{ workers: 2 }") as bus:
            intake = bus.supervisor.routes["lots"].intake
            told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            first = asyncio.create_task(intake.accept(Incoming(bodies[0], codec=Json(), in_order=True)))
            await asyncio.sleep(0)
            assert not intake.accept_soon(Incoming(bodies[1], codec=Json(), in_order=True), told.set_result)
            rest = [intake.accept(Incoming(body, codec=Json(), in_order=True)) for body in bodies[1:]]
            seqs = [receipt.seq for receipt in await asyncio.gather(first, *rest)]
            assert seqs == sorted(seqs)
            assert intake.accept_soon(Incoming(bodies[1], codec=Json(), in_order=True), told.set_result)
            assert (await told).seq > seqs[-1]

    asyncio.run(scenario())


@pytest.mark.parametrize("fault", [StoreBusy("no room"), InternalFault("no room")], ids=["busy", "no worker"])
def test_who_comes_behind_one_that_was_not_taken_is_not_taken_either(working: Start, fault: EsbError) -> None:
    async def scenario() -> None:
        async with working(
            "route: lots\nfrom: { route: {} }\nsteps: [ { filter: body.id } ]\n", "{ workers: 2 }"
        ) as bus:
            intake, read = bus.supervisor.routes["lots"].intake, asyncio.Event()

            async def no_room(incoming: Incoming) -> Any:
                await read.wait()
                raise fault

            intake._read_away = no_room
            first = asyncio.create_task(intake.accept(Incoming(b"x" * 200_000, codec=Json(), in_order=True)))
            await asyncio.sleep(0)
            second = asyncio.create_task(intake.accept(Incoming(b'{"id":2}', codec=Json(), in_order=True)))
            await asyncio.sleep(0)
            read.set()
            answers = await asyncio.gather(first, second, return_exceptions=True)
            assert [str(answer) for answer in answers] == ["no room", "what came before it was not taken"]
            assert (await intake.accept(Incoming(b'{"id":3}', codec=Json(), in_order=True))).state == "queued"

    asyncio.run(scenario())
