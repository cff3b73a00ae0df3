"""A figure is a ratio to a floor that was measured in the same run; what both are, and whether the goal is met."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

F = TypeVar("F", bound=float)


@dataclass(frozen=True)
class Figure:
    """``ratio`` is compared with ``goal``; ``most`` says that it may be at most that, else it must be at least that.

    Without a goal it only tells where something stands.
    """

    name: str
    ratio: float
    goal: float | None
    most: bool = False
    said: str = ""
    unit: str = "×"

    @property
    def met(self) -> bool:
        if self.goal is None:
            return True
        return self.ratio <= self.goal if self.most else self.ratio >= self.goal

    def __str__(self) -> str:
        bound = "no goal" if self.goal is None else f"{'≤' if self.most else '≥'} {self.goal:g}{self.unit}"
        word = "" if self.goal is None else "met" if self.met else "NOT met"
        return f"{self.name:58} {self.ratio:8.2f}{self.unit:3} {bound:>10}  {word:8} {self.said}"


class Skipped(Exception):
    """A part that cannot be measured here; the text says why."""


class Rate(float):
    """Messages a second, and the CPU seconds of one."""

    cpu: float

    @staticmethod
    def now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    @classmethod
    def since(cls, began: tuple[float, float], number: int) -> Rate:
        rate = cls(number / (time.perf_counter() - began[0]))
        rate.cpu = (time.process_time() - began[1]) / number
        return rate


def alternate(rounds: int, *parts: Callable[[], F]) -> list[list[F]]:
    """Run the parts one after the other, ``rounds`` times, so that all see the same weather; a list for each part."""
    found: list[list[F]] = [[] for _ in parts]
    for number in range(rounds):
        order = list(enumerate(parts))
        for index, part in order if number % 2 == 0 else reversed(order):
            found[index].append(part())
    return found


def ratio(values: Sequence[float], floors: Sequence[float]) -> float:
    """The median of the ratios of the rounds."""
    return statistics.median(value / floor for value, floor in zip(values, floors, strict=True))


median = statistics.median


def quantile(values: list[float], q: float) -> float:
    return statistics.quantiles(values, n=1000)[int(q * 1000) - 1]
