"""The workspace that somebody is writing in: files on the disk, and those that are open and not saved yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from esb.config.flow import known_at
from esb.config.loader import Loaded, read_workspace
from esb.language.shapes import Shape
from esb.registry import Registry, load

_FOLDERS = ("routes", "connectors", "schemas", "transforms", "kpis")
_SUFFIXES = (".yaml", ".yml", ".json", ".jmes", ".j2", ".csv")
_LARGEST = 4_000_000


def root_of(path: Path) -> Path | None:
    """The workspace that a file belongs to: the nearest folder above it with `esb.yaml`, or with `routes/`."""
    for name in ("esb.yaml", "routes"):
        found = next((folder for folder in path.parents if (folder / name).exists()), None)
        if found is not None:
            return found
    return None


@dataclass(slots=True)
class Desk:
    """One workspace. ``open`` are the texts of open files by their path in it."""

    root: Path
    open: dict[str, str] = field(default_factory=dict)
    registry: Registry = field(default_factory=load)
    last: Loaded | None = None

    def texts(self) -> dict[str, str]:
        """Every file of the workspace, the open ones as they are being written."""
        found: dict[str, str] = {}
        places = [self.root / "esb.yaml"]
        for folder in _FOLDERS:
            places += sorted((self.root / folder).rglob("*"))
        for place in places:
            if place.suffix not in _SUFFIXES or not place.is_file() or place.stat().st_size > _LARGEST:
                continue
            path = place.relative_to(self.root).as_posix()
            if not any(part.startswith(".") for part in path.split("/")):
                found[path] = place.read_text(encoding="utf-8-sig", errors="replace")
        return {**found, **self.open}

    def read(self) -> Loaded:
        """Everything that can be said of the workspace now. Secrets and the environment stay open."""
        self.last = self._read(self.texts())
        return self.last

    def known(self) -> Loaded:
        """What was said last, or now where nothing was yet."""
        return self.last or self.read()

    def asked(self, path: str, text: str) -> list[Shape]:
        """What is known of a message where `PROBE` stands in ``text``; reads no other routes than it needs."""
        texts = self.texts()
        if path.startswith("routes/"):
            kept = "routes/sites/" if "template:" in text else path  # without a site a template has no routes
            texts = {
                name: other for name, other in texts.items() if not name.startswith("routes/") or name.startswith(kept)
            }
        loaded = self._read({**texts, path: text})
        return known_at(loaded.docs, loaded.resources) if loaded.resources is not None else []

    def _read(self, texts: Mapping[str, str]) -> Loaded:
        return read_workspace(
            self.root, environ={}, resolve_env=False, need_secrets=False, registry=self.registry, texts=texts
        )

    def lines(self, path: str) -> Sequence[str]:
        """The lines of a file as it is being written."""
        text = self.open.get(path)
        if text is None:
            try:
                text = (self.root / path).read_text(encoding="utf-8-sig", errors="replace")
            except OSError:
                return []
        return text.splitlines()
