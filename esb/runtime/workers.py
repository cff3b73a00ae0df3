"""The worker processes of a bus: few, started when the first task comes, killed when one takes too long or too much.

No route gets more than half of them, so that one whose messages all take their whole time leaves room for the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import signal
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from esb.errors import InternalFault
from esb.runtime import parcels
from esb.runtime.starting import Child, Starter, starter_of

#: Seconds for a worker to start and to read the workspace.
START = 60.0
#: Times a task may end its worker before its message is dead.
TRIES = 3
#: Seconds that a worker whose pipe is closed has until it is killed.
LAST_WORDS = 2.0
#: Exit code of a worker that ran out of memory.
NO_MEMORY = 71
#: Versions of the workspace that a worker keeps.
KEPT = 4
#: Seconds after which a worker without a task is ended.
IDLE = 120.0
#: A worker that is kept from the processors has this many times its limit at most; what it is granted less than this share
#: of the limit at a time is not worth another wait.
STARVED, WORTH = 10, 0.02


class WorkerLost(Exception):
    """The worker ended in ``step`` of its task; ``memory``: because it had no more."""

    def __init__(self, step: str) -> None:
        super().__init__(step)
        self.step = step
        self.memory = False


class TooLong(Exception):
    """The worker was killed in ``step`` (empty: while it read the payload) after ``limit`` seconds."""

    def __init__(self, step: str, limit: float) -> None:
        super().__init__(f"{step or 'reading the payload'}: longer than {limit:g} s")
        self.step, self.limit = step, limit


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the workspace, as workers are told of it."""

    root: Path
    texts: Mapping[str, str]
    name: str

    @classmethod
    def of(cls, root: Path, texts: Mapping[str, str]) -> Version:
        found = hashlib.sha256()
        for path, text in sorted(texts.items()):
            found.update(f"{path}\0{text}\0".encode("utf-8", "surrogatepass"))
        return cls(root, texts, found.hexdigest())


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker is to do: ``value`` is packed for every try; ``limit`` gives the seconds for a step."""

    route: str
    version: Version
    head: Mapping[str, Any]
    value: Any
    limit: Callable[[str], float]


@dataclass(slots=True, eq=False)
class _Process:
    """A live worker, seen from the bus."""

    child: Child
    versions: list[str] = field(default_factory=list)
    reaper: asyncio.TimerHandle | None = None
    lost: bool = False
    pid: int = 0
    _length: int | None = None  #: of the frame that has begun

    # -- tasks --------------------------------------------------------------------------------------------------------
    async def run(self, task: Task) -> tuple[Any, int]:
        step, limit, size, kept = "", task.limit(""), 0, kept_waiting(self.pid)
        try:
            await self._send({**task.head, "version": task.version.name}, task.value)
            unpacker = parcels.Unpacker()
            while frame := await self._within(limit, kept):
                if frame[:1] == b"s":
                    step = frame[1:].decode()
                    limit, kept = task.limit(step), kept_waiting(self.pid)
                else:
                    size += len(frame)
                    unpacker.add(frame[1:])
                    await asyncio.sleep(0)  # the loop belongs to the others, too
        except TimeoutError:
            raise TooLong(step, limit) from None
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            self.lost = True
            raise WorkerLost(step) from error
        return unpacker.value, size

    async def know(self, version: Version) -> None:
        """See to it that the worker has read this version."""
        if version.name in self.versions:
            return
        try:
            if len(self.versions) >= KEPT:
                await self._send({"do": "forget", "version": self.versions.pop(0)}, None)
            await self._send({"do": "load", "version": version.name, "root": str(version.root)}, dict(version.texts))
            await self._frame(START)
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError) as error:
            raise InternalFault(
                "a worker process cannot read this workspace",
                hint="the log of the bus says what it wrote before it ended",
            ) from error
        self.versions.append(version.name)

    async def ready(self) -> None:
        (self.pid,) = struct.unpack(">xI", await self._frame(START))

    # -- frames -------------------------------------------------------------------------------------------------------
    async def _send(self, head: Mapping[str, Any], value: Any) -> None:
        pipe = self.child.writer
        async with asyncio.timeout(START):
            pipe.write(_framed(json.dumps(head).encode()))
            for piece in parcels.pack(value):
                pipe.write(_framed(piece))
                await pipe.drain()
                await asyncio.sleep(0)
            pipe.write(_framed(b""))
            await pipe.drain()

    async def _within(self, limit: float, kept: float) -> bytes:
        """The next frame within ``limit`` seconds, not counting those for which the worker waited for a processor since ``kept``.

        Workers give way to the bus: on a busy machine, a step that is only kept from computing is not to blame.
        """
        more, spent = limit, 0.0
        while True:
            try:
                return await self._frame(more)
            except TimeoutError:
                spent += more
                more = min(limit + kept_waiting(self.pid) - kept, STARVED * limit) - spent
                if more < WORTH * limit:
                    raise

    async def _frame(self, limit: float) -> bytes:
        """Nothing is lost where it does not come in time: another call goes on."""
        stream = self.child.reader
        async with asyncio.timeout(limit):
            if self._length is None:
                (self._length,) = struct.unpack(">I", await stream.readexactly(4))
            content = await stream.readexactly(self._length)
        self._length = None
        return content

    # -- the end ------------------------------------------------------------------------------------------------------
    async def end(self) -> None:
        if self.reaper is not None:
            self.reaper.cancel()
        if self.lost:  # it is about to end by itself, and its exit code says why
            await asyncio.wait([self.child.ended], timeout=LAST_WORDS)
        with contextlib.suppress(ProcessLookupError):
            self.child.kill()
        await asyncio.wait([self.child.ended])
        self.child.writer.close()


def kept_waiting(pid: int) -> float:
    """Seconds for which a process was able to compute and had no processor; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_bytes().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def _framed(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


class Workers:
    """The pool. ``run`` gives what a task answers; its faults are InternalFault, TooLong and WorkerLost."""

    def __init__(self, size: int, memory: int, log: Callable[..., None], starter: Starter | None = None) -> None:
        self._size, self._log = size, log
        self._starter = starter or starter_of(memory)
        self._slots = asyncio.Semaphore(size)
        self._shares: dict[str, asyncio.Semaphore] = {}
        self._idle: list[_Process] = []
        self._all: set[_Process] = set()
        self._ending: set[asyncio.Task[None]] = set()

    async def run(self, task: Task) -> tuple[Any, int]:
        """What the worker answers, and its size in bytes. A task that ends its worker again and again raises WorkerLost after TRIES times."""
        share = self._shares.setdefault(task.route, asyncio.Semaphore(max(1, self._size // 2)))
        async with share, self._slots:
            for attempt in range(1, TRIES + 1):
                try:
                    async with self._worker(task.version) as worker:
                        return await worker.run(task)
                except WorkerLost as lost:
                    self._log("warning", "worker.lost", route=task.route, step=lost.step, attempt=attempt)
                    if lost.memory or attempt == TRIES:
                        raise
                except TooLong as late:
                    self._log("warning", "worker.killed", route=task.route, step=late.step, seconds=late.limit)
                    raise
        raise AssertionError  # pragma: no cover - the loop returns or raises

    @asynccontextmanager
    async def _worker(self, version: Version) -> AsyncIterator[_Process]:
        """A worker that knows ``version``; whatever goes wrong with it, it is ended."""
        worker = self._take(version) or await self._start()
        try:
            await worker.know(version)
            yield worker
        except BaseException as error:
            self._all.discard(worker)
            await asyncio.shield(worker.end())
            if isinstance(error, WorkerLost):
                # a library in C or Rust that gets no memory ends its process
                error.memory = worker.child.code in (NO_MEMORY, -signal.SIGABRT)
            raise
        worker.reaper = asyncio.get_running_loop().call_later(IDLE, self._retire, worker)
        self._idle.append(worker)

    def _take(self, version: Version) -> _Process | None:
        """An idle worker, best one that knows the version already."""
        self._idle.sort(key=lambda worker: version.name in worker.versions)
        while self._idle:
            worker = self._idle.pop()
            if worker.reaper is not None:
                worker.reaper.cancel()
            if worker.child.code is None:
                return worker
            self._all.discard(worker)
            worker.child.writer.close()
        return None

    async def _start(self) -> _Process:
        try:
            worker = _Process(await self._starter.start())
        except OSError as error:
            raise InternalFault("a worker process did not start", hint=error.strerror or "") from error
        self._all.add(worker)
        try:
            await worker.ready()
        except BaseException as error:
            self._all.discard(worker)
            await asyncio.shield(worker.end())
            if isinstance(error, (TimeoutError, ConnectionError, asyncio.IncompleteReadError)):
                raise InternalFault("a worker process did not start", hint="the log of the bus says why") from error
            raise
        return worker

    def _retire(self, worker: _Process) -> None:
        if worker in self._idle:
            self._idle.remove(worker)
            self._all.discard(worker)
            ending = asyncio.ensure_future(self._end_idle(worker))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    async def _end_idle(self, worker: _Process) -> None:
        await worker.end()
        await self._starter.rest()

    async def close(self) -> None:
        """End every worker, whatever it does."""
        for worker in list(self._all):
            await worker.end()
        self._all.clear()
        self._idle.clear()
        if self._ending:
            await asyncio.wait(self._ending)
        await self._starter.close()
