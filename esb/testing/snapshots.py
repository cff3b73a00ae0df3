"""What a case sent, published and answered, kept beside its test file and compared the next time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from esb.config.drafts import write_whole
from esb.endpoints._http.media import read_reply
from esb.errors import EsbError
from esb.formats.json import Json
from esb.testing.compare import differing
from esb.testing.model import Case
from esb.testing.results import Facts, Failure

_SHOWN = 12
#: what is made anew in every run: identifiers of messages and deliveries
_IDENTIFIER = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b|\b[0-9a-f]{32}\b")


def snapshot_path(path: str) -> str:
    """Where the snapshots of a test file are: ``routes/x.snapshots.json`` beside ``routes/x.test.yaml``."""
    return re.sub(r"\.test\.ya?ml$", "", path) + ".snapshots.json"


def snapshot_of(facts: Facts) -> dict[str, Any]:
    """What of a case is kept: numbers with their digits, and a number in place of each identifier."""
    names: dict[str, str] = {}
    taken = [
        {"to": one.to, **_given(method=one.method, path=one.path), "body": _plain(one.body)} for one in facts.taken
    ]
    whole = {
        "state": [one.state.value for one in facts.arrived],
        "sent": taken,
        "published": [{"topic": one.topic, "body": _plain(one.body)} for one in facts.published],
        "responses": [
            {"status": one.status, "body": _plain(read_reply(one.headers.get("content-type", ""), one.body))}
            for one in facts.responses
            if one is not None
        ],
    }
    kept: dict[str, Any] = _named({name: value for name, value in whole.items() if value}, names)
    return kept


def _given(**values: str) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


def _named(value: Any, names: dict[str, str]) -> Any:
    """``value`` with ``<id-1>`` for the first identifier that is met, and so on; the same one is the same number."""
    if isinstance(value, Mapping):
        return {name: _named(inner, names) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_named(inner, names) for inner in value]
    if isinstance(value, str):
        return _IDENTIFIER.sub(lambda found: names.setdefault(found[0], f"<id-{len(names) + 1}>"), value)
    return value


@dataclass(slots=True)
class Snapshots:
    """The snapshots of a workspace. With ``update`` what a case does is right, and written by :meth:`write`."""

    root: Path
    update: bool = False
    _files: dict[str, dict[str, Any]] = field(default_factory=dict)
    _fresh: dict[str, dict[str, Any]] = field(default_factory=dict)

    def check(self, path: str, case: Case, facts: Facts) -> list[Failure]:
        """What is another than it was. Nothing for a case without ``snapshot: true``."""
        if not case.expect.snapshot:
            return []
        place, got = snapshot_path(path), snapshot_of(facts)
        at = case.expect.place("snapshot")
        if self.update:
            self._fresh.setdefault(place, {})[case.name] = got
            return []
        try:
            known = self._read(place)
        except EsbError as error:
            return [Failure(at, f"{place} cannot be read: {error}", ["`esb test --update` writes it anew"])]
        if case.name not in known:
            return [Failure(at, "there is no snapshot yet", ["`esb test --update` writes what the case does now"])]
        places = differing(known[case.name], got)
        if not places:
            return []
        lines = [f"{where or '/'}: was {old or 'not there'}, is {new or 'not there'}" for where, (old, new) in
                 list(places.items())[:_SHOWN]]  # fmt: skip
        if len(places) > _SHOWN:
            lines.append(f"and {len(places) - _SHOWN} more")
        return [Failure(at, f"another than in {place}", [*lines, "if that is right: esb test --update"])]

    def write(self, whole: Iterable[str] = ()) -> list[str]:
        """Write what was new; of the test files ``whole`` all cases have run, so that others' snapshots go. Gives the files."""
        complete = {snapshot_path(path) for path in whole}
        for place, fresh in self._fresh.items():
            try:
                kept = {} if place in complete else self._read(place)
            except EsbError:
                kept = {}
            text = msgspec.json.format(Json().encode({**kept, **fresh}), indent=2)
            write_whole(self.root / place, text + b"\n")
        return list(self._fresh)

    def _read(self, place: str) -> dict[str, Any]:
        if place not in self._files:
            file = self.root / place
            found = Json().decode(file.read_bytes()) if file.is_file() else {}
            self._files[place] = found if isinstance(found, dict) else {}
        return self._files[place]
