"""Declared encodings: bytes that do not fit are refused with their place, never replaced."""

from __future__ import annotations

from typing import Annotated, Any

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


def decode_text(data: bytes, encoding: str, message: str) -> str:
    """The text of ``data``. Raises Invalid with offset and line of the first byte that is no such text."""
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise undecodable(data, error.start, encoding, message) from None
    except UnicodeError as error:  # utf-16 without a byte order mark, idna and such raise the base class
        raise invalid(message, f"not {encoding} text ({error})") from None


def undecodable(data: bytes, offset: int, encoding: str, message: str) -> Invalid:
    """The error for a byte that is no text in ``encoding``."""
    line = data.count(b"\n", 0, offset) + 1
    bad = f"0x{data[offset]:02X}" if offset < len(data) else "the end"
    detail = f"byte {offset} (line {line}) is {bad}, which is not {encoding} text"
    return invalid(message, detail, hint=_hint(data, encoding))


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
