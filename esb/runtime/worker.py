"""The worker process: runs the plain steps of large or slow messages, one after the other, beside the bus.

It speaks over one stream: frames of bytes with their length before them, an empty one ends what belongs together.
It holds no connection and no store, and it dies with its bus. It may be killed at any moment: nothing that it does has an
effect outside of it.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from esb.blob import Blob
from esb.clock import Clock, Deadlines, SystemClock
from esb.config.loader import read_workspace
from esb.config.model import RouteSpec, Workspace
from esb.durations import Rate
from esb.endpoints.base import Incoming
from esb.errors import Invalid, MessageError
from esb.message import Envelope, Message
from esb.observe.indicators import Observer
from esb.pipeline import Elsewhere, Watch, run_plain
from esb.runtime import parcels
from esb.runtime.births import Births
from esb.runtime.payload import decode_body, message_of, observe
from esb.runtime.sending import shown
from esb.runtime.workers import NO_MEMORY
from esb.steps.base import Block, Enter, HandOff, StepNode, Stop, Wait, WhenDown


@dataclass(slots=True)
class RecordedRun:
    """Implements :class:`esb.pipeline.Run` for plain steps: keeps what they say, for the bus to do."""

    route: str
    message_id: str
    attempt: int
    accepted_at: datetime
    site: Mapping[str, Any]
    ledger: dict[str, Any]
    tell: Callable[[str], None]
    timezone: str = "UTC"
    clock: Clock = field(default_factory=SystemClock)
    unread: bool = False
    heavy: bool = False
    watch: Watch | None = None
    step: str = ""
    timeout: float = 0.0
    step_limit: float = 0.0
    deadlines: Deadlines = field(default_factory=Deadlines)
    when_down: WhenDown | None = None
    retried: bool = False
    handoffs: list[HandOff] = field(default_factory=list)
    trace: list[dict[str, Any]] = field(default_factory=list)
    logs: list[list[Any]] = field(default_factory=list)
    remembered: dict[str, Any] = field(default_factory=dict)
    response: list[Any] | None = None
    aside: Any = None  #: only a step that waits may put something aside
    _zero: float = field(default_factory=time.monotonic)
    _began: float = 0.0

    def scope(self, message: Message) -> dict[str, Any]:
        return message.scope(self.site)

    def emit(self, handoff: HandOff) -> None:
        self.handoffs.append(handoff)

    def note(self, **facts: Any) -> None:
        self.trace[-1].update(facts)

    def log(self, level: str, text: str, **fields: Any) -> None:
        self.logs.append([level, text, self.step, fields])

    def respond(self, status: int, headers: Mapping[str, str], body: Any) -> None:
        self.response = [status, headers, body]
        self.note(response=shown(status, headers, body))

    def recall(self, step: str) -> Any:
        return self.ledger.get(step)

    def remember(self, step: str, value: Any) -> None:
        self.ledger[step] = self.remembered[step] = value

    def begin(self, node: StepNode) -> None:
        self.tell(node.id)
        self.step, self._began = node.id, time.monotonic()
        self.trace.append({"step": node.id, "at": round((self._began - self._zero) * 1000, 3)})

    def end(self, note: str = "", error: MessageError | None = None) -> None:
        self.trace[-1]["ms"] = round((time.monotonic() - self._began) * 1000, 3)
        if note:
            self.trace[-1]["note"] = note
        if error is not None:
            self.trace[-1]["error"] = f"{error.error_class}: {error.message[:500]}"

    async def may_wait(self) -> None:
        raise NotImplementedError("a step that waits does not run here")

    def stand_in(self, block: Block) -> None:
        raise NotImplementedError("only a step that waits has a fallback")

    def name_of(self, node: StepNode, instead_of: str = "") -> str:
        return node.id

    def undo(self) -> None:
        raise NotImplementedError("nothing is interrupted here")

    async def elsewhere(self, block: Block, place: int, message: Message, *, single: bool = False) -> Elsewhere:
        raise NotImplementedError("a worker has no workers")

    async def claim(self, key: str, window: timedelta) -> bool:
        raise NotImplementedError("only a step that waits may claim a key")

    def peers(self) -> Sequence[Message]:
        raise NotImplementedError("only a step that waits may gather")

    async def absorb(self, count: int, message: Message) -> bool:
        raise NotImplementedError("only a step that waits may gather")

    async def turn(self, rate: Rate) -> None:
        raise NotImplementedError("only a step that waits may be throttled")

    async def deliver(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("only a step that waits may send")

    ask = copy = within = report = hand_on = compensable = in_line = deliver


# -- the tasks ----------------------------------------------------------------------------------------------------------


def run_steps(workspace: Workspace, task: Mapping[str, Any], value: Any, tell: Callable[[str], None]) -> dict[str, Any]:
    """Run the plain steps of a block from a place on; what they left, said and made."""
    spec = workspace.routes[task["route"]]
    block = spec.blocks[task["block"]]
    run = RecordedRun(
        route=spec.name,
        message_id=task["message_id"],
        attempt=task["attempt"],
        accepted_at=datetime.fromisoformat(task["accepted_at"]),
        site=spec.site_values(workspace.settings.site),
        timezone=spec.zone_name(workspace.settings.timezone),
        ledger=value["ledger"],
        tell=tell,
    )
    if "envelope" in value:
        tell("")
        try:
            message = _first(spec, workspace, value["envelope"], task["attempt"])
        except MessageError as error:
            return {"unread": error_out(error)}
        if "message" in value:  # steps that left the body unread have been before
            message = parcels.to_message({**value["message"], "body": message.body})
    else:
        message = parcels.to_message(value["message"])
    place = task["place"]
    answer: Enter | Stop | MessageError | None = None
    last = place + 1 if task["single"] else len(block.nodes)
    try:
        while place < last and not block.nodes[place].waits:
            said = run_plain(block.nodes[place], message, run)
            if isinstance(said, MessageError) and _out_of_memory(said):
                raise MemoryError
            if not isinstance(said, Message):
                answer = said
                break
            message = said
            place += 1
    except Wait as wait:
        reason = error_out(wait.reason) if wait.reason is not None else None
        return {**_said(run), "wait": wait.until.isoformat(), "reason": reason}
    return {**_said(run), "place": place, "message": parcels.of_message(message), "answer": _answer_out(answer)}


def admit(workspace: Workspace, task: Mapping[str, Any], value: Any, tell: Callable[[str], None]) -> dict[str, Any]:
    """Read a payload that is about to be accepted: what is wrong with it, or its key, dedupe and tracked values."""
    tell("")
    spec = workspace.routes[task["route"]]
    observer = Observer()
    observe(observer, workspace)
    births = Births(workspace.registry, workspace.settings.site, observer=observer)
    incoming = _incoming(spec, task["contract"], value)
    try:
        birth = births.of_incoming(spec, incoming, datetime.fromisoformat(task["now"]))
    except Invalid as error:
        return {"refused": error_out(error)}
    envelope = birth.new.envelope
    dedupe = birth.new.dedupe
    return {
        "key": envelope.key,
        "track": dict(envelope.track),
        "overtakes": envelope.overtakes,
        "dedupe": [dedupe.key, dedupe.expires_at.isoformat()] if dedupe is not None else None,
        "error": birth.new.error.as_dict() if birth.new.error is not None else None,
        "facts": [asdict(fact) for fact in birth.new.facts],
    }


def _out_of_memory(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, MemoryError):
        error = error.__cause__ or error.__context__
    return error is not None


def _first(spec: RouteSpec, workspace: Workspace, plain: Mapping[str, Any], attempt: int) -> Message:
    accepted_at, blob = datetime.fromisoformat(plain["accepted_at"]), _blob_in(plain["blob"])
    envelope = Envelope(**{**plain, "accepted_at": accepted_at, "blob": blob})
    return message_of(envelope, decode_body(envelope, spec, workspace.registry), attempt)


def _blob_in(plain: Sequence[Any] | None) -> Blob | None:
    return None if plain is None else Blob(plain[0], int(plain[1]), Path(plain[2]))


def _incoming(spec: RouteSpec, contract: bool, plain: Mapping[str, Any]) -> Incoming:
    return Incoming(
        payload=plain["payload"],
        blob=_blob_in(plain["blob"]),
        content_type=plain["content_type"],
        headers=plain["headers"],
        meta=plain["meta"],
        contract=spec.source.options.contract if contract else None,
        correlation_id=plain["correlation_id"],
        on_invalid=plain["on_invalid"],
    )


# -- what is said about them --------------------------------------------------------------------------------------------


def error_out(error: MessageError) -> dict[str, Any]:
    return {
        "class": error.error_class,
        "message": error.message,
        "hint": error.hint,
        "violations": [[violation.pointer, violation.detail] for violation in error.violations],
        "retry_after": error.retry_after.total_seconds() if error.retry_after is not None else None,
        "reply": error.reply,
    }


def _said(run: RecordedRun) -> dict[str, Any]:
    return {
        "trace": run.trace,
        "logs": run.logs,
        "remembered": run.remembered,
        "response": run.response,
        "handoffs": [_handoff_out(handoff) for handoff in run.handoffs],
    }


def _handoff_out(handoff: HandOff) -> dict[str, Any]:
    window = handoff.dedupe_window
    return {
        "kind": handoff.kind,
        "target": handoff.target,
        "message": parcels.of_message(handoff.message),
        "place": handoff.place,
        "key": handoff.key,
        "keep_key": handoff.keep_key,
        "dedupe": handoff.dedupe,
        "dedupe_window": window.total_seconds() if window is not None else None,
        "even_if_dead": handoff.even_if_dead,
    }


def _answer_out(answer: Enter | Stop | MessageError | None) -> dict[str, Any] | None:
    match answer:
        case None:
            return None
        case Enter():
            return {"enter": answer.block.id, "message": parcels.of_message(answer.message)}
        case Stop():
            return {"stop": answer.reason}
        case _:
            return {"error": error_out(answer)}


# -- the process --------------------------------------------------------------------------------------------------------

TASKS: Mapping[str, Callable[..., dict[str, Any]]] = {"steps": run_steps, "admit": admit}


@dataclass(slots=True)
class Worker:
    """Reads tasks and answers them until its bus closes the pipe."""

    source: BinaryIO
    sink: BinaryIO
    memory: int
    workspaces: dict[str, Workspace] = field(default_factory=dict)

    def serve(self) -> None:
        self._frame(b"r" + struct.pack(">I", os.getpid()))
        while (head := self._read()) is not None:
            task = json.loads(head)
            value = self._value()
            if task["do"] == "load":
                self._load(task, value)
            elif task["do"] == "forget":
                self.workspaces.pop(task["version"], None)
            else:
                self._answer(TASKS[task["do"]](self.workspaces[task["version"]], task, value, self._tell))

    def _load(self, task: Mapping[str, Any], texts: Mapping[str, str]) -> None:
        loaded = read_workspace(Path(task["root"]), need_secrets=False, texts=texts)
        if loaded.workspace is None:
            raise SystemExit("\n".join(str(problem) for problem in loaded.errors))
        self.workspaces[task["version"]] = loaded.workspace
        limit_memory(self.memory)
        self._frame(b"r")

    def _answer(self, value: Mapping[str, Any]) -> None:
        for piece in parcels.pack(value):
            self._frame(b"p" + piece)
        self._frame(b"")

    def _tell(self, step: str) -> None:
        self._frame(b"s" + step.encode())

    # -- frames -------------------------------------------------------------------------------------------------------
    def _frame(self, content: bytes) -> None:
        self.sink.write(struct.pack(">I", len(content)) + content)
        self.sink.flush()

    def _read(self) -> bytes | None:
        """The next frame; None where the bus has closed the pipe. Raises ConnectionError where it died in the middle of one."""
        length = self.source.read(4)
        if len(length) < 4:
            return None
        (size,) = struct.unpack(">I", length)
        content = self.source.read(size)
        if len(content) < size:
            raise ConnectionResetError
        return content

    def _value(self) -> Any:
        """The value of a task, which ends with an empty frame: what was cut off is none to work on."""
        unpacker = parcels.Unpacker()
        while piece := self._read():
            unpacker.add(piece)
        if piece is None:
            raise ConnectionResetError
        return unpacker.value


def limit_memory(more: int) -> None:
    """Let this process take ``more`` bytes than it has now. Linux alone enforces it."""
    if sys.platform != "linux":
        return
    import resource  # noqa: PLC0415 - there is none on Windows

    with Path("/proc/self/statm").open() as statm:
        now = int(statm.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = now + more if hard == resource.RLIM_INFINITY else min(now + more, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    # without memory there is none for a trace either: a library in Rust would hang in it instead of ending
    os.environ["RUST_BACKTRACE"] = "0"


def _die_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(0)


def work(source: BinaryIO, sink: BinaryIO, memory: int, parent: int) -> int:
    """Serve until the bus closes the stream or ``parent`` is gone; the exit code."""
    if sys.platform != "win32":
        threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    try:
        Worker(source, sink, memory).serve()
    except MemoryError:
        return NO_MEMORY
    except OSError as error:
        if not isinstance(error, ConnectionError) and error.errno != errno.EINVAL:  # so says Windows of such a pipe
            raise
        with suppress(OSError):
            sink.close()  # what it still holds has nobody to read it
    return 0


def main(memory: int, parent: int) -> int:
    """Serve as a program of its own. The standard streams are the protocol's alone: what a step prints goes to stderr."""
    # Ctrl-C (and Ctrl-Break of Windows) reaches the bus, which ends its workers when it has drained
    for name in filter(None, (signal.SIGINT, getattr(signal, "SIGBREAK", None))):
        signal.signal(name, signal.SIG_IGN)
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return work(sys.stdin.buffer, sink, memory, parent)
