"""The file that ``esb sites add`` writes: every parameter with what it means."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from esb.config.model import Workspace
from esb.config.yaml import read_scalar

#: Beside a parameter that nobody gave. Its value is left empty, which `esb lint` refuses whatever its type is.
_TODO = "TODO"
_PLAIN = re.compile(r"(?![\d.]+$)[\w/.][\w ./@-]*")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be written. ``params`` are texts by parameter; those of a connector begin with its name and a point."""

    site: str
    templates: Sequence[str]
    params: Mapping[str, str]
    values: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, str] = field(default_factory=dict)
    timezone: str = ""
    locale: str = ""
    description: str = ""
    connectors: Mapping[str, str] = field(default_factory=dict)  #: the connector that is taken under a name


@dataclass(slots=True)
class SiteFile:
    """Writes the text of a site; ``missing`` and ``unknown`` say what is not right about what was given."""

    workspace: Workspace
    wanted: Wanted
    missing: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    _used: set[str] = field(default_factory=set)

    def text(self) -> str:
        wanted = self.wanted
        lines = [f"site: {wanted.site}"]
        lines += [f"description: {_quoted(wanted.description)}"] if wanted.description else []
        lines += ["use:"]
        for name in wanted.templates:
            template = self.workspace.templates[name]
            lines.append(f"  - template: {name}" + (f"   # {template.description}" if template.description else ""))
            lines += self._params("    params:", " " * 6, name, template.schema, "")
        connectors = sorted({c for name in wanted.templates for c in self.workspace.templates[name].connectors})
        if connectors:
            lines.append("connectors:")
            for name in connectors:
                lines += self._connector(name)
        lines += self._rest()
        self.unknown += sorted(set(wanted.params) - self._used)
        return "\n".join(lines) + "\n"

    def _connector(self, name: str) -> Iterator[str]:
        other = self.wanted.connectors.get(name, name)
        schema = self.workspace.connector_params.get(other, {})
        if other == name:
            yield from self._params(f"  {name}:", " " * 4, name, schema, f"{name}.")
            return
        yield f"  {name}:"
        yield f"    connector: {other}"
        yield from self._params("    params:", " " * 6, name, schema, f"{name}.")

    def _rest(self) -> Iterator[str]:
        wanted, bus = self.wanted, self.workspace.settings
        yield f"timezone: {wanted.timezone or bus.timezone}"
        yield f"locale: {wanted.locale}" if wanted.locale else "# locale: de-DE   # how numbers are written there"
        for word, found in (("values", wanted.values), ("tables", wanted.tables)):
            if found:
                yield f"{word}:"
                yield from (f"  {name}: {_written(text, {})}" for name, text in found.items())
        if not wanted.tables:
            yield "# tables: { name-in-the-template: name-of-its-own }   # cross-reference tables of this plant"

    def _params(self, head: str, indent: str, owner: str, schema: Mapping[str, Any], prefix: str) -> Iterator[str]:
        properties: Mapping[str, Any] = schema.get("properties", {})
        lines = [self._param(indent, name, properties[name], schema, prefix) for name in properties]
        given = any(not line.lstrip().startswith("#") for line in lines)
        if lines:
            yield head if given else f"{head} {{}}"
            yield from lines

    def _param(self, indent: str, name: str, about: Any, schema: Mapping[str, Any], prefix: str) -> str:
        about = about if isinstance(about, Mapping) else {}
        key = prefix + name
        words = "; ".join(filter(None, (str(about.get("description", "")).rstrip("."), _limits(about))))
        comment = f"   # {words}" if words else ""
        if key in self.wanted.params:
            self._used.add(key)
            return f"{indent}{name}: {_written(self.wanted.params[key], about)}{comment}"
        if name in schema.get("required", ()) and "default" not in about:
            self.missing.append(key + (f" ({words})" if words else ""))
            return f"{indent}{name}:   # {_TODO}: {words or 'a value'}"
        default = _written_value(about["default"]) if "default" in about else "…"
        return f"{indent}# {name}: {default}{comment}"


def _limits(about: Mapping[str, Any]) -> str:
    if "enum" in about:
        return "one of " + ", ".join(map(str, about["enum"]))
    if "pattern" in about:
        return f"like {about['pattern']}"
    return ""


def _written(text: str, about: Mapping[str, Any]) -> str:
    """A text of the command line as YAML of the type that is wanted."""
    kind = about.get("type", "")
    kinds = kind if isinstance(kind, (list, tuple)) else (kind,)
    if "${" in text:
        return json.dumps(text)
    if {"array", "object"} & set(kinds) or text[:1] in ("[", "{"):
        return text
    if "string" in kinds or (kind == "" and isinstance(read_scalar(text), str)):
        return _quoted(text)
    return text


def _written_value(value: Any) -> str:
    return _quoted(value) if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _quoted(text: str) -> str:
    plain = _PLAIN.fullmatch(text) and isinstance(read_scalar(text), str) and text == text.strip()
    return text if plain else json.dumps(text, ensure_ascii=False)
