"""Two texts of a document: which fields changed, from what to what. Comments and layout mean nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from esb.config.digest import canonical
from esb.config.yaml import read_documents
from esb.formats.json import Json
from esb.spec import ListNode, MapNode, Node, ScalarNode, to_plain

_SHOWN = 120


@dataclass(frozen=True, slots=True)
class Change:
    """One field: ``old`` and ``new`` as they are written, None where it is not there."""

    path: str
    old: str | None
    new: str | None

    def as_item(self) -> dict[str, Any]:
        return {"path": self.path, "old": self.old, "new": self.new}

    def __str__(self) -> str:
        if self.old is None:
            return f"+ {self.path}: {self.new}"
        return f"- {self.path}: {self.old}" if self.new is None else f"{self.path}: {self.old} → {self.new}"


def document_changes(old: str, new: str, path: str) -> list[Change]:
    """Fields of the first document of each text that differ; a text that cannot be read has no fields."""
    before, after = _first(old, path), _first(new, path)
    if before is None or after is None:
        return []
    return list(_changes("", before, after))


def _first(text: str, path: str) -> Node | None:
    documents, _ = read_documents(text, path, lambda _: None)
    return documents[0].node if documents else None


def _changes(path: str, old: Node, new: Node) -> Iterator[Change]:
    if canonical(old) == canonical(new):
        return
    if isinstance(old, MapNode) and isinstance(new, MapNode):
        yield from _of_maps(path, old, new)
    elif isinstance(old, ListNode) and isinstance(new, ListNode):
        yield from _of_lists(path, old, new)
    else:
        yield Change(path, written(old), written(new))


def _of_maps(path: str, old: MapNode, new: MapNode) -> Iterator[Change]:
    names = dict.fromkeys((*old.keys(), *new.keys()))
    changed = False
    for name in names:
        before, after = old.get(name), new.get(name)
        place = f"{path}.{name}" if path else name
        if before is None or after is None:
            changed = True
            yield Change(place, written(before), written(after))
        else:
            for change in _changes(place, before, after):
                changed = True
                yield change
    if not changed:
        yield Change(f"{path or 'document'} (order)", ", ".join(old.keys()), ", ".join(new.keys()))


def _of_lists(path: str, old: ListNode, new: ListNode) -> Iterator[Change]:
    before, after = [canonical(item) for item in old.items], [canonical(item) for item in new.items]
    for kind, i, j, m, n in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        pairs = min(j - i, n - m)
        for k in range(pairs):
            yield from _changes(f"{path}[{m + k}]", old.items[i + k], new.items[m + k])
        for k in range(i + pairs, j):
            yield Change(f"{path}[{k}]", written(old.items[k]), None)
        for k in range(m + pairs, n):
            yield Change(f"{path}[{k}]", None, written(new.items[k]))


def written(node: Node | None) -> str | None:
    """A value as it is written, in one line."""
    if node is None:
        return None
    text = node.text if isinstance(node, ScalarNode) else Json().encode(to_plain(node)).decode()
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
