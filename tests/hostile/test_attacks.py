"""The catalogue of attacks is whole, its tests exist, and the documentation shows the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.attacks import ATTACKS, table

ROOT = Path(__file__).parents[2]


def test_every_attack_is_tested_or_says_why_not() -> None:
    assert list(ATTACKS) == [f"S{n}" for n in range(1, 55)]
    assert [number for number, one in ATTACKS.items() if bool(one.tests) == bool(one.because)] == []


@pytest.mark.parametrize("number", [number for number, one in ATTACKS.items() if one.tests])
def test_the_tests_of_an_attack_are_where_the_table_says(number: str) -> None:
    for name in ATTACKS[number].tests:
        text = (ROOT / "tests" / name).read_text(encoding="utf-8")
        if name.startswith("hostile/test_") and "corpus" not in name:
            assert f"_{number.lower()}_" in text, f"no test of {name} is named for {number}"


def test_the_documentation_has_the_same_table() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    assert table() in text, "put what tests.hostile.attacks.table() gives into docs/security.md"
