"""Declared encodings: bytes that do not fit are refused with their place, never replaced."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO

from esb.errors import Invalid
from esb.formats.faults import invalid
from esb.spec import Kind, Node, Reader, ScalarNode

UTF8_BOM = b"\xef\xbb\xbf"
_COMMON = ("utf-8", "utf-8-sig", "utf-16", "cp1252", "cp1250", "cp437", "cp850", "iso-8859-1", "iso-8859-15", "ascii")


def is_encoding(name: str) -> bool:
    """True for an encoding between text and bytes (``base64`` and its like are none)."""
    try:
        "".encode(name)
    except (LookupError, UnicodeError, ValueError):
        return False
    return True


class EncodingKind(Kind):
    label = "an encoding such as `utf-8` or `cp1252`"

    def read(self, node: Node, reader: Reader) -> Any:
        if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
            return reader.wrong_type(node, self)
        if is_encoding(node.value):
            return node.value.lower()
        hint = reader.nearest(node.value.lower(), _COMMON) or "common ones: " + ", ".join(_COMMON)
        return reader.problem("ESB105", f"`{node.value}` is not a known encoding", node, hint=hint)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "examples": list(_COMMON)}


#: an option that names an encoding
Encoding = Annotated[str, EncodingKind()]


def encoding_of(codec: object, begin: str = "") -> str:
    """What a text is written in that a person gives for a payload of this format: its `encoding`, where that is what it is read in.

    UTF-8 where none is declared, and for XML (which ``begin``, its first characters, may show), which says it itself.
    """
    declared = getattr(codec, "encoding", "utf-8")
    is_xml = str(getattr(codec, "content_type", "")).endswith("xml") or begin.lstrip("\ufeff \r\n\t").startswith("<")
    return "utf-8" if is_xml or not is_encoding(declared) else declared


def decode_text(data: bytes, encoding: str, message: str) -> str:
    """The text of ``data``. Raises Invalid with offset and line of the first byte that is no such text."""
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise undecodable(data, error.start, encoding, message) from None
    except UnicodeError as error:  # utf-16 without a byte order mark, idna and such raise the base class
        raise invalid(message, f"not {encoding} text ({error})") from None


def text_pieces(source: BinaryIO, encoding: str, message: str, size: int) -> Iterator[str]:
    """The text from here on, of at most ``size`` bytes at a time (-1: all of it); the source can be read again.

    Raises Invalid as :func:`decode_text`, once all the text before the byte was given.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    at = source.tell()
    while True:
        data, before = source.read(size), decoder.getstate()
        try:
            text = decoder.decode(data, not data)
        except UnicodeDecodeError as error:
            good = len(data) - len(error.object) + error.start
            decoder.setstate(before)
            if good > 0 and (text := decoder.decode(data[:good])):
                yield text
            raise _undecodable_in(source, at + good, encoding, message) from None
        except UnicodeError as error:
            raise invalid(message, f"not {encoding} text ({error})") from None
        if text:
            yield text
        if not data:
            return
        at += len(data)


def _undecodable_in(source: BinaryIO, offset: int, encoding: str, message: str) -> Invalid:
    source.seek(0)
    begin, line, left = source.read(4), 1, offset
    source.seek(0)
    while left > 0 and (data := source.read(min(left, 1 << 16))):
        line += data.count(b"\n")
        left -= len(data)
    return _undecodable(offset, line, source.read(1), encoding, message, begin)


def undecodable(data: bytes, offset: int, encoding: str, message: str) -> Invalid:
    """The error for a byte that is no text in ``encoding``."""
    line = data.count(b"\n", 0, offset) + 1
    return _undecodable(offset, line, data[offset : offset + 1], encoding, message, data)


def _undecodable(offset: int, line: int, byte: bytes, encoding: str, message: str, begin: bytes) -> Invalid:
    bad = f"0x{byte[0]:02X}" if byte else "the end"
    detail = f"byte {offset} (line {line}) is {bad}, which is not {encoding} text"
    return invalid(message, detail, hint=_hint(begin, encoding))


def _hint(data: bytes, encoding: str) -> str:
    if looks_like_utf16(data):
        return "this looks like UTF-16: set `encoding: utf-16`"
    if encoding.lower().startswith(("utf-8", "utf8", "ascii", "us-ascii")):
        return "if the sender writes Windows-1252 or Latin-1, set `encoding: cp1252`"
    return "ask the sender which encoding the data has, and set `encoding:`"


def looks_like_utf16(data: bytes) -> bool:
    return data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:4]


def encode_text(text: str, encoding: str, message: str) -> bytes:
    """The bytes of ``text``. Raises Invalid with the first character that ``encoding`` cannot write."""
    try:
        return text.encode(encoding)
    except UnicodeEncodeError as error:
        char = text[error.start]
        detail = f"character {error.start + 1} is U+{ord(char):04X}, which {encoding} cannot write"
        raise invalid(message, detail, hint="set `encoding: utf-8`, or `replace` the character in the route") from None
