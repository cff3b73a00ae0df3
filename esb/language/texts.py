"""Functions on text, and the small ones that choose between values. Null stays null where one text becomes another."""

from __future__ import annotations

import hashlib
import re
import uuid as uuids
from collections.abc import Mapping
from typing import Any

import msgspec
import uuid_utils

from esb.language.declare import function
from esb.language.values import MAX_RESULT, bounded, describe, measure, need_list, need_text, need_whole, text_of


def _read_only(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise ValueError(f"{describe(value)} cannot be written as JSON")


_ENCODER = msgspec.json.Encoder(decimal_format="number", enc_hook=_read_only)
_SORTED = msgspec.json.Encoder(decimal_format="number", order="deterministic", enc_hook=_read_only)
#: the namespace of ids made by ``uuid(…)``; never changes, since targets keep such ids
_NAMESPACE = uuids.UUID("8d2f4a52-6a0e-5c0b-9a51-3f6d2c1be7a4")


def to_json(value: Any) -> str:
    """A value as compact JSON with exact decimals. Raises ValueError for what JSON cannot hold."""
    return encoded(_ENCODER, value).decode()


def encoded(encoder: msgspec.json.Encoder, value: Any) -> bytes:
    """JSON of bounded size."""
    if isinstance(value, (list, tuple, Mapping)):
        measure(value)
    try:
        return encoder.encode(value)
    except (TypeError, msgspec.ValidationError, UnicodeEncodeError, RecursionError) as error:
        raise ValueError(f"this value cannot be written as JSON: {error}") from None


# -- text to text -------------------------------------------------------------------------------------------------------


@function("upper(text)", doc="The text in capitals.", example="upper('lot a')", gives="'LOT A'")
def upper(text: Any) -> str | None:
    return None if text is None else need_text(text, "upper", "text").upper()


@function("lower(text)", doc="The text in small letters.", example="lower('REL')", gives="'rel'")
def lower(text: Any) -> str | None:
    return None if text is None else need_text(text, "lower", "text").lower()


@function(
    "trim(text, characters?)",
    doc="The text without blanks (or the given characters) at both ends.",
    example="trim('  4711 ')",
    gives="'4711'",
)
def trim(text: Any, characters: Any = None) -> str | None:
    if text is None:
        return None
    chars = None if characters is None else need_text(characters, "trim", "characters")
    return need_text(text, "trim", "text").strip(chars)


@function(
    "substr(text, start, length?)",
    doc="A part of the text from `start` (0 is the first character; negative counts from the end).",
    example="substr('4711-A', `0`, `4`)",
    gives="'4711'",
)
def substr(text: Any, start: Any, length: Any = None) -> str | None:
    if text is None:
        return None
    whole = need_text(text, "substr", "text")
    first = need_whole(start, "substr", "start", -(10**9), 10**9)
    first = max(0, len(whole) + first) if first < 0 else first
    if length is None:
        return whole[first:]
    return whole[first : first + need_whole(length, "substr", "length", 0, 10**9)]


@function(
    "replace(text, old, new)",
    doc="The text with every `old` replaced by `new`.",
    example="replace('A/B/C', '/', '-')",
    gives="'A-B-C'",
)
def replace(text: Any, old: Any, new: Any) -> str | None:
    if text is None:
        return None
    whole, what = need_text(text, "replace", "text"), need_text(old, "replace", "old")
    by = need_text(new, "replace", "new")
    if not what:
        raise ValueError("replace: `old` is an empty text")
    if len(by) > len(what):
        growth = whole.count(what) * (len(by) - len(what))
        if growth > MAX_RESULT:
            raise ValueError(f"replace: the result has more than {MAX_RESULT} characters")
    return whole.replace(what, by)


@function(
    "pad(text, width, character?)",
    doc="The text filled on the left to `width`, by default with zeros. A longer text stays as it is.",
    example="pad(`4711`, `10`)",
    gives="'0000004711'",
)
def pad(text: Any, width: Any, character: Any = "0") -> str | None:
    if text is None:
        return None
    fill = text_of(character, "pad", "character")
    if len(fill) != 1:
        raise ValueError(f"pad: `character` must be one character, it is {describe(character)}")
    return text_of(text, "pad", "text").rjust(need_whole(width, "pad", "width", 0, 10_000), fill)


@function(
    "strip_zeros(text)",
    doc="The text without zeros in front; only zeros become `0`.",
    example="strip_zeros('0000004711')",
    gives="'4711'",
)
def strip_zeros(text: Any) -> str | None:
    if text is None:
        return None
    whole = text_of(text, "strip_zeros", "text")
    return whole.lstrip("0") or whole[:1]


@function(
    "split_text(text, separator)",
    doc="The parts of a text as a list.",
    example="split_text('10;20;30', ';')",
    gives='`["10", "20", "30"]`',
)
def split_text(text: Any, separator: Any) -> list[str] | None:
    if text is None:
        return None
    mark = need_text(separator, "split_text", "separator")
    if not mark:
        raise ValueError("split_text: `separator` is an empty text")
    return need_text(text, "split_text", "text").split(mark)


@function(
    "concat(first, more…)",
    doc="Texts, numbers and booleans put together as one text. Null is an error: use `default`.",
    example="concat('LOT-', `7`)",
    gives="'LOT-7'",
)
def concat(*parts: Any) -> str:
    texts = [text_of(part, "concat", f"argument {place}") for place, part in enumerate(parts, 1)]
    return bounded("".join(texts), "concat")


@function(
    "to_text(value)",
    doc="Any value as text: numbers as plain digits, lists and objects as JSON; null stays null.",
    example="to_text(`12.10`)",
    gives="'12.10'",
)
def to_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (list, Mapping)):
        return to_json(value)
    return text_of(value, "to_text", "value")


# -- choosing -----------------------------------------------------------------------------------------------------------


@function(
    "coalesce(first, more…)",
    doc="The first value that is not null.",
    example="coalesce(`null`, 'B')",
    gives="'B'",
    missing_ok=True,
)
def coalesce(*values: Any) -> Any:
    for value in values:
        if value is not None:
            return value
    return None


@function(
    "default(value, otherwise, empty_too?)",
    doc="`otherwise` where the value is null; with `true` as third argument also where it is empty or false.",
    example="default(`null`, 'none')",
    gives="'none'",
    missing_ok=True,
)
def default(value: Any, otherwise: Any, empty_too: Any = False) -> Any:
    if value is None:
        return otherwise
    if empty_too is True and (value is False or (not value and value != 0)):
        return otherwise
    return value


@function(
    "if_else(condition, then, otherwise)",
    doc="`then` where the condition holds (neither null, false nor empty), else `otherwise`.",
    example="if_else(`3` > `2`, 'more', 'less')",
    gives="'more'",
    missing_ok=True,
)
def if_else(condition: Any, then: Any, otherwise: Any) -> Any:
    return then if condition or (condition == 0 and condition is not False) else otherwise


_NOTHING = re.compile(r"\s*|0{4,}|0000-00-00(?:[T ]00:00(?::00)?(?:\.0+)?Z?)?|00[./]00[./]0000|0000[./]00[./]00")


@function(
    "nullify(value, nothing?)",
    doc="Null where the value is one of `nothing`; by default a blank text, a zero date (`0000-00-00`, `00.00.0000`) or four"
    " and more zeros as text (`00000000`). Numbers stay.",
    example="nullify('0000-00-00')",
    gives="`null`",
)
def nullify(value: Any, nothing: Any = None) -> Any:
    if nothing is not None:
        return None if value in need_list(nothing, "nullify", "nothing") else value
    return None if isinstance(value, str) and _NOTHING.fullmatch(value) else value


@function(
    "get(container, name)",
    doc="The field of an object, or the item of a list, whose name or place is only known at run time; null where it is not.",
    example='get(`{"P10": "1000"}`, \'P10\')',
    gives="'1000'",
)
def get(container: Any, name: Any) -> Any:
    if container is None or name is None:
        return None
    if isinstance(container, Mapping):
        return container.get(text_of(name, "get", "name"))
    if isinstance(container, list):
        place = need_whole(name, "get", "name", -(10**9), 10**9)
        return container[place] if -len(container) <= place < len(container) else None
    raise ValueError(f"get: `container` must be an object or a list, it is {describe(container)}")


@function(
    "unique(list)",
    doc="The list without repeats; the first of each stays.",
    example="unique(`[2, 1, 2]`)",
    gives="`[2, 1]`",
)
def unique(list_: Any) -> list[Any]:
    seen: dict[bytes, Any] = {}
    for item in need_list(list_, "unique", "list"):
        seen.setdefault(encoded(_SORTED, item), item)
    return list(seen.values())


# -- identity -----------------------------------------------------------------------------------------------------------


@function(
    "hash(value)",
    doc="SHA-256 in hex of a text (UTF-8), or of the JSON of any other value with its fields in order.",
    example="hash('abc')",
    gives="'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'",
)
def hash_(value: Any) -> str:
    if value is None:
        raise ValueError("hash: `value` is null")
    if isinstance(value, str):
        return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
    return hashlib.sha256(encoded(_SORTED, value)).hexdigest()


@function(
    "uuid(names…)",
    doc="An id that depends on nothing but its arguments (the same on a retry); without arguments a new random one.",
    example="uuid('GRZ', `4711`)",
    gives="'7140aef3-9726-5676-8f42-e92e1628e555'",
)
def uuid(*names: Any) -> str:
    if not names:
        return str(uuid_utils.uuid7())
    texts = [text_of(name, "uuid", f"argument {place}") for place, name in enumerate(names, 1)]
    return str(uuids.uuid5(_NAMESPACE, to_json(texts)))
