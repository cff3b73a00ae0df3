"""Attempts, deliveries and steps since the start of the process, for Prometheus; labels are bounded by routes and their targets."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Any

from esb.message import State
from esb.store.base import Settlement

#: Upper bounds of the histograms, in seconds.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

#: Values of labels, in the order of their names.
Labels = tuple[str, ...]


class Histogram:
    """Times by labels."""

    def __init__(self, name: str, words: str, labels: Labels) -> None:
        self.name, self.words, self.labels = name, words, labels
        #: numbers in each step, and the sum of the seconds behind them: one look for each of many steps a message
        self._rows: dict[Labels, list[Any]] = {}

    def add(self, labels: Labels, seconds: float) -> None:
        row = self._rows.get(labels)
        if row is None:
            row = self._rows[labels] = [*[0] * (len(BOUNDS) + 1), 0.0]
        row[bisect_left(BOUNDS, seconds)] += 1
        row[-1] += seconds

    def counts(self) -> dict[Labels, tuple[int, ...]]:
        """How many fell into each step, the last one beyond all bounds."""
        return {labels: tuple(row[:-1]) for labels, row in self._rows.items()}

    def lines(self) -> list[str]:
        """In the text format of Prometheus."""
        found = [f"# HELP {self.name} {self.words}", f"# TYPE {self.name} histogram"]
        for labels, row in sorted(self._rows.items()):
            inside = _inside(self.labels, labels)
            total = 0
            for bound, count in zip((*BOUNDS, "+Inf"), row[:-1], strict=True):
                total += count
                found.append(f'{self.name}_bucket{{{inside},le="{bound}"}} {total}')
            found.append(f"{self.name}_sum{{{inside}}} {round(row[-1], 6)}")
            found.append(f"{self.name}_count{{{inside}}} {total}")
        return found


class Meters:
    """Counts what attempts did; told of each attempt on its way into the store."""

    def __init__(self) -> None:
        self._attempts: Counter[Labels] = Counter()
        self._deliveries = Histogram(
            "esb_delivery_duration_seconds", "Time of deliveries to a target.", ("route", "target", "result")
        )
        self._steps = Histogram(
            "esb_step_duration_seconds", "Time of steps, with what runs inside of them.", ("route", "step")
        )
        self._ended: Counter[Labels] = Counter()
        self._processing = Histogram(
            "esb_message_duration_seconds", "From acceptance to the end of a message.", ("route",)
        )

    def attempt(self, route: str, settlement: Settlement, accepted: float) -> None:
        """``accepted`` seconds have passed since the message was accepted."""
        error, state = settlement.error, settlement.state
        self._attempts[route, state, error.error_class if error is not None else ""] += 1
        for entry in settlement.trace:
            if "ms" not in entry:
                continue
            self._steps.add((route, entry["step"]), entry["ms"] / 1000)
            if "target" in entry:
                result = "error" if "error" in entry else "ok"
                self._deliveries.add((route, str(entry["target"]), result), entry["ms"] / 1000)
        if state is not State.WAITING and state is not State.QUEUED:
            self._processing.add((route,), accepted)
            self._ended[route, "filtered" if state is State.DONE and settlement.reason else state.value] += 1

    def ended(self) -> dict[tuple[str, str], int]:
        """By route and end (done, filtered, dead, expired …) the messages that ended."""
        return {(route, end): n for (route, end), n in self._ended.items()}

    def attempts(self) -> dict[str, tuple[int, int]]:
        """By route the attempts that ended well, and those that ended with an error."""
        found: dict[str, tuple[int, int]] = {}
        for (route, state, error), n in self._attempts.items():
            done, failed = found.get(route, (0, 0))
            found[route] = (done + n if state == State.DONE else done, failed + n if error else failed)
        return found

    def times(self) -> dict[str, tuple[int, ...]]:
        """By route the messages that ended, in the steps of ``BOUNDS``: how long each took since it was accepted."""
        return {labels[0]: counts for labels, counts in self._processing.counts().items()}

    def lines(self) -> list[str]:
        """In the text format of Prometheus."""
        found = ["# HELP esb_attempts_total Attempts by how they ended.", "# TYPE esb_attempts_total counter"]
        for labels, count in sorted(self._attempts.items()):
            inside = _inside(("route", "result", "error"), labels)
            found.append(f"esb_attempts_total{{{inside}}} {count}")
        return [*found, *self._steps.lines(), *self._deliveries.lines(), *self._processing.lines()]


def _inside(names: Labels, values: Labels) -> str:
    return ",".join(f'{name}="{_escaped(str(value))}"' for name, value in zip(names, values, strict=True))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
