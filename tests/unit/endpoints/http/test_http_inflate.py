"""Packed answers are unpacked in slices: a large one in one go would be put together while the whole bus waits."""

from __future__ import annotations

import asyncio
import gzip
import random

import pytest

from esb.endpoints._http import answers
from esb.endpoints._http.answers import Inflate

CONTENT = random.Random(7).randbytes(300_000) + bytes(3_000_000)
PACKED = gzip.compress(CONTENT)


@pytest.mark.parametrize("cut", [1, 20_000, len(PACKED)], ids=["early", "middle", "whole"])
def test_what_is_unpacked_comes_in_slices_and_is_the_same(cut: int) -> None:
    async def go() -> list[bytes]:
        inflate = Inflate()
        found = [*await inflate.take(PACKED[:cut], len(CONTENT)), *await inflate.take(PACKED[cut:], len(CONTENT))]
        assert inflate.whole
        assert await inflate.take(b"what comes behind it", 10) == []
        return found

    slices = asyncio.run(go())
    assert b"".join(slices) == CONTENT
    assert max(map(len, slices)) <= answers._SLICE


@pytest.mark.parametrize("most", [1, 70_000, 1_000_001])
def test_no_more_is_unpacked_than_is_asked_for(most: int) -> None:
    assert b"".join(asyncio.run(Inflate().take(PACKED, most))) == CONTENT[:most]
