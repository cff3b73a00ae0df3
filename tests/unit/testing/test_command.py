"""``esb test`` from outside: what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

from esb.cli import cli

ROOT = Path(__file__).parents[3]
CASES = """
route: lots
cases:
  - name: refused
    send: { json: { id: 1, lot: none } }
    expect: { state: dead }
  - name: taken & <done>
    send: { json: { id: 1, lot: L1 } }
    stubs: { erp.decide: { json: { ok: true } } }
    expect: { state: STATE }
"""


def esb(*words: str):
    return CliRunner().invoke(cli, ["test", *words])


def write_cases(root: Path, state: str = "done") -> None:
    (root / "routes/lots.test.yaml").write_text(CASES.replace("STATE", state), encoding="utf-8")


def test_all_pass(root: Path) -> None:
    write_cases(root)
    done = esb(str(root))
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        "routes/lots.test.yaml",
        "  ✓ refused",
        "  ✓ taken & <done>",
        "2 passed, 0 failed · steps covered 6/7 · branches 2/2",
        "  not run: lots: fanout/table/to:store.keep",
    ]


BRANCHES = """
route: branches
from: { route: {} }
steps:
  - filter: body.kind != 'NOISE'
  - log: late
    if: body.late
  - choose:
      - { when: body.kind == 'A', steps: [ { set: { vars.a: body.kind } } ] }
      - { when: body.kind == 'B', steps: [ { set: { vars.b: body.kind } } ] }
  - choose:
      - { when: body.kind == 'A', steps: [ { set: { vars.c: body.kind } } ] }
      - { otherwise: [ { set: { vars.d: body.kind } } ] }
"""
SENT = """
route: branches
cases:
  - name: an A
    send: { json: { kind: A, late: false } }
    expect: { state: done }
"""


def test_ways_that_no_case_took_are_named(tmp_path: Path) -> None:
    (tmp_path / "routes").mkdir()
    (tmp_path / "routes/branches.yaml").write_text(BRANCHES, encoding="utf-8")
    case = tmp_path / "routes/branches.test.yaml"
    case.write_text(SENT, encoding="utf-8")
    lines = esb(str(tmp_path)).output.splitlines()
    assert lines[2] == "1 passed, 0 failed · steps covered 5/8 · branches 4/9"
    assert [line for line in lines if "not taken" in line] == [
        "  not taken: branches: filter: keeps a message out",
        "  not taken: branches: log: `if` is true",
        "  not taken: branches: choose: branch `body.kind == 'B'`",
        "  not taken: branches: choose: no branch",
        "  not taken: branches: choose#2: `otherwise`",
    ]
    more = [("NOISE", "false"), ("B", "true"), ("C", "false")]
    sent = "".join(f"\n      - {{ json: {{ kind: {kind}, late: {late} }} }}" for kind, late in more)
    case.write_text(f"{SENT}  - name: others\n    send: {sent}\n    expect: {{ state: done }}\n", encoding="utf-8")
    assert esb(str(tmp_path)).output.splitlines()[-1] == "2 passed, 0 failed · steps covered 8/8 · branches 9/9"


def test_coverage_is_told_route_by_route_and_of_routes_without_a_test(tmp_path: Path) -> None:
    (tmp_path / "routes").mkdir()
    (tmp_path / "routes/branches.yaml").write_text(BRANCHES, encoding="utf-8")
    (tmp_path / "routes/alone.yaml").write_text("route: alone\nfrom: { route: {} }\nsteps: [ { log: x } ]\n")
    (tmp_path / "routes/branches.test.yaml").write_text(SENT, encoding="utf-8")
    lines = esb(str(tmp_path), "--coverage").output.splitlines()
    assert lines[2:4] == [
        "1 passed, 0 failed · steps covered 5/9 · branches 4/9",
        "  branches  steps 5/8 · branches 4/9",
    ]
    assert lines[-2:] == ["  alone     steps 0/1", "    not run: log"]
    assert "    not taken: choose#2: `otherwise`" in lines
    found = json.loads(esb(str(tmp_path), "--coverage", "--json").stdout)["coverage"]
    assert [(one["route"], one["steps"], one["steps_run"]) for one in found] == [("branches", 8, 5), ("alone", 1, 0)]
    assert (found[0]["branches"], found[0]["branches_taken"], len(found[0]["not_taken"])) == (9, 4, 5)
    chosen = json.loads(esb(str(tmp_path), "--coverage", "--json", "-k", "an A").stdout)["coverage"]
    assert [one["route"] for one in chosen] == ["branches"]


def test_one_fails(root: Path, tmp_path: Path) -> None:
    write_cases(root, "dead")
    done = esb(str(root), "--junit", str(tmp_path / "out/report.xml"))
    assert done.exit_code == 1
    assert "routes/lots.test.yaml:10:15: expected state `dead`, got `done`" in done.output
    (suite,) = ET.parse(tmp_path / "out/report.xml").getroot()
    assert suite.attrib["tests"] == "2"
    assert suite.attrib["failures"] == "1"
    assert [case.attrib["name"] for case in suite if case.find("failure") is not None] == ["taken & <done>"]


def test_for_machines(root: Path) -> None:
    write_cases(root, "dead")
    done = esb(str(root), "--json", "-k", "taken")
    assert done.exit_code == 1
    answer = json.loads(done.stdout)
    assert answer["kind"] == "TestResults"
    (item,) = answer["items"]
    assert (item["name"], item["passed"], item["line"]) == ("taken & <done>", False, 7)
    assert item["failures"][0]["at"] == "routes/lots.test.yaml:10:15"


def test_no_test_is_found(root: Path) -> None:
    assert esb(str(root)).exit_code == 66
    write_cases(root)
    done = esb(str(root), "-k", "nothing like it")
    assert done.exit_code == 66
    assert "none of the 2 cases has these words" in done.output
    assert esb(str(root), "-k", "and").exit_code == 2
    assert esb(str(root / "nowhere")).exit_code == 66


def test_a_broken_workspace_or_test_file(root: Path) -> None:
    write_cases(root, "doen")
    done = esb(str(root))
    assert done.exit_code == 78
    assert "routes/lots.test.yaml:10:22: ESB105" in done.output
    assert "did you mean `done`?" in done.output
    write_cases(root)
    (root / "routes/bad.yaml").write_text("route: bad\nform: { http: { path: /x } }\nsteps: []\n", encoding="utf-8")
    done = esb(str(root))
    assert done.exit_code == 78
    assert "routes/bad.yaml:2:1: ESB101" in done.output


def test_the_environment_is_that_of_the_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (root / "connectors/erp.yaml").read_text(encoding="utf-8")
    (root / "connectors/erp.yaml").write_text(text.replace("http://erp.invalid", "${ERP}"), encoding="utf-8")
    monkeypatch.setenv("ERP", "http://of-the-machine")
    write_cases(root)
    done = esb(str(root))
    assert done.exit_code == 78
    assert "give values under `env:` in the test file" in done.output
    cases = (root / "routes/lots.test.yaml").read_text(encoding="utf-8")
    cases = cases.replace("route: lots\n", "route: lots\nenv: { ERP: http://of-the-test }\n")
    (root / "routes/lots.test.yaml").write_text(cases, encoding="utf-8")
    assert esb(str(root)).exit_code == 0


def test_lint_checks_tests_too(root: Path) -> None:
    write_cases(root, "doen")
    done = CliRunner().invoke(cli, ["lint", str(root)])
    assert done.exit_code == 1
    assert "routes/lots.test.yaml:10:22: ESB105" in done.output


@pytest.mark.parametrize("workspace", [ROOT, ROOT / "examples/testing"], ids=["reference", "example"])
def test_the_routes_of_this_repository_pass_their_tests(workspace: Path) -> None:
    done = esb(str(workspace))
    assert done.exit_code == 0, done.output
    assert "not run" not in done.output
