"""Who may change what: contracts whose time is over, and fields that belong to another system."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from esb.config.routes import RouteDoc, steps_of
from esb.contracts import JsonContract
from esb.errors import Position, Problem
from esb.spec.nodes import scalars


def deprecated_contracts(doc: RouteDoc, now: datetime) -> Iterator[Problem]:
    """A warning for each contract of a route that is deprecated, or over."""
    assert doc.spec is not None
    named = [getattr(doc.spec.source.options, "contract", None)]
    named += [getattr(step.step, "contract", None) for step in steps_of(doc.spec.blocks)]
    for contract in dict.fromkeys(one for one in named if isinstance(one, JsonContract)):
        life = contract.life
        if life is None:
            continue
        over = life.is_over(now)
        until = f", over on {life.sunset.date()}" if life.sunset is not None else ""
        words = f"is over since {life.sunset.date()}" if over and life.sunset else f"is deprecated{until}"
        yield Problem(
            "ESB321",
            f"contract {contract.name} {words}",
            _place_of(doc, contract.name),
            f"move to `{life.successor}`" if life.successor else "move to its next version",
            label="nobody should begin to use it",
            severity="warning",
            related=((Position(contract.path), "the contract says so"),),
        )


def _place_of(doc: RouteDoc, name: str) -> Position:
    assert doc.spec is not None
    wanted = (name, f"{name}.json", f"schemas/{name}.json")
    found = (scalar.position for scalar in scalars(doc.node) if scalar.value in wanted)
    return next(found, doc.spec.position)
