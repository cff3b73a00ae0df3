"""Codecs on text: a body or a template's text is Unicode already, whatever encoding the codec's bytes have."""

from __future__ import annotations

import dataclasses
from typing import Any

from esb.formats.base import Codec

_UTF8 = ("utf-8", "utf8")


def decode_from_text(codec: Codec, text: str) -> Any:
    """What ``codec`` reads in ``text``; its own ``encoding`` is for bytes and not asked. Raises Invalid."""
    # "surrogatepass": half a surrogate pair is for the codec to refuse, in its own words
    return _for_text(codec).decode(text.encode("utf-8", "surrogatepass"))


def _for_text(codec: Any) -> Codec:
    # a codec calls the encoding of its bytes `encoding`, and `charset` where it reads another one than it writes
    changes = {name: "utf-8" for name in ("encoding", "charset") if getattr(codec, name, "utf-8") not in _UTF8}
    own: Codec = dataclasses.replace(codec, **changes) if changes else codec
    return own


def gives_text(codec: Codec) -> bool:
    """True where the bytes of ``codec`` are UTF-8 text."""
    encoding = getattr(codec, "encoding", None)
    if encoding is not None:
        return encoding in _UTF8
    return codec.content_type.startswith("text/") or codec.content_type.endswith(("json", "xml"))
