"""One wording for every violation of a contract: what must be, and what was found instead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from jsonschema_rs import ValidationErrorKind

from esb.errors import Violation
from esb.formats.faults import pointer, shown
from esb.formats.json import Json

_TYPES = {
    "string": "a text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "null",
}
_FORMATS = {
    "date": "a date (2026-11-24)",
    "date-time": "an instant (2026-11-24T08:15:30Z)",
    "time": "a time of day with its offset (08:15:30Z)",
    "duration": "a duration (PT15M)",
    "email": "an e-mail address",
    "uri": "an absolute URI",
    "uri-reference": "a URI or a path",
    "uuid": "a UUID",
    "ipv4": "an IPv4 address",
    "ipv6": "an IPv6 address",
    "hostname": "a host name",
    "regex": "a regular expression",
    "json-pointer": "a JSON pointer",
}
Say = Callable[[dict[str, Any], Any], str]


def violations_of(errors: Iterable[Any], body: Any) -> Iterator[Violation]:
    """The violations that jsonschema-rs found in ``body``, in its order; each unexpected member is one of its own."""
    for error in errors:
        path, kind = error.instance_path, error.kind
        if kind.name in ("additionalProperties", "unevaluatedProperties"):
            yield from _unexpected(path, kind.unexpected)
        elif kind.name == "falseSchema" and error.schema_path[-1:] == ["additionalProperties"]:
            yield from _unexpected(path, _value_at(body, path))
        elif kind.name == "propertyNames":
            yield Violation(pointer(path), f"a member's name {_say(kind.error, kind.error.instance)}")
        elif isinstance(kind, (ValidationErrorKind.AnyOf, ValidationErrorKind.OneOfNotValid)):
            yield from _alternatives(error, body)
        else:
            yield Violation(pointer(path), _say(error, _value_at(body, path)))


def _unexpected(path: list[Any], names: Iterable[str]) -> Iterator[Violation]:
    for name in names:
        yield Violation(pointer([*path, name]), "is not a member that the contract knows")


def _alternatives(error: Any, body: Any) -> Iterator[Violation]:
    """What is wrong with a value that fits no alternative: in the words of the closest one, where there is one."""
    path, branches = error.instance_path, [branch for branch in error.kind.context if branch]
    value = _value_at(body, path)
    types = [_wrong_type(branch, path) for branch in branches]
    if branches and all(types):
        wanted = dict.fromkeys(name for names in types for name in names or ())
        yield Violation(pointer(path), f"must be {_either(list(wanted))}, not {_shown(value)}")
        return
    shaped = [branch for branch, wrong in zip(branches, types, strict=True) if not wrong]
    if len(shaped) == 1:  # the others are of another type, such as null
        yield from violations_of(shaped[0], body)
        return
    closest = min(shaped, key=len, default=None)
    detail = f"fits none of the {len(error.kind.context)} alternatives (`{error.kind.name}`)"
    if closest:
        first = next(violations_of(closest, body))
        where = f"`{first.pointer}` " if first.pointer != pointer(path) else ""
        detail += f"; the closest: {where}{first.detail}"
    yield Violation(pointer(path), detail)


def _wrong_type(branch: Sequence[Any], path: list[Any]) -> list[str] | None:
    """The types that a branch wants, where its only complaint is the type of the value itself."""
    if len(branch) == 1 and branch[0].kind.name == "type" and branch[0].instance_path == path:
        return list(branch[0].kind.types)
    return None


def _say(error: Any, value: Any) -> str:
    if isinstance(error.kind, ValidationErrorKind.OneOfMultipleValid):
        return "fits more than one of the alternatives (`oneOf`), and must fit exactly one"
    if isinstance(error.kind, (ValidationErrorKind.BacktrackLimitExceeded, ValidationErrorKind.RegexEngineFailure)):
        return "takes too many steps to compare with its pattern"
    say = _WORDS.get(error.kind.name)
    return say(error.kind.as_dict(), value) if say else _cut(error.message)


def _type(facts: dict[str, Any], value: Any) -> str:
    return f"must be {_either(facts['types'])}, not {_shown(value)}"


def _either(types: Sequence[str]) -> str:
    known = [name for name in _TYPES if name in types]
    words = [_TYPES[name] for name in known if not (name == "integer" and "number" in known)]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _enum(facts: dict[str, Any], value: Any) -> str:
    options = ", ".join(_literal(option) for option in facts["options"][:12])
    more = f" … ({len(facts['options'])} in all)" if len(facts["options"]) > 12 else ""
    return f"must be one of {options}{more}, not {_shown(value)}"


def _format(facts: dict[str, Any], value: Any) -> str:
    return f"must be {_FORMATS.get(facts['format'], 'of the format `' + facts['format'] + '`')}, not {_shown(value)}"


def _bound(words: str) -> Say:
    return lambda facts, value: f"must be {words} {_shown(facts['limit'])}, not {_shown(value)}"


def _size(words: str, noun: str) -> Say:
    def say(facts: dict[str, Any], value: Any) -> str:
        limit = facts["limit"]
        return f"must have at {words} {limit} {noun if limit == 1 else noun + 's'}, not {_length(value)}"

    return say


def _length(value: Any) -> int:
    return len(value) if isinstance(value, (str, list, tuple, dict)) else 0


_WORDS: dict[str, Say] = {
    "required": lambda facts, _: f"needs `{facts['property']}`, which is missing",
    "type": _type,
    "enum": _enum,
    "const": lambda facts, value: f"must be {_literal(facts['expected_value'])}, not {_shown(value)}",
    "format": _format,
    "pattern": lambda facts, value: f"must match `{_cut(facts['pattern'])}`, not {_shown(value)}",
    "minimum": _bound("at least"),
    "maximum": _bound("at most"),
    "exclusiveMinimum": _bound("more than"),
    "exclusiveMaximum": _bound("less than"),
    "multipleOf": lambda facts, value: f"must be a multiple of {_shown(facts['multiple_of'])}, not {_shown(value)}",
    "minLength": _size("least", "character"),
    "maxLength": _size("most", "character"),
    "minItems": _size("least", "item"),
    "maxItems": _size("most", "item"),
    "minProperties": _size("least", "member"),
    "maxProperties": _size("most", "member"),
    "additionalItems": lambda facts, value: f"must have at most {facts['limit']} items, not {_length(value)}",
    "unevaluatedItems": lambda facts, _: (
        f"has items that the contract does not know ({_cut(', '.join(map(str, facts['unexpected'])))})"
    ),
    "uniqueItems": lambda *_: "must not hold the same item twice",
    "contains": lambda *_: "has too few or too many items of the kind that `contains` asks for",
    "falseSchema": lambda *_: "must not be here",
    "not": lambda _, value: f"must not be of the kind that `not` rules out, as {_shown(value)} is",
    "contentEncoding": lambda facts, _: f"must be text in {facts['content_encoding']}",
    "contentMediaType": lambda facts, _: f"must hold {facts['content_media_type']}",
}


def _value_at(body: Any, path: Sequence[str | int]) -> Any:
    """The value itself: the one an error carries has passed through a float."""
    value = body
    for part in path:
        value = value[part]
    return value


def _shown(value: Any) -> str:
    # limits of a schema come back as floats; they are only printed
    return shown(Decimal(repr(value)) if isinstance(value, float) else value)


def _literal(value: Any) -> str:
    return _cut(Json().encode(value).decode()) if isinstance(value, (dict, list)) else _shown(value)


def _cut(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"
