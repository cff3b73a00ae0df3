"""The matrix of owners: which system a field belongs to, and whose changes a route carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from esb.spec import MapNode, ScalarNode, option


@dataclass(frozen=True, slots=True)
class Owner:
    """The system of record of a field."""

    system: str = option(doc="The connector of the system that may change it.", example="erp", shorthand=True)
    also: tuple[str, ...] = option(default=(), doc="Others whose changes are taken, too.", example="[qms]")


def owner_of(name: str, owners: Mapping[str, Owner]) -> tuple[str, Owner] | None:
    """The entry that a field falls under: its own, else the nearest ``lot.*`` above it."""
    if name in owners:
        return name, owners[name]
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        key = ".".join((*parts[:count], "*"))
        if key in owners:
            return key, owners[key]
    return None


def system_of(given: str, protocol: str, connector: str, node: MapNode) -> str:
    """The system whose changes a route carries: what it says, the connector of its source, or the one whose login it asks for."""
    if given or connector:
        return given or connector
    outer = node.get("from")
    options = outer.get(protocol) if isinstance(outer, MapNode) else None
    auth = options.get("auth") if isinstance(options, MapNode) else None
    return auth.value if isinstance(auth, ScalarNode) and isinstance(auth.value, str) else ""
