"""Which ways through a route the cases took: what each guard and filter said, and the branches of each ``choose``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from esb.config.model import RouteSpec
from esb.config.routes import steps_of
from esb.steps.base import StepNode
from esb.steps.choose import Choose
from esb.steps.filter import Filter
from esb.store.base import Stored

#: A step and what it decided.
Way = tuple[str, str]

_RAN, _LEFT_OUT = "`if` is true", "`if` is false"
_PASSED, _STOPPED = "lets a message through", "keeps a message out"
_FILTERED = "filtered: "


def ways_of(spec: RouteSpec) -> list[Way]:
    """Every way that a route has, in the order of the file."""
    nodes = sorted(steps_of(spec.blocks), key=lambda node: (node.position.line, node.position.column))
    return [(node.id, way) for node in nodes for way in _of_step(node)]


def _of_step(node: StepNode) -> Iterator[str]:
    if node.guard is not None:
        yield from (_RAN, _LEFT_OUT)
    if isinstance(node.step, Filter):
        yield from (_PASSED, _STOPPED)
    if isinstance(node.step, Choose):
        yield from dict.fromkeys(_branch(case.when.text) for case in node.step.branches.cases)
        yield _branch("otherwise" if node.step.branches.otherwise is not None else "none")


def _branch(told: str) -> str:
    return {"none": "no branch", "otherwise": "`otherwise`"}.get(told, f"branch `{told}`")


def ways_gone(messages: Sequence[Stored]) -> dict[str, frozenset[Way]]:
    """By route, the ways that messages took. A step without a guard counts as one whose guard was true."""
    found: dict[str, set[Way]] = {}
    for one in messages:
        found.setdefault(one.envelope.route, set()).update(_of_message(one))
    return {route: frozenset(ways) for route, ways in found.items()}


def _of_message(stored: Stored) -> Iterator[Way]:
    filtered = (stored.reason or "").startswith(_FILTERED)
    last: Mapping[str, Any] = stored.trace[-1] if stored.trace else {}
    for entry in stored.trace:
        for row in entry.get("report", ()):
            if isinstance(row, dict) and row.get("step"):
                yield str(row["step"]), _RAN  # on an item that was set aside
        step = str(entry["step"])
        left_out = entry.get("note") == "skipped"
        yield step, _LEFT_OUT if left_out else _RAN
        if left_out:
            continue
        yield step, _STOPPED if filtered and entry is last else _PASSED
        if entry.get("branch"):
            yield step, _branch(str(entry["branch"]))


def not_gone(spec: RouteSpec, gone: Mapping[str, set[Way]]) -> tuple[int, list[str]]:
    """How many ways a route has, and those that no case took."""
    ways = ways_of(spec)
    return len(ways), [f"{step}: {way}" for step, way in ways if (step, way) not in gone.get(spec.name, set())]
