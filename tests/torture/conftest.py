"""A rig that is taken down whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.torture.rig import Rig

MakeRig = Callable[..., Rig]


@pytest.fixture
def make_rig(tmp_path: Path) -> Iterator[MakeRig]:
    """``make_rig(routes=…, settings=…)``: a workspace, a sink and a bus that is not started yet."""
    made: list[Rig] = []

    def make(**options: object) -> Rig:
        made.append(Rig(tmp_path / f"rig{len(made)}", **options))  # type: ignore[arg-type]  # handed through
        return made[-1]

    yield make
    for rig in made:
        rig.close()


@pytest.fixture
def rig(make_rig: MakeRig) -> Rig:
    """A rig with the plain route of these tests."""
    return make_rig()
