"""Files that nobody reads because of how their names end: ``routes/orders.YAML``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from esb.config.files import Files
from esb.config.settings import SETTINGS
from esb.errors import Position, Problem

FOLDERS = ("routes", "connectors", "schemas", "transforms", "kpis")
ENDINGS = frozenset({".yaml", ".yml", ".json", ".jmes", ".j2", ".csv", ".py"})
_SHORT = "esb.yml"


def misnamed(files: Files) -> Iterator[Problem]:
    """A warning for each file whose ending is in capitals, and for settings under another name."""
    for path in (found for folder in FOLDERS for found in files.find(folder, "")):
        name = PurePosixPath(path)
        ending = name.suffix.lower()
        if ending != name.suffix and ending in ENDINGS:
            yield _unread(path, name.with_suffix(ending).name, f"its ending is `{name.suffix}`, not `{ending}`")
    if files.exists(_SHORT) and not files.exists(SETTINGS):
        yield _unread(_SHORT, SETTINGS, f"the settings of a bus are in `{SETTINGS}`")


def _unread(path: str, name: str, why: str) -> Problem:
    message = f"this file is not read: {why}"
    return Problem("ESB009", message, Position(path), hint=f"rename it to {name}", severity="warning")
