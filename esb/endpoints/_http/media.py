"""Which codec reads a body: by its content type, or by what the route has fixed."""

from __future__ import annotations

import codecs
import dataclasses
import re
from functools import lru_cache
from typing import Any

from esb.formats.base import Codec
from esb.registry import load

#: The formats that a content type may choose. Others must be named by the route.
BY_CONTENT_TYPE = ("json", "xml", "csv", "text")

#: What a sender may write where the format is fixed by the route and there is nothing to choose.
UNSPECIFIC = ("", "application/octet-stream")

_CHARSET = re.compile(r"(?:^|;)\s*charset\s*=\s*\"?([A-Za-z0-9._:-]+)\"?\s*(?:;|$)", re.IGNORECASE)

#: Encodings that a `charset` may name; any other name could be a codec that is no encoding of text.
_CHARSETS = frozenset({"utf-8", "utf-16", "ascii", "cp1250", "cp1252", "iso8859-1", "iso8859-2", "iso8859-15"})


def read_content_type(value: str) -> tuple[str, str]:
    """Media type and charset, both in lower case; the charset as Python calls it, empty where none is given.

    Raises LookupError for a charset that is not taken.
    """
    media, semicolon, parameters = value.partition(";")
    media = media.strip().lower()
    match = _CHARSET.search(parameters) if semicolon else None
    if match is None:
        return media, ""
    name = codecs.lookup(match[1]).name
    if name not in _CHARSETS:
        raise LookupError(match[1])
    return media, name


@lru_cache(maxsize=64)
def codec_named(name: str, charset: str = "") -> Codec:
    """The codec with default options; ``charset`` is its encoding where it has one. Raises LookupError."""
    component = load().get("format", name)
    if component is None:
        raise LookupError(name)
    if charset in ("", "utf-8", "ascii"):
        codec: Codec = component.cls()
        return codec
    if not any(field.name == "encoding" for field in dataclasses.fields(component.cls)):
        raise LookupError(f"{name} in {charset}")
    encoded: Codec = component.cls(encoding=charset)
    return encoded


@lru_cache(maxsize=1)
def _by_media_type() -> dict[str, str]:
    formats = load().family("format")
    return {media: name for name in BY_CONTENT_TYPE if name in formats for media in formats[name].cls.media_types}  # type: ignore[attr-defined]  # every format has them


def format_of(media: str) -> str | None:
    """The name of the format for a media type; ``application/vnd.x+json`` is JSON."""
    if media.endswith("+json"):
        return "json"
    if media.endswith("+xml"):
        return "xml"
    return _by_media_type().get(media)


def codec_for(content_type: str) -> Codec | None:
    """The codec that a content type chooses, JSON where there is none; None for a type that nobody reads."""
    try:
        media, charset = read_content_type(content_type)
        name = format_of(media) if media else "json"
        return codec_named(name, charset) if name is not None else None
    except LookupError:
        return None


def fits(codec: Codec, content_type: str) -> bool:
    """Whether a sender's content type agrees with the codec that the route has fixed."""
    try:
        media, _ = read_content_type(content_type)
    except LookupError:
        return False
    if media in UNSPECIFIC or media in codec.media_types:
        return True
    for suffix, base in (("+json", "application/json"), ("+xml", "application/xml")):
        if media.endswith(suffix):
            return base in codec.media_types
    return False


def read_reply(content_type: str, content: bytes) -> Any:
    """The body of a target's answer: JSON where it says so, else text; None where it is empty or binary.

    Raises Invalid where it says JSON and is none.
    """
    if not content:
        return None
    try:
        media, charset = read_content_type(content_type)
    except LookupError:
        media, charset = content_type.partition(";")[0].strip().lower(), "utf-8"
    if format_of(media) == "json":
        return codec_named("json", charset).decode(content)
    try:
        return content.decode(charset or "utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1") if media.startswith("text/") else None
