"""The durable core against the raw group commit with the same validate and map called directly."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from benchmarks.figures import Figure, Rate, alternate, median, ratio
from esb.cli.run import keep_loaded
from esb.clock import SystemClock
from esb.config.loader import load_workspace
from esb.endpoints.base import Incoming
from esb.endpoints.ingress import HttpIngress
from esb.formats.json import Json
from esb.message import Message
from esb.runtime.supervisor import Supervisor
from esb.store import open_store

T = TypeVar("T")
SCHEMA_FILE = "schemas/inspection.v1.json"
MESSAGES, CLIENTS = 6_000, 200

MAPPING = """
      InspectionLot: body.lot.id
      Plant: body.plant
      Material: body.lot.material
      Decision: body.result
      Quantity: sum(body.characteristics[].value)
      Characteristics: "body.characteristics[].{No: no, Value: value, Unit: unit, Valuation: valuation}"
"""
ROUTE = """
route: bench
from: { route: {} }
steps:
  - validate: inspection.v1
  - map: MAPPING
  - publish: inspections
""".replace(" MAPPING", MAPPING.rstrip())
LISTENER = """
route: listener
from: { topic: inspections }
steps:
  - filter: body.Plant == 'NONE'
"""

SCHEMA = """{
  "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "required": ["id", "lot", "result", "characteristics"],
  "properties": {
    "id": {"type": "string"}, "plant": {"type": "string"}, "result": {"enum": ["ACCEPT", "REJECT"]},
    "lot": {"type": "object", "required": ["id", "material"], "properties": {"id": {"type": "string", "maxLength": 12}, "material": {"type": "string"}}},
    "characteristics": {"type": "array", "items": {"type": "object", "required": ["no", "value"], "properties": {
      "no": {"type": "string"}, "value": {"type": "number", "minimum": 0}, "unit": {"type": "string"}, "valuation": {"enum": ["A", "R"]}}}}
  }
}"""


def payload(number: int) -> bytes:
    """About 1.5 KB with twelve characteristics."""
    characteristics = ",".join(
        f'{{"no":"{n:04}","value":{n}.{number % 1000:03},"unit":"MMT","valuation":"A","method":"caliper 0.01","inspector":"QX-{n}"}}'
        for n in range(12)
    )
    return (
        f'{{"id":"I-{number}","plant":"P10","result":"ACCEPT","lot":{{"id":"{number:012}","material":"MAT-0012"}},'
        f'"note":"incoming inspection of electronic components, sample plan II","characteristics":[{characteristics}]}}'
    ).encode()


def workspace(root: Path, routes: Mapping[str, str]) -> Any:
    for name, text in {**{f"routes/{name}.yaml": text for name, text in routes.items()}, SCHEMA_FILE: SCHEMA}.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    loaded, problems = load_workspace(root)
    assert loaded is not None, problems
    return loaded


def run(main: Coroutine[Any, Any, T]) -> T:
    """On uvloop, as `esb run` does."""
    try:
        from uvloop import run as on_uvloop
    except ImportError:
        return asyncio.run(main)
    return on_uvloop(main)


def report(*, full: bool) -> Iterator[Figure]:
    rounds = 9 if full else 5
    ours, floors = alternate(rounds, durable, floor)
    said = f"{median(ours):.0f}/s; raw SQLite, 100 a commit, same validate and map {median(floors):.0f}/s{cpu(ours, floors)}"
    yield Figure("durable core: topic in, validate, map, topic out", ratio(ours, floors), 0.5, said=said)
    ours, floors = alternate(rounds, lambda: durable(listener=True), lambda: floor(listener=True))
    said = f"{median(ours):.0f}/s; raw, both messages accepted and completed {median(floors):.0f}/s{cpu(ours, floors)}"
    yield Figure("the same with a route that reads the topic", ratio(ours, floors), 0.5, said=said)
    mapped, by_hand = alternate(rounds, mapping_cost, hand_cost)
    said = f"{median(mapped):.1f} µs; the same contract called, mapping in Python {median(by_hand):.1f} µs"
    yield Figure("validate and map / written by hand", ratio(mapped, by_hand), 1.5, True, said)


def cpu(ours: list[Rate], floors: list[Rate]) -> str:
    """The same ratio in CPU time: what is left of it when the machine is busy with other things."""
    return f"; in CPU time {ratio([one.cpu for one in floors], [one.cpu for one in ours]):.2f}"


# -- the floor ----------------------------------------------------------------------------------------------------------
def floor(*, listener: bool = False) -> Rate:
    """Messages a second of bare accept and complete: parse, validate, map, dump; two commits per 100 messages.

    ``listener``: what is published is pending in the same commit, and completed in one of its own.
    """
    payloads = [payload(n) for n in range(MESSAGES)]
    with steps_called() as convert, tempfile.TemporaryDirectory() as name:
        db = sqlite3.connect(Path(name) / "floor.db", isolation_level=None)
        db.executescript("PRAGMA page_size=8192; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
        db.executescript(
            "CREATE TABLE message(seq INTEGER PRIMARY KEY, body BLOB); CREATE TABLE pending(seq INTEGER PRIMARY KEY);"
            "CREATE TABLE outcome(seq INTEGER PRIMARY KEY, state INT);"
        )
        began = Rate.now()
        for first in range(0, MESSAGES, 100):
            group = payloads[first : first + 100]
            numbers = [(n,) for n in range(first, first + len(group))]
            born = [(MESSAGES + n,) for (n,) in numbers]
            db.execute("BEGIN IMMEDIATE")
            db.executemany(
                "INSERT INTO message VALUES (?, ?)", ((n, d) for (n,), d in zip(numbers, group, strict=True))
            )
            db.executemany("INSERT INTO pending VALUES (?)", numbers)
            db.execute("COMMIT")
            out = [convert(data) for data in group]
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT INTO message VALUES (?, ?)", ((n, o) for (n,), o in zip(born, out, strict=True)))
            if listener:
                db.executemany("INSERT INTO pending VALUES (?)", born)
            _complete(db, numbers)
            if listener:
                db.execute("BEGIN IMMEDIATE")
                _complete(db, born)
        rate = Rate.since(began, MESSAGES)
        db.close()
    return rate


def _complete(db: sqlite3.Connection, numbers: list[tuple[int]]) -> None:
    db.executemany("INSERT INTO outcome VALUES (?, 1)", numbers)
    db.executemany("DELETE FROM pending WHERE seq = ?", numbers)
    db.execute("COMMIT")


class _Scope:
    """The little of a context that ``map`` asks for."""

    step = "map"

    @staticmethod
    def scope(message: Message) -> dict[str, Any]:
        return {"body": message.body, "headers": {}, "vars": {}, "meta": {}, "site": {}}


def _steps(root: Path) -> tuple[Any, Any]:
    nodes = workspace(root, {"bench": ROUTE}).routes["bench"].steps.nodes
    return nodes[0].step.contract.check, nodes[1].step.apply


@contextmanager
def steps_called() -> Iterator[Callable[[bytes], bytes]]:
    """The parser, contract and mapping of the route called directly: bytes in, bytes out."""
    with tempfile.TemporaryDirectory() as name:
        check, apply = _steps(Path(name))
        codec, scope = Json(), _Scope()

        def convert(data: bytes) -> bytes:
            body = codec.decode(data)
            check(body)
            return codec.encode(apply(Message(body), scope).body)

        yield convert


# -- validate and map ---------------------------------------------------------------------------------------------------
def mapping_cost() -> float:
    """Microseconds of `validate` and `map` for one message."""
    with tempfile.TemporaryDirectory() as name:
        check, apply = _steps(Path(name))
        body = Json().decode(payload(5))
        message, scope = Message(body), _Scope()
        return _micros(lambda: (check(body), apply(message, scope)))


def hand_cost() -> float:
    """The same contract called directly, and the mapping as a Python programmer writes it."""
    with tempfile.TemporaryDirectory() as name:
        check, _ = _steps(Path(name))
        body = Json().decode(payload(5))
        return _micros(lambda: (check(body), _by_hand(body)))


def _by_hand(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "InspectionLot": body["lot"]["id"],
        "Plant": body["plant"],
        "Material": body["lot"]["material"],
        "Decision": body["result"],
        "Quantity": sum((one["value"] for one in body["characteristics"]), Decimal(0)),
        "Characteristics": [
            {"No": one["no"], "Value": one["value"], "Unit": one["unit"], "Valuation": one["valuation"]}
            for one in body["characteristics"]
        ],
    }


def _micros(call: Callable[[], object], times: int = 5_000) -> float:
    began = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - began) / times * 1e6


# -- the bus ------------------------------------------------------------------------------------------------------------
def durable(
    *,
    listener: bool = False,
    routes: Mapping[str, str] = MappingProxyType({"bench": ROUTE}),
    fill: Callable[[Path], None] | None = None,
    payloads: Sequence[bytes] = (),
    store: str = "",
) -> Rate:
    """Messages a second through intake, store, lanes, pipeline and settlement of the real runtime, over all ``routes``.

    ``fill`` puts rows into the store before it is opened; ``store`` is the address of another one than a file.
    """
    return run(_durable(routes, {"listener": LISTENER} if listener else {}, fill, payloads, store))


async def _durable(
    routes: Mapping[str, str],
    more: Mapping[str, str],
    fill: Callable[[Path], None] | None,
    payloads: Sequence[bytes],
    url: str,
) -> Rate:
    payloads = payloads or [payload(n) for n in range(MESSAGES)]
    with tempfile.TemporaryDirectory() as name:
        root, clock = Path(name), SystemClock()
        loaded = workspace(root, {**routes, **more})
        if fill is not None:
            fill(root)
        store = await open_store(url or loaded.settings.store, root, clock=clock)
        supervisor = Supervisor(store, clock, HttpIngress(), lambda *_a, **_k: None, loaded)
        await supervisor.start()
        keep_loaded()
        live = [supervisor.routes[route] for route in routes]
        before = _ended(store)
        source = zip(payloads, itertools.cycle(live))

        async def client() -> None:
            for data, route in source:
                await route.intake.accept(Incoming(data, codec=Json()))

        began = Rate.now()
        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        while any(len(route.runner.lanes) for route in supervisor.routes.values()):
            await asyncio.sleep(0.005)
        rate = Rate.since(began, len(payloads))
        assert _ended(store) - before == len(payloads) * (1 + len(more)), store.counts()
        await supervisor.stop(loaded.settings.limits.drain)
        await store.close()
    return rate


async def worked_off(root: Path, loaded: Any, messages: int) -> Rate:
    """Messages a second that the sources of a workspace take, until so many of them are done."""
    store = await open_store(loaded.settings.store, root, clock=(clock := SystemClock()))
    supervisor = Supervisor(store, clock, HttpIngress(), lambda *_a, **_k: None, loaded)
    keep_loaded()
    began = Rate.now()
    await supervisor.start()
    while _ended(store) < messages:
        await asyncio.sleep(0.01)
    rate = Rate.since(began, messages)
    await supervisor.stop(loaded.settings.limits.drain)
    await store.close()
    return rate


def _ended(store: Any) -> int:
    return sum(count.states.get("done", 0) for count in store.counts())
