"""``esb.yaml``: the settings of the bus, and what can be known of them before the rest of the workspace is read."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from esb.config.digest import canonical
from esb.config.model import Settings
from esb.config.reader import Level, WorkspaceReader
from esb.config.resources import Resources
from esb.config.steps import Frame, places_of
from esb.errors import Problem
from esb.spec import MISSING, ListNode, MapNode, Node, ScalarNode, options_of, read_options
from esb.spec.kinds import DurationKind

SETTINGS = "esb.yaml"
FIELDS = frozenset(spec.name for spec in options_of(Settings))

#: what ``policy.require`` may ask of every route
REQUIRABLE = ("owner", "criticality", "key", "dedupe", "description")
#: what ``policy.forbid`` may refuse
FORBIDDABLE = ("plain_http_out",)
_RETENTION = ("done", "payload", "dead", "audit", "max_size")


@dataclass(frozen=True, slots=True)
class Peek:
    """What reading the other files needs from ``esb.yaml``: nothing of it can fail."""

    timezone: str = "UTC"
    secrets: str = ".secrets"

    @classmethod
    def at(cls, node: Node | None) -> Peek:
        def text(name: str, default: str) -> str:
            found = node.get(name) if isinstance(node, MapNode) else None
            return found.value if isinstance(found, ScalarNode) and isinstance(found.value, str) else default

        zone = text("timezone", "UTC")
        return cls(zone if is_zone(zone) else "UTC", text("secrets", ".secrets"))


def is_zone(name: str) -> bool:
    """True for a name of the IANA time zone database."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


def read_settings(node: Node | None, resources: Resources) -> tuple[Settings | None, list[Problem]]:
    """The settings, None where they have faults; a missing file gives the defaults."""
    if node is None:
        return Settings(), []
    reader = WorkspaceReader(resources, where="esb.yaml")
    if not isinstance(node, MapNode):
        reader.problem("ESB103", f"esb.yaml is a mapping of settings, not {node.what}", node, hint="write `bus: name`")
        return None, reader.problems
    level = Level("esb.yaml", FIELDS, node.position, "bus", family="bus")
    with resources.document(), resources.levels.within(level), resources.inside(Frame("preset", places_of(node))):
        settings = read_options(Settings, node, reader)
    _check(node, reader)
    if settings is MISSING or any(problem.severity == "error" for problem in reader.problems):
        return None, reader.problems
    return settings, reader.problems


def preset_text(node: Node | None, name: str) -> str:
    """The canonical text of one criticality preset."""
    presets = node.get("criticality") if isinstance(node, MapNode) else None
    preset = presets.get(name) if isinstance(presets, MapNode) else None
    return canonical(preset) if preset is not None else ""


def _check(node: MapNode, reader: WorkspaceReader) -> None:
    zone = node.get("timezone")
    if isinstance(zone, ScalarNode) and isinstance(zone.value, str) and not is_zone(zone.value):
        reader.problem(
            "ESB804",
            f"`{zone.value}` is no time zone",
            zone,
            hint=_zone_hint(zone.value),
        )
    store = node.get("store")
    if isinstance(store, ScalarNode) and isinstance(store.value, str) and not store.value.startswith("sqlite:"):
        kind = store.value.partition(":")[0]
        reader.unavailable(store, f"store: {kind}", "use `sqlite:///.esb/bus.db`, the default")
    _check_policy(node.get("policy"), reader)
    _check_retention(node.get("retention"), reader)


def _zone_hint(name: str) -> str:
    from zoneinfo import available_timezones  # noqa: PLC0415 - reads the whole database; only for the words of an error

    close = difflib.get_close_matches(name, available_timezones(), n=1, cutoff=0.5)
    return f"did you mean `{close[0]}`?" if close else "write it like `Europe/Vienna`"


def _check_policy(policy: Node | None, reader: WorkspaceReader) -> None:
    if not isinstance(policy, MapNode):
        return
    known: dict[str, Sequence[str]] = {"require": REQUIRABLE, "forbid": FORBIDDABLE}
    for key, value in policy.entries:
        if key.text not in known:
            hint = reader.nearest(key.text, known)
            reader.problem("ESB101", f"unknown key `{key.text}` in `policy`", key, hint=hint, label="not known here")
            continue
        for item in value.items if isinstance(value, ListNode) else (value,):
            word = item.value if isinstance(item, ScalarNode) else None
            if word not in known[key.text]:
                hint = reader.nearest(str(word), known[key.text])
                reader.problem("ESB105", f"`{key.text}` does not know {item.what}", item, hint=hint)


def _check_retention(retention: Node | None, reader: WorkspaceReader) -> None:
    if not isinstance(retention, MapNode):
        return
    for key, value in retention.entries:
        if key.text not in _RETENTION:
            hint = reader.nearest(key.text, _RETENTION)
            reader.problem("ESB101", f"unknown key `{key.text}` in `retention`", key, hint=hint, label="not known here")
        elif key.text != "max_size" and not (isinstance(value, ScalarNode) and value.value == "forever"):
            with reader.inside(key.text):
                DurationKind().read(value, reader)


def required_by(policy: Any) -> tuple[str, ...]:
    """The fields that ``policy.require`` asks of every route."""
    return _words(policy, "require")


def forbidden_by(policy: Any) -> tuple[str, ...]:
    return _words(policy, "forbid")


def _words(policy: Any, name: str) -> tuple[str, ...]:
    found = policy.get(name, ()) if policy else ()
    return tuple(found) if isinstance(found, (list, tuple)) else (found,)
