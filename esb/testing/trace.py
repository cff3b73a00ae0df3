"""What happened to the messages of a case, step by step, and which steps ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from esb.config.model import RouteSpec
from esb.config.routes import steps_of
from esb.store.base import Stored
from esb.testing.compare import show
from esb.testing.results import Facts

#: Attempts of one message that are shown, from its end.
_ATTEMPTS = 3
_NOTES = ("note", "target", "status", "branches", "from_ledger", "from_cache", "failed", "error")


def trace_lines(facts: Facts) -> list[str]:
    """Every message: where it is, and its last attempts."""
    lines: list[str] = []
    for one in facts.messages:
        where = one.envelope.route + (f" {one.envelope.scope}" if one.envelope.scope else "")
        ending = f" ({one.reason})" if one.reason else ""
        lines.append(
            f"{where}: {one.state.value} after {one.attempts} attempts{ending}".replace(" 1 attempts", " 1 attempt")
        )
        last = max((int(entry["attempt"]) for entry in one.trace), default=0)
        if last > _ATTEMPTS:
            lines.append(f"  … {last - _ATTEMPTS} earlier attempts")
        for entry in one.trace:
            if int(entry["attempt"]) > last - _ATTEMPTS:
                notes = "".join(f"  {name}={_note(entry[name])}" for name in _NOTES if entry.get(name) is not None)
                lines.append(f"  {entry['attempt']}  {entry['step']}{notes}")
    return lines


def _note(value: object) -> str:
    return value if isinstance(value, str) else show(value)


def steps_run(messages: Sequence[Stored]) -> dict[str, frozenset[str]]:
    """By route, the steps that did something: a guard that kept a message out does not count."""
    found: dict[str, set[str]] = {}
    for one in messages:
        ran = {str(entry["step"]) for entry in one.trace if entry.get("note") != "skipped"}
        tried = [row for entry in one.trace for row in entry.get("report", ()) if isinstance(row, dict)]
        ran |= {str(row["step"]) for row in tried if row.get("step")}  # on an item that was set aside
        found.setdefault(one.envelope.route, set()).update(ran)
    return {route: frozenset(steps) for route, steps in found.items()}


def not_run(spec: RouteSpec, ran: Mapping[str, set[str]]) -> tuple[int, list[str]]:
    """How many steps a route has, and those that no case reached, in the order of the file."""
    steps = [
        node.id for node in sorted(steps_of(spec.blocks), key=lambda node: (node.position.line, node.position.column))
    ]
    return len(steps), [step for step in steps if step not in ran.get(spec.name, set())]
