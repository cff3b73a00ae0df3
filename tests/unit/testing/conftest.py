"""A small workspace, and a way to run one case in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent, indent

import pytest

from esb.config.diagnostics import render_text
from esb.testing.reader import read_suites
from esb.testing.results import Result
from esb.testing.run import Runner

FILES = {
    "connectors/erp.yaml": """
        connector: erp
        type: http
        base_url: http://erp.invalid
        auth: { basic: { user: ESB, password: "${secret:erp-password}" } }
        timeout: 10s
        operations:
          decide: { path: "/lots/{{ body.lot }}", headers: { x-plant: P10 }, success_when: meta.reply.body.ok }
          note: { path: /notes }
        stub: { note: { status: 204 } }
        """,
    "connectors/store.yaml": """
        connector: store
        type: sql
        url: sqlite:///store.db
        operations:
          keep: { statement: "insert into lots values (:lot)", values: { lot: body.lot } }
        """,
    "routes/lots.yaml": """
        route: lots
        key: body.lot
        dedupe: body.id
        retry: { max: 3, backoff: 2s..5m }
        from:
          http: { path: /lots, auth: erp }
        steps:
          - reject: "no lot {{ body.lot }}"
            if: body.lot == 'none'
          - map: { id: body.id, lot: body.lot, qty: body.qty }
          - to: erp.decide
          - publish: { topic: decided, headers: { x-plant: P10 } }
          - fanout:
              notes: { steps: [ { to: erp.note } ] }
              table: { if: body.qty, steps: [ { to: store.keep } ] }
        on_error:
          - { for: rejected, dead_letter: lots }
        ---
        route: listener
        from: { topic: decided }
        steps: [ { to: erp.note } ]
        ---
        route: files
        from: { file: { path: "in/*.csv", format: csv } }
        steps: [ { split: { each: body, steps: [ { to: store.keep } ] } } ]
        """,
}


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(dedent(text).lstrip(), encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        write(tmp_path, name, text)
    connector = tmp_path / "connectors/erp.yaml"
    text = connector.read_text(encoding="utf-8")
    inbound = "inbound: { api_key: { key: '${secret:erp-inbound}', client: erp } }\n"
    connector.write_text(text.replace("timeout: 10s\n", f"timeout: 10s\n{inbound}"), encoding="utf-8")
    return tmp_path


RunCase = Callable[..., Result]


@pytest.fixture
def run(root: Path) -> RunCase:
    """Run the one case of a text; ``route`` names the route it is for."""

    def one(text: str, *, route: str = "lots") -> Result:
        body = indent(dedent(text).strip(), "    ")
        write(root, "routes/one.test.yaml", f"route: {route}\ncases:\n  - name: one\n{body}\n")
        runner = Runner(root)
        suites, problems = read_suites(root, runner.workspace, runner.clock)
        assert not problems, render_text(problems, lambda path: (root / path).read_text().splitlines())
        (result,) = runner.run([(suites[0], suites[0].options.cases[0])])
        return result

    return one
