"""``params:`` of a template or connector: a JSON Schema of what a site fills in, and the check of what one did fill in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from esb.config.reader import WorkspaceReader
from esb.contracts import JsonContract
from esb.errors import ConfigError, Invalid, Position
from esb.secret import Secret
from esb.spec import ListNode, MapNode, Node, ScalarNode, to_plain


@dataclass(frozen=True, slots=True)
class Params:
    """The parameters that somebody declared."""

    what: str  #: in words: ``template `hold-sync` ``
    position: Position
    schema: Mapping[str, Any]
    contract: JsonContract | None
    nodes: Mapping[str, Node]  #: the schema of each one, with its place
    required: tuple[str, ...]

    @classmethod
    def read(cls, what: str, node: Node | None, at: Position, reader: WorkspaceReader) -> Params:
        """The parameters out of ``params:``; faults in the schema go to ``reader``."""
        if node is not None and not isinstance(node, MapNode):
            reader.problem("ESB103", f"`params` is a JSON Schema, not {node.what}", node, hint=_EXAMPLE)
            node = None
        if node is None:
            return cls(what, at, {"type": "object", "properties": {}, "additionalProperties": False}, None, {}, ())
        whole = _is_whole(node)
        listed = node.get("properties") if whole else node
        nodes = {key.text: value for key, value in listed.entries} if isinstance(listed, MapNode) else {}
        plain = to_plain(node)
        if whole:
            needed = plain.get("required", ())
            schema = {"type": "object", "additionalProperties": False, **plain}
        else:
            for key, value in node.entries:
                if not isinstance(value, MapNode):
                    reader.problem("ESB103", f"`{key.text}` is a JSON Schema, not {value.what}", value, hint=_EXAMPLE)
                    return cls(what, at, {}, None, {}, ())
            needed = [name for name, value in nodes.items() if _default(value) is None]
            schema = {"type": "object", "properties": plain, "required": needed, "additionalProperties": False}
        for name, value in nodes.items():
            _check_words(name, value, reader)
        required = tuple(name for name in needed if name in nodes and _default(nodes[name]) is None)
        return cls(what, at, schema, _compiled(schema, node, reader), nodes, required)

    def default(self, name: str) -> Node | None:
        """What a parameter is where nobody gives it; None where it has no default."""
        return _default(self.nodes[name])

    def words(self, name: str) -> str:
        """What a parameter means, in the words of its schema."""
        node = self.nodes.get(name)
        text = node.get("description") if isinstance(node, MapNode) else None
        return str(text.value) if isinstance(text, ScalarNode) else ""

    @property
    def filled(self) -> bool:
        """Whether nobody has to fill in anything."""
        return not self.required

    def fill(self, given: MapNode | None, at: Position, reader: WorkspaceReader) -> dict[str, Node] | None:
        """The values by name, defaults included; None after every fault was reported, at its own line."""
        before = len(reader.problems)
        entries = {key.text: (key, value) for key, value in given.entries} if given is not None else {}
        for name, (key, _) in entries.items():
            if name not in self.nodes:
                hint = reader.nearest(name, self.nodes) or f"{self.what} has no parameters"
                reader.problem("ESB314", f"{self.what} has no parameter `{name}`", key, hint=hint, label="not declared",
                               related=((self.position, "declared here"),))  # fmt: skip
        for name in self.required:
            if name not in entries:
                self._missing(name, at, reader)
        values = {name: found for name in self.nodes if (found := self.default(name)) is not None}
        values.update({name: value for name, (_, value) in entries.items() if name in self.nodes})
        if len(reader.problems) == before:
            self._check(values, entries, reader)
        return None if len(reader.problems) > before else values

    def _missing(self, name: str, at: Position, reader: WorkspaceReader) -> None:
        meaning = self.words(name)
        hint = f"add `{name}: …` to its `params`" + (f" ({meaning.rstrip('.')})" if meaning else "")
        related = ((self.nodes[name].position, "declared here, without a default"),)
        reader.problem("ESB315", f"{self.what} needs the parameter `{name}`", at, hint=hint, related=related)

    def _check(
        self, values: Mapping[str, Node], entries: Mapping[str, tuple[ScalarNode, Node]], reader: WorkspaceReader
    ) -> None:
        if self.contract is None:
            return
        try:
            self.contract.check({name: _checked(node) for name, node in values.items()})
        except Invalid as error:
            for violation in error.violations:
                self._violated(violation.pointer, violation.detail, values, entries, reader)

    def _violated(
        self,
        pointer: str,
        detail: str,
        values: Mapping[str, Node],
        entries: Mapping[str, tuple[ScalarNode, Node]],
        reader: WorkspaceReader,
    ) -> None:
        parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
        if not parts:
            reader.problem("ESB316", f"the parameters of {self.what}: {detail}", self.position)
            return
        name, node = parts[0], _at(values.get(parts[0]), parts[1:])
        if isinstance(node, ScalarNode) and (node.unknown or node.expanded or isinstance(node.value, Secret)):
            return  # a text of the environment: what it becomes is checked where it is used
        at = node or (entries[name][1] if name in entries else self.nodes[name])
        related = ((self.nodes[name].position, "declared here"),) if name in self.nodes else ()
        shown = ".".join(parts)
        reader.problem("ESB316", f"parameter `{shown}` {detail}", at, hint=self.words(name), related=related)


_EXAMPLE = "write it like `params: { werks: { type: string, description: Plant in the ERP } }`"


#: the words of JSON Schema that say something of one parameter
_WORDS = frozenset(
    [
        "type",
        "enum",
        "const",
        "default",
        "description",
        "title",
        "examples",
        "pattern",
        "format",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "items",
        "minItems",
        "maxItems",
        "uniqueItems",
        "properties",
        "required",
        "additionalProperties",
        "minProperties",
        "maxProperties",
        "patternProperties",
        "propertyNames",
        "prefixItems",
        "contains",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "if",
        "then",
        "else",
        "deprecated",
        "readOnly",
        "writeOnly",
    ]
)


def _check_words(name: str, schema: Node, reader: WorkspaceReader) -> None:
    """A mistyped word of JSON Schema would be passed over in silence, and with it what it asks."""
    for key, _ in schema.entries if isinstance(schema, MapNode) else ():
        if key.text not in _WORDS and not key.text.startswith(("$", "x-")):
            hint = reader.nearest(key.text, _WORDS) or "a word of your own begins with `x-`"
            message = f"`{key.text}` is no word of JSON Schema (parameter `{name}`)"
            reader.problem("ESB101", message, key, hint=hint, label="not known here")


def _is_whole(node: MapNode) -> bool:
    """Whether this is one JSON Schema of an object, not a schema for each parameter by its name."""
    if any(isinstance(node.get(word), ScalarNode) for word in ("type", "$schema", "$ref")):
        return True
    properties = node.get("properties")
    return isinstance(properties, MapNode) and all(isinstance(value, MapNode) for _, value in properties.entries)


def _default(schema: Node) -> Node | None:
    return schema.get("default") if isinstance(schema, MapNode) else None


def _compiled(schema: Mapping[str, Any], node: MapNode, reader: WorkspaceReader) -> JsonContract | None:
    try:
        return JsonContract.compile("params", schema, node.position.path)
    except ConfigError as error:
        for problem in error.problems:
            reader.problem("ESB307", problem.message, node, hint=problem.hint)
        return None


def _checked(node: Node) -> Any:
    """The value as a JSON Schema sees it; a secret counts as a text."""
    match node:
        case ScalarNode():
            return "secret" if isinstance(node.value, Secret) else node.value
        case ListNode():
            return [_checked(item) for item in node.items]
        case MapNode():
            return {key.text: _checked(value) for key, value in node.entries}
    return None


def _at(node: Node | None, parts: Sequence[str]) -> Node | None:
    for part in parts:
        if isinstance(node, MapNode):
            node = node.get(part)
        elif isinstance(node, ListNode) and part.isdigit() and int(part) < len(node.items):
            node = node.items[int(part)]
        else:
            return node
    return node
