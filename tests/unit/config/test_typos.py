"""Whatever is mistyped in a good route is found near its place, and nothing that can be typed raises."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
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
          drop_after: 1h
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
}
#: mappings whose keys are the author's own
FREE = {"map", "set", "track", "fanout", "operations", "criticality", "alerts"}
FILES_WITH_KEYS = ("esb.yaml", "connectors/erp.yaml", "routes/inspection.yaml")


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


@st.composite
def typos(draw: st.DrawFn) -> tuple[str, ScalarNode, str]:
    """A key of the workspace and what somebody typed instead."""
    path, key = draw(st.sampled_from(KEYS))
    word = key.text
    at = draw(st.integers(0, len(word) - 1))
    kind = draw(st.sampled_from(["drop", "double", "swap", "replace", "add"]))
    letter = draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz_"))
    typed = {
        "drop": word[:at] + word[at + 1 :],
        "double": word[:at] + word[at] + word[at:],
        "swap": word[:at] + word[at + 1 : at + 2] + word[at] + word[at + 2 :],
        "replace": word[:at] + letter + word[at + 1 :],
        "add": word[:at] + letter + word[at:],
    }[kind]
    return path, key, typed


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


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(typo=typos())
def test_a_mistyped_key_is_found_within_three_lines(workspace: Path, typo: tuple[str, ScalarNode, str]) -> None:
    path, key, typed = typo
    if typed == key.text or typed in KNOWN or not typed:
        return
    lines = FILES[path].splitlines(keepends=True)
    line = lines[key.position.line - 1]
    start = key.position.column - 1
    lines[key.position.line - 1] = line[:start] + typed + line[start + len(key.text) :]
    write(workspace, {path: "".join(lines)})
    loaded = look(workspace)
    near = [
        problem
        for problem in loaded.problems
        if problem.position.path == path and abs(problem.position.line - key.position.line) <= 3
    ]
    assert near, f"{key.text} -> {typed}: {[str(problem) for problem in loaded.problems]}"
    assert loaded.workspace is None


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


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


def test_the_workspace_can_be_anywhere(workspace: Path, tmp_path: Path) -> None:
    write(workspace, {})
    shutil.copytree(workspace, tmp_path / "deep" / "er")
    assert look(tmp_path / "deep" / "er").workspace is not None
