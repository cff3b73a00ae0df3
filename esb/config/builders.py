"""How a contract, table or transform is made out of its file; a fault becomes a problem at its place in that file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from esb.config.assets import Build
from esb.config.files import Files
from esb.contracts import JsonContract, read_schema
from esb.contracts.marks import marked_names
from esb.errors import ConfigError, Problem
from esb.language.workspace import WorkspaceLanguage
from esb.tables import CsvTable
from esb.transforms import read_transform

Report = Callable[[Problem], None]
#: puts something in place of a table that was read
Wrap = Callable[[CsvTable], Any]

_REF = re.compile(r'"\$(?:ref|dynamicRef)"\s*:\s*"([^"#]+)')
_INCLUDE = re.compile(r"{%-?\s*(?:include|import|from|extends)\s+['\"]([^'\"]+)['\"]")


class Builders:
    """Makes assets of one workspace. ``includes`` collects further files that each one is made of."""

    def __init__(self, files: Files, language: WorkspaceLanguage, report: Report, tables: Wrap | None = None) -> None:
        self._files, self._language, self._report, self._wrap = files, language, report, tables
        self._schemas: dict[str, Any] | None = None
        self.includes: dict[str, set[str]] = {}
        self.marked: set[str] = set()  #: names of members that contracts mark as sensitive

    def table(self) -> Mapping[str, Build]:
        """The builders by family, as :class:`~esb.config.assets.Assets` takes them."""
        return {"contract": self.contract, "table": self.csv_table, "transform": self.transform}

    # -- contracts ----------------------------------------------------------------------------------------------------
    def contract(self, path: str) -> Any:
        schemas = self._all_schemas()
        if path not in schemas:
            return None
        text = self._files.text(path) or ""
        name = PurePosixPath(path).stem
        self.includes[path] = self._referred(path)
        contract = self._reported(lambda: JsonContract.compile(name, schemas[path], path, schemas, text=text))
        if contract is not None and contract.references is not None:
            self.marked |= marked_names(contract.references)
        return contract

    def _all_schemas(self) -> dict[str, Any]:
        """Every schema that is JSON, by path; the others are reported once."""
        if self._schemas is None:
            self._schemas = {}
            for path in self._files.find("schemas", ".json"):
                text = self._files.text(path)
                if text is None:
                    continue
                read = self._reported(partial(_read_one, text, path))
                if read is not None:
                    self._schemas[path] = read[0]
        return self._schemas

    def _referred(self, path: str) -> set[str]:
        """The other schemas that one is made of, by file name or ``$id``."""
        schemas = self._all_schemas()
        found, todo = set[str](), [path]
        while todo:
            for ref in _REF.findall(self._files.text(todo.pop()) or ""):
                for other, content in schemas.items():
                    own_id = content.get("$id") if isinstance(content, dict) else None
                    named = PurePosixPath(other).name == PurePosixPath(ref).name or own_id == ref
                    if named and other != path and other not in found:
                        found.add(other)
                        todo.append(other)
        return found

    # -- tables -------------------------------------------------------------------------------------------------------
    def csv_table(self, path: str) -> Any:
        text = self._files.text(path)
        if text is None:
            return None
        found = self._reported(lambda: CsvTable.read(PurePosixPath(path).stem, text, path))
        return found if found is None or self._wrap is None else self._wrap(found)

    # -- transforms ---------------------------------------------------------------------------------------------------
    def transform(self, path: str) -> Any:
        text = self._files.text(path)
        if text is None:
            return None
        if path.endswith(".j2"):
            self.includes[path] = self._included(text, {path})
        return self._reported(lambda: read_transform(path.removeprefix("transforms/"), text, path, self._language))

    def _reported(self, make: Callable[[], Any]) -> Any:
        """What ``make`` gives; None after its problems were reported."""
        try:
            return make()
        except ConfigError as error:
            for problem in error.problems:
                self._report(problem)
            return None

    def _included(self, text: str, seen: set[str]) -> set[str]:
        found: set[str] = set()
        for name in _INCLUDE.findall(text):
            path = f"transforms/{name}"
            if path in seen or not self._files.exists(path):
                continue
            seen.add(path)
            found.add(path)
            found |= self._included(self._files.text(path) or "", seen)
        return found


def _read_one(text: str, path: str) -> tuple[Any]:
    """The schema in a pair of brackets: its content may be ``null``."""
    return (read_schema(text.encode(), path),)
