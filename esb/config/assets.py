"""Contracts, tables and transform files of a workspace: found by name or path, read when first asked for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from esb.config.files import Files
from esb.errors import Position, Problem
from esb.formats.json_place import place
from esb.spec import Node, Reader, ScalarNode
from esb.steps.base import Table

#: stands for a file that exists but has faults: a reference to it is no second fault
BROKEN: Any = type("_Broken", (), {"__repr__": lambda self: "BROKEN"})()

_INCLUDES = re.compile(r"""\{%-?\s*include\s+["']([^"']+)["']""")
#: makes the thing out of a path, reporting what is wrong with it; None where it has faults
Build = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Found:
    """What a name stands for, and the files it is made of."""

    value: Any
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of file: where it lives, how it ends, and what a missing one is called."""

    folder: str
    suffixes: tuple[str, ...]
    code: str
    label: str
    #: names are given without the ending (``nonconformance.v1``)
    bare: bool
    #: files of one name in several folders are told apart by their folders (``P20/defect-codes``)
    folders: bool = False


FAMILIES: Mapping[str, Family] = {
    "contract": Family("schemas", (".json",), "ESB302", "contract", True),
    "transform": Family("transforms", (".jmes", ".j2"), "ESB303", "transform file", False),
    "table": Family("transforms/tables", (".csv",), "ESB304", "table", True, folders=True),
}


class Assets:
    """The files that routes refer to. ``builders`` make a contract, table or transform out of a path."""

    def __init__(
        self,
        files: Files,
        builders: Mapping[str, Build],
        includes: Mapping[str, set[str]],
        report: Callable[[Problem], None],
    ) -> None:
        self.files = files
        self._builders = builders
        self._includes = includes  # further files that a file is made of, by its path
        self._report = report
        self._names: dict[str, dict[str, str]] = {}
        self._built: dict[str, Any] = {}
        for family in FAMILIES:
            self._names[family] = self._index(family)

    def _index(self, name: str) -> dict[str, str]:
        family = FAMILIES[name]
        found: dict[str, str] = {}
        paths = self.files.find(family.folder, *family.suffixes)
        stems = Counter(PurePosixPath(path).stem for path in paths) if family.folders else {}
        for path in paths:
            short = self._short(family, path)
            if stems.get(short, 1) > 1:
                short = _inside(family, path)
            if short in found:
                self._report(
                    Problem(
                        "ESB109",
                        f"two files are the {family.label} `{short}`",
                        Position(path),
                        hint="rename one of them",
                        related=((Position(found[short]), "the other one"),),
                    )
                )
                continue
            found[short] = path
        return found

    @staticmethod
    def _short(family: Family, path: str) -> str:
        return PurePosixPath(path).stem if family.bare else path.removeprefix(f"{family.folder}/")

    # -- finding ------------------------------------------------------------------------------------------------------
    def names(self, family: str) -> Mapping[str, str]:
        """Name → path of every file of a family."""
        return self._names[family]

    def find(self, family: str, name: str) -> Found | None:
        """What ``name`` stands for; None where there is no such file. The file is read the first time."""
        path = self.path(family, name)
        if path is None:
            return None
        value = self.load(family, path)
        return Found(value, (path, *sorted(self.further(path))))

    def further(self, path: str) -> set[str]:
        """Other files that a file is made of, as far as it was read."""
        return self._includes.get(path, set())

    def load(self, family: str, path: str) -> Any:
        if path not in self._built:
            self._built[path] = BROKEN  # a file that includes itself ends here
            value = self._builders[family](path)
            self._built[path] = BROKEN if value is None else value
        return self._built[path]

    def place_in(self, path: str, parts: Sequence[str | int]) -> Position | None:
        """Where a pointer stands in a JSON file of the workspace."""
        text = self.files.text(path)
        return place(text, path, parts) if text is not None else None

    def load_all(self) -> None:
        """Read every file, also those that nothing refers to, so that their faults are reported. A template that others include
        is read with them: it may use names that they give it."""
        parts = set(self._parts())
        for family, names in self._names.items():
            for path in names.values():
                if path not in parts:
                    self.load(family, path)

    def _parts(self) -> Iterator[str]:
        for path in self._names["transform"].values():
            if path.endswith(".j2"):
                yield from (f"transforms/{name}" for name in _INCLUDES.findall(self.files.text(path) or ""))

    def path(self, family: str, name: str) -> str | None:
        """The file that ``name`` stands for, None where there is none."""
        names = self._names[family]
        if name in names:
            return names[name]
        kind = FAMILIES[family]
        plain = name.removeprefix("./").removeprefix(f"{kind.folder}/")
        for candidate in (plain, *(plain.removesuffix(suffix) for suffix in kind.suffixes)):
            if candidate in names:
                return names[candidate]
        paths = (f"{kind.folder}/{plain}{suffix}" for suffix in ("", *(kind.suffixes if kind.folders else ())))
        return next((path for path in paths if path in names.values()), None)

    def missing(self, family: str, name: str, node: Node, reader: Reader) -> Any:
        """Report that a name stands for nothing."""
        kind = FAMILIES[family]
        assert isinstance(node, ScalarNode)
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts:
            return reader.problem(
                "ESB504", f"`{name}` leaves the folder {kind.folder}/", node, hint=f"put the file into {kind.folder}/"
            )
        several = [known for known in self._names[family] if kind.folders and PurePosixPath(known).name == name]
        if several:
            words = " or ".join(f"`{known}`" for known in sorted(several))
            message = f"the {kind.label} `{name}` is in several folders"
            return reader.problem(kind.code, message, node, label="which one?", hint=f"write {words}")
        folder = f"{kind.folder}/" if name.removeprefix("./").startswith(f"{kind.folder}/") else ""
        plain = name.removeprefix("./").removeprefix(folder)
        suffix = next((end for end in kind.suffixes if kind.bare and plain.endswith(end)), "")
        plain = plain.removesuffix(suffix)
        hint = reader.nearest(plain, self._names[family])
        if hint.startswith("did you mean `"):
            hint = f"did you mean `{folder}{hint.split('`')[1]}{suffix}`?"  # as it was written: a name or a path
        ending = " or ".join(f"{kind.folder}/{plain}{suffix}" for suffix in kind.suffixes) if kind.bare else ""
        return reader.problem(
            kind.code,
            f"{kind.label} `{name}` does not exist",
            node,
            label="no such file",
            hint=hint or (f"write it to {ending}" if ending else f"write it to {kind.folder}/"),
        )

    def table_paths(self, name: str | None) -> list[str]:
        """The file of a table; of every table where the name is only known when a message comes."""
        if not name:
            return list(self._names["table"].values())
        path = self.path("table", name)
        return [path] if path is not None else []


def _inside(family: Family, path: str) -> str:
    """The name of a file with its folders, without its ending."""
    return str(PurePosixPath(path.removeprefix(f"{family.folder}/")).with_suffix(""))


class Tables(Mapping[str, Table]):
    """The tables as the language's ``xref`` sees them: read when first asked for."""

    def __init__(self) -> None:
        self._assets: Assets | None = None

    def bind(self, assets: Assets) -> None:
        self._assets = assets

    def __getitem__(self, name: str) -> Table:
        found = self._assets.find("table", name) if self._assets else None
        if found is None or found.value is BROKEN:
            raise KeyError(name)
        table: Table = found.value
        return table

    def __contains__(self, name: object) -> bool:
        return self._assets is not None and self._assets.path("table", str(name)) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._assets.names("table") if self._assets else ())

    def __len__(self) -> int:
        return len(self._assets.names("table")) if self._assets else 0
