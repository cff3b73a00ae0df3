"""AMQP properties to headers and ``meta``, and back. Values of the other side are data: none of them steers the bus."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from msgspec import Struct

from esb.endpoints._http.media import Refusal, codec_or_refusal, read_content_type
from esb.endpoints.carried import header_value
from esb.errors import Invalid
from esb.formats.base import Codec

#: Headers that look like ones of the bus, or ask a client library to inflate the body.
_OURS = ("esb-", "esb_")
_NOT_PASSED_ON = frozenset({"compression"})
#: Values of `content_encoding` that say nothing, or say how text is written.
_PLAIN = frozenset({"", "binary", "identity", "8bit", "7bit"})
_CLOUD_EVENT = ("cloudevents:", "cloudevents_")
_SHORT = 255
#: most kinds of content that a source remembers the codec of
_MOST_KNOWN = 256
_LONGEST = 8_192


def headers_of(properties: Mapping[str, Any]) -> dict[str, str]:
    """Application headers as texts under lower-case names; CloudEvents attributes as ``ce-…``, as over HTTP."""
    found: dict[str, str] = {}
    for name, value in (properties.get("application_headers") or {}).items():
        if not isinstance(name, str):
            continue
        key = name.lower()
        for prefix in _CLOUD_EVENT:
            if key.startswith(prefix):
                key = "ce-" + key[len(prefix) :]
        text = _text(value)
        if text is not None and key not in _NOT_PASSED_ON and key[:4] not in _OURS:
            found[key] = text
    return found


def _text(value: Any) -> str | None:
    """A header's value as text; None for tables, lists and bytes that are no text."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value[:_LONGEST]
        case int() | Decimal() | float():
            return str(value)
        case bytes() | bytearray():
            try:
                return bytes(value[:_LONGEST]).decode()
            except UnicodeDecodeError:
                return None
        case datetime():
            return value.replace(tzinfo=UTC).isoformat().replace("+00:00", "Z")
    return None


def meta_of(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The standard properties of a message that routes may want, as texts."""
    found: dict[str, Any] = {}
    for name in ("message_id", "type", "app_id", "reply_to", "priority", "timestamp", "expiration", "user_id"):
        if properties.get(name) not in (None, ""):
            found[name] = _text(properties[name])
    return found


def codec_of(properties: Mapping[str, Any], fixed: Codec | None) -> tuple[Codec, str]:
    """Who reads a body, and its content type as it will be stored.

    A content type chooses among JSON, XML, CSV and text; none is JSON. A compressed body, or a type that nobody reads, is
    refused: nothing is ever inflated or unpickled.
    """
    return Choice(fixed).codec_of(properties)


class Choice:
    """Chooses the codecs of one source, whose messages mostly say the same of themselves."""

    def __init__(self, fixed: Codec | None) -> None:
        self._fixed = fixed
        self._known: dict[tuple[str, str], tuple[Codec, str]] = {}

    def codec_of(self, properties: Mapping[str, Any]) -> tuple[Codec, str]:
        """As the function of this name."""
        says = (str(properties.get("content_type") or ""), str(properties.get("content_encoding") or ""))
        chosen = self._known.get(says)
        if chosen is None:
            chosen = _chosen(*says, self._fixed)
            if len(self._known) < _MOST_KNOWN:
                self._known[says] = chosen
        if "compression" in (properties.get("application_headers") or ()):
            return Refusal("the body is compressed, which is not taken", "let the sender send it as it is"), chosen[1]
        return chosen


def _chosen(content_type: str, encoding: str, fixed: Codec | None) -> tuple[Codec, str]:
    encoding = encoding.strip().lower()
    if encoding not in _PLAIN and not _is_charset(encoding):
        return Refusal(
            f"the body is encoded as `{encoding[:60]}`, which is not taken", "let the sender send it as it is"
        ), content_type
    if encoding not in _PLAIN and content_type and "charset" not in content_type.lower():
        content_type = f"{content_type}; charset={encoding}"
    return codec_or_refusal(content_type, fixed), content_type


def _is_charset(name: str) -> bool:
    try:
        read_content_type(f"text/plain; charset={name}")
    except LookupError:
        return False
    return True


# -- outgoing -------------------------------------------------------------------------------------------------------------


def short(name: str, value: str) -> str:
    """``value`` as it may stand in a short field of AMQP. Raises Invalid."""
    if value.isascii() and value.isprintable() and len(value) <= _SHORT:
        return value  # as nearly all are
    header_value(name, value)
    if len(value.encode()) > _SHORT:
        raise Invalid(f"`{name}` is longer than {_SHORT} bytes")
    return value


class Outgoing(Struct, eq=False):
    """A message that is sent: raw bytes, and properties by their names in AMQP; those that are None are none."""

    body: bytes
    properties: dict[str, Any]


def outgoing(body: bytes, content_type: str, headers: Mapping[str, str], **more: Any) -> Outgoing:
    """A message with its properties. Raises Invalid for a header that cannot be sent."""
    for name, value in headers.items():
        short("header", name)
        header_value(name, value)
    more["content_type"], more["application_headers"] = short("content_type", content_type), headers
    return Outgoing(body, more)
