"""Faults of test files: all at once, each with its place and the nearest right word."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from esb.config.codes import CODES
from esb.config.diagnostics import render_text
from esb.config.loader import load_workspace
from esb.testing.clock import VirtualClock
from esb.testing.reader import read_suites
from esb.testing.select import BadSelection, select

GOLDEN = Path(__file__).parents[2] / "golden" / "testing"


def suites_of(root: Path):
    workspace, _ = load_workspace(root, need_secrets=False)
    return read_suites(root, lambda _: workspace, VirtualClock())


def test_every_fault_of_a_test_file_is_shown_as_expected(root: Path) -> None:
    text = (GOLDEN / "faults.test.yaml").read_text(encoding="utf-8")
    (root / "routes/faults.test.yaml").write_text(text, encoding="utf-8")
    suites, problems = suites_of(root)
    shown = render_text(problems, lambda path: (root / path).read_text().splitlines()) + "\n"
    golden = GOLDEN / "faults.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(shown, encoding="utf-8")
    assert shown == golden.read_text(encoding="utf-8")
    assert suites == []
    assert all(problem.code in CODES for problem in problems)


SUITE = """
route: lots
cases:
  - { name: a hold, send: { json: 1 }, expect: { state: done } }
  - { name: the ERP is down, send: { json: 1 }, expect: { state: done } }
"""


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("", ["a hold", "the ERP is down"]),
        ("hold", ["a hold"]),
        ("erp is down", ["the ERP is down"]),
        ("not hold", ["the ERP is down"]),
        ("hold or erp", ["a hold", "the ERP is down"]),
        ("hold and erp", []),
        ("lots and not (hold or erp)", []),
    ],
)
def test_cases_are_selected_by_words(root: Path, expression: str, names: list[str]) -> None:
    (root / "routes/one.test.yaml").write_text(SUITE, encoding="utf-8")
    suites, problems = suites_of(root)
    assert not problems
    assert [case.name for _, case in select(suites, expression)] == names


@pytest.mark.parametrize("expression", ["and", "(hold", "hold)", "not", "hold or"])
def test_a_selection_that_cannot_be_read(root: Path, expression: str) -> None:
    (root / "routes/one.test.yaml").write_text(SUITE, encoding="utf-8")
    with pytest.raises(BadSelection):
        select(suites_of(root)[0], expression)
