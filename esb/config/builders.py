"""How a contract, table or transform is made out of its file; a fault becomes a problem at its place in that file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from esb.config.assets import Build
from esb.config.files import Files
from esb.contracts import JsonContract, read_schema
from esb.errors import ConfigError, InternalFault, Invalid, Position, Problem
from esb.formats.base import Codec
from esb.formats.json import Json
from esb.formats.text import Text
from esb.formats.xml import Xml
from esb.language import Expression, ExpressionError, TextTemplate
from esb.language.workspace import WorkspaceLanguage
from esb.tables import CsvTable

Report = Callable[[Problem], None]

_REF = re.compile(r'"\$(?:ref|dynamicRef)"\s*:\s*"([^"#]+)')
_INCLUDE = re.compile(r"{%-?\s*(?:include|import|from|extends)\s+['\"]([^'\"]+)['\"]")


class Builders:
    """Makes assets of one workspace. ``includes`` collects further files that each one is made of."""

    def __init__(self, files: Files, language: WorkspaceLanguage, report: Report) -> None:
        self._files, self._language, self._report = files, language, report
        self._schemas: dict[str, Any] | None = None
        self.includes: dict[str, set[str]] = {}

    def table(self) -> Mapping[str, Build]:
        """The builders by family, as :class:`~esb.config.assets.Assets` takes them."""
        return {"contract": self.contract, "table": self.csv_table, "transform": self.transform}

    # -- contracts ----------------------------------------------------------------------------------------------------
    def contract(self, path: str) -> Any:
        schemas = self._all_schemas()
        if path not in schemas:
            return None
        text = self._files.text(path) or ""
        try:
            contract = JsonContract.compile(PurePosixPath(path).stem, schemas[path], path, schemas, text=text)
        except ConfigError as error:
            for problem in error.problems:
                self._report(problem)
            return None
        self.includes[path] = self._referred(path)
        return contract

    def _all_schemas(self) -> dict[str, Any]:
        """Every schema that is JSON, by path; the others are reported once."""
        if self._schemas is None:
            self._schemas = {}
            for path in self._files.find("schemas", ".json"):
                text = self._files.text(path)
                if text is None:
                    continue
                try:
                    self._schemas[path] = read_schema(text.encode(), path)
                except ConfigError as error:
                    for problem in error.problems:
                        self._report(problem)
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
        try:
            return CsvTable.load(PurePosixPath(path).stem, text.encode(), path)
        except ConfigError as error:
            for problem in error.problems:
                self._report(problem)
            return None

    # -- transforms ---------------------------------------------------------------------------------------------------
    def transform(self, path: str) -> Any:
        text = self._files.text(path)
        if text is None:
            return None
        name = path.removeprefix("transforms/")
        try:
            if path.endswith(".jmes"):
                return ExpressionFile(path, self._language.compile_file(text, name))
            self.includes[path] = self._included(text, {path})
            return TemplateFile(path, self._language.file_template(text, name), codec_for(path))
        except ExpressionError as error:
            at = Position(path, error.line, error.column, max(1, error.length))
            self._report(Problem(error.code, error.message, at, hint=error.hint))
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


def codec_for(path: str) -> Codec:
    """What the text of a template is read as: by the ending before ``.j2`` (``x.xml.j2``), JSON where there is none."""
    ending = PurePosixPath(path.removesuffix(".j2")).suffix
    known: Mapping[str, Codec] = {".xml": Xml(), ".idoc": Xml(), ".txt": Text(), ".text": Text(), ".csv": Text()}
    return known.get(ending) or Json()


@dataclass(frozen=True, slots=True)
class ExpressionFile:
    """A ``.jmes`` file: one expression whose value is the new body."""

    name: str
    expression: Expression

    @property
    def names(self) -> frozenset[str]:
        return self.expression.names

    def apply(self, scope: Mapping[str, Any]) -> Any:
        return self.expression(scope)


@dataclass(frozen=True, slots=True)
class TemplateFile:
    """A ``.j2`` file: a text, read in its format before it becomes the body. Raises InternalFault where it is broken."""

    name: str
    template: TextTemplate
    codec: Codec

    @property
    def names(self) -> frozenset[str]:
        return self.template.names

    def apply(self, scope: Mapping[str, Any]) -> Any:
        text = self.template.render(scope)
        try:
            return self.codec.decode(text.encode())
        except (Invalid, UnicodeError) as error:
            raise InternalFault(
                f"{self.name} gave a text that cannot be read: {error}",
                hint="put values into JSON with `| tojson`, into XML with `| e`; name a plain text *.txt.j2",
            ) from error
