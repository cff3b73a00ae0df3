"""Which files of a folder are there, complete, and next."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Generator, Iterable
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Literal, NamedTuple

from esb.endpoints.file_options import FolderSource
from esb.endpoints.paths import fixed_folder, split_suffix

#: Folder beside a file that is in hand; what a crash leaves there is read again.
CLAIM = ".esb-claim"

_UNFINISHED = (".part", ".tmp", ".filepart", ".crdownload", "~")
_DEEPEST = 32
#: seconds that a claimed file of which a half was seen must rest
_UNSURE = 2.0


class Entry(NamedTuple):
    """One name of a folder's listing; a name may hold undecodable bytes. ``inode`` is 0 where the place has none."""

    name: str
    kind: Literal["file", "folder", "other"]
    size: int
    mtime_ns: int
    inode: int = 0
    links: int = 1


Parts = tuple[str, ...]
#: names the folder to list next (below the watched one), takes its entries (None: gone or forbidden), ends with what is ready
Walk = Generator[Parts, Iterable[Entry] | None, "list[Found]"]


@dataclass(frozen=True, slots=True)
class Found:
    """A file that is ready. ``parts`` are its folders below the watched one; ``claimed`` where it lies in ``.esb-claim/``."""

    parts: tuple[str, ...]
    name: str
    size: int
    mtime_ns: int
    inode: int
    claimed: bool = False

    @property
    def path(self) -> str:
        return "/".join((*self.parts, self.name))


@dataclass(frozen=True, slots=True)
class Pattern:
    """A path with wildcards: the folder before the first of them, and one expression per part (None for ``**``)."""

    base: PurePath
    parts: tuple[re.Pattern[str] | None, ...]
    hidden: bool

    @classmethod
    def of(cls, text: str, home: PurePath) -> Pattern:
        """The pattern ``text``; a relative one begins at ``home``."""
        anchor = type(home)(text).anchor
        *folders, last = [part for part in text[len(anchor) :].split("/") if part not in ("", ".")]
        fixed: list[str] = []
        while folders and not re.search(r"[*?]", folders[0]):
            fixed.append(folders.pop(0))
        rest = [*folders, last] if last != "**" else [*folders, "**", "*"]
        start = type(home)(anchor) if anchor else home
        return cls(start.joinpath(*fixed), tuple(map(_part, rest)), any(part.startswith(".") for part in rest))

    def first(self) -> frozenset[int]:
        return self._with_skips({0})

    def into(self, states: frozenset[int], name: str) -> frozenset[int]:
        """The parts that may match inside folder ``name``."""
        last = len(self.parts) - 1
        found = set()
        for state in states:
            part = self.parts[state]
            if part is None:
                found.add(state)
            elif state < last and part.fullmatch(name):
                found.add(state + 1)
        return self._with_skips(found)

    def matches(self, states: frozenset[int], name: str) -> bool:
        last = len(self.parts) - 1
        part = self.parts[last]
        return last in states and part is not None and part.fullmatch(name) is not None

    def _with_skips(self, states: set[int]) -> frozenset[int]:
        for state in sorted(states):
            after = state
            while self.parts[after] is None:  # `**` also stands for no folder at all
                after += 1
                states.add(after)
        return frozenset(states)


def _part(text: str) -> re.Pattern[str] | None:
    if text == "**":
        return None
    words = {"*": ".*", "?": "."}
    return re.compile("".join(words.get(ch) or re.escape(ch) for ch in text), re.DOTALL)


@dataclass(slots=True)
class _Look:
    """A folder as it was seen: files that match, every name, and what lies claimed."""

    parts: tuple[str, ...]
    files: list[Found] = field(default_factory=list)
    names: set[str] = field(default_factory=set)


class Scanner:
    """Decides what to take of what listings show. Remembers what it saw, so that a file counts as complete only when it rests.

    ``skip`` are whole paths of folders that are never entered.
    """

    def __init__(self, options: FolderSource, pattern: Pattern, skip: Container[str] = ()) -> None:
        self._options = options
        self._pattern = pattern
        self._marker = marker_of(options.ready.marker) if options.ready.marker else None
        self._seen: dict[str, tuple[int, int, int, float]] = {}
        self._skip = skip
        self._moves = [fixed_folder(t.text.rstrip("/") + "/") for t in (options.done.move, options.failed.move) if t]
        #: seconds until the next file may be complete, None where none is being watched
        self.soonest: float | None = None
        #: claimed files that could not be given back when they turned out not to be complete
        self.unsure: set[str] = set()
        #: files with more than one hard link, left alone
        self.linked: set[str] = set()

    def walk(self, now: float) -> Walk:
        """Look at the folders that the pattern names; ends with the files that are ready, claimed ones first."""
        looks: list[_Look] = []
        entries = yield ()
        yield from self._walk((), self._pattern.first(), entries or (), looks)
        return self._sift(looks, now)

    def _sift(self, looks: list[_Look], now: float) -> list[Found]:
        back = self._targets(looks)
        claimed: list[Found] = []
        ready: list[Found] = []
        seen: dict[str, tuple[int, int, int, float]] = {}
        self.soonest = None
        for look in looks:
            if self._inside(look.parts, back):
                continue
            for found in look.files:
                if found.claimed:
                    if found.path not in self.unsure or self._rests(found, now, seen, _UNSURE):
                        claimed.append(found)
                elif self._is_ready(found, look.names, now, seen):
                    ready.append(found)
        self._seen = seen
        self.unsure &= {found.path for look in looks for found in look.files if found.claimed}
        by_time = self._options.order == "modified"
        order = sorted(ready, key=lambda f: (f.mtime_ns if by_time else 0, f.path))
        return sorted(claimed, key=lambda f: f.path) + order

    def marker_for(self, name: str) -> str | None:
        """The name of the file that says that ``name`` is complete."""
        template = self._options.ready.marker
        if template is None:
            return None
        if "{" not in template:
            return name + template
        return template.replace("{name}", name).replace("{stem}", split_suffix(name)[0])

    def shares_marker(self, name: str, others: Iterable[str]) -> bool:
        """Whether another file still waits for the same marker."""
        marker = self.marker_for(name)
        last = self._pattern.parts[-1]
        assert last is not None
        return any(
            other not in (name, marker) and last.fullmatch(other) and self.marker_for(other) == marker
            for other in others
        )

    # -- inside -------------------------------------------------------------------------------------------------------
    def _walk(
        self, parts: Parts, states: frozenset[int], entries: Iterable[Entry], looks: list[_Look]
    ) -> Generator[Parts, Iterable[Entry] | None, None]:
        last = len(self._pattern.parts) - 1
        look = _Look(parts)
        inner: list[tuple[str, frozenset[int]]] = []
        claims = False
        for entry in entries:
            name = entry.name
            if entry.kind == "folder":
                claims = claims or name == CLAIM
                if self._may_enter(parts, name) and (deeper := self._pattern.into(states, name)):
                    inner.append((name, deeper))
                continue
            look.names.add(name)
            if entry.kind == "file" and self._may_take(name) and self._pattern.matches(states, name):
                if entry.links > 1:  # it could lead out of the folder
                    self.linked.add("/".join((*parts, name)))
                else:
                    look.files.append(Found(parts, name, entry.size, entry.mtime_ns, entry.inode))
        if last in states:
            if claims:
                for entry in (yield (*parts, CLAIM)) or ():
                    if entry.kind == "file" and self._pattern.matches(states, entry.name):
                        found = Found(parts, entry.name, entry.size, entry.mtime_ns, entry.inode, claimed=True)
                        look.files.append(found)
            looks.append(look)
        if len(parts) < _DEEPEST:
            for name, deeper in inner:
                below = yield (*parts, name)
                if below is not None:  # gone, forbidden, or a link by now: the other folders go on
                    yield from self._walk((*parts, name), deeper, below, looks)

    def _may_enter(self, parts: Parts, name: str) -> bool:
        if name.startswith(".") and not self._pattern.hidden:
            return False
        if name in (CLAIM, ".esb-done", ".esb-failed"):
            return False
        return not self._skip or str(self._pattern.base.joinpath(*parts, name)) not in self._skip

    def _may_take(self, name: str) -> bool:
        if name.startswith(".") and not self._pattern.hidden:
            return False
        if name.lower().endswith(_UNFINISHED):
            return False
        return self._marker is None or not self._marker.fullmatch(name)

    def _is_ready(
        self, found: Found, names: set[str], now: float, seen: dict[str, tuple[int, int, int, float]]
    ) -> bool:
        ready = self._options.ready
        if ready.rename:
            return True
        if ready.marker is not None:
            return self.marker_for(found.name) in names
        assert ready.stable_for is not None
        return self._rests(found, now, seen, ready.stable_for.total_seconds())

    def _rests(self, found: Found, now: float, seen: dict[str, tuple[int, int, int, float]], span: float) -> bool:
        """Whether two looks at least ``span`` seconds apart found the file the same."""
        key = f"{CLAIM}/{found.path}" if found.claimed else found.path
        before = self._seen.get(key)
        state = (found.size, found.mtime_ns, found.inode)
        since = before[3] if before is not None and before[:3] == state else now
        seen[key] = (*state, since)
        left = since + span - now
        if before is not None and left <= 0:
            return True
        self.soonest = max(left, 0.05) if self.soonest is None else min(self.soonest, max(left, 0.05))
        return False

    def _targets(self, looks: list[_Look]) -> set[str]:
        """The folders below the watched one that files are moved to: they are not looked at again."""
        base = str(self._pattern.base)
        folders = [os.path.join(base, *look.parts) for look in looks]  # noqa: PTH118 - Path would follow no `..`
        if len(self._pattern.parts) == 1:
            return set()
        return {os.path.normpath(os.path.join(folder, own)) for folder in folders for own in self._moves}  # noqa: PTH118 - texts, for `normpath`

    def _inside(self, parts: tuple[str, ...], targets: set[str]) -> bool:
        path = str(self._pattern.base)
        for part in parts:
            path = os.path.join(path, part)  # noqa: PTH118 - texts, for `normpath` - the same
            if path in targets:
                return True
        return False


def advance(walk: Walk, entries: Iterable[Entry] | None) -> tuple[Parts | None, list[Found]]:
    """Hand a listing to a walk: the folder to list next, or None and what was found."""
    try:
        return walk.send(entries), []
    except StopIteration as end:
        return None, end.value


def marker_of(template: str) -> re.Pattern[str]:
    """Which names are markers, so that a wide pattern does not take them for files."""
    text = template if "{" in template else "{name}" + template
    words = [re.escape(word) for word in re.split(r"\{name\}|\{stem\}", text)]
    return re.compile(".+".join(words), re.DOTALL)
