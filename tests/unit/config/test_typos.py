"""Whatever is mistyped in a good route is found near its place, and nothing that can be typed raises."""

from __future__ import annotations

import copy
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esb.config.diagnostics import render_json, render_text
from esb.config.loader import Loaded, read_workspace
from esb.config.yaml import read_documents
from esb.spec import ListNode, MapNode, Node, ScalarNode

FILES = {
    "esb.yaml": """bus: graz
timezone: Europe/Vienna
criticality:
  release-blocking:
    retry: { max: 20, backoff: 1s..5m }
    within: 5s
    priority: high
    alert: quality-oncall
alerts: { quality-oncall: {} }
policy: { require: [owner] }
""",
    "connectors/erp.yaml": """connector: erp
type: http
base_url: https://erp.example.com
timeout: 10s
auth:
  basic:
    user: esb
    password: ${ERP_PASSWORD:-none}
operations:
  usage-decision:
    path: /lots/{{ body.lot }}
    method: POST
    success_when: meta.reply.body.ok
""",
    "schemas/inspection-result.v1.json": '{ "type": "object" }\n',
    "transforms/tables/plants.csv": "plant,werks\nP10,1000\n",
    "routes/inspection.yaml": """route: qms-inspection-to-erp
owner: quality-it
description: The usage decision goes to the ERP.
criticality: release-blocking
key: body.lot.id
dedupe:
  key: body.inspection_id
  window: 7d
order:
  on_dead: block
from:
  http:
    path: /qms/inspections
    method: POST
    contract: inspection-result.v1
    reply: accepted
    max_body: 2MB
steps:
  - lookup:
      table: plants
      by: body.plant
      into: vars.werks
  - choose:
      - when: body.result == 'REJECT'
        steps:
          - set: { vars.decision: "'R'" }
      - otherwise:
          - set: { vars.decision: "'A'" }
  - map:
      plant: vars.werks
      decision: vars.decision
      lot: body.lot.id
      lines: body.lines
      released: body.released
    name: build
  - split:
      each: body.lines
      key: body.id
      steps:
        - validate: inspection-result.v1
        - log: line {{ body.id }}
  - fanout:
      erp:
        if: body.released
        steps:
          - to: erp.usage-decision
            timeout: 10s
            retry:
              max: 20
              backoff: 1s..2m
            into: vars.reply
      mes:
        when_down:
          drop_after: 1m
        steps:
          - to:
              http:
                url: https://mes.example.com/orders
                method: PUT
  - respond:
      status: 200
on_error:
  - for: unmapped
    dead_letter: master-data
  - for: [exhausted, rejected]
    dead_letter: erp
    alert: quality-oncall
    steps:
      - log: gone
ttl: 1d
retry:
  max: 8
  jitter: full
within: 10s
""",
    "connectors/mes.yaml": """connector: mes
type: http
params:
  url: { type: string, description: Where it is }
  client: { type: string, default: "100" }
base_url: "{{ params.url }}/{{ params.client }}"
operations:
  order: { path: "/orders/{{ body.id }}" }
""",
    "routes/orders.yaml": """template: orders
description: Orders of a plant.
params:
  plant: { type: string, minLength: 3 }
  wait: { type: string, default: 10s }
routes:
  - route: orders
    owner: plant-it
    key: body.id
    from:
      http:
        path: "/{{ site.id }}/{{ params.plant }}"
        method: POST
    steps:
      - lookup: { table: plants, by: body.plant, into: vars.werks }
      - map: { id: body.id, plant: "'{{ params.plant }}'", qty: number(body.qty) }
      - to: mes.order
        timeout: "{{ params.wait }}"
""",
    "routes/sites/P20.yaml": """site: P20
description: Second plant
use:
  - template: orders
    params: { plant: P20, wait: 5s }
values:
  plant: P20
connectors:
  mes: { url: "https://mes.example.com" }
timezone: America/New_York
locale: en-US
tables:
  plants: plants
policies:
  require: [key]
  criticality:
    release-blocking:
      within: 9s
overrides:
  orders:
    within: 1m
""",
}
#: mappings whose keys are the author's own
FREE = {"map", "set", "track", "fanout", "operations", "criticality", "alerts", "values", "tables", "params"}
FILES_WITH_KEYS = (
    "esb.yaml", "connectors/erp.yaml", "routes/inspection.yaml", "routes/sites/P20.yaml", "routes/orders.yaml",
)  # fmt: skip


def keys_of(node: Node, free: bool = False) -> Iterator[ScalarNode]:
    match node:
        case MapNode():
            for key, value in node.entries:
                if not free:
                    yield key
                yield from keys_of(value, key.text in FREE)
        case ListNode():
            for item in node.items:
                yield from keys_of(item)


def all_keys(path: str) -> list[ScalarNode]:
    documents, _ = read_documents(FILES[path], path, lambda problem: pytest.fail(str(problem)))
    return list(keys_of(documents[0].node))


KEYS = [(path, key) for path in FILES_WITH_KEYS for key in all_keys(path)]
KNOWN = {key.text for _, key in KEYS}


@dataclass(frozen=True)
class Slip:
    """One slip of the keyboard: in this line, at this column, a text became another."""

    kind: str
    path: str
    line: int
    column: int
    was: str
    now: str

    def __str__(self) -> str:
        return f"{self.kind} {self.path}:{self.line}: {self.was!r} -> {self.now!r}"

    def made(self) -> str:
        lines = FILES[self.path].split("\n")
        line, start = lines[self.line - 1], self.column - 1
        assert line[start : start + len(self.was)] == self.was
        lines[self.line - 1] = line[:start] + self.now + line[start + len(self.was) :]
        return "\n".join(lines)


def slips_of_keys() -> Iterator[Slip]:
    """A letter too few, too many, twice, another one, or two that changed places, in every key and at every letter of it."""
    for path, key in KEYS:
        word = key.text
        for at in range(len(word)):
            typed = {
                word[:at] + word[at + 1 :],
                word[:at] + word[at] + word[at:],
                word[:at] + word[at + 1 : at + 2] + word[at] + word[at + 2 :],
                word[:at] + "q" + word[at + 1 :],
                word[:at] + "x" + word[at:],
            }
            for now in sorted(typed - KNOWN - {"", word}):
                yield Slip("key", path, key.position.line, key.position.column, word, now)


def values_of(node: Node, names: bool = True) -> Iterator[ScalarNode]:
    """Every value but the names that documents and routes have: a name may be any, its users say that they miss it."""
    match node:
        case MapNode():
            for number, (key, value) in enumerate(node.entries):
                if not (isinstance(value, ScalarNode) and (key.text in NAMES or (names and number == 0))):
                    yield from values_of(value, names=False)
        case ListNode():
            for item in node.items:
                yield from values_of(item, names=False)
        case ScalarNode():
            yield node


def slips_of_values() -> Iterator[Slip]:
    """Something of another type in place of every value."""
    for path in FILES_WITH_KEYS:
        documents, _ = read_documents(FILES[path], path, lambda problem: pytest.fail(str(problem)))
        lines = FILES[path].splitlines()
        for value in values_of(documents[0].node):
            at = value.position
            was = lines[at.line - 1][at.column - 1 :][: at.length]
            for now in ("[]", "{}", "12", "true", "null", "text", "[a]", "{ a: 1 }"):
                if was.strip() and now != was:
                    yield Slip("value", path, at.line, at.column, was, now)


def slips_of_indentation() -> Iterator[Slip]:
    """Every line one or two blanks, or a level, to the left or to the right."""
    for path in FILES_WITH_KEYS:
        for number, line in enumerate(FILES[path].splitlines(), 1):
            depth = len(line) - len(line.lstrip())
            for shift in (-2, -1, 1, 2, 4):
                if depth + shift >= 0 and (path, number) not in INTO_FREE:
                    yield Slip("indent", path, number, 1, line, " " * (depth + shift) + line.lstrip())


NAMES = frozenset({"route", "template", "connector", "site"})
#: Lines that, one level deeper, stand in a mapping whose keys are the author's own: whatever they say is right there.
INTO_FREE = {("routes/sites/P20.yaml", 8), ("routes/orders.yaml", 6)}
SLIPS = [*slips_of_keys(), *slips_of_values(), *slips_of_indentation()]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("workspace")
    write(root, {})
    return root


def write(root: Path, changed: dict[str, str]) -> None:
    for path, text in {**FILES, **changed}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")


def look(root: Path) -> Loaded:
    loaded = read_workspace(root, environ={})
    render_text(loaded.problems, loaded.read_lines)
    render_json(loaded.problems)
    return loaded


def test_the_workspace_is_good_before_anybody_mistypes(workspace: Path) -> None:
    write(workspace, {})
    loaded = look(workspace)
    assert not loaded.problems, [str(problem) for problem in loaded.problems]
    assert loaded.workspace is not None
    assert len(KEYS) > 80


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(slip=st.sampled_from(SLIPS))
def test_a_slip_is_one_error_within_three_lines_and_never_a_traceback(workspace: Path, slip: Slip) -> None:
    """Any single typo in a key, wrong indentation or value of another type. What still makes sense is no error."""
    write(workspace, {slip.path: slip.made()})
    loaded = look(workspace)
    errors = loaded.errors
    assert (loaded.workspace is None) == bool(errors)
    if slip.kind == "key":
        assert errors, str(slip)
    if errors:
        assert len(errors) == 1, f"{slip}: {[str(problem) for problem in errors]}"
        places = [errors[0].position, *(at for at, _ in errors[0].related)]
        near = [at for at in places if at.path == slip.path and abs(at.line - slip.line) <= 3]
        assert near, f"{slip}: {errors[0]}"


def test_there_are_slips_of_each_kind() -> None:
    counted = Counter(slip.kind for slip in SLIPS)
    assert counted["key"] > 2000
    assert counted["value"] > 500
    assert counted["indent"] > 400


SCRAPS = [
    "",
    ": ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    '"',
    "'",
    "\n",
    "  ",
    "\t",
    "&a ",
    "*a",
    "!x ",
    "${X}",
    "${secret:y}",
    "{{",
]
SCRAPS += ["}}", "|", ">", "#", "?", "<<: ", "~", "1", "null", "é", "%", "@", ",", "\x00", "true", "steps:", "to: "]


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(sorted(FILES)),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), st.sampled_from(SCRAPS)), min_size=1, max_size=3),
)
def test_no_edit_raises_and_every_problem_has_a_place(
    workspace: Path, path: str, edits: list[tuple[float, int, str]]
) -> None:
    text = FILES[path]
    for where, cut, scrap in edits:
        at = int(where * len(text))
        text = text[:at] + scrap + text[at + cut :]
    write(workspace, {path: text})
    loaded = look(workspace)
    assert loaded.workspace is not None or loaded.errors
    for problem in loaded.problems:
        assert problem.position.line <= len(loaded.read_lines(problem.position.path)) + 1
        assert problem.position.column >= 1


def places_of(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield way
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in parts:
        yield from places_of(inner, (*way, key))


SWAPPED = {path: yaml.safe_load(FILES[path]) for path in FILES_WITH_KEYS[1:]}
PLACES = [(path, way) for path, value in SWAPPED.items() for way in places_of(value) if way]
OTHERS = [None, 1, True, "text", [], ["a"], {}, {"a": 1}, [{"a": 1}], "{{ params.x }}", "{{ params.plant }}", 12.5]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(PLACES), other=st.sampled_from(OTHERS))
def test_a_value_of_another_type_never_raises(workspace: Path, place: tuple[str, tuple[Any, ...]], other: Any) -> None:
    path, way = place
    document = copy.deepcopy(SWAPPED[path])
    inner = document
    for step in way[:-1]:
        inner = inner[step]
    inner[way[-1]] = other
    write(workspace, {path: yaml.safe_dump(document, sort_keys=False)})
    loaded = look(workspace)
    assert loaded.workspace is not None or loaded.errors


def test_the_workspace_can_be_anywhere(workspace: Path, tmp_path: Path) -> None:
    write(workspace, {})
    shutil.copytree(workspace, tmp_path / "deep" / "er")
    assert look(tmp_path / "deep" / "er").workspace is not None
