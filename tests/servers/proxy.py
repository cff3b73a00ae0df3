"""A TCP proxy in front of a real server, for outages that are over at once: down, up, frozen, cut."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress

from tests.servers.require import free_port


class Proxy:
    """Forwards bytes both ways, in one thread, while it is up. The port stays the same over outages."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._lock = threading.Lock()
        self._listening = False
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._frozen = False
        self._ended = False
        self._asked, self._answered, self._passes = b"", b"", 0
        # bound to a port by its number: only then it stays ours while nobody listens
        self.port = free_port()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self.up()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def up(self) -> None:
        """Listen (again)."""
        with self._lock:
            self._listener.listen()
            self._listening = True

    def down(self) -> None:
        """Nobody listens, and every connection is reset."""
        with self._lock:
            self._listening = False
            self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()

    def cut(self) -> None:
        """Reset every connection; new ones are taken."""
        with self._lock:
            for end in self._pairs:
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                end.close()
            self._pairs.clear()

    def freeze(self) -> None:
        """Take connections and bytes, and pass nothing on."""
        self._frozen = True

    def swallow(self, asked: bytes, answered: bytes, *, nth: int = 1) -> None:
        """Pass on what holds ``asked``; once the ``nth`` of these is answered, cut the connection: nobody hears the answer."""
        self._asked, self._answered, self._passes = asked, answered, nth

    def thaw(self) -> None:
        self._frozen = False

    def close(self) -> None:
        self._ended = True
        self._thread.join(10)
        self.cut()
        self._listener.close()

    def _run(self) -> None:
        while not self._ended:
            with self._lock:
                ears = [] if self._frozen else list(self._pairs)
                if self._listening:
                    ears.append(self._listener)
            try:
                ready, _, _ = select.select(ears, [], [], 0.02)
            except (OSError, ValueError):
                continue  # closed meanwhile
            for end in ready:
                with self._lock, suppress(OSError, ValueError):
                    self._serve(end)

    def _serve(self, end: socket.socket) -> None:
        if end is self._listener:
            client, _ = end.accept()
            server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            self._pairs |= {client: server, server: client}
        elif end in self._pairs and not self._frozen:
            self._pass_on(end)

    def _swallow(self, end: socket.socket) -> None:
        answer = b""
        while self._answered not in answer and (more := self._pairs[end].recv(65_536)):
            answer += more
        other = self._pairs.pop(end)
        self._pairs.pop(other, None)
        for one in (end, other):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            one.close()

    def _pass_on(self, end: socket.socket) -> None:
        try:
            data = end.recv(65_536)
            if data:
                self._pairs[end].sendall(data)
                if self._passes and self._asked in data:
                    self._passes -= 1
                    if not self._passes:
                        self._swallow(end)
                return
        except OSError:
            pass
        other = self._pairs.pop(end)
        self._pairs.pop(other, None)
        end.close()
        other.close()
