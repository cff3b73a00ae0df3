"""JSON with exact decimals: ``12.10`` stays ``12.10``, duplicate keys and NaN are refused."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Clamped, Context, Decimal, Inexact, InvalidOperation, Overflow, Rounded
from typing import Any, BinaryIO, ClassVar

import msgspec
from jiter import from_json

from esb.errors import Invalid
from esb.formats.charset import UTF8_BOM, Encoding, decode_text, looks_like_utf16, undecodable
from esb.formats.faults import invalid
from esb.formats.json_items import json_items
from esb.formats.numbers import BOUND, in_bounds, numbers_in
from esb.language.values import MAX_DIGITS, MAX_EXPONENT
from esb.registry import format_
from esb.spec import option

_BAD = "the body is not valid JSON"
_UNWRITABLE = "the body cannot be written as JSON"

#: A cheap look for numbers that may be out of bounds: digits and signs become ``0``. A hit outside a number (a UUID with
#: ``3e417``) mostly ends at something that ends no number; what is left only means that the numbers themselves are checked.
_CLASSES = bytes.maketrans(b"123456789+-E", b"00000000000e")
_LONG_RUN = b"0" * (MAX_DIGITS // 2 + 1)
_BIG_EXPONENT = b"0e000"
_NUMBER_ENDS = re.compile(rb"0+(?:[\s,\]}]|$)")


def _plain(value: Any) -> Any:
    """What msgspec does not know: other mappings (``headers``, ``meta``) are objects."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} has no JSON form")


_encode = msgspec.json.Encoder(decimal_format="number", enc_hook=_plain).encode
#: Takes only decimals that are within the bounds by far, so that those need no second look.
_BOUNDED = Context(
    prec=MAX_DIGITS,
    Emin=MAX_DIGITS - 1 - MAX_EXPONENT,  # no digit stands behind the place of the least exponent, be it a zero
    Emax=MAX_EXPONENT,
    traps=[Clamped, Inexact, InvalidOperation, Overflow, Rounded],
)
_decode = msgspec.json.Decoder(float_hook=_BOUNDED.create_decimal).decode
#: Texts up to this many bytes are read as quickly with all care; bytes that show whether a text is written with blanks;
#: containers that are too few to be nested too deeply.
_SHORT, _BEGINNING, _FEW = 400, 64, 150
#: So many digits in a row of every so many bytes stand in each whole number that is too long.
_EVERY = 50
_LONG_WHOLE = b"0" * (MAX_DIGITS // _EVERY)
_UNREAD: Any = object()


@format_("json")
@dataclass(frozen=True, slots=True)
class Json:
    """JSON with exact numbers: decimals keep their digits (`12.10`), and whole numbers of any length stay whole.

    Duplicate keys, NaN, Infinity, half surrogate pairs, numbers beyond 400 digits or an exponent beyond ±400, and nesting
    of more than about 200 levels are refused. Written compactly, keys in their order.
    """

    content_type: ClassVar[str] = "application/json"
    media_types: ClassVar[tuple[str, ...]] = ("application/json", "text/json")
    suffixes: ClassVar[tuple[str, ...]] = (".json",)

    encoding: Encoding = option(
        default="utf-8", doc="Encoding of the bytes; a byte order mark is accepted.", example="utf-8"
    )

    def decode(self, data: bytes) -> Any:
        """The body. Raises Invalid with line and column, or with the pointer of a number that is out of bounds."""
        if self.encoding != "utf-8":
            data = decode_text(data, self.encoding, _BAD).encode("utf-8", "surrogatepass")
        if data[:3] == UTF8_BOM:
            data = data[3:]
        body = _quickly(data)
        if body is not _UNREAD:
            return body
        try:
            body = _carefully(data)
        except ValueError as error:
            raise _unreadable(data, str(error)) from None
        if may_be_out_of_bounds(data):
            _check_bounds(body, data.translate(_CLASSES))
        return body

    def streams(self, path: tuple[str, ...]) -> bool:
        """The list must be the body itself, in UTF-8."""
        return not path and self.encoding == "utf-8"

    def items(self, source: BinaryIO, path: tuple[str, ...]) -> Iterator[Any]:
        """The items one by one. Raises Invalid as :meth:`decode`, with lines and columns counted within the item."""
        del path
        return json_items(source, self.decode)

    def encode(self, body: Any) -> bytes:
        """The bytes. Raises Invalid where a part of the body has no JSON form (bytes, NaN, a lone surrogate)."""
        if type(body) is bytes:
            raise invalid(_UNWRITABLE, "it is raw bytes", hint="`parse` it first, or send it with `format: raw`")
        try:
            data = _encode(body)
        except (TypeError, ValueError, RecursionError) as error:
            raise invalid(_UNWRITABLE, _encode_fault(error)) from None
        # msgspec writes a Decimal NaN as `NaN` and a float NaN as `null`
        if data.find(b"NaN") >= 0 or data.find(b"Infinity") >= 0 or data.find(b"null") >= 0:
            _check_finite(body)
        if may_be_out_of_bounds(data):
            _check_bounds(body, data.translate(_CLASSES), _UNWRITABLE)  # nobody could read it back
        return data if self.encoding == "utf-8" else _transcode(data.decode(), self.encoding)


def parse(data: bytes) -> Any:
    """The value, its numbers unbounded (see :func:`may_be_out_of_bounds`). Raises ValueError."""
    body = _quickly(data)
    return _carefully(data) if body is _UNREAD else body


def _quickly(data: bytes) -> Any:
    """The value, its numbers within bounds, or ``_UNREAD``.

    The quick reader knows neither duplicate keys nor a bound of nesting. What it has read is only taken where it is written
    as exactly these bytes: then no key and no digit of them was lost, and no text could be read in another way.
    """
    if (
        len(data) > _SHORT
        and data.find(b'": ', 0, _BEGINNING) < 0
        and len(data) - len(data.replace(b"{", b"").replace(b"[", b"")) < _FEW
    ):
        try:
            value = _decode(data)
            if _encode(value) == data and data[::_EVERY].translate(_CLASSES).find(_LONG_WHOLE) < 0:
                return value
        except (ValueError, ArithmeticError, RecursionError):
            pass  # the careful reader says what is wrong
    return _UNREAD


def _carefully(data: bytes) -> Any:
    return from_json(data, float_mode="decimal", catch_duplicate_keys=True, allow_inf_nan=False, cache_mode="keys")


def may_be_out_of_bounds(data: bytes) -> bool:
    """Whether a number in it has to be looked at; also where the bytes are no whole value."""
    classes = data.translate(_CLASSES)
    # not `in`: that raises and forgets an error each time, before it looks for bytes
    return classes.find(_BIG_EXPONENT) >= 0 or classes.find(_LONG_RUN) >= 0


def _transcode(text: str, encoding: str) -> bytes:
    try:
        return text.encode(encoding)
    except UnicodeEncodeError:  # every character beyond ASCII stands inside a text, where it may be escaped
        return re.sub(r"[^\x00-\x7f]", _escape, text).encode(encoding)


def _escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _check_bounds(body: Any, classes: bytes, bad: str = _BAD) -> None:
    at = -1 if _LONG_RUN in classes else classes.find(_BIG_EXPONENT)
    while at >= 0 and not _NUMBER_ENDS.match(classes, at + 2):
        at = classes.find(_BIG_EXPONENT, at + 2)
        if at < 0:
            return
    for path, number in numbers_in(body):
        if not in_bounds(number):
            raise invalid(bad, BOUND, at=path)


def _check_finite(body: Any) -> None:
    for path, number in numbers_in(body):
        finite = math.isfinite(number) if isinstance(number, float) else not isinstance(number, Decimal)
        if not (finite or (isinstance(number, Decimal) and number.is_finite())):
            raise invalid(_UNWRITABLE, f"{number} is not a number that JSON knows", at=path)


def _encode_fault(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deep, or holds itself"
    if isinstance(error, UnicodeEncodeError):
        return f"a text holds half a surrogate pair (U+{ord(error.object[error.start]):04X})"
    return str(error)


# -- the words of a syntax error ---------------------------------------------------------------------------------------

_DUPLICATE = "Detected duplicate key "
_PLACE = re.compile(r"(.*) at line (\d+) column (\d+)", re.DOTALL)
_WORDS = {
    "EOF while parsing a value": "it ends where a value should stand",
    "EOF while parsing a string": "it ends in the middle of a text",
    "EOF while parsing a list": "it ends in the middle of a list",
    "EOF while parsing an object": "it ends in the middle of an object",
    "trailing comma": "a comma with nothing after it",
    "trailing characters": "something follows after the end of the value",
    "expected value": "expected a value",
    "expected ident": "expected `true`, `false` or `null`",
    "expected `:`": "expected `:` after a key",
    "invalid escape": "an escape that JSON does not know",
    "key must be a string": "a key must be a text in double quotes",
    "recursion limit exceeded": "nested deeper than 200 levels",
    "number out of range": BOUND,
}
_HEADS = (
    ("Internal error", BOUND),
    ("control character", "a control character in a text must be escaped, such as \\n or \\u0001"),
    ("unexpected end of hex escape", "half a surrogate pair; the other \\u escape is missing"),
    ("lone leading surrogate", "half a surrogate pair; the other \\u escape is missing"),
)
_AT = (
    (re.compile(rb"-?(NaN|Infinity)"), "{} is not a number that JSON knows"),
    (re.compile(rb"'"), "a text stands in double quotes, not in `'`"),
    (re.compile(rb"(True|False|None)"), "{} is not JSON; it knows `true`, `false` and `null`"),
    (re.compile(rb"<"), "this looks like XML or HTML"),
)


def _unreadable(data: bytes, said: str) -> Invalid:
    if not data.strip():
        return invalid(_BAD, "it is empty", hint="a sender with nothing to say should send `null` or `{}`")
    match = _PLACE.fullmatch(said)
    if match is None:
        return invalid(_BAD, said)
    words = match[1]
    at = _line_start(data, int(match[2])) + max(int(match[3]) - 1, 0)
    if words.startswith(_DUPLICATE):  # the parser has gone past the key already
        key = data.rfind(words.removeprefix(_DUPLICATE).encode(), 0, at + 1)
        at = key if key >= 0 else at
    if "unicode code point" in words:
        return undecodable(data, _first_bad_byte(data, at), "utf-8", _BAD)
    if looks_like_utf16(data):
        return invalid(_BAD, "this looks like UTF-16", hint="set `encoding: utf-16`")
    line, start = data.count(b"\n", 0, at) + 1, data.rfind(b"\n", 0, at) + 1
    column = len(data[start:at].decode("utf-8", "replace")) + 1
    return invalid(_BAD, f"line {line}, column {column}: {_reworded(words, data, at)}")


def _reworded(words: str, data: bytes, at: int) -> str:
    if words in ("expected value", "invalid number", "key must be a string", "expected ident"):
        for pattern, text in _AT:
            found = pattern.match(data, at) or (pattern.match(data, at - 1) if at else None)
            if found:
                return text.format(found[0].decode())
    if words.startswith(_DUPLICATE):
        return f"the key {words.removeprefix(_DUPLICATE)} stands twice in one object"
    if words == "invalid number":
        return "not a number as JSON writes it (no leading zeros, digits on both sides of the point)"
    for head, text in _HEADS:
        if words.startswith(head):
            return text
    return _WORDS.get(words, words)


def _line_start(data: bytes, line: int) -> int:
    start = 0
    for _ in range(line - 1):
        start = data.index(b"\n", start) + 1
    return start


def _first_bad_byte(data: bytes, default: int) -> int:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.start
    return default
