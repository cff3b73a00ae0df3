"""One AMQP connection as its thread sees it: py-amqp's protocol over a socket that never blocks.

Writes go into a buffer, reads come in large pieces, and every call that waits for an answer keeps to one deadline.
Bodies stay raw bytes: nothing is decoded, inflated or unpickled here.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from struct import Struct, unpack_from
from struct import error as StructError  # noqa: N812 - what unpacking raises
from typing import Any

import amqp
from amqp import spec
from amqp.exceptions import UnexpectedFrame, error_for_code
from amqp.transport import _AbstractTransport

from esb.endpoints._amqp import frames, waiting
from esb.endpoints._amqp.frames import ACK, DELIVER, Content

#: What ends a connection: its errors, and whatever a broken peer makes the parser raise.
WIRE_ERRORS = (
    OSError, amqp.AMQPError, ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, StructError,
)  # fmt: skip

_CHUNK = 262_144
_LARGEST_FRAME = 16 << 20
_FRAME = Struct(">BHI")
_CONTENT = frozenset((DELIVER, frames.RETURN, frames.GET_OK))


def _frame_handler(connection: Any, callback: Callable[..., None]) -> Callable[[Any], bool]:
    """Puts frames together to methods with their content; True where a method was complete."""
    partial: dict[int, Content] = {}

    def on_frame(frame: tuple[int, int, bytes]) -> bool:
        kind, channel, payload = frame
        connection.bytes_recv += 1
        if kind == 8:
            return False
        if kind == 1:
            method = payload[:4]
            if method in _CONTENT:
                partial[channel] = Content(method, payload)
                return False
            if method == ACK:
                connection.on_confirm(channel, payload)
            else:
                callback(channel, unpack_from(">HH", payload, 0), payload, None)
            return True
        content = partial.get(channel)
        if content is None or kind not in (2, 3):
            raise UnexpectedFrame(f"frame of type {kind} where none belongs")
        if not (content.header(payload) if kind == 2 else content.part(payload)):
            return False
        del partial[channel]
        if content.method == DELIVER:
            connection.on_delivery(channel, content)
        else:
            callback(channel, unpack_from(">HH", content.method), content.args, content)
        return True

    return on_frame


class WireTransport(_AbstractTransport):  # type: ignore[misc]  # py-amqp has no types
    """A socket with buffers on both sides."""

    sock: Any

    def __init__(self, host: str, connect_timeout: float, tls: ssl.SSLContext | None, name: str, **more: Any) -> None:
        super().__init__(host, connect_timeout=connect_timeout, **more)
        self._tls, self._name = tls, name
        self.out = bytearray()
        self._in = b""
        self.frames: deque[tuple[int, int, bytes]] = deque()
        self.deadline = 0.0

    def _setup_transport(self) -> None:
        if self._tls is not None:
            self.sock.settimeout(self.connect_timeout)
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)
        self.sock.setblocking(False)

    def _shutdown_transport(self) -> None:
        """Nothing: TLS's farewell would wait for the other side."""

    def _write(self, data: bytes) -> None:
        self.out += data

    def flush(self) -> bool:
        """Hand to the kernel what it takes; whether everything is out."""
        out = self.out
        while out:
            try:
                sent = self.sock.send(memoryview(out)[:_CHUNK].tobytes())
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return False
            del out[:sent]
        return True

    @property
    def unread(self) -> bool:
        """TLS has decrypted more than was read: no poll would tell."""
        return isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0

    def fill(self) -> None:
        """Read what has come and cut it into frames; at most a megabyte, so that writing has its turn."""
        parts = [self._in] if self._in else []
        for _ in range(4):
            try:
                data = self.sock.recv(_CHUNK)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            if not data:
                raise ConnectionResetError("the broker closed the connection")
            parts.append(data)
            if len(data) < _CHUNK and not isinstance(self.sock, ssl.SSLSocket):
                break
        self._in = self._cut(parts[0] if len(parts) == 1 else b"".join(parts))

    def _cut(self, data: bytes) -> bytes:
        """Cut into frames; the rest, which is less than one."""
        at, length, read, take = 0, len(data), _FRAME.unpack_from, self.frames.append
        while length - at >= 8:
            kind, channel, size = read(data, at)
            if size > _LARGEST_FRAME:
                raise UnexpectedFrame(f"a frame of {size} bytes")
            start = at + 7
            end = start + size
            if length <= end:
                break
            if data[end] != 0xCE:
                raise UnexpectedFrame("a frame without its end")
            take((kind, channel, data[start:end]))
            at = end + 1
        return data[at:] if at else data

    def next_frame(self) -> tuple[int, int, bytes]:
        """The next frame, waited for until the deadline. Raises TimeoutError."""
        while not self.frames:
            pending = not self.flush()
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the broker did not answer in time")
            wait = waiting.poller()
            wait.register(self.sock, waiting.READ | (waiting.WRITE if pending else 0))
            wait.poll(left * 1000)
            self.fill()
        return self.frames.popleft()


class WireChannel(amqp.Channel):  # type: ignore[misc]  # py-amqp has no types
    """A channel that tells its owner when the broker closes it, instead of raising into whatever runs just now."""

    on_lost: Callable[[str], None] | None = None
    #: is told tag and multiple of each confirm
    on_confirm: Callable[[int, bool], None] | None = None
    is_closing: bool

    def deliver(self, content: Content) -> None:
        """Hand a delivery to its consumer; one that nobody waits for any more goes back."""
        if self.is_closing:
            return
        consumer, *place = frames.delivery_of(content.args)
        take = self.callbacks.get(consumer)
        if take is not None:
            take(content, *place)
        else:
            self.basic_reject(place[0], requeue=True)

    def acknowledge(self, tag: int, *, multiple: bool) -> None:
        """Acknowledge a delivery, or all up to it."""
        self._write((frames.acknowledgement(self.channel_id, tag, multiple=multiple),))

    def publish(self, place: bytes, properties: bytes, body: bytes) -> None:
        """Send a message; ``place`` and ``properties`` as :mod:`esb.endpoints._amqp.frames` writes them."""
        most = self.connection.frame_max if self.connection is not None else 0
        self._write(frames.publication(self.channel_id, place, properties, body, most))

    def _write(self, parts: Sequence[bytes]) -> None:
        connection = self.connection
        if connection is None:
            raise amqp.RecoverableConnectionError("the channel is closed")
        connection.transport.write(b"".join(parts))
        connection.bytes_sent += 1

    def dispatch_method(self, method: Any, payload: bytes, content: Any) -> None:
        if self.is_closing and method not in self._ALLOWED_METHODS_WHEN_CLOSING:
            return
        super().dispatch_method(method, payload, content)

    def _on_close(self, code: int, text: str, class_id: int, method_id: int) -> None:
        awaited = bool(self._pending)
        with suppress(amqp.AMQPError):
            self.send_method(spec.Channel.CloseOk)
        told, self.on_lost = self.on_lost, None
        self.collect()
        if told is not None:
            told(f"{code} {text}")
        if awaited:
            raise error_for_code(code, text, (class_id, method_id), amqp.ChannelError)

    def leave(self) -> None:
        """Ask for the end of the channel and do not wait for it; what still comes on it is ignored."""
        if self.connection is not None and not self.is_closing:
            self.send_method(spec.Channel.Close, "BsBB", (200, "", 0, 0))
            self.is_closing = True


class Wire(amqp.Connection):  # type: ignore[misc]  # py-amqp has no types
    """The connection."""

    Channel = WireChannel
    #: seconds that a call with an answer may take
    patience = 10.0

    def __init__(self, tls: ssl.SSLContext | None, name: str, **more: Any) -> None:
        super().__init__(frame_handler=_frame_handler, **more)
        self._context, self._name = tls, name

    def Transport(self, host: str, connect_timeout: float, *_: Any, **more: Any) -> WireTransport:  # noqa: N802 - py-amqp's name
        made = WireTransport(host, connect_timeout, self._context, self._name, socket_settings=more["socket_settings"])
        made.deadline = time.monotonic() + connect_timeout
        return made

    def blocking_read(self, timeout: float | None = None) -> bool:
        return bool(self.on_inbound_frame(self.transport.next_frame()))

    def on_inbound_method(self, channel: int, method: Any, payload: bytes, content: Any) -> None:
        target = (self.channels or {}).get(channel)
        if target is not None:  # else a channel that was given up
            target.dispatch_method(method, payload, content)

    def on_delivery(self, channel: int, content: Content) -> None:
        """A delivery, past the tables of py-amqp."""
        target = (self.channels or {}).get(channel)
        if target is not None:
            target.deliver(content)

    def on_confirm(self, channel: int, args: bytes) -> None:
        """A confirm, past them as well."""
        target = (self.channels or {}).get(channel)
        if target is not None and target.on_confirm is not None and not target.is_closing:
            target.on_confirm(*frames.confirm_of(args))

    @contextmanager
    def waiting(self, seconds: float | None = None) -> Iterator[None]:
        """Calls inside that wait for answers keep to one deadline together."""
        self.transport.deadline = time.monotonic() + (seconds or self.patience)
        yield

    def open_channel(self) -> WireChannel:
        channel: WireChannel = self.channel()
        channel.auto_decode = False
        return channel

    def pump(self) -> None:
        """Read what has come and work it off. Raises one of :data:`WIRE_ERRORS` where the connection is over."""
        self.transport.fill()
        self.work_off()

    def work_off(self) -> None:
        frames = self.transport.frames
        while frames:
            self.on_inbound_frame(frames.popleft())

    def drop(self) -> None:
        """Close the socket, without a word to the broker."""
        with suppress(*WIRE_ERRORS):
            self.collect()

    def goodbye(self, seconds: float = 2.0) -> None:
        """End it properly where the broker answers soon; else just end it."""
        with suppress(*WIRE_ERRORS), self.waiting(seconds):
            self.close()
        self.drop()


#: The kernel gives up on unsent data after so many milliseconds; a broker in alarm reads nothing for a while.
SOCKET_SETTINGS = {socket.TCP_USER_TIMEOUT: 60_000} if hasattr(socket, "TCP_USER_TIMEOUT") else {}
