"""What somebody waits for who writes routes: lint, lint again, format, and the language server's reading."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure, median
from benchmarks.footprint import seconds
from benchmarks.programs import folder

ROUTES = 200
CONTRACT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["id", "lot", "result"],
    "properties": {
        "id": {"type": "string"},
        "result": {"enum": ["ACCEPT", "REJECT"]},
        "lot": {"type": "object", "properties": {"id": {"type": "string"}, "erp_no": {"type": "string"}}},
        "plant": {"type": "string"},
        "samples": {"type": "array", "items": {"type": "object", "properties": {"n": {}, "qty": {"type": "number"}}}},
    },
}
SETTINGS = """bus: bench
criticality: { urgent: { retry: { max: 20, backoff: 1s..5m }, within: 5s, alert: desk } }
alerts: { desk: { http: { url: "https://alerts.example.com/" } } }
policy: { require: [owner, criticality, key] }
"""
CONNECTOR = """connector: erp
type: http
base_url: https://erp.example.com
operations:
  decide: { path: "/lots/{{ body.InspectionLot }}/decision", success_when: meta.reply.body.ok }
  note: { path: /notes, body: "{ lot: body.InspectionLot }" }
"""
ROUTE = """route: inspection-{n}
owner: quality-it
criticality: urgent
key: body.lot.id
dedupe: body.id
track: {{ lot: body.lot.id, inspection: body.id }}
from:
  http: {{ path: /inspections/{n}, contract: inspection-{c}.v1 }}
steps:
  - lookup: {{ table: plants, by: body.plant, into: vars.werks }}
  - choose:
      - when: body.result == 'REJECT'
        steps: [ {{ set: {{ vars.decision: "'R'" }} }} ]
      - otherwise: [ {{ set: {{ vars.decision: "'A'" }} }} ]
  - map:
      InspectionLot: body.lot.erp_no
      Plant: vars.werks
      UsageDecision: vars.decision
      Quantity: sum(body.samples[].qty)
  - to: erp.decide
    timeout: 10s
  - fanout:
      notes: {{ steps: [ {{ to: erp.note }} ] }}
      log: {{ if: "body.Quantity > `10`", steps: [ {{ log: "large: {{{{ body.InspectionLot }}}}" }} ] }}
on_error:
  - {{ for: unmapped, dead_letter: master-data }}
  - {{ for: [exhausted, rejected], dead_letter: erp, alert: desk }}
"""


def workspace(routes: int) -> dict[str, str]:
    """So many routes that look like real ones, with their contracts, a system and a table."""
    files = {
        "esb.yaml": SETTINGS,
        "connectors/erp.yaml": CONNECTOR,
        "transforms/tables/plants.csv": "plant,werks\nP10,1000\n",
    }
    files |= {f"schemas/inspection-{c}.v1.json": json.dumps(CONTRACT, indent=2) for c in range(routes // 10)}
    return files | {f"routes/r{n}.yaml": ROUTE.format(n=n, c=n % (routes // 10)) for n in range(routes)}


def report(*, full: bool) -> Iterator[Figure]:
    rounds = 5 if full else 3
    with folder(workspace(ROUTES)) as root:
        yield seconds(f"esb lint, {ROUTES} routes", [_edited(root) for _ in range(rounds)], 1)
        _esb(root, "lint")
        yield seconds("esb lint again, nothing changed", [_esb(root, "lint") for _ in range(rounds)], 0.3)
        yield seconds(f"esb fmt --check, {ROUTES} routes", [_esb(root, "fmt", "--check") for _ in range(rounds)], 5)
        yield Figure("keystroke to diagnostics", median([_read(root) for _ in range(rounds)]), 1, True, unit=" s")


def _edited(root: Path) -> tuple[float, float]:
    (root / "routes/r0.yaml").touch()  # else the last answer is given again
    return _esb(root, "lint")


def _esb(root: Path, *words: str) -> tuple[float, float]:
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "esb", *words, str(root)], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, cpu


def _read(root: Path) -> float:
    """What the language server does after a change, without the pause that it waits for the next one."""
    from esb.lsp.desk import Desk

    desk = Desk(root)
    desk.read()
    began = time.perf_counter()
    assert not desk.read().errors
    return time.perf_counter() - began
