"""What may stand at a place of a document: the editor's schema, walked along the keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from esb.lsp.spot import Step

Schema = Mapping[str, Any]
_KINDS = {
    "route": "route", "template": "template", "site": "site", "connector": "connector", "bus": "settings", "kpi": "kpi"
}  # fmt: skip


class Shapes:
    """The schema of an installation's components. ``plain`` are the values of a document that decide between alternatives."""

    def __init__(self, schema: Schema) -> None:
        self._defs: Mapping[str, Any] = schema["$defs"]

    def at(self, kind: str, plain: Any, path: Sequence[Step]) -> list[Schema]:
        """Every schema that says something about the place ``path`` of a document."""
        if kind not in _KINDS:
            return []
        found = list(self._all(self._defs[_KINDS[kind]], plain))
        for step in path:
            plain = _part(plain, step)
            found = [schema for outer in found for inner in _into(outer, step) for schema in self._all(inner, plain)]
        return found

    def _all(self, schema: Any, plain: Any, depth: int = 0) -> Iterator[Schema]:
        """The schema with everything it refers to; of alternatives every one that may be meant."""
        if not isinstance(schema, Mapping) or depth > 12:
            return
        yield schema
        if "$ref" in schema:
            name = str(schema["$ref"]).rpartition("/")[2]
            yield from self._all(self._defs.get(name), plain, depth + 1)
        for word in ("anyOf", "oneOf", "allOf"):
            for part in schema.get(word, ()):
                yield from self._all(part, plain, depth + 1)
        if "if" in schema and _fits(schema["if"], plain):
            yield from self._all(schema.get("then"), plain, depth + 1)


def _fits(condition: Schema, plain: Any) -> bool:
    wanted = condition.get("properties", {})
    return isinstance(plain, Mapping) and all(
        plain.get(name) == schema.get("const") for name, schema in wanted.items() if "const" in schema
    )


def _into(schema: Schema, step: Step) -> Iterator[Any]:
    if isinstance(step, int):
        if "items" in schema:
            yield schema["items"]
        return
    known = schema.get("properties", {})
    if step in known:
        yield known[step]
    elif isinstance(schema.get("additionalProperties"), Mapping):
        yield schema["additionalProperties"]


def _part(plain: Any, step: Step) -> Any:
    if isinstance(step, int):
        return plain[step] if isinstance(plain, list) and step < len(plain) else None
    return plain.get(step) if isinstance(plain, Mapping) else None
