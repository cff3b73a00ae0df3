"""Which codec reads a body: by its content type, or by what the route has fixed."""

from __future__ import annotations

import asyncio
import codecs
from functools import lru_cache
from typing import Any, ClassVar

from esb.errors import Invalid
from esb.formats.base import Codec
from esb.formats.content_types import by_content_type, content_type_of, parse_content_type
from esb.formats.json import Json
from esb.formats.json_pieces import in_pieces
from esb.formats.text import Text
from esb.registry import load

JSON = Json()
TEXT = Text()

#: Bytes of JSON that are read in one go, a few milliseconds' work.
AT_ONCE = 1 << 17

#: The formats that a content type may choose. Others must be named by the route.
_CHOOSABLE = ("json", "xml", "csv", "text")

#: What a sender may write where the format is fixed by the route and there is nothing to choose.
_UNSPECIFIC = ("", "application/octet-stream")

#: Encodings that a `charset` may name, as Python calls them; others could be codecs that hide what they hold.
_CHARSETS = frozenset({"utf-8", "utf-16", "ascii", "cp1250", "cp1252", "iso8859-1", "iso8859-2", "iso8859-15"})


@lru_cache(maxsize=256)
def read_content_type(value: str) -> tuple[str, str]:
    """Media type and charset, as Python calls it; empty where none is given. Raises LookupError for one that is not taken."""
    media, parameters = parse_content_type(value)
    charset = parameters.get("charset", "")
    if not charset:
        return media, ""
    name = codecs.lookup(charset).name
    if name not in _CHARSETS:
        raise LookupError(charset)
    return media, name


@lru_cache(maxsize=256)
def codec_for(content_type: str) -> Codec | None:
    """The codec that a content type chooses, JSON where there is none; None for a type that nobody reads."""
    if not content_type:
        return JSON
    try:
        read_content_type(content_type)
    except LookupError:
        return None
    registry = load()
    codec = by_content_type(registry, content_type)
    chosen = {registry.family("format")[name].cls for name in _CHOOSABLE if name in registry.family("format")}
    return codec if type(codec) in chosen else None


def fits(codec: Codec, content_type: str) -> bool:
    """Whether a sender's content type, and its charset, agree with the codec that the route has fixed."""
    try:
        media, charset = read_content_type(content_type)
    except LookupError:
        return False
    if charset not in ("", "ascii") and charset != _encoding_of(codec, charset):
        return False
    if media in _UNSPECIFIC or media in codec.media_types or media in getattr(codec, "also_accepts", ()):
        return True
    _, plus, structured = media.rpartition("+")
    return bool(plus) and f"application/{structured}" in codec.media_types


def _encoding_of(codec: Codec, default: str) -> str:
    """The encoding that a codec reads; ``default`` where the bytes say it themselves, as XML does."""
    name = getattr(codec, "charset", None) if hasattr(codec, "charset") else getattr(codec, "encoding", None)
    return codecs.lookup(name).name.removesuffix("-sig") if name else default


def read_reply(content_type: str, content: bytes) -> Any:
    """The body of a target's answer: JSON where it says so, else text; None where it is empty or binary.

    Raises Invalid where it says JSON and is none.
    """
    if not content:
        return None
    codec, charset = json_of(content_type)
    if codec is not None:
        return codec.decode(content)
    media = parse_content_type(content_type)[0]
    try:
        return content.decode(charset or "utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1") if media.startswith("text/") else None


def json_of(content_type: str) -> tuple[Json | None, str]:
    """Who reads an answer that says it is JSON, None for any other; and its charset."""
    try:
        media, charset = read_content_type(content_type)
    except LookupError:
        media, charset = parse_content_type(content_type)[0], ""
    if media not in JSON.media_types and not media.endswith("+json"):
        return None, charset
    return (JSON if charset in ("", "utf-8", "ascii") else Json(encoding=charset)), charset


async def decoded(codec: Json, content: bytes) -> Any:
    """What :meth:`Json.decode` makes of it; the loop does other things while a large one is read. Raises Invalid."""
    if len(content) <= AT_ONCE or codec.encoding != "utf-8":
        return codec.decode(content)
    reading = in_pieces(content, codec.decode)
    while True:
        try:
            next(reading)
        except StopIteration as end:
            return end.value
        await asyncio.sleep(0)


def codec_or_refusal(content_type: str, fixed: Codec | None) -> Codec:
    """Who reads what a broker delivers; :class:`Refusal` where its content type is not the route's, or nobody's."""
    if fixed is not None:
        if fits(fixed, content_type):
            return fixed
        return Refusal(f"this route takes {fixed.content_type}, not `{content_type[:100]}`")
    hint = "let the sender say JSON, XML, CSV or text, or set `format` on the source"
    return codec_for(content_type) or Refusal(f"the content type `{content_type[:100]}` is not taken", hint)


class Refusal:
    """A codec that refuses: its message becomes a dead letter with these words."""

    content_type: ClassVar[str] = ""
    media_types: ClassVar[tuple[str, ...]] = ()
    suffixes: ClassVar[tuple[str, ...]] = ()

    def __init__(self, words: str, hint: str = "") -> None:
        self.words, self.hint = words, hint

    def decode(self, data: bytes) -> Any:
        raise Invalid(self.words, hint=self.hint)

    def encode(self, body: Any) -> bytes:
        raise Invalid(self.words, hint=self.hint)


def written(body: Any, codec: Codec | None) -> tuple[bytes, str]:
    """What a sink sends of a body, and its content type: as ``codec`` writes it, else bytes and texts as they are, else JSON.

    Raises Invalid where the body does not fit.
    """
    if codec is not None:
        data = codec.encode(body)
        return data, content_type_of(codec, data)
    if isinstance(body, bytes):
        return body, "application/octet-stream"
    if isinstance(body, str):
        return TEXT.encode(body), "text/plain; charset=utf-8"
    return JSON.encode(body), JSON.content_type
