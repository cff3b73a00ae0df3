"""Places in the code where a test may kill, fail or delay the process: ``ESB_FAILPOINTS="name=kill|error|sleep:SECONDS[@n]"``.

Honoured only where ``ESB_TEST=1``; otherwise :func:`hit` is one attribute check. Several are separated by ``,``;
``@n`` means the n-th pass only (from 1), without it every pass.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import signal
import time
from collections.abc import Awaitable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

_SYNTAX = re.compile(
    r"(?P<name>[a-z0-9_.-]+)=(?:(?P<what>kill|error)|sleep:(?P<seconds>\d+(?:\.\d+)?))(?:@(?P<nth>\d+))?"
)


class FailpointError(OSError):
    """The fault that ``name=error`` plants; an I/O error to everybody who does not know better."""

    def __init__(self, name: str) -> None:
        super().__init__(errno.EIO, f"failpoint {name}")


@dataclass(slots=True)
class Failpoint:
    """One planted fault. ``nth`` 0 means every pass."""

    name: str
    action: Literal["kill", "error", "sleep"]
    seconds: float = 0.0
    nth: int = 0
    passes: int = field(default=0)

    def due(self) -> bool:
        """Count a pass; True if this is the one."""
        self.passes += 1
        return self.nth in (0, self.passes)


class Failpoints:
    """The faults of one process."""

    __slots__ = ("_points", "active")

    def __init__(self, points: Mapping[str, Failpoint]) -> None:
        self._points = dict(points)
        self.active = bool(points)

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Failpoints:
        """What the environment asks for. Raises ValueError where it asks for something that does not exist."""
        text = environment.get("ESB_FAILPOINTS", "")
        if environment.get("ESB_TEST") != "1" or not text:
            return cls({})
        points = [parse_failpoint(part) for part in text.split(",") if part.strip()]
        return cls({point.name: point for point in points})

    def hit(self, name: str) -> None:
        """Pass a place: may kill the process, raise :class:`FailpointError` or block for a while."""
        if (seconds := self._act(name)) > 0:
            time.sleep(seconds)

    async def pause(self, name: str) -> None:
        """The same for a coroutine; a delay does not block the loop."""
        if (seconds := self._act(name)) > 0:
            await asyncio.sleep(seconds)

    def delays(self, name: str) -> bool:
        """Whether a pass waits."""
        return name in self._points and self._points[name].action == "sleep"

    def _act(self, name: str) -> float:
        point = self._points.get(name)
        if point is None or not point.due():
            return 0.0
        if point.action == "kill":
            kill_self()
        if point.action == "error":
            raise FailpointError(name)
        return point.seconds


def parse_failpoint(text: str) -> Failpoint:
    """Read ``name=sleep:0.5@3``. Raises ValueError."""
    match = _SYNTAX.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"ESB_FAILPOINTS: {text!r} is not `name=kill|error|sleep:SECONDS[@n]`")
    nth = int(match["nth"] or 0)
    if match["what"] == "kill":
        return Failpoint(match["name"], "kill", nth=nth)
    if match["what"] == "error":
        return Failpoint(match["name"], "error", nth=nth)
    return Failpoint(match["name"], "sleep", float(match["seconds"]), nth)


def kill_self() -> None:
    """Die as in a power cut: no handler, no flush, no farewell."""
    if hasattr(signal, "SIGKILL"):
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)  # the signal is on its way; nothing after this line may run
    os._exit(137)


_PROCESS = Failpoints.read(os.environ)


def hit(name: str) -> None:
    """A place where a test may kill, fail or delay the process."""
    if _PROCESS.active:
        _PROCESS.hit(name)


def delays(name: str) -> bool:
    """Whether this place must be passed by a coroutine, as a test wants to wait there."""
    return _PROCESS.active and _PROCESS.delays(name)


def pause(name: str) -> Awaitable[None]:
    """As :func:`hit`, for coroutines."""
    return _PROCESS.pause(name) if _PROCESS.active else _NOTHING


class _Nothing:
    """What is awaited where nothing is planted: without a coroutine, as every message comes past."""

    def __await__(self) -> Generator[Any, Any, None]:
        return iter(())  # type: ignore[return-value]  # as much of a generator as `await` asks for


_NOTHING = _Nothing()
