"""Requests at a fixed rate, from a client that does nothing else: one thread, plain sockets, exact waits.

A client on an event loop would measure itself: the timers of asyncio and of uvloop count whole milliseconds, which is as
much as the answer takes.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

from benchmarks import core

#: Seconds before a request is due in which the client does not sleep: that long a sleep may last too long.
_AWAKE = 0.00015
_HEAD = "POST {path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"


class Posted(NamedTuple):
    """``took``: seconds of each request from when it was due, so that a slow bus cannot slow down its own load.

    ``late``: of these, what the client itself was late with.
    """

    took: list[float]
    late: list[float]


def post(url: str, rate: float, requests: int) -> Posted:
    """Post that many bodies at ``rate`` a second; each must be answered with 202."""
    at, ready = urlsplit(url), _requests(url, requests)
    free: list[socket.socket] = []
    due_of: dict[socket.socket, float] = {}
    took, late = [], []
    start, sent = time.perf_counter() + 0.1, 0
    while len(took) < requests:
        due = start + sent / rate if sent < requests else float("inf")
        wait = due - time.perf_counter()
        if wait <= 0:
            connection = free.pop() if free else socket.create_connection((str(at.hostname), int(at.port or 80)))
            late.append(time.perf_counter() - due)
            connection.sendall(next(ready))
            due_of[connection] = due
            sent += 1
            continue
        until = None if sent == requests else max(0.0, wait - _AWAKE)
        for connection in select.select(list(due_of), [], [], until)[0]:
            answer = connection.recv(65_536)
            took.append(time.perf_counter() - due_of.pop(connection))
            assert answer[:12] == b"HTTP/1.1 202", answer
            free.append(connection)
    for connection in free:
        connection.close()
    return Posted(took, late)


def _requests(url: str, requests: int) -> Iterator[bytes]:
    """Made before the first one is due."""
    at, bodies = urlsplit(url), [core.payload(number) for number in range(requests)]
    return iter(
        [_HEAD.format(path=at.path, host=at.netloc, length=len(body)).encode() + body for body in bodies],
    )
