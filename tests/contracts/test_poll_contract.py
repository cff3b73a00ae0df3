"""The ``poll`` source keeps what every source promises, in each of its ways to tell what is new."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contracts.poll_rigs import LotsRig
from tests.contracts.source_contract import SourceContract
from tests.servers.lots import Lots


@pytest.mark.parametrize("way", ["list", "links", "pages", "after", "delta"])
class TestPolling(SourceContract):
    @pytest.fixture
    def rig(self, way: str) -> Iterator[LotsRig]:
        lots = Lots()
        yield LotsRig(lots, way)
        lots.close()
