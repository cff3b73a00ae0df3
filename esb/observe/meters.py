"""Attempts, deliveries and steps since the start of the process, for Prometheus; labels are bounded by routes and their targets."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

from esb.message import State
from esb.store.base import Settlement

#: Upper bounds of the histograms, in seconds.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
#: The first of them in milliseconds: nearly every step takes less.
_QUICK = BOUNDS[0] * 1000

#: Values of labels, in the order of their names.
Labels = tuple[str, ...]
#: Numbers in each step of a histogram, and the sum of the seconds behind them: one look for each of many steps a message.
Row = list[Any]


def _row() -> Row:
    return [*[0] * (len(BOUNDS) + 1), 0.0]


class _Route:
    """What the attempts of one route did."""

    __slots__ = ("attempts", "deliveries", "ended", "processing", "steps")

    def __init__(self) -> None:
        self.attempts: dict[tuple[str, str], int] = {}  #: by state and class of error
        self.ended: dict[str, int] = {}
        self.steps: dict[str, Row] = {}
        self.deliveries: dict[tuple[str, str], Row] = {}  #: by target and result
        self.processing: Row | None = None


class Meters:
    """Counts what attempts did; told of each attempt on its way into the store."""

    def __init__(self) -> None:
        self._routes: dict[str, _Route] = {}

    def attempt(self, route: str, settlement: Settlement, accepted: float) -> None:
        """``accepted`` seconds have passed since the message was accepted."""
        of = self._routes.get(route)
        if of is None:
            of = self._routes[route] = _Route()
        error, state = settlement.error, settlement.state
        ended = (state, error.error_class if error is not None else "")
        of.attempts[ended] = of.attempts.get(ended, 0) + 1
        steps = of.steps
        for entry in settlement.trace:
            ms = entry.get("ms")
            if ms is None:
                continue
            row = steps.get(entry["step"])
            if row is None:
                row = steps[entry["step"]] = _row()
            row[0 if ms <= _QUICK else bisect_left(BOUNDS, ms / 1000)] += 1
            row[-1] += ms / 1000
            if "target" in entry:
                _add(of.deliveries, (str(entry["target"]), "error" if "error" in entry else "ok"), ms / 1000)
        if state is not State.WAITING and state is not State.QUEUED:
            row = of.processing
            if row is None:
                row = of.processing = _row()
            row[bisect_left(BOUNDS, accepted)] += 1
            row[-1] += accepted
            end = "filtered" if state is State.DONE and settlement.reason else state
            of.ended[end] = of.ended.get(end, 0) + 1

    def ended(self) -> dict[tuple[str, str], int]:
        """By route and end (done, filtered, dead, expired …) the messages that ended."""
        return {(route, str(end)): n for route, of in self._routes.items() for end, n in of.ended.items()}

    def attempts(self) -> dict[str, tuple[int, int]]:
        """By route the attempts that ended well, and those that ended with an error."""
        found: dict[str, tuple[int, int]] = {}
        for route, of in self._routes.items():
            done = sum(n for (state, _), n in of.attempts.items() if state == State.DONE)
            found[route] = (done, sum(n for (_, error), n in of.attempts.items() if error))
        return found

    def times(self) -> dict[str, tuple[int, ...]]:
        """By route the messages that ended, in the steps of ``BOUNDS``: how long each took since it was accepted."""
        return {route: tuple(of.processing[:-1]) for route, of in self._routes.items() if of.processing is not None}

    def lines(self) -> list[str]:
        """In the text format of Prometheus."""
        routes = sorted(self._routes.items())
        found = ["# HELP esb_attempts_total Attempts by how they ended.", "# TYPE esb_attempts_total counter"]
        for route, of in routes:
            for (state, error), count in sorted(of.attempts.items()):
                inside = _inside(("route", "result", "error"), (route, state, error))
                found.append(f"esb_attempts_total{{{inside}}} {count}")
        steps = [((route, step), row) for route, of in routes for step, row in sorted(of.steps.items())]
        found += _histogram(
            "esb_step_duration_seconds", "Time of steps, with what runs inside of them.", ("route", "step"), steps
        )
        sent = [((route, *labels), row) for route, of in routes for labels, row in sorted(of.deliveries.items())]
        found += _histogram(
            "esb_delivery_duration_seconds", "Time of deliveries to a target.", ("route", "target", "result"), sent
        )
        took = [((route,), of.processing) for route, of in routes if of.processing is not None]
        found += _histogram(
            "esb_message_duration_seconds", "From acceptance to the end of a message.", ("route",), took
        )
        return found


def _add(rows: dict[tuple[str, str], Row], labels: tuple[str, str], seconds: float) -> None:
    row = rows.get(labels)
    if row is None:
        row = rows[labels] = _row()
    row[bisect_left(BOUNDS, seconds)] += 1
    row[-1] += seconds


def _histogram(name: str, words: str, names: Labels, rows: Iterable[tuple[Labels, Row]]) -> list[str]:
    """In the text format of Prometheus."""
    found = [f"# HELP {name} {words}", f"# TYPE {name} histogram"]
    for labels, row in rows:
        inside = _inside(names, labels)
        total = 0
        for bound, count in zip((*BOUNDS, "+Inf"), row[:-1], strict=True):
            total += count
            found.append(f'{name}_bucket{{{inside},le="{bound}"}} {total}')
        found.append(f"{name}_sum{{{inside}}} {round(row[-1], 6)}")
        found.append(f"{name}_count{{{inside}}} {total}")
    return found


def _inside(names: Labels, values: Labels) -> str:
    return ",".join(f'{name}="{_escaped(str(value))}"' for name, value in zip(names, values, strict=True))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
