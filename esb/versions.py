"""Versions of a route for people: which were live since when, what they were made of, and how an older one comes back.

Coming back means that the files of the workspace say again what they said then; the bus takes them over as any other edit.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from esb.config.drafts import Draft, drafts
from esb.config.files import Files
from esb.config.loader import read_workspace
from esb.config.model import Workspace
from esb.config.settings import SETTINGS
from esb.config.yaml import read_documents
from esb.errors import ConfigError, EsbError
from esb.message import short_version
from esb.runtime.history import live_routes, turns_of
from esb.spec import MapNode, Node, ScalarNode
from esb.store.base import Store

#: Shortest beginning of a digest that stands for it.
SHORTEST = 4
#: Digits of a whole one.
WHOLE = 64
_FOLDERS = {
    "routes": (".yaml", ".yml"),
    "connectors": (".yaml", ".yml"),
    "schemas": (".json",),
    "transforms": ("",),  # templates include files of any ending
}


class UnknownVersion(EsbError):
    """No version of the route is known by that name."""


def listing(store: Store, route: str) -> list[dict[str, Any]]:
    """Every turn of the route's versions, the newest first: ``version digest own_version file at actor reason live files``."""
    items: list[dict[str, Any]] = []
    for turn in reversed(turns_of(store, route)):
        files = store.version(route, turn["digest"]) or {}
        version = short_version(turn["digest"])
        items.append({"route": route, "version": version, **turn, "live": not items, "files": sorted(files)})
    return items


def live(store: Store) -> list[dict[str, Any]]:
    """Every route that is live, or was when the bus stopped, with the texts it is made of; ``esb.yaml`` among them."""
    items = []
    for name in (*live_routes(store), SETTINGS):
        turns = turns_of(store, name)
        files = store.version(name, turns[-1]["digest"]) if turns else None
        if files is not None:
            items.append(
                {"route": name, "version": short_version(turns[-1]["digest"]), **turns[-1], "files": dict(files)}
            )
    return items


def texts_of(store: Store, route: str, wanted: str) -> dict[str, Any]:
    """The newest turn of a version with the texts it was made of. ``wanted`` is a digest, its beginning, or the route's
    own word for it. Raises UnknownVersion."""
    turns = [turn for turn in reversed(turns_of(store, route)) if _is(turn, wanted)]
    if not turns and len(wanted) == WHOLE and (files := store.version(route, wanted)) is not None:
        turn = {"digest": wanted, "own_version": "", "file": next(iter(files), ""), "at": "", "actor": "", "reason": ""}
        turns = [turn]  # a process had it, in which its secrets were marked in another way
    digests = {turn["digest"] for turn in turns}
    if not turns:
        raise UnknownVersion(f"route {route} has no version `{wanted}`", hint=f"esb routes versions {route}")
    if len(digests) > 1:
        words = ", ".join(sorted(short_version(digest) for digest in digests))
        raise UnknownVersion(f"`{wanted}` may be any of {words}", hint="write more of its digest")
    files = store.version(route, turns[0]["digest"])
    if files is None:
        raise UnknownVersion(f"the texts of version {wanted} are not kept any more")
    return {"route": route, "version": short_version(turns[0]["digest"]), **turns[0], "files": dict(files)}


def _is(turn: Mapping[str, Any], wanted: str) -> bool:
    digest = str(turn["digest"])
    return bool(wanted) and (wanted == turn["own_version"] or (len(wanted) >= SHORTEST and digest.startswith(wanted)))


@dataclass(frozen=True, slots=True)
class Restoration:
    """What it takes to bring a version back: the files to write, and those that are left alone since others use them."""

    write: Mapping[str, str]
    left: tuple[str, ...] = ()
    before: Mapping[str, str] = field(default_factory=dict)  #: what those files say now


def restoration(root: Path, route: str, files: Mapping[str, str], *, shared: bool = False) -> Restoration:
    """The route's own document (its site's, where a template made it) goes back into the file where it stands now. Other files of the version that only this route
    uses go back as well; those that other routes use only with ``shared``.

    Reads the workspace; writes nothing. Raises ConfigError where the workspace would have faults afterwards.
    """
    texts = _texts(root)
    own = next(iter(files))
    name = _name_of(files[own], own) or ("route", route)
    place = _place(texts, name) or own
    write = {place: _with_document(texts, name, place, files[own])}
    others = _used_by_others(_read(root, {**texts, **write}), route)
    left = []
    for path, text in list(files.items())[1:]:
        if texts.get(path) == text:
            continue
        if path in others and not shared:
            left.append(path)
        else:
            write[path] = text
    write = {path: text for path, text in write.items() if texts.get(path) != text}
    _read(root, {**texts, **write})
    return Restoration(write, tuple(left), {path: texts.get(path, "") for path in write})


def unified(before: Mapping[str, str], after: Mapping[str, str], names: tuple[str, str] = ("", "")) -> str:
    """The difference of two sets of files as a unified diff, each file under its path."""
    parts: list[str] = []
    for path in dict.fromkeys((*before, *after)):
        old, new = before.get(path, ""), after.get(path, "")
        if old != new:
            was, now = (f"{path} {name}".rstrip() for name in names)
            lines = difflib.unified_diff(old.splitlines(), new.splitlines(), was, now, lineterm="")
            parts.extend(lines)
    return "\n".join(parts)


def drafted(root: Path, texts: Mapping[str, str]) -> list[Draft]:
    """Every file beside its place, so that all of them can take it; or none. Raises OSError."""
    return drafts({root / path: text.encode() for path, text in texts.items()}, synced=True)


def _texts(root: Path) -> dict[str, str]:
    """Every text of the workspace, also where it has faults."""
    files = Files(root, lambda _: None)
    paths = [path for folder, suffixes in _FOLDERS.items() for path in files.find(folder, *suffixes)]
    found = {path: files.text(path) for path in [SETTINGS, *paths] if files.exists(path)}
    return {path: text for path, text in found.items() if text is not None}


def _read(root: Path, texts: Mapping[str, str]) -> Workspace:
    loaded = read_workspace(root, texts=texts, need_secrets=False)
    if loaded.workspace is None:
        raise ConfigError(loaded.errors)
    return loaded.workspace


def _name_of(text: str, path: str) -> tuple[str, str] | None:
    """Kind and name of a document: a route is its own, one of a template has that of its site."""
    documents, _ = read_documents(text, path, lambda _: None)
    return _name(documents[0].node) if documents else None


def _name(node: Node) -> tuple[str, str] | None:
    kind = node.entries[0] if isinstance(node, MapNode) and node.entries else None
    return (kind[0].text, str(kind[1].value)) if kind is not None and isinstance(kind[1], ScalarNode) else None


def _place(texts: Mapping[str, str], name: tuple[str, str]) -> str:
    """The file that holds the document now."""
    for path, text in texts.items():
        if path.startswith("routes/") and _document(text, path, name):
            return path
    return ""


def _document(text: str, path: str, name: tuple[str, str]) -> str:
    """The text of the document inside of a file, empty where it is not there."""
    documents, _ = read_documents(text, path, lambda _: None)
    return next((document.text for document in documents if _name(document.node) == name), "")


def _with_document(texts: Mapping[str, str], name: tuple[str, str], path: str, document: str) -> str:
    """The file with this document in place of the route's own. Other documents and comments stay."""
    text = texts.get(path, "")
    now = _document(text, path, name).rstrip("\n")
    if now:
        return text.replace(now, document.rstrip("\n"), 1)
    return f"{text.rstrip()}\n---\n{document}" if text.strip() else document


def _used_by_others(workspace: Workspace, route: str) -> set[str]:
    specs = workspace.routes.values()
    return {path for spec in specs if spec.name != route for path in list(spec.files)[1:]}
