"""Every fault of the golden workspaces is shown exactly as its expected.txt says; UPDATE_GOLDEN=1 writes them anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from esb.config.codes import CODES
from esb.config.diagnostics import render_text
from esb.config.loader import read_workspace

GOLDEN = Path(__file__).parents[2] / "golden" / "diagnostics"
CASES = sorted(path for path in GOLDEN.iterdir() if path.is_dir())


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_a_fault_is_shown_as_expected(case: Path) -> None:
    loaded = read_workspace(case, environ={})
    shown = render_text(loaded.problems, loaded.read_lines) + "\n"
    expected = case / "expected.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        expected.write_text(shown, encoding="utf-8")
    assert shown == expected.read_text(encoding="utf-8")
    assert all(problem.code in CODES for problem in loaded.problems)
    assert loaded.workspace is None or not loaded.errors


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 100
