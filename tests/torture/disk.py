"""A disk as POSIX promises it: what was not synced may be gone after a power cut, in part or whole, in any combination.

A file's bytes are durable after its ``fsync``, a name after the ``fsync`` of its folder. Rename is one step. Whether something
unsynced survives is drawn at the cut: never (``chance`` None), or each write and each name by itself, a write perhaps in part.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tests.torture.trace import Step

SECTOR = 512
#: Write, or None for the new length of the file.
Write = tuple[int, bytes | None]


@dataclass(eq=False, slots=True)
class File:
    safe: bytearray = field(default_factory=bytearray)
    loose: list[Write] = field(default_factory=list)
    size: int = 0

    def write(self, offset: int | None, data: bytes) -> None:
        at = self.size if offset is None else offset
        self.loose.append((at, data))
        self.size = max(self.size, at + len(data))

    def truncate(self, size: int) -> None:
        self.loose.append((size, None))
        self.size = size

    def sync(self, count: int) -> None:
        for one in self.loose[:count]:
            _apply(self.safe, one)
        del self.loose[:count]

    def cut(self, chance: random.Random | None) -> bytes:
        content = bytearray(self.safe)
        for offset, data in self.loose if chance is not None else ():
            if chance is not None and chance.random() < 0.5:
                kept = data
                if data is not None and chance.random() < 0.2:
                    kept = data[: chance.randrange(len(data) // SECTOR + 1) * SECTOR]
                _apply(content, (offset, kept))
        return bytes(content)


@dataclass(eq=False, slots=True)
class Folder:
    names: dict[str, File | Folder] = field(default_factory=dict)
    safe: dict[str, File | Folder] = field(default_factory=dict)
    loose: list[NameChange] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class NameChange:
    """Names that come and go in one step; ``folders`` all hold it, the sync of any one of them makes it durable."""

    gone: tuple[Folder, str] | None = None
    come: tuple[Folder, str, File | Folder] | None = None

    @property
    def folders(self) -> list[Folder]:
        return [place[0] for place in (self.gone, self.come) if place is not None]


class Disk:
    """Everything under ``root``; what lies there at the beginning is durable."""

    def __init__(self, root: Path) -> None:
        self._base = str(root)
        self._root = _load(root)
        self._syncing: dict[int, int] = {}

    def take(self, step: Step) -> None:
        """Let a step happen; steps elsewhere on the machine are ignored."""
        match step.what:
            case "write" if isinstance(found := self._make(step.path), File):
                found.write(step.offset, step.data)
            case "truncate" if isinstance(found := self._find(step.path), File):
                found.truncate(step.offset or 0)
            case "sync" if (found := self._find(step.path)) is not None:
                self._syncing[step.number] = len(found.loose)
            case "synced" if (found := self._find(step.path)) is not None:
                self._synced(found, self._syncing.pop(step.number, 0))
            case "make" if (place := self._place(step.path)) is not None:
                self._change(NameChange(come=(*place, Folder())))
            case "unlink" if (place := self._place(step.path)) is not None and place[1] in place[0].names:
                self._change(NameChange(gone=place))
            case "link" | "rename":
                self._move(step)

    def cut(self, target: Path, chance: random.Random | None = None) -> None:
        """The power goes: write what is left into the folder ``target``."""
        kept = {
            id(one)
            for folder in _folders(self._root)
            for one in folder.loose
            if chance is not None and chance.random() < 0.5
        }
        _write(_names_of(self._root, kept), target, kept, chance)

    # -- inside -------------------------------------------------------------------------------------------------------
    def _synced(self, found: File | Folder, count: int) -> None:
        if isinstance(found, File):
            found.sync(count)
            return
        for change in found.loose[:count]:
            _keep(change)
            for folder in change.folders:
                if folder is not found and change in folder.loose:
                    folder.loose.remove(change)
        del found.loose[:count]

    def _move(self, step: Step) -> None:
        old, new = self._place(step.path), self._place(step.to)
        if old is None or new is None or old[1] not in old[0].names:
            return
        come = (*new, old[0].names[old[1]])
        self._change(NameChange(gone=old if step.what == "rename" else None, come=come))

    def _change(self, change: NameChange) -> None:
        if change.gone is not None:
            del change.gone[0].names[change.gone[1]]
        if change.come is not None:
            change.come[0].names[change.come[1]] = change.come[2]
        for folder in {id(one): one for one in change.folders}.values():
            folder.loose.append(change)

    def _place(self, path: str) -> tuple[Folder, str] | None:
        """The folder and the last name of a path, None where it is not below the root."""
        if not path.startswith(self._base + "/"):
            return None
        *parts, name = PurePosixPath(path[len(self._base) + 1 :]).parts
        folder = self._root
        for part in parts:
            below = folder.names.get(part)
            if not isinstance(below, Folder):
                return None
            folder = below
        return folder, name

    def _find(self, path: str) -> File | Folder | None:
        if path == self._base:
            return self._root
        place = self._place(path)
        return place[0].names.get(place[1]) if place is not None else None

    def _make(self, path: str) -> File | Folder | None:
        place = self._place(path)
        if place is not None and place[1] not in place[0].names:
            self._change(NameChange(come=(*place, File())))
        return self._find(path)


def _apply(content: bytearray, one: Write) -> None:
    offset, data = one
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    if data is None:
        del content[offset:]
    else:
        content[offset : offset + len(data)] = data


def _keep(change: NameChange) -> None:
    if change.gone is not None:
        change.gone[0].safe.pop(change.gone[1], None)
    if change.come is not None:
        change.come[0].safe[change.come[1]] = change.come[2]


def _load(path: Path) -> Folder:
    folder = Folder()
    for one in path.iterdir():
        if one.is_dir():
            folder.names[one.name] = _load(one)
        else:
            data = one.read_bytes()
            folder.names[one.name] = File(bytearray(data), [], len(data))
    folder.safe = dict(folder.names)
    return folder


def _folders(folder: Folder) -> list[Folder]:
    below = [one for one in {**folder.safe, **folder.names}.values() if isinstance(one, Folder)]
    return [folder, *(found for one in below for found in _folders(one))]


def _names_of(folder: Folder, kept: set[int]) -> dict[str, File | Folder]:
    names = dict(folder.safe)
    for change in folder.loose:
        if id(change) not in kept:
            continue
        if change.gone is not None and change.gone[0] is folder:
            names.pop(change.gone[1], None)
        if change.come is not None and change.come[0] is folder:
            names[change.come[1]] = change.come[2]
    return names


def _write(names: dict[str, File | Folder], target: Path, kept: set[int], chance: random.Random | None) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name, one in names.items():
        if isinstance(one, File):
            (target / name).write_bytes(one.cut(chance))
        else:
            _write(_names_of(one, kept), target / name, kept, chance)
