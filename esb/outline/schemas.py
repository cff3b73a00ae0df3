"""Contracts of a workspace as the components of an API document: `$ref`s lead to each other by name there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urldefrag

from esb.config.model import Workspace
from esb.errors import ConfigError
from esb.formats.json import Json

PREFIX = "#/components/schemas/"
#: Keywords whose members are data, not schemas.
_DATA = frozenset({"const", "enum", "default", "examples"})


class Schemas:
    """Collects the contracts that a document refers to, with everything that they refer to."""

    def __init__(self, workspace: Workspace, between: str = ".") -> None:
        """``between`` stands for the dot of ``lot.v1`` where keys may have none."""
        self._between = between
        texts = workspace.texts
        self._texts = {name_of(path): text for path, text in texts.items() if path.startswith("schemas/")}
        self._paths = {name_of(path): path for path in texts if path.startswith("schemas/")}
        self._read: dict[str, Any] = {}
        self._ids: dict[str, str] | None = None
        self.components: dict[str, Any] = {}

    def refer(self, contract: Any) -> dict[str, Any]:
        """A reference to a contract, an open schema where there is none."""
        name = name_of(getattr(contract, "path", "")) if contract is not None else ""
        if name not in self._texts:
            return {}
        self._add(name)
        return {"$ref": PREFIX + self._key(name)}

    def _key(self, name: str) -> str:
        return name.replace(".", self._between)

    def _schema(self, name: str) -> Any:
        if name not in self._read:
            try:
                self._read[name] = Json().decode(self._texts[name].encode())
            except ConfigError:
                self._read[name] = {}
        return self._read[name]

    def _add(self, name: str) -> None:
        key = self._key(name)
        if key in self.components:
            return
        self.components[key] = {}  # a schema that refers to itself ends here
        schema = self._schema(name)
        if isinstance(schema, Mapping):
            own = {word: value for word, value in schema.items() if word not in ("$id", "$schema", "id")}
            schema = {"title": name, **self._rewritten(own, name)}
        self.components[key] = schema

    def _rewritten(self, value: Any, name: str) -> Any:
        if isinstance(value, list):
            return [self._rewritten(item, name) for item in value]
        if not isinstance(value, Mapping):
            return value
        found = {}
        for key, inner in value.items():
            if key == "$ref" and isinstance(inner, str):
                found[key] = self._target(inner, name)
            else:
                found[key] = inner if key in _DATA else self._rewritten(inner, name)
        return found

    def _target(self, ref: str, name: str) -> str:
        where, fragment = urldefrag(ref)
        other = name if not where else self._named(unquote(where))
        if other not in self._texts:
            return ref
        self._add(other)
        return PREFIX + self._key(other) + fragment if fragment.startswith("/") or not fragment else ref

    def _named(self, where: str) -> str:
        """The schema that a `$ref` means: by its `$id`, else by its file."""
        if self._ids is None:
            schemas = {name: self._schema(name) for name in self._texts}
            self._ids = {
                str(schema["$id"]): name
                for name, schema in schemas.items()
                if isinstance(schema, Mapping) and "$id" in schema
            }
        return self._ids.get(where) or name_of(where)


def name_of(path: str) -> str:
    """``schemas/lot.v1.json`` is ``lot.v1``."""
    return PurePosixPath(path).name.removesuffix(".json")
