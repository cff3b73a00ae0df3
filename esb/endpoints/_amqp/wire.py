"""One AMQP connection as its thread sees it: py-amqp's protocol over a socket that never blocks.

Writes go into a buffer, reads come in large pieces, and every call that waits for an answer keeps to one deadline.
Bodies stay raw bytes: nothing is decoded, inflated or unpickled here.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from struct import unpack_from
from typing import Any

import amqp
from amqp import spec
from amqp.basic_message import Message
from amqp.exceptions import UnexpectedFrame, error_for_code
from amqp.transport import _AbstractTransport

#: What ends a connection: its errors, and whatever a broken peer makes the parser raise.
WIRE_ERRORS = (OSError, amqp.AMQPError, ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError)

_CHUNK = 262_144
_LARGEST_FRAME = 16 << 20
_CONTENT = frozenset((spec.Basic.Return, spec.Basic.Deliver, spec.Basic.GetOk))


class RawMessage(Message):  # type: ignore[misc]  # py-amqp has no types
    """A message whose properties may be broken: that is its receiver's affair and must not end the connection."""

    fault = ""

    def _load_properties(self, class_id: int, buf: bytes, offset: int) -> int:
        try:
            return int(super()._load_properties(class_id, buf, offset))
        except Exception as error:  # noqa: BLE001 - hostile properties: any error of the parser
            self.fault = f"its properties cannot be read: {type(error).__name__}: {error}"
            self.properties: dict[str, Any] = {}
            return offset


def _frame_handler(connection: Any, callback: Callable[..., None]) -> Callable[[Any], bool]:
    """Puts frames together to methods with their content; True where a method was complete."""
    partial: dict[int, RawMessage] = {}

    def on_frame(frame: tuple[int, int, bytes]) -> bool:
        kind, channel, payload = frame
        connection.bytes_recv += 1
        if kind == 8:
            return False
        if kind == 1:
            method = unpack_from(">HH", payload, 0)
            if method in _CONTENT:
                partial[channel] = RawMessage(frame_method=method, frame_args=payload)
                return False
            callback(channel, method, payload, None)
            return True
        message = partial.get(channel)
        if message is None or kind not in (2, 3):
            raise UnexpectedFrame(f"frame of type {kind} where none belongs")
        if kind == 2:
            message.inbound_header(payload)
        else:
            message.inbound_body(payload)
        if not message.ready:
            return False
        del partial[channel]
        callback(channel, message.frame_method, message.frame_args, message)
        return True

    return on_frame


class WireTransport(_AbstractTransport):  # type: ignore[misc]  # py-amqp has no types
    """A socket with buffers on both sides."""

    sock: Any

    def __init__(self, host: str, connect_timeout: float, tls: ssl.SSLContext | None, name: str, **more: Any) -> None:
        super().__init__(host, connect_timeout=connect_timeout, **more)
        self._tls, self._name = tls, name
        self.out = bytearray()
        self._in = bytearray()
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
        for _ in range(4):
            try:
                data = self.sock.recv(_CHUNK)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            if not data:
                raise ConnectionResetError("the broker closed the connection")
            self._in += data
            if len(data) < _CHUNK and not isinstance(self.sock, ssl.SSLSocket):
                break
        self._cut()

    def _cut(self) -> None:
        data, at = self._in, 0
        with memoryview(data) as view:
            while len(data) - at >= 8:
                kind, channel, size = unpack_from(">BHI", data, at)
                if size > _LARGEST_FRAME:
                    raise UnexpectedFrame(f"a frame of {size} bytes")
                end = at + 7 + size
                if len(data) <= end:
                    break
                if data[end] != 0xCE:
                    raise UnexpectedFrame("a frame without its end")
                self.frames.append((kind, channel, bytes(view[at + 7 : end])))
                at = end + 1
        del data[:at]

    def next_frame(self) -> tuple[int, int, bytes]:
        """The next frame, waited for until the deadline. Raises TimeoutError."""
        while not self.frames:
            pending = not self.flush()
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the broker did not answer in time")
            wait = select.poll()
            wait.register(self.sock, select.POLLIN | (select.POLLOUT if pending else 0))
            wait.poll(left * 1000)
            self.fill()
        return self.frames.popleft()


class WireChannel(amqp.Channel):  # type: ignore[misc]  # py-amqp has no types
    """A channel that tells its owner when the broker closes it, instead of raising into whatever runs just now."""

    on_lost: Callable[[str], None] | None = None
    is_closing: bool

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
