"""T1: SIGKILL at any moment under load. Nothing acknowledged is lost, nothing has its effect twice."""

from __future__ import annotations

import os

import pytest

from tests.torture.conftest import MakeRig
from tests.torture.rig import DROP, ROUTE
from tests.torture.tier import LONG, sized

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL"),
    pytest.mark.timeout(7200 if LONG else 600),
]


def test_kills_under_load_lose_nothing_and_double_nothing(make_rig: MakeRig) -> None:
    rig = make_rig(routes=(ROUTE, DROP))
    kills = rig.killed(sized(6, 500, brief=2))
    print(f"{kills} kills, {rig.ledger.count} messages acknowledged, {rig.dropped.count} files dropped")
    assert rig.ledger.count > 20 * kills
    rig.whole()
