"""Plain text and raw bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from esb.formats.charset import Encoding, decode_text, encode_text
from esb.formats.faults import invalid, shown
from esb.registry import format_
from esb.spec import option


@format_("text")
@dataclass(frozen=True, slots=True)
class Text:
    """One text, character for character; line ends and a byte order mark stay as they are.

    `encoding: utf-8-sig` drops a leading byte order mark when reading and writes one.
    """

    content_type: ClassVar[str] = "text/plain"
    media_types: ClassVar[tuple[str, ...]] = ("text/plain",)
    suffixes: ClassVar[tuple[str, ...]] = (".txt", ".log")

    encoding: Encoding = option(default="utf-8", doc="Encoding of the bytes.", example="cp1252")

    def decode(self, data: bytes) -> str:
        """The text. Raises Invalid with the offset of a byte that is no such text."""
        return decode_text(data, self.encoding, "the body cannot be read as text")

    def encode(self, body: Any) -> bytes:
        """The bytes. Raises Invalid for a body that is not a text, or a character that the encoding does not have."""
        if not isinstance(body, str):
            raise invalid(
                "the body cannot be written as text",
                f"it is {shown(body)}",
                hint="make a text of it first: `transform: { jinja: …, format: text }`",
            )
        return encode_text(body, self.encoding, "the body cannot be written as text")


@format_("raw")
@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes that nobody looks into."""

    content_type: ClassVar[str] = "application/octet-stream"
    media_types: ClassVar[tuple[str, ...]] = ("application/octet-stream",)
    suffixes: ClassVar[tuple[str, ...]] = (".bin",)

    def decode(self, data: bytes) -> bytes:
        """The same bytes."""
        return bytes(data)

    def encode(self, body: Any) -> bytes:
        """The same bytes. Raises Invalid for any other body."""
        if not isinstance(body, bytes):
            raise invalid(
                "the body cannot be written as raw bytes",
                f"it is {shown(body)}",
                hint="name the format it shall be written in, such as `format: json`",
            )
        return body
