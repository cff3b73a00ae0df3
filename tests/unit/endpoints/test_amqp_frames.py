"""Frames that are written and read past py-amqp's tables: the same bytes, and the same meaning."""

from __future__ import annotations

import random
from struct import pack
from types import SimpleNamespace
from typing import Any

import amqp
import pytest
from amqp import spec
from amqp.basic_message import Message
from amqp.method_framing import frame_writer
from amqp.serialization import dumps

from esb.endpoints._amqp.frames import (
    Content,
    acknowledgement,
    confirm_of,
    delivery_of,
    place_of,
    properties_of,
    publication,
)
from esb.endpoints._amqp.wire import WIRE_ERRORS, WireTransport, _frame_handler

FRAME_MAX = 4096


class Wire:
    """A connection as the writer and the reader of frames see it."""

    def __init__(self) -> None:
        self.frame_max, self.bytes_sent, self.bytes_recv = FRAME_MAX, 0, 0
        self.written = bytearray()
        self.came: list[Any] = []
        self.confirms: list[bytes] = []

    def write(self, data: Any) -> None:
        self.written += data

    def on_delivery(self, channel: int, content: Content) -> None:
        self.came.append((channel, delivery_of(content.args), content.properties, content.body, content.fault))

    def on_confirm(self, channel: int, args: bytes) -> None:
        self.confirms.append(args)

    def on_method(self, channel: int, method: Any, args: bytes, content: Any) -> None:
        self.came.append((channel, method, content))


def properties(chance: random.Random) -> dict[str, Any]:
    headers: dict[str, Any] = {"plant": "P10", "Größe": "ö" * chance.randrange(300), "empty": ""}
    if chance.random() < 0.3:
        headers["x-match"] = chance.choice([1, True, 2.5, [1, "a"], {"b": "c"}, None])
    every = {
        "content_type": "application/json", "content_encoding": "utf-8", "application_headers": headers, "delivery_mode": 2,
        "priority": 7, "correlation_id": "k" * chance.randrange(256), "reply_to": "", "expiration": "3600", "message_id": "m-1",
        "timestamp": chance.randrange(1 << 40), "type": "hold", "user_id": "guest", "app_id": "esb", "cluster_id": "c",
    }  # fmt: skip
    return {name: value for name, value in every.items() if chance.random() < 0.6}


@pytest.mark.parametrize("seed", range(40))
def test_what_is_sent_has_the_bytes_of_py_amqp_and_is_read_back(seed: int) -> None:
    chance = random.Random(seed)
    given, wire = properties(chance), Wire()
    body = chance.randbytes(chance.choice([0, 1, 100, FRAME_MAX - 9, FRAME_MAX - 8, FRAME_MAX - 7, 3 * FRAME_MAX]))
    write = frame_writer(wire, SimpleNamespace(write=wire.write))
    mandatory = chance.random() < 0.5
    args = dumps("Bssbb", (0, "supplier.asn", "asn.Größe", mandatory, False))
    write(1, 7, spec.Basic.Publish, args, Message(body, **given))
    place = place_of("supplier.asn", "asn.Größe", mandatory=mandatory)
    ours = b"".join(publication(7, place, properties_of(given), body, FRAME_MAX))
    assert ours == wire.written

    transport = WireTransport("127.0.0.1:1", 1.0, None, "")
    on_frame = _frame_handler(wire, wire.on_method)
    args = dumps("sLbss", ("esb1", 1 << 40, mandatory, "supplier.asn", "asn.Größe"))
    for piece in (pack(">BHIHH", 1, 7, 4 + len(args), 60, 60) + args + b"\xce", ours[ours.index(b"\xce") + 1 :]):
        for at in range(0, len(piece), 1000):
            transport._in = transport._cut(transport._in + piece[at : at + 1000])
    assert [on_frame(frame) for frame in transport.frames].count(True) == 1
    found = ("esb1", 1 << 40, mandatory, "supplier.asn", "asn.Größe")
    assert wire.came == [(7, found, given, body, "")]


def test_an_acknowledgement_has_the_bytes_of_py_amqp() -> None:
    for multiple in (False, True):
        wire = Wire()
        frame_writer(wire, SimpleNamespace(write=wire.write))(
            1, 3, spec.Basic.Ack, dumps("Lb", (1 << 33, multiple)), None
        )
        assert acknowledgement(3, 1 << 33, multiple=multiple) == wire.written


def test_broken_properties_are_the_fault_of_one_message() -> None:
    wire = Wire()
    on_frame = _frame_handler(wire, wire.on_method)
    args = b"\x00\x3c\x00\x3c" + dumps("sLbss", ("esb1", 1, False, "", "q"))
    for header in (pack(">HHQH", 60, 0, 2, 0x2000) + b"\xff", pack(">HHQ", 60, 0, 2), pack(">HHQH", 10, 0, 2, 0)):
        wire.came.clear()
        assert [on_frame((kind, 1, part)) for kind, part in ((1, args), (2, header), (3, b"{}"))] == [
            False,
            False,
            True,
        ]
        ((_, _, found, body, fault),) = wire.came
        assert (found, body) == ({}, b"{}")
        assert "cannot be read" in fault


@pytest.mark.parametrize(
    "frames",
    [
        [(1, 1, b"\x00")],
        [(1, 1, b"\x00\x3c\x00\x50\x00")],
        [(1, 1, b"\x00\x3c\x00\x3c"), (2, 1, b"\x00\x3c\x00")],
        [(1, 1, b"\x00\x3c\x00\x3c\x05ab"), (2, 1, pack(">HHQH", 60, 0, 0, 0))],
        [(2, 1, b"")],
        [(9, 1, b"")],
    ],
)
def test_frames_that_are_cut_short_end_the_connection_and_not_its_thread(frames: list[Any]) -> None:
    wire = Wire()
    on_frame = _frame_handler(wire, wire.on_method)

    def read() -> None:
        for frame in frames:
            on_frame(frame)
        for args in wire.confirms:
            confirm_of(args)

    with pytest.raises(WIRE_ERRORS):
        read()


def test_a_text_that_is_too_long_for_its_field_is_not_written() -> None:
    with pytest.raises(ValueError, match="256"):
        properties_of({"message_id": "x" * 256})
    assert issubclass(amqp.ChannelError, WIRE_ERRORS)
