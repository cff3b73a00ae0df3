"""What changes between two versions of a contract, and which changes break those who send or read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from esb.formats.faults import pointer, shown

Path = tuple[str | int, ...]
_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
#: keyword → whether a greater value lets less through
_BOUNDS: Mapping[str, bool] = {
    "minimum": True, "exclusiveMinimum": True, "minLength": True, "minItems": True, "minProperties": True,
    "maximum": False, "exclusiveMaximum": False, "maxLength": False, "maxItems": False, "maxProperties": False,
}  # fmt: skip
_WORDS = frozenset(
    {"title", "description", "examples", "default", "$comment", "$id", "$schema", "deprecated", "$defs", "definitions"}
)
_FOLLOWED = frozenset(
    {"type", "enum", "const", "required", "properties", "additionalProperties", "items", "$ref", *_BOUNDS, *_WORDS}
)


@dataclass(frozen=True, slots=True)
class Change:
    """One change: where in the new schema, in words, and for whom it breaks something.

    ``senders`` may be refused with what was right before; ``readers`` may miss what was there before; ``nobody`` else.
    """

    path: Path
    words: str
    breaks: Literal["senders", "readers", "nobody"]

    @property
    def where(self) -> str:
        return pointer(self.path) or "/"


def changes(old: Any, new: Any) -> list[Change]:
    """Every change from ``old`` to ``new``; in what this cannot compare (`anyOf`, `pattern`, …) any difference breaks senders.

    References within a schema (`#/…`) are followed; one to another file is the same if it is written the same.
    """
    return list(_Comparison(old, new).compare(old, new, (), frozenset()))


class _Comparison:
    def __init__(self, old: Any, new: Any) -> None:
        self._old, self._new = old, new

    def compare(self, old: Any, new: Any, path: Path, seen: frozenset[tuple[str, str]]) -> Iterator[Change]:
        if old == new and "#" not in str(old):
            return
        refs = (_ref(old), _ref(new))
        if refs[0] or refs[1]:
            if (str(refs[0]), str(refs[1])) in seen:
                return
            seen = seen | {(str(refs[0]), str(refs[1]))}
            old, new = _followed(old, self._old), _followed(new, self._new)
            if old is None or new is None:
                if refs[0] != refs[1]:
                    yield Change(path, f"refers to {shown(refs[1])} instead of {shown(refs[0])}", "senders")
                return
        if not isinstance(old, dict) or not isinstance(new, dict):
            if old != new:
                breaks: Literal["senders", "nobody"] = "senders" if new is False or isinstance(new, dict) else "nobody"
                yield Change(path, "says more of what may stand here" if breaks == "senders" else "is open now", breaks)
            return
        yield from _types(old, new, path)
        yield from _values(old, new, path)
        yield from _bounds(old, new, path)
        yield from self._fields(old, new, path, seen)
        if "items" in old or "items" in new:
            yield from self.compare(old.get("items", {}), new.get("items", {}), (*path, "items"), seen)
        for word in sorted((old.keys() | new.keys()) - _FOLLOWED):
            if old.get(word) != new.get(word) and not word.startswith("x-"):
                yield from _other(word, old, new, path)

    def _fields(
        self, old: dict[str, Any], new: dict[str, Any], path: Path, seen: frozenset[tuple[str, str]]
    ) -> Iterator[Change]:
        before, after = old.get("properties", {}), new.get("properties", {})
        had, has = set(old.get("required", ())), set(new.get("required", ()))
        closed = new.get("additionalProperties") is False
        for name in before:
            if name not in after:
                words = f"`{name}` is gone" + (", and what has it is refused" if closed else "")
                yield Change((*path, "properties", name), words, "senders" if closed else "readers")
            else:
                yield from self.compare(before[name], after[name], (*path, "properties", name), seen)
        for name in after:
            if name not in before:
                taken = f"`{name}` is new" + (
                    "" if old.get("additionalProperties") is False else ", with a form of its own"
                )
                yield Change((*path, "properties", name), taken, "nobody")
        for name in sorted(has - had):
            yield Change((*path, "required"), f"`{name}` must be there now", "senders")
        for name in sorted(had - has):
            yield Change((*path, "required"), f"`{name}` may be missing now", "readers")
        was, now = old.get("additionalProperties", True), new.get("additionalProperties", True)
        if was != now:
            narrower = now is False or (isinstance(now, dict) and was is True)
            words = "other fields are refused now" if now is False else "other fields have another form now"
            yield Change(
                (*path, "additionalProperties"), words if narrower else "other fields may be there now",
                "senders" if narrower else "nobody",
            )  # fmt: skip


def _types(old: dict[str, Any], new: dict[str, Any], path: Path) -> Iterator[Change]:
    was, now = _type_set(old), _type_set(new)
    if was == now:
        return
    gone, more = was - now, now - was
    if "integer" in gone and "number" in now:
        gone = gone - {"integer"}
    if gone:
        yield Change((*path, "type"), f"{_listed(gone)} is refused now", "senders")
    if more - ({"integer"} if "number" in was else set()):
        yield Change((*path, "type"), f"{_listed(more)} may come now", "readers")


def _type_set(schema: dict[str, Any]) -> frozenset[str]:
    given = schema.get("type")
    found = frozenset([given]) if isinstance(given, str) else frozenset(given or _TYPES)
    return found | {"integer"} if "number" in found else found


def _listed(types: frozenset[str]) -> str:
    return " or ".join(sorted(types - ({"integer"} if "number" in types else set())))


def _values(old: dict[str, Any], new: dict[str, Any], path: Path) -> Iterator[Change]:
    was, now = _value_list(old), _value_list(new)
    if was == now:
        return
    if now is not None:
        gone = [value for value in was if value not in now] if was is not None else None
        if gone is None or gone:
            words = "only certain values are taken now" if gone is None else f"{_shown(gone)} is refused now"
            yield Change((*path, "enum"), words, "senders")
    if was is not None:
        more = [value for value in now if value not in was] if now is not None else None
        if more is None or more:
            words = "any value may come now" if more is None else f"{_shown(more)} may come now"
            yield Change((*path, "enum"), words, "readers")


def _value_list(schema: dict[str, Any]) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    given = schema.get("enum")
    return given if isinstance(given, list) else None


def _shown(values: list[Any]) -> str:
    return ", ".join(shown(value) for value in values[:6]) + (" …" if len(values) > 6 else "")


def _bounds(old: dict[str, Any], new: dict[str, Any], path: Path) -> Iterator[Change]:
    for word, rising in _BOUNDS.items():
        was, now = old.get(word), new.get(word)
        if was == now:
            continue
        narrower = now is not None and (was is None or (now > was if rising else now < was))
        words = f"`{word}` is {shown(now)}, was {shown(was) if was is not None else 'not there'}"
        yield Change(
            (*path, word), words if now is not None else f"`{word}` is gone", "senders" if narrower else "nobody"
        )


def _other(word: str, old: dict[str, Any], new: dict[str, Any], path: Path) -> Iterator[Change]:
    if word not in new:
        yield Change(path, f"`{word}` is gone", "nobody")
    else:
        yield Change((*path, word), f"`{word}` is {'another' if word in old else 'new'}", "senders")


def _ref(schema: Any) -> str:
    found = schema.get("$ref", "") if isinstance(schema, dict) else ""
    return found if isinstance(found, str) else ""


def _followed(schema: Any, root: Any) -> Any:
    """What a reference within the schema leads to; None for one that leads out of it."""
    ref = _ref(schema)
    if not ref:
        return schema
    if not ref.startswith("#/"):
        return None
    found = root
    for part in ref[2:].split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, dict) else None
    beside = {word: value for word, value in schema.items() if word != "$ref"}
    return {**found, **beside} if isinstance(found, dict) else found
