"""What computes beside the loop gives way to it."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from esb.beside import SHORT, USUAL, beside


def test_it_gives_way_more_readily_for_as_long_as_it_takes() -> None:
    def compute() -> tuple[float, threading.Thread]:
        return sys.getswitchinterval(), threading.current_thread()

    interval, thread = asyncio.run(beside(compute))
    assert interval == pytest.approx(SHORT)
    assert thread is not threading.main_thread()
    assert sys.getswitchinterval() == pytest.approx(USUAL)


def test_it_is_as_usual_again_after_a_fault() -> None:
    def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(beside(fails))
    assert sys.getswitchinterval() == pytest.approx(USUAL)
