"""From a body to an XML document: deterministic, escaped, and refused where XML cannot hold a value."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from esb.errors import Invalid
from esb.formats.faults import invalid, shown
from esb.formats.numbers import BOUND, in_bounds

#: Levels of elements. Each may be an object inside a list, and JSON is kept to 200 levels.
MAX_DEPTH = 100

_START = (
    "A-Z_a-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02ff\u0370-\u037d\u037f-\u1fff\u200c\u200d\u2070-\u218f\u2c00-\u2fef"
    "\u3001-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd\U00010000-\U000effff"
)
_PART = rf"[{_START}][{_START}\-.0-9\u00b7\u0300-\u036f\u203f\u2040]*"
_NAME = re.compile(f"(?:({_PART}):)?{_PART}")
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SPECIAL = re.compile("[&<>\r]")
_ISO = re.compile(r"iso8859-(\d+)")

_BAD = "the body cannot be written as XML"
Path = tuple[str | int, ...]


def is_name(text: str) -> bool:
    """True for the name of an element or attribute, with or without a prefix."""
    return _prefix_of(text) is not None


@lru_cache(maxsize=4096)
def _prefix_of(name: str) -> str | None:
    """The prefix of a name, empty where it has none; None where XML does not allow the name."""
    match = _NAME.fullmatch(name)
    return None if match is None else match[1] or ""


class XmlWriter:
    """Writes one document."""

    def __init__(self, prefixes: Mapping[str, str], encoding: str, *, nulls: str, declaration: bool) -> None:
        self._prefixes = prefixes
        self._encoding = codecs.lookup(encoding).name
        self._unicode = self._encoding.startswith("utf")
        self._empty_nulls = nulls == "empty"
        self._declaration = declaration
        self._used: dict[str, str] = {}  # prefixes of the route that the root must declare
        self._out: list[str] = []

    def document(self, name: str, content: Any, at: Path) -> bytes:
        """The bytes of a document whose root is ``name``. Raises Invalid with a pointer below ``at``."""
        self._element(name, "" if content is None else content, at, frozenset(), 1)
        if self._used:
            self._out[1:1] = [f' xmlns:{prefix}="{_attribute(uri)}"' for prefix, uri in self._used.items()]
        text = "".join(self._out)
        if _ILLEGAL.search(text):
            raise _illegal(content, at)
        head = f'<?xml version="1.0" encoding="{_declared(self._encoding)}"?>\n' if self._declaration else ""
        return (head + text).encode(self._encoding, "xmlcharrefreplace")

    def _element(self, name: str, value: Any, at: Path, scope: frozenset[str], depth: int) -> None:
        if depth > MAX_DEPTH:
            raise invalid(_BAD, f"nested deeper than {MAX_DEPTH} levels", at=at)
        out = self._out
        if isinstance(value, (dict, Mapping)):
            children, text, scope = self._open(name, value, at, scope)
            if not children and not text:
                out.append("/>")
                return
            out.append(">")
            out.append(text)
            for child, inner in children:
                self._children(child, inner, (*at, child), scope, depth + 1)
        else:
            self._check_name(name, at, scope)
            text = _text(_plain(value, at))
            out.append(f"<{name}")
            if not text:
                out.append("/>")
                return
            out.append(">")
            out.append(text)
        out.append(f"</{name}>")

    def _children(self, name: str, value: Any, at: Path, scope: frozenset[str], depth: int) -> None:
        if type(value) is str and self._unicode and depth <= MAX_DEPTH and _prefix_of(name) == "":  # most are these
            self._out.append(f"<{name}>{_text(value)}</{name}>" if value else f"<{name}/>")
            return
        if not isinstance(value, (list, tuple)):
            if value is not None or self._empty_nulls:
                self._element(name, "" if value is None else value, at, scope, depth)
            return
        for index, item in enumerate(value):
            if isinstance(item, (list, tuple)):
                raise invalid(_BAD, "a list inside of a list has no XML form", at=(*at, index))
            if item is not None or self._empty_nulls:
                self._element(name, "" if item is None else item, (*at, index), scope, depth)

    def _open(
        self, name: str, value: Mapping[str, Any], at: Path, scope: frozenset[str]
    ) -> tuple[list[tuple[str, Any]], str, frozenset[str]]:
        """Write the start tag without its end; give children, text and the prefixes that hold inside."""
        attributes, children, text = [], [], ""
        for key, inner in value.items():
            if not isinstance(key, str):
                raise invalid(_BAD, f"{shown(key)} is not an element name", at=at)
            if key[:1] == "@":
                if inner is not None:
                    attributes.append((key[1:], _plain(inner, (*at, key))))
            elif key == "#text":
                text = "" if inner is None else _text(_plain(inner, (*at, key)))
            else:
                children.append((key, inner))
        declared = [key[6:] for key, _ in attributes if key.startswith("xmlns:")]
        if declared:
            if "xml" in declared or "xmlns" in declared:
                raise invalid(_BAD, "the prefixes `xml` and `xmlns` cannot be declared", at=at)
            scope = scope.union(declared)
        self._check_name(name, at, scope)
        self._out.append(f"<{name}")
        for key, inner in attributes:
            if key != "xmlns" and not key.startswith("xmlns:"):
                self._check_name(key, (*at, "@" + key), scope)
            elif not is_name(key) or (not inner and key != "xmlns"):
                raise invalid(_BAD, f"`{key}` is not a namespace declaration", at=(*at, "@" + key))
            self._out.append(f' {key}="{_attribute(inner)}"')
        return children, text, scope

    def _check_name(self, name: str, at: Path, scope: frozenset[str]) -> None:
        prefix = _prefix_of(name)
        if prefix is None or not (self._unicode or _fits(name, self._encoding)):
            raise invalid(_BAD, f"`{name[:80]}` is not a name that XML allows", at=at)
        if not prefix or prefix in scope or prefix == "xml":
            return
        uri = self._prefixes.get(prefix)
        if uri is None:
            hint = f'set "@xmlns:{prefix}" on it or above, or name the namespace in `prefixes:`'
            raise invalid(_BAD, f"the prefix of `{name}` is not declared", at=at, hint=hint)
        self._used[prefix] = uri


def _fits(name: str, encoding: str) -> bool:
    try:
        name.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _plain(value: Any, at: Path) -> str:
    """A value as text: numbers without an exponent, as XML Schema writes decimals."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | Decimal():
            if not in_bounds(value):
                raise invalid(_BAD, BOUND, at=at)
            return str(value) if isinstance(value, int) else format(value, "f")
    raise invalid(_BAD, f"{shown(value)} has no text form", at=at)


def _text(text: str) -> str:
    if not _SPECIAL.search(text):
        return text
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")


def _attribute(text: str) -> str:
    return _text(text).replace('"', "&quot;").replace("\n", "&#10;").replace("\t", "&#9;")


def _declared(encoding: str) -> str:
    """The name of a Python codec as XML parsers know it."""
    if encoding.startswith("cp125"):
        return f"windows-{encoding[2:]}"
    if encoding == "utf-8-sig":
        return "UTF-8"
    return _ISO.sub(r"ISO-8859-\1", encoding).upper() if encoding != "ascii" else "US-ASCII"


def _illegal(content: Any, at: Path) -> Invalid:
    for path, text in _texts(content, at):
        bad = _ILLEGAL.search(text)
        if bad:
            detail = f"character {bad.start() + 1} is U+{ord(bad[0]):04X}, which XML does not allow"
            return invalid(_BAD, detail, at=path, hint="`replace` it in the route")
    return invalid(_BAD, "it holds a character that XML does not allow", at=at)


def _texts(value: Any, at: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, (*at, key))
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from _texts(inner, (*at, index))
