"""The attacks can fail: bugs planted in a copy of the program are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.planted import PLANTED, ROOT, Planted, found
from tests.torture.tier import LONG

pytestmark = pytest.mark.timeout(600)

#: One for each attack, and the one that a kill alone never shows.
QUICK = ("M2-normal", "M7")


@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.name)
def test_every_planted_bug_still_fits_the_source(bug: Planted, tmp_path: Path) -> None:
    place = tmp_path / bug.path
    place.parent.mkdir(parents=True)
    place.write_text((ROOT / bug.path).read_text(encoding="utf-8"), encoding="utf-8")
    bug.plant(tmp_path)
    compile(place.read_text(encoding="utf-8"), bug.path, "exec")


@pytest.mark.parametrize("bug", [bug for bug in PLANTED if LONG or bug.name in QUICK], ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug: Planted, tmp_path: Path) -> None:
    assert found(bug, tmp_path) == ""
