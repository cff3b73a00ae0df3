"""Contracts, tables and transform files of a workspace: found by name or path, read when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from esb.config.files import Files
from esb.errors import Position, Problem
from esb.spec import Node, Reader, ScalarNode
from esb.steps.base import Table

#: stands for a file that exists but has faults: a reference to it is no second fault
BROKEN: Any = type("_Broken", (), {"__repr__": lambda self: "BROKEN"})()

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


FAMILIES: Mapping[str, Family] = {
    "contract": Family("schemas", (".json",), "ESB302", "contract", True),
    "transform": Family("transforms", (".jmes", ".j2"), "ESB303", "transform file", False),
    "table": Family("transforms/tables", (".csv",), "ESB304", "table", True),
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
        for path in self.files.find(family.folder, *family.suffixes):
            short = self._short(family, path)
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
        path = self._path(family, name)
        if path is None:
            return None
        value = self.load(family, path)
        return Found(value, (path, *sorted(self._includes.get(path, ()))))

    def load(self, family: str, path: str) -> Any:
        if path not in self._built:
            self._built[path] = BROKEN  # a file that includes itself ends here
            value = self._builders[family](path)
            self._built[path] = BROKEN if value is None else value
        return self._built[path]

    def load_all(self) -> None:
        """Read every file, also those that nothing refers to, so that their faults are reported."""
        for family, names in self._names.items():
            for path in names.values():
                self.load(family, path)

    def _path(self, family: str, name: str) -> str | None:
        names = self._names[family]
        if name in names:
            return names[name]
        kind = FAMILIES[family]
        plain = name.removeprefix("./").removeprefix(f"{kind.folder}/")
        for candidate in (plain, *(plain.removesuffix(suffix) for suffix in kind.suffixes)):
            if candidate in names:
                return names[candidate]
        path = f"{kind.folder}/{plain}"
        return path if path in names.values() else None

    def missing(self, family: str, name: str, node: Node, reader: Reader) -> Any:
        """Report that a name stands for nothing."""
        kind = FAMILIES[family]
        assert isinstance(node, ScalarNode)
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts:
            return reader.problem(
                "ESB504", f"`{name}` leaves the folder {kind.folder}/", node, hint=f"put the file into {kind.folder}/"
            )
        folder = f"{kind.folder}/" if name.startswith(f"{kind.folder}/") else ""
        hint = reader.nearest(name.removeprefix(folder), self._names[family])
        if folder and hint.startswith("did you mean `"):
            hint = hint.replace("`", f"`{folder}", 1)
        ending = " or ".join(f"{kind.folder}/{name}{suffix}" for suffix in kind.suffixes) if kind.bare else ""
        return reader.problem(
            kind.code,
            f"{kind.label} `{name}` does not exist",
            node,
            label="no such file",
            hint=hint or (f"write it to {ending}" if ending else f"write it to {kind.folder}/"),
        )

    def table_paths(self, name: str | None) -> list[str]:
        """The file of a table; of every table where the name is only known when a message comes."""
        tables = self._names["table"]
        if not name:
            return list(tables.values())
        return [tables[name]] if name in tables else []


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
        return self._assets is not None and name in self._assets.names("table")

    def __iter__(self) -> Iterator[str]:
        return iter(self._assets.names("table") if self._assets else ())

    def __len__(self) -> int:
        return len(self._assets.names("table")) if self._assets else 0
