"""What the server answers: completions, what something is, and where it is declared. Positions count from 0, in characters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from esb.config.editor import editor_schema
from esb.config.steps import MODIFIERS
from esb.errors import Position
from esb.language import SCOPE_NAMES
from esb.language.shapes import Shape, in_words
from esb.language.workspace import WorkspaceLanguage
from esb.lsp.desk import Desk
from esb.lsp.names import Name, declared, family_of, names_of
from esb.lsp.shape_of_files import Schema, Shapes
from esb.lsp.spot import Spot, documents_of, probed, spot_at, word_before
from esb.spec.nodes import to_plain

Kind = Literal["key", "value", "field", "function", "name"]
_TOKEN = re.compile(r"[\w$.\-/]+")
_LEVELS = ("route", "template", "site", "connector", "bus")


@dataclass(frozen=True, slots=True)
class Choice:
    """One thing that may be written at the cursor; ``text`` is what is inserted."""

    label: str
    kind: Kind
    detail: str = ""
    doc: str = ""
    text: str = ""


class Answers:
    """Answers for the files of one workspace."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    @cached_property
    def _shapes(self) -> Shapes:
        return Shapes(editor_schema(self.desk.registry))

    # -- completion -----------------------------------------------------------------------------------------------------
    def complete(self, path: str, text: str, line: int, column: int) -> list[Choice]:
        """What may be written at the cursor, best first."""
        current = text.split("\n")[line] if line < text.count("\n") + 1 else ""
        word = word_before(current, column)
        if word.partition(".")[0] in SCOPE_NAMES and "." in word:
            return list(self._fields(path, text, line, column, word))
        if not path.endswith((".yaml", ".yml")):
            return list(self._language())
        if not text.strip():
            return [Choice(name, "key", text=f"{name}: ") for name in _LEVELS]
        spot = spot_at(text, line, column)
        if spot is None:
            return []
        if spot.at_key:
            return list(self._keys(spot))
        return [*self._values(spot), *(self._language() if _is_expression(spot, self._at(spot)) else ())]

    def _at(self, spot: Spot) -> list[Schema]:
        return self._shapes.at(spot.kind, to_plain(spot.document), spot.path)

    def _keys(self, spot: Spot) -> Iterator[Choice]:
        if not spot.path and spot.kind not in _LEVELS:
            yield from (Choice(name, "key", text=f"{name}: ") for name in _LEVELS)
        steps = self.desk.registry.family("step")
        has_step = any(name in steps for name in spot.beside)
        seen: set[str] = set()
        for schema in self._at(spot):
            properties: Mapping[str, Schema] = schema.get("properties", {})
            is_step = properties.keys() >= MODIFIERS
            for name, inner in properties.items():
                if name in seen or name in spot.beside or (is_step and has_step and name not in MODIFIERS):
                    continue
                seen.add(name)
                yield Choice(name, "key", _type_of(inner), describe(inner), f"{name}: ")

    def _values(self, spot: Spot) -> Iterator[Choice]:
        key = next((step for step in reversed(spot.path) if isinstance(step, str)), "")
        family = _family(spot, key)
        yield from (Choice(name.text, "name", name.what) for name in names_of(family, self.desk.known()))
        seen: set[str] = set()
        for schema in self._at(spot):
            for value in [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else [])]:
                if str(value) not in seen:
                    seen.add(str(value))
                    yield Choice(str(value), "value", doc=schema.get("description", ""))
            if schema.get("type") == "boolean":
                yield from (Choice(word, "value") for word in ("true", "false"))
            if "properties" in schema and len(spot.path) and schema.get("maxProperties") == 1:
                for name, inner in schema["properties"].items():
                    yield Choice(name, "key", doc=describe(inner), text=f"{{ {name}: {{ $0 }} }}")

    def _fields(self, path: str, text: str, line: int, column: int, word: str) -> Iterator[Choice]:
        """The fields of a part of the message, as far as they are known there."""
        base = word.rpartition(".")[0]
        seen: set[str] = set()
        for shape in self.desk.asked(path, probed(text, line, column)):
            for name in shape.names():
                if name not in seen:
                    seen.add(name)
                    inner = shape.look(name).shape
                    yield Choice(name, "field", _shape_words(inner), f"`{base}.{name}`{_declared_in(shape)}")

    def _language(self) -> Iterator[Choice]:
        yield from (Choice(name, "name", _SCOPE[name]) for name in SCOPE_NAMES)
        for function in self._functions().values():
            doc = f"{function.doc}\n\n`{function.example}` gives {function.gives}"
            yield Choice(function.name, "function", function.signature, doc, f"{function.name}($0)")

    def _functions(self) -> Mapping[str, Any]:
        resources = self.desk.known().resources
        language = resources.plain_language if resources is not None else None
        return language.functions if isinstance(language, WorkspaceLanguage) else {}

    # -- hover ----------------------------------------------------------------------------------------------------------
    def hover(self, path: str, text: str, line: int, column: int) -> str:
        """What the thing under the cursor is, in Markdown; empty for nothing."""
        token, start = _token(text, line, column)
        if not token:
            return ""
        if token.partition(".")[0] in SCOPE_NAMES:
            return self._field_words(path, text, line, start, token, column)
        function = self._functions().get(token)
        after = text.split("\n")[line][start + len(token) :]
        if function is not None and after.startswith("("):
            return f"**{function.signature}**: {function.doc}\n\n`{function.example}` gives {function.gives}"
        if not path.endswith((".yaml", ".yml")):
            return ""
        named = self._named(text, line, column, token)
        if named is not None:
            return f"`{named.text}`: {named.what}" + (f", declared in {named.at}" if named.at else "")
        return self._key_words(text, line, token)

    def _key_words(self, text: str, line: int, token: str) -> str:
        """What the key in this line means."""
        found = _key_at(text, line, token)
        if found is None:
            return ""
        kind, plain, path = found
        words = [describe(schema) for schema in self._shapes.at(kind, plain, path)]
        text_ = next((word for word in words if word), "")
        return f"**{token}**: {text_}" if text_ else ""

    def _field_words(self, path: str, text: str, line: int, start: int, token: str, column: int) -> str:
        parts = token.split(".")
        count = token[: column - start].count(".") + 1
        name = parts[count - 1]
        if count == 1:
            return f"**{name}**: {_SCOPE[name]}"
        end = start + len(".".join(parts[:count]))
        for shape in self.desk.asked(path, probed(text, line, end)):
            look = shape.look(name)
            if look.verdict == "there":
                return f"`{'.'.join(parts[:count])}`: {_shape_words(look.shape)}{_declared_in(look.shape)}"
        return ""

    # -- definition -----------------------------------------------------------------------------------------------------
    def definition(self, path: str, text: str, line: int, column: int) -> list[Position]:
        """Where the thing under the cursor is declared."""
        token, start = _token(text, line, column)
        if token.partition(".")[0] in SCOPE_NAMES and "." in token:
            return list(self._field_places(path, text, line, start, token, column))
        if not token or not path.endswith((".yaml", ".yml")):
            return []
        named = self._named(text, line, column, token)
        return [named.at] if named is not None and named.at is not None else []

    def _field_places(self, path: str, text: str, line: int, start: int, token: str, column: int) -> Iterator[Position]:
        parts = token.split(".")
        count = token[: column - start].count(".") + 1
        if parts[0] == "vars" and count == 2:
            yield from _set_places(path, text, parts[1])
            return
        end = start + len(".".join(parts[:count]))
        for shape in self.desk.asked(path, probed(text, line, end)):
            origin = shape.look(parts[count - 1]).shape.origin or shape.origin
            place = origin.place() if origin is not None else None
            if place is not None:
                yield place

    def _named(self, text: str, line: int, column: int, token: str) -> Name | None:
        spot = spot_at(text, line, column)
        if spot is None or spot.at_key:
            return None
        key = next((step for step in reversed(spot.path) if isinstance(step, str)), "")
        return declared(_family(spot, key), token, self.desk.known())


_SCOPE: Mapping[str, str] = {
    "body": "the payload, decoded",
    "headers": "headers of the message, names in small letters",
    "vars": "what steps of this message have set",
    "meta": "what the bus knows of the message",
    "site": "the values under `site:` in esb.yaml",
}


def _family(spot: Spot, key: str) -> str:
    """Which names a value may be: by its key, or in a list by the key of the list."""
    if key == "file" and "transform" not in spot.path:
        return ""
    if key == "route" and len(spot.path) == 1:
        return ""
    return family_of(key)


def _is_expression(spot: Spot, schemas: Sequence[Schema]) -> bool:
    """Whether an expression or a template may stand there: a text that is no name and no word of a few."""
    texts = [schema for schema in schemas if schema.get("type") == "string"]
    return "{{" in spot.scalar or any("enum" not in schema and "pattern" not in schema for schema in texts)


def describe(schema: Schema) -> str:
    """A schema's own words, with an example."""
    text = str(schema.get("description", ""))
    examples = schema.get("examples")
    example = f" For example `{examples[0]}`." if examples else ""
    default = f" Default `{schema['default']}`." if schema.get("default") not in (None, "", [], {}) else ""
    return f"{text}{default}{example}" if text else ""


def _type_of(schema: Schema) -> str:
    given = schema.get("type")
    return str(given) if isinstance(given, str) else ""


def _shape_words(shape: Shape) -> str:
    if shape.values:
        return " or ".join(f"'{value}'" if isinstance(value, str) else str(value) for value in shape.values[:6])
    return in_words(shape.types) if len(shape.types) < 4 else ""


def _declared_in(shape: Shape) -> str:
    return f" ({shape.origin.words})" if shape.origin is not None else ""


def _token(text: str, line: int, column: int) -> tuple[str, int]:
    """The word at the cursor with its dots, and where it begins."""
    lines = text.split("\n")
    current = lines[line] if line < len(lines) else ""
    found = next((one for one in _TOKEN.finditer(current) if one.start() <= column <= one.end()), None)
    return (found[0].rstrip("."), found.start()) if found else ("", 0)


def _key_at(text: str, line: int, token: str) -> tuple[str, Any, tuple[str | int, ...]] | None:
    """The kind of the document, its values, and the way to the key ``token`` in a line."""
    from esb.spec import ListNode, MapNode, Node  # noqa: PLC0415 - only here

    def walk(node: Node, path: tuple[str | int, ...]) -> tuple[str | int, ...] | None:
        if isinstance(node, ListNode):
            found = (walk(item, (*path, index)) for index, item in enumerate(node.items))
            return next((one for one in found if one is not None), None)
        if isinstance(node, MapNode):
            for key, value in node.entries:
                if key.text == token and key.position.line == line + 1:
                    return (*path, key.text)
                if (inner := walk(value, (*path, key.text))) is not None:
                    return inner
        return None

    for document in documents_of(text, ""):
        path = walk(document.node, ())
        if path is not None and isinstance(document.node, MapNode):
            return document.node.entries[0][0].text, to_plain(document.node), path
    return None


def _set_places(path: str, text: str, name: str) -> Iterator[Position]:
    """Where a variable is set in this file: `vars.x:` in a `set`, `into: vars.x` anywhere."""
    pattern = re.compile(rf"(?:into:\s*['\"]?|[{{,\s])(vars\.{re.escape(name)})(?=['\"]?\s*(?::|[,}}]|$|\s*#))")
    for number, line in enumerate(text.split("\n"), 1):
        for found in pattern.finditer(line):
            after = line[found.end(1) :].lstrip("'\" ")
            if after.startswith(":") or "into:" in line[: found.start(1)]:
                yield Position(path, number, found.start(1) + 1, len(found[1]))
