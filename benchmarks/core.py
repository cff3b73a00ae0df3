"""The durable core against the raw group commit with the same validate and map called directly."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

from esb.clock import SystemClock
from esb.config.loader import load_workspace
from esb.endpoints.base import Incoming
from esb.endpoints.ingress import HttpIngress
from esb.formats.json import Json
from esb.message import Message
from esb.runtime.supervisor import Supervisor
from esb.store import open_store

MESSAGES, CLIENTS = 10_000, 200

ROUTE = """
route: bench
from: { route: {} }
steps:
  - validate: inspection.v1
  - map:
      InspectionLot: body.lot.id
      Plant: body.plant
      Material: body.lot.material
      Decision: body.result
      Quantity: sum(body.characteristics[].value)
      Characteristics: "body.characteristics[].{No: no, Value: value, Unit: unit, Valuation: valuation}"
  - publish: inspections
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


def workspace(folder: Path) -> Any:
    (folder / "routes").mkdir()
    (folder / "schemas").mkdir()
    (folder / "routes" / "bench.yaml").write_text(ROUTE)
    (folder / "schemas" / "inspection.v1.json").write_text(SCHEMA)
    loaded, problems = load_workspace(folder)
    assert loaded is not None, problems
    return loaded


def floor() -> float:
    """Messages a second of bare accept and complete: parse, validate, map, dump; two commits per 100 messages."""
    payloads = [payload(n) for n in range(MESSAGES)]
    with tempfile.TemporaryDirectory() as name:
        spec = workspace(Path(name)).routes["bench"]
        contract, mapping = spec.steps.nodes[0].step.contract, spec.steps.nodes[1].step
        codec = Json()
        db = sqlite3.connect(Path(name) / "floor.db", isolation_level=None)
        db.executescript("PRAGMA page_size=8192; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
        db.executescript(
            "CREATE TABLE message(seq INTEGER PRIMARY KEY, body BLOB); CREATE TABLE pending(seq INTEGER PRIMARY KEY);"
            "CREATE TABLE outcome(seq INTEGER PRIMARY KEY, state INT);"
        )
        began = time.perf_counter()
        for first in range(0, MESSAGES, 100):
            group = payloads[first : first + 100]
            numbers = range(first, first + len(group))
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT INTO message VALUES (?, ?)", zip(numbers, group, strict=True))
            db.executemany("INSERT INTO pending VALUES (?)", ((n,) for n in numbers))
            db.execute("COMMIT")
            out = []
            for data in group:
                body = codec.decode(data)
                contract.check(body)
                out.append(codec.encode(mapping.apply(Message(body), _Scope()).body))
            db.execute("BEGIN IMMEDIATE")
            db.executemany(
                "INSERT INTO message VALUES (?, ?)", ((MESSAGES + n, o) for n, o in zip(numbers, out, strict=True))
            )
            db.executemany("INSERT INTO outcome VALUES (?, 1)", ((n,) for n in numbers))
            db.executemany("DELETE FROM pending WHERE seq = ?", ((n,) for n in numbers))
            db.execute("COMMIT")
        took = time.perf_counter() - began
        db.close()
    return MESSAGES / took


class _Scope:
    """The little of a context that ``map`` asks for."""

    step = "map"

    @staticmethod
    def scope(message: Message) -> dict[str, Any]:
        return {"body": message.body, "headers": {}, "vars": {}, "meta": {}, "site": {}}


def durable() -> float:
    """Messages a second through intake, store, lanes, pipeline and settlement of the real runtime."""
    try:
        from uvloop import run
    except ImportError:
        run = asyncio.run
    return float(run(_durable()))


async def _durable() -> float:
    payloads = [payload(n) for n in range(MESSAGES)]
    with tempfile.TemporaryDirectory() as name:
        root, clock = Path(name), SystemClock()
        loaded = workspace(root)
        store = await open_store(loaded.settings.store, root, clock=clock)
        supervisor = Supervisor(store, clock, HttpIngress(), lambda *_a, **_k: None, loaded)
        await supervisor.start()
        live = supervisor.routes["bench"]
        source = iter(payloads)

        async def client() -> None:
            for data in source:
                await live.intake.accept(Incoming(data, codec=Json()))

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        while len(live.runner.lanes):
            await asyncio.sleep(0.005)
        took = time.perf_counter() - began
        counts = {count.route: count for count in store.counts()}["bench"]
        assert counts.states["done"] == MESSAGES, counts
        await supervisor.stop(loaded.settings.limits.drain)
        await store.close()
    return MESSAGES / took


if __name__ == "__main__":
    print(f"floor {floor():.0f}/s  bus {durable():.0f}/s")
