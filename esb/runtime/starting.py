"""Starts worker processes beside the loop, which goes on meanwhile.

On Linux they are forked from a process that has loaded everything already (:mod:`esb.runtime.nursery`), which is itself started
with the first of them. Elsewhere each is a program of its own, started in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

if sys.platform == "win32":
    from asyncio.windows_utils import Popen
else:
    from subprocess import Popen

#: Between the bus and the process that forks: what, the number of the worker, the exit code.
RECORD = struct.Struct(">cIi")
#: Bytes of answers that wait to be read.
_LIMIT = 1 << 20
#: Seconds that the process that forks has to end by itself.
_PATIENCE = 5.0
#: Both give way to the loop from the start: what they must load first is most of what many tasks cost.
_NICE = "import os, sys; getattr(os, 'nice', abs)(10);"
_NURSERY = f"{_NICE} from esb.runtime.nursery import main; os._exit(main(int(sys.argv[1]), int(sys.argv[2])))"
_WORKER = f"{_NICE} from esb.runtime.worker import main; os._exit(main(int(sys.argv[1]), int(sys.argv[2])))"


@dataclass(frozen=True, slots=True, eq=False)
class Child:
    """A worker process: its streams, what kills it, and its exit code once it has ended."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    kill: Callable[[], None]
    ended: asyncio.Future[int]

    @property
    def code(self) -> int | None:
        """None while it lives."""
        return self.ended.result() if self.ended.done() else None


class Starter(Protocol):
    """How worker processes come to be."""

    async def start(self) -> Child:
        """A new process. Raises OSError where the system gives none."""
        ...

    async def rest(self) -> None:
        """Let go of what only helps to start more, unless a child needs it."""
        ...

    async def close(self) -> None:
        """Called when every child has ended."""
        ...


class Forks:
    """Implements :class:`Starter`: forked from one process, which is started again where it died."""

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._lock = asyncio.Lock()
        self._nursery: _Nursery | None = None

    async def start(self) -> Child:
        async with self._lock:
            if self._nursery is None or self._nursery.gone:
                await self.close()
                self._nursery = await _Nursery.open(self._memory)
            return await self._nursery.fork()

    async def rest(self) -> None:
        async with self._lock:
            if self._nursery is not None and not self._nursery.needed:
                await self.close()

    async def close(self) -> None:
        if self._nursery is not None:
            nursery, self._nursery = self._nursery, None
            await nursery.close()


class _Nursery:
    """The process that forks, seen from the bus."""

    def __init__(self, process: Popen[Any], control: socket.socket) -> None:
        self.gone = False
        self._process, self._control = process, control
        self._numbers = itertools.count(1)
        self._ends: dict[int, asyncio.Future[int]] = {}
        self._heard = b""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(control.fileno(), self._hear)

    @property
    def needed(self) -> bool:
        """Whether a worker of it lives, which would end with it."""
        return bool(self._ends)

    @classmethod
    async def open(cls, memory: int) -> _Nursery:
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            words = [sys.executable, "-c", _NURSERY, str(theirs.fileno()), str(memory)]
            begin = partial(Popen, words, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),))
            process = await asyncio.shield(asyncio.to_thread(begin))
        except BaseException:
            ours.close()  # whatever was started ends with it
            raise
        finally:
            theirs.close()
        return cls(process, ours)

    async def fork(self) -> Child:
        ours, theirs = socket.socketpair()
        number = next(self._numbers)
        ended = self._ends[number] = self._loop.create_future()
        try:
            with theirs:
                socket.send_fds(self._control, [RECORD.pack(b"s", number, 0)], [theirs.fileno()])
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_LIMIT)
        except BaseException:
            self._ends.pop(number, None)
            ours.close()
            raise
        return Child(reader, writer, partial(self._kill, number), ended)

    def _kill(self, number: int) -> None:
        if number in self._ends:
            with contextlib.suppress(ConnectionError):  # it died, and the worker with it
                self._control.send(RECORD.pack(b"k", number, 0))

    def _hear(self) -> None:
        try:
            data = self._control.recv(4096)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self._lost()
            return
        self._heard += data
        while len(self._heard) >= RECORD.size:
            _, number, code = RECORD.unpack(self._heard[: RECORD.size])
            self._heard = self._heard[RECORD.size :]
            self._end(number, code)

    def _end(self, number: int, code: int) -> None:
        ended = self._ends.pop(number, None)
        if ended is not None and not ended.done():
            ended.set_result(code)

    def _lost(self) -> None:
        """It is gone, and its workers die with it."""
        self.gone = True
        self._loop.remove_reader(self._control.fileno())
        for number in list(self._ends):
            self._end(number, -1)

    async def close(self) -> None:
        if not self.gone:
            self._lost()
        self._control.close()
        await asyncio.to_thread(_end, self._process)


class Spawns:
    """Implements :class:`Starter`: each worker is a program of its own, over its standard streams."""

    def __init__(self, memory: int) -> None:
        self._memory = memory

    async def start(self) -> Child:
        loop = asyncio.get_running_loop()
        words = [sys.executable, "-c", _WORKER, str(self._memory), str(os.getpid())]
        begin = partial(Popen, words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        process: Any = await asyncio.shield(asyncio.to_thread(begin))
        reader = asyncio.StreamReader(_LIMIT)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), process.stdout)
        transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, process.stdin)
        ended: asyncio.Future[int] = loop.create_future()
        threading.Thread(target=_wait, args=(process, loop, ended), daemon=True).start()
        return Child(reader, asyncio.StreamWriter(transport, protocol, reader, loop), process.kill, ended)

    async def rest(self) -> None:
        """There is nothing but the children."""

    async def close(self) -> None:
        """Nothing is left."""


def _end(process: Popen[Any]) -> None:
    """It ends with its stream; where it hangs, by force."""
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait(process: Any, loop: asyncio.AbstractEventLoop, ended: asyncio.Future[int]) -> None:
    code = process.wait()
    with contextlib.suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(ended.set_result, code)


def starter_of(memory: int) -> Starter:
    """What starts workers here; each may take ``memory`` bytes beside its start."""
    return Forks(memory) if sys.platform == "linux" else Spawns(memory)
