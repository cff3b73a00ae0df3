"""What `esb lint` said, kept as long as nothing changes that it depends on: in `.esb/` of a workspace that ran, else with the
caches of the user, since looking makes nothing in a workspace."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from esb import __version__
from esb.config.drafts import write_whole
from esb.errors import Position, Problem

_FILE = ".esb/lint.json"
#: Outcomes in the caches of a user.
KEPT = 100
_FOLDERS = ("routes", "connectors", "schemas", "transforms", "kpis", ".secrets")
_NAMES = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)")
_CERTIFICATES = re.compile(r"\b(?:cert|key|client_ca):\s*['\"]?([^'\"#\s,}]+)")
_SECRETS = re.compile(r"^secrets:\s*['\"]?([^'\"#\s]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Said:
    """The outcome of a lint: its problems, and how many routes there are (0 where there is an error)."""

    problems: tuple[Problem, ...]
    routes: int


@dataclass(frozen=True, slots=True)
class LintCache:
    """The outcome for one workspace and one set of flags."""

    root: Path
    flags: Sequence[str] = ()

    def find(self, state: str) -> Said | None:
        """What was said last, where that is still the state."""
        place = self.place()
        if place is None:
            return None
        try:
            kept = json.loads(place.read_text(encoding="utf-8"))
            if kept["state"] != state:
                return None
            return Said(tuple(_problem(one) for one in kept["problems"]), kept["routes"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, state: str, said: Said) -> None:
        """Remember it for the state in which it was read; a folder that cannot be written is no fault."""
        place = self.place()
        if place is None:
            return
        record = {
            "state": state,
            "routes": said.routes,
            "problems": [asdict(problem) for problem in said.problems],
        }
        try:
            if place.parent.name != ".esb":
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                _forget_old(place.parent)
            write_whole(place, json.dumps(record))
        except OSError:
            return

    def place(self, environ: Mapping[str, str] = os.environ) -> Path | None:
        """The file that it is kept in; None where nobody would find it again."""
        own = self.root / _FILE
        if own.parent.is_dir():
            return own
        name = hashlib.sha256(os.fsencode(self.root.resolve())).hexdigest()[:32]
        folder = caches(environ)
        return folder / "lint" / f"{name}.json" if folder is not None else None

    def state(self, environ: Mapping[str, str] = os.environ) -> str:
        """Everything that an outcome depends on: the program, the files, the environment, the day."""
        told = hashlib.sha256()
        lines = [__version__, *self.flags, datetime.now(UTC).date().isoformat(), *self._environment(environ)]
        for line in (*lines, *_stats(Path(__file__).parents[1]), *self._files()):
            told.update(line.encode("utf-8", "surrogateescape") + b"\0")
        return told.hexdigest()

    def _environment(self, environ: Mapping[str, str]) -> Iterator[str]:
        """The variables that the workspace names. Of secrets only that they are set: not even a hash of one is kept."""
        named: set[str] = set()
        places = [self.root / "esb.yaml", *(p for f in _FOLDERS[:2] for p in (self.root / f).rglob("*.y*ml"))]
        for place in places:
            if not place.is_file():  # reading a pipe would wait for its writer
                continue
            try:
                named.update(_NAMES.findall(place.read_text(encoding="utf-8", errors="replace")))
            except OSError:
                continue
        yield from (f"{name}={environ.get(name)}" for name in sorted(named))
        yield from sorted(
            f"{name} is set" for name, value in environ.items() if name.startswith("ESB_SECRET_") and value
        )

    def _files(self) -> Iterator[str]:
        settings = self.root / "esb.yaml"
        yield from _stat(settings)
        text = settings.read_text(encoding="utf-8", errors="replace") if settings.is_file() else ""
        for name in _CERTIFICATES.findall(text):
            yield from _stat(self.root / name)
        found = _SECRETS.search(text)
        for folder in (*_FOLDERS, *([found[1]] if found else [])):
            yield from _stats(self.root / folder)


def caches(environ: Mapping[str, str]) -> Path | None:
    """The folder for caches of the user of this process; None for one without a home."""
    if given := environ.get("XDG_CACHE_HOME" if os.name != "nt" else "LOCALAPPDATA"):
        return Path(given) / "esb"
    try:
        return Path.home() / ".cache" / "esb"
    except RuntimeError:
        return None


def _forget_old(folder: Path) -> None:
    """Keep the newest of the workspaces that somebody linted."""
    known = sorted(folder.glob("*.json"), key=lambda one: one.stat().st_mtime, reverse=True)
    for place in known[KEPT - 1 :]:
        place.unlink(missing_ok=True)


def _stats(folder: Path) -> Iterator[str]:
    for directory, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            yield from _stat(Path(directory) / name)


def _stat(place: Path) -> Iterator[str]:
    try:
        found = place.stat()
    except OSError:
        return
    yield f"{place}:{found.st_mtime_ns}:{found.st_size}:{found.st_mode}:{found.st_ino}"


def _problem(kept: dict[str, Any]) -> Problem:
    related = tuple((Position(**at), words) for at, words in kept["related"])
    return Problem(**{**kept, "position": Position(**kept["position"]), "related": related})
