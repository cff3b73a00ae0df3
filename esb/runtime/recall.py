"""Old versions of routes, made anew of what the store keeps of them: what is open at a restart ends on its version.

A version is what its texts say, under the settings that it was live under, with the code of ``connectors/*.py`` as it is now. It
is taken only where all of this gives the very version that is asked for; a message never runs on something similar.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from esb.clock import Clock
from esb.config.loader import Loaded, read_workspace
from esb.config.model import RouteSpec, Workspace
from esb.config.settings import SETTINGS
from esb.message import short_version
from esb.runtime.bench import Bench
from esb.runtime.births import Births
from esb.runtime.history import known_of, turns_of
from esb.runtime.versions import Version as RouteVersion
from esb.runtime.workers import Version
from esb.store.base import Store

#: Older texts of esb.yaml that a version is tried with.
TRIED = 10
#: What a route of a site is made of may stand in any file.
_MAKES = re.compile(r"^(?:template|site):", re.MULTILINE)


class Gone(Exception):
    """The version cannot be made again; why is its text."""


def recall(route: str, digest: str, now: Workspace, live: RouteSpec | None, bench: Bench) -> RouteVersion | None:
    """The version of a route; None where it cannot be made again, which is said in the log. Costs a reading of the workspace.

    ``now`` is the workspace as it is live, ``live`` the route's version in it, ``bench`` the tools of that.
    """
    try:
        loaded, spec, texts = made(route, digest, now, live, bench.store, bench.clock)
    except Gone as gone:
        bench.log(
            "warning",
            "version.gone",
            route=route,
            version=short_version(digest),
            why=str(gone),
            hint="its open groups and sagas end by the newest version; see `esb routes diff`",
        )
        return None
    watch = bench.away.watch if bench.away is not None else None
    if loaded is None or loaded.resources is None or loaded.settings is None:  # it is what is live, but for its secrets
        return spec, bench, Births(now.registry, now.settings.site, watch, bench.observer)
    away = None  # where other files have faults beside the old texts, no worker can read them: its steps run here
    if bench.away is not None and loaded.workspace is not None:
        away = replace(bench.away, version=Version.of(now.root, texts))
    site, resources = loaded.settings.site, loaded.resources
    connectors = MappingProxyType(dict(resources.connectors))
    own = replace(bench, connectors=connectors, site=site, timezone=loaded.settings.timezone, away=away)
    bench.log("info", "version.recalled", route=route, version=short_version(digest))
    return spec, own, Births(resources.registry, site, watch, bench.observer)


def made(
    route: str, digest: str, now: Workspace, live: RouteSpec | None, store: Store, clock: Clock
) -> tuple[Loaded | None, RouteSpec, Mapping[str, str]]:
    """What was read, the version in it, and its texts; as :func:`recall`. Raises Gone."""
    known = known_of(store, route, digest)
    if live is not None and known and live.known == known:
        return None, live, {}
    why = ""
    files = store.version(route, digest) or {}
    for texts in texts_of(store, route, digest, now):
        loaded = read_workspace(now.root, texts=texts, clock=clock)
        specs = [doc.spec for doc in loaded.docs if doc.spec is not None and doc.spec.name == route]
        for spec in specs:
            if spec.digest == digest or (known and spec.known == known):
                return loaded, spec, texts
        faults = [problem for problem in loaded.errors if problem.position.path in files]
        why = why or (str(faults[0]) if faults else "what it took from esb.yaml or the environment has changed")
    raise Gone(why)


def texts_of(store: Store, route: str, digest: str, now: Workspace) -> Iterator[Mapping[str, str]]:
    """The texts that may make a version: its own, with what lies beside them in ``now``, under one text of esb.yaml after another.

    Raises Gone where none can.
    """
    files = store.version(route, digest)
    if files is None:
        raise Gone("its texts are not kept")
    for path, text in files.items():
        if path.endswith(".py") and _code(now.root / path) != text:
            raise Gone(f"{path} has changed since, and code runs as it is on the disk")
    beside = {path: text for path, text in now.texts.items() if not path.startswith("routes/") or _MAKES.search(text)}
    for settings in _settings(store, now.texts.get(SETTINGS, "")):
        yield {**beside, **files, **({SETTINGS: settings} if settings.strip() else {})}


def _settings(store: Store, now: str) -> Iterator[str]:
    """The text of esb.yaml as it is, then as it was, the newest first; each once."""
    yield now
    said = {now}
    for turn in reversed(turns_of(store, SETTINGS)[-TRIED:]):
        text = (store.version(SETTINGS, turn["digest"]) or {}).get(SETTINGS)
        if text is not None and text not in said:
            said.add(text)
            yield text


def _code(place: Path) -> str | None:
    try:
        return place.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


__all__ = ["Gone", "RouteVersion", "made", "recall", "texts_of"]
