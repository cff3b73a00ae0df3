"""The size of things: what grows past its budget is split, not tolerated."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "esb").rglob("*.py"))


def functions() -> list[int]:
    nodes = [node for path in SOURCES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    sizes = [(node.end_lineno or 0) - node.lineno + 1 for node in nodes if isinstance(node, kinds)]
    return sorted(sizes)


def test_no_file_is_longer_than_450_lines() -> None:
    long = {
        str(p.relative_to(ROOT)): n for p in SOURCES if (n := len(p.read_text(encoding="utf-8").splitlines())) > 450
    }
    assert not long


def test_the_median_file_is_shorter_than_150_lines() -> None:
    sizes = sorted(len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES)
    assert sizes[len(sizes) // 2] <= 150


def test_nineteen_of_twenty_functions_are_shorter_than_40_lines() -> None:
    sizes = functions()
    assert sizes[int(len(sizes) * 0.95)] <= 40


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if path.read_text(encoding="utf-8").strip()
        and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not silent
