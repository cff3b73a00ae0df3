"""``esb.yaml``: the settings of the bus, and what can be known of them before the rest of the workspace is read."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from esb.config.digest import canonical
from esb.config.model import Settings
from esb.config.reader import Level, WorkspaceReader
from esb.config.resources import Resources
from esb.config.steps import Frame, places_of
from esb.errors import Problem
from esb.secret import Secret
from esb.spec import MISSING, ListNode, MapNode, Node, Reader, ScalarNode, options_of, read_options
from esb.spec.kinds import DurationKind, SizeKind, TextKind

SETTINGS = "esb.yaml"
FIELDS = frozenset(spec.name for spec in options_of(Settings))

#: How the addresses of stores begin.
STORES = ("sqlite:", "postgresql+psycopg://")
#: what ``policy.require`` may ask of every route
REQUIRABLE = (
    "owner",
    "criticality",
    "key",
    "dedupe",
    "description",
    "track",
    "within",
    "version",
    "contract",
    "dead_letter",
)
#: what ``policy.forbid`` may refuse
FORBIDDABLE = (
    "plain_http_out", "unsafe_retry", "open_ingress", "inline_endpoints", "drop_messages", "continue_on_error",
)  # fmt: skip
_RETENTION = ("done", "payload", "dead", "audit", "max_size", "export", "classes")


@dataclass(frozen=True, slots=True)
class Peek:
    """What reading the other files needs from ``esb.yaml``: nothing of it can fail."""

    timezone: str = "UTC"
    secrets: str = ".secrets"
    keyring: str = ""

    @classmethod
    def at(cls, node: Node | None) -> Peek:
        def text(name: str, default: str) -> str:
            found = node.get(name) if isinstance(node, MapNode) else None
            return found.value if isinstance(found, ScalarNode) and isinstance(found.value, str) else default

        zone = text("timezone", "UTC")
        return cls(zone if is_zone(zone) else "UTC", text("secrets", ".secrets"), text("keyring", ""))


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
    level = Level("esb.yaml", FIELDS, node.position, "bus")
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


def check_zone(zone: Node | None, reader: WorkspaceReader) -> None:
    """Report a name that no time zone has."""
    if isinstance(zone, ScalarNode) and isinstance(zone.value, str) and not is_zone(zone.value):
        reader.problem(
            "ESB804",
            f"`{zone.value}` is no time zone",
            zone,
            hint=_zone_hint(zone.value),
        )


def check_alert(given: Node | None, known: Iterable[str], reader: Reader) -> None:
    """Report the name of an alert that esb.yaml does not have."""
    if isinstance(given, ScalarNode) and isinstance(given.value, str) and given.value not in known:
        hint = reader.nearest(given.value, known) or "declare it under `alerts:` in esb.yaml"
        reader.problem("ESB310", f"alert `{given.value}` is not in esb.yaml", given, hint=hint, label="not declared")


def _check(node: MapNode, reader: WorkspaceReader) -> None:
    check_zone(node.get("timezone"), reader)
    _check_store(node.get("store"), reader)
    for listener in ("http", "admin"):
        _check_tls(node.get(listener), reader)
    _check_policy(node.get("policy"), reader)
    alerts, presets = node.get("alerts"), node.get("criticality")
    known = [key.text for key, _ in alerts.entries] if isinstance(alerts, MapNode) else []
    misspelt = any(problem.code in ("ESB101", "ESB112") for problem in reader.problems)  # it may be the word `alerts`
    for _, preset in presets.entries if isinstance(presets, MapNode) and not (misspelt and not known) else ():
        check_alert(preset.get("alert") if isinstance(preset, MapNode) else None, known, reader)
    _check_retention(node.get("retention"), reader)


def _check_store(store: Node | None, reader: WorkspaceReader) -> None:
    """The scheme, and that no password stands in the file; the rest is read by whoever connects."""
    if not isinstance(store, ScalarNode) or not isinstance(store.value, (str, Secret)):
        return
    text = store.value.reveal() if isinstance(store.value, Secret) else store.value
    if not text.startswith(STORES):
        kind = text.partition(":")[0] if "://" in text else "this"
        hint = "write `sqlite:///.esb/bus.db`, the default, or `postgresql+psycopg://bus:${secret:store}@db.plant.example/bus`"
        reader.problem("ESB105", f"`{kind}` is no store that we know", store, hint=hint, label="not known")
    elif re.search(r"://[^/@]*:[^/@]+@", text) and not isinstance(store.value, Secret):
        hint = "write `${secret:store}` in its place and set ESB_SECRET_STORE"
        reader.problem("ESB501", "`store` holds a password", store, label="value hidden", hint=hint)


def _check_tls(listener: Node | None, reader: WorkspaceReader) -> None:
    """Point out the files of a listener's certificate that are not here; they may be where the bus runs."""
    tls = listener.get("tls") if isinstance(listener, MapNode) else None
    for key, value in tls.entries if isinstance(tls, MapNode) else ():
        if key.text not in ("cert", "key", "client_ca") or not isinstance(value, ScalarNode) or value.unknown:
            continue
        if isinstance(value.value, str) and value.value and reader.resources.lacks(value.value):
            reader.problem(
                "ESB806",
                f"there is no file {value.value}, and the bus does not start without it",
                value,
                label="not there",
                hint="put it there, or write its path from the folder of esb.yaml; where only the machine of the bus has it,"
                " `# esb: allow ESB806 <why>`",
                severity="warning",
            )


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
        check_words(value, key.text, known[key.text], reader)


def check_words(given: Node | None, name: str, known: Sequence[str], reader: WorkspaceReader) -> None:
    """Report every word of a list that is not known there."""
    items = given.items if isinstance(given, ListNode) else (given,) if given is not None else ()
    for item in items:
        word = item.value if isinstance(item, ScalarNode) else None
        if word not in known:
            hint = reader.nearest(str(word), known)
            reader.problem("ESB105", f"`{name}` does not know {item.what}", item, hint=hint)


def _check_retention(retention: Node | None, reader: WorkspaceReader) -> None:
    if not isinstance(retention, MapNode):
        return
    for key, value in retention.entries:
        if key.text not in _RETENTION:
            hint = reader.nearest(key.text, _RETENTION)
            reader.problem("ESB101", f"unknown key `{key.text}` in `retention`", key, hint=hint, label="not known here")
        elif key.text == "max_size":
            with reader.inside(key.text):
                SizeKind().read(value, reader)
        elif key.text == "export":
            with reader.inside(key.text):
                TextKind().read(value, reader)
        elif key.text == "classes":
            _check_classes(value, reader)
        else:
            _check_age(key.text, value, reader)


def _check_classes(classes: Node, reader: WorkspaceReader) -> None:
    """``classes: { release-blocking: { done: 365d } }``: ages by criticality."""
    for name, ages in classes.entries if isinstance(classes, MapNode) else ():
        if not isinstance(ages, MapNode):
            reader.problem(
                "ESB103", f"`{name.text}` is a mapping of ages", ages, hint="write `{ done: 365d, dead: forever }`"
            )
            continue
        for key, value in ages.entries:
            if key.text in ("done", "dead"):
                _check_age(key.text, value, reader)
            else:
                hint = reader.nearest(key.text, ("done", "dead"))
                reader.problem(
                    "ESB101", f"unknown key `{key.text}` in `{name.text}`", key, hint=hint, label="not known here"
                )


def _check_age(name: str, value: Node, reader: WorkspaceReader) -> None:
    if not (isinstance(value, ScalarNode) and value.value == "forever"):
        with reader.inside(name):
            DurationKind().read(value, reader)


def required_by(policy: Any) -> tuple[str, ...]:
    """The fields that ``policy.require`` asks of every route."""
    return _words(policy, "require")


def forbidden_by(policy: Any) -> tuple[str, ...]:
    return _words(policy, "forbid")


def _words(policy: Any, name: str) -> tuple[str, ...]:
    found = policy.get(name, ()) if policy else ()
    return tuple(found) if isinstance(found, (list, tuple)) else (found,)
