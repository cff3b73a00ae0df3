"""Which codec a content type or a file name asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from esb.formats.base import Codec
from esb.formats.charset import is_encoding
from esb.registry import Registry

_UTF8 = ("utf-8", "utf8", "us-ascii")


def by_content_type(registry: Registry, content_type: str, suffix: str = "") -> Codec | None:
    """The codec for ``application/json; charset=utf-8`` or, where no content type is given, for the suffix ``.json``.

    ``application/*+json`` and ``*+xml`` count, and so does a ``charset`` parameter. None where nobody knows the type or its
    charset: the caller refuses the message (415).
    """
    media_type, parameters = parse_content_type(content_type)
    name = _by_media_type(registry, media_type)
    if media_type in ("", "application/octet-stream"):
        name = _by_suffix(registry, suffix) or name
    component = registry.get("format", name) if name else None
    if component is None:
        return None
    make: Callable[..., Codec] = component.cls
    charset = parameters.get("charset", "").lower()
    option = _charset_option(component.cls)
    if not charset or option is None or (option == "encoding" and charset in _UTF8):
        return make()
    return make(**{option: charset}) if is_encoding(charset) else None


def content_type_of(codec: Codec, data: bytes = b"") -> str:
    """The ``Content-Type`` of the ``data`` that ``codec`` has written, with a charset where it is not UTF-8."""
    if data and hasattr(codec, "content_type_for"):  # a boundary differs from one body to the next
        return str(codec.content_type_for(data))
    encoding = getattr(codec, "encoding", "utf-8")
    if encoding == "utf-8" or not codec.content_type:
        return codec.content_type
    return f"{codec.content_type}; charset={encoding}"


def parse_content_type(text: str) -> tuple[str, dict[str, str]]:
    """``text/csv; charset="cp1252"`` is ``("text/csv", {"charset": "cp1252"})``; names in lower case."""
    media_type, *rest = text.split(";")
    parameters = {}
    for part in rest:
        name, equals, value = part.partition("=")
        if equals:
            parameters[name.strip().lower()] = value.strip().strip('"')
    return media_type.strip().lower(), parameters


def _by_media_type(registry: Registry, media_type: str) -> str | None:
    for name, component in registry.family("format").items():
        if media_type in component.cls.media_types:  # type: ignore[attr-defined]  # every format has them
            return name
    _, _, structured = media_type.rpartition("+")
    if structured != media_type and registry.get("format", structured):
        return structured
    return None


def _by_suffix(registry: Registry, suffix: str) -> str | None:
    suffix = suffix.lower()
    for name, component in registry.family("format").items():
        if suffix and suffix in component.cls.suffixes:  # type: ignore[attr-defined]  # every format has them
            return name
    return None


def _charset_option(cls: Any) -> str | None:
    """XML knows the encoding it reads as ``charset``, since ``encoding`` is the one it writes."""
    names = {field.name for field in fields(cls)}
    return "charset" if "charset" in names else "encoding" if "encoding" in names else None
