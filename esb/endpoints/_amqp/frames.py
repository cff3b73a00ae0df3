"""The few frames that come and go with every message: deliveries, confirms, acknowledgements, and messages that are sent.

py-amqp reads and writes every method from a list of its fields; these are read and written in one go, in the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from struct import Struct
from typing import Any

from amqp.serialization import decode_properties_basic, dumps

#: The first bytes of a method: its class and its number.
DELIVER, RETURN, GET_OK, ACK = (b"\x00\x3c\x00%c" % number for number in (60, 50, 71, 80))

_BASIC, _END = 60, b"\xce"
_FRAME = Struct(">BHI")  #: kind, channel, size
_CONTENT = Struct(">BHIHHQ")  #: the same of a header, then class, weight and size of the body
_SIZE = Struct(">HxxQ")  #: class and size of the body
_TAG = Struct(">QB")
_FIELD = Struct(">cI")
_PUBLISH, _ACKNOWLEDGE = b"\x00\x3c\x00\x28\x00\x00", b"\x00\x3c\x00\x50"
_ACKED = Struct(">BHI4sQBB")

#: Short texts behind the first four properties, in the order of their flags; `timestamp` stands between them.
_BEHIND = (
    ("correlation_id", 0x0400),
    ("reply_to", 0x0200),
    ("expiration", 0x0100),
    ("message_id", 0x0080),
    ("timestamp", 0x0040),
    ("type", 0x0020),
    ("user_id", 0x0010),
    ("app_id", 0x0008),
    ("cluster_id", 0x0004),
)


class Content:
    """What a method brings with it: raw bytes, and properties that may be broken.

    Broken ones are its receiver's affair and must not end the connection: ``fault`` says what is wrong then.
    """

    __slots__ = ("_left", "_parts", "args", "body", "fault", "method", "properties")

    def __init__(self, method: bytes, args: bytes) -> None:
        self.method, self.args = method, args
        self.properties: dict[str, Any] = {}
        self.body, self.fault = b"", ""
        self._parts: list[bytes] = []
        self._left = 0

    def header(self, payload: bytes) -> bool:
        """Take the header; whether that is all."""
        kind, self._left = _SIZE.unpack_from(payload)
        try:
            if kind != _BASIC:
                raise ValueError(f"class {kind}")
            self.properties, _ = decode_properties_basic(payload, 12)
        except Exception as error:  # noqa: BLE001 - hostile properties: any error of the parser
            self.fault = f"its properties cannot be read: {type(error).__name__}: {error}"
        return not self._left

    def part(self, payload: bytes) -> bool:
        """Take a part of the body; whether that is all."""
        self._left -= len(payload)
        if self._left > 0:
            self._parts.append(payload)
            return False
        self.body = b"".join((*self._parts, payload)) if self._parts else payload
        return True


def delivery_of(args: bytes) -> tuple[str, int, bool, str, str]:
    """Consumer, tag, whether it was delivered before, exchange and routing key of a delivery."""
    at = 5 + args[4]
    tag, again = _TAG.unpack_from(args, at)
    start = at + 10
    middle = start + args[at + 9]
    return (
        args[5:at].decode("utf-8", "surrogatepass"),
        tag,
        again & 1 == 1,
        args[start:middle].decode("utf-8", "surrogatepass"),
        args[middle + 1 : middle + 1 + args[middle]].decode("utf-8", "surrogatepass"),
    )


def confirm_of(args: bytes) -> tuple[int, bool]:
    """Tag of a confirm, and whether it stands for all before it as well."""
    tag, bits = _TAG.unpack_from(args, 4)
    return tag, bits & 1 == 1


def acknowledgement(channel: int, tag: int, *, multiple: bool) -> bytes:
    """The frame that acknowledges a delivery, or all up to it."""
    return _ACKED.pack(1, channel, 13, _ACKNOWLEDGE, tag, multiple, 0xCE)


@lru_cache(maxsize=256)
def place_of(exchange: str, routing_key: str, *, mandatory: bool) -> bytes:
    """The method that sends a message, without its content."""
    return b"%b%b%b%c" % (_PUBLISH, _short(exchange), _short(routing_key), mandatory)


def publication(channel: int, place: bytes, properties: bytes, body: bytes, frame_max: int) -> list[bytes]:
    """The frames of a message that is sent, to be joined."""
    size, most = len(body), frame_max - 8
    parts = [
        _FRAME.pack(1, channel, len(place)),
        place,
        _END,
        _CONTENT.pack(2, channel, 12 + len(properties), _BASIC, 0, size),
        properties,
        _END,
    ]
    if size <= most:
        if size:
            parts += (_FRAME.pack(3, channel, size), body, _END)
        return parts
    for at in range(0, size, most):
        part = body[at : at + most]
        parts += (_FRAME.pack(3, channel, len(part)), part, _END)
    return parts


def properties_of(given: Mapping[str, Any]) -> bytes:
    """Properties as they stand behind the header of a content. Raises ValueError for a text that is too long."""
    flags, parts, get = 0, [b""], given.get
    if (value := get("content_type")) is not None:
        flags |= 0x8000
        parts.append(_short(value))
    if (value := get("content_encoding")) is not None:
        flags |= 0x4000
        parts.append(_short(value))
    if (value := get("application_headers")) is not None:
        flags |= 0x2000
        parts.append(_table(value))
    if (value := get("delivery_mode")) is not None:
        flags |= 0x1000
        parts.append(bytes((value,)))
    if (value := get("priority")) is not None:
        flags |= 0x0800
        parts.append(bytes((value,)))
    for name, flag in _BEHIND:
        if (value := get(name)) is not None:
            flags |= flag
            parts.append(value.to_bytes(8) if flag == 0x0040 else _short(value))
    parts[0] = flags.to_bytes(2)
    return b"".join(parts)


def _table(given: Mapping[str, Any]) -> bytes:
    if not all(type(value) is str for value in given.values()):
        return bytes(dumps("F", [given]))
    fields: list[bytes] = []
    for name, value in given.items():
        data = value.encode("utf-8", "surrogatepass")
        fields += (_short(name), _FIELD.pack(b"S", len(data)), data)
    table = b"".join(fields)
    return len(table).to_bytes(4) + table


def _short(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return bytes((len(data),)) + data


__all__ = [
    "ACK",
    "DELIVER",
    "GET_OK",
    "RETURN",
    "Content",
    "acknowledgement",
    "confirm_of",
    "delivery_of",
    "place_of",
    "properties_of",
    "publication",
]
