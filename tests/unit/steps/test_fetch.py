"""`fetch`: what it brings back is tested beside `claim`; here, what is said of a place that is none."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize("step", ["fetch: meta.x", "claim: meta.x", "claim: doc", "fetch: body.list[0]"])
def test_a_part_is_a_place_in_the_message(problem_of: Any, step: str) -> None:
    assert problem_of(step).code == "ESB101"
