"""Work of the loop that is done in a worker process instead: reading large payloads, and the plain steps of their messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from esb.blob import Blob
from esb.config.model import Limits, RouteSpec
from esb.endpoints.base import Incoming
from esb.errors import (
    KINDS,
    ErrorRecord,
    InternalFault,
    Invalid,
    MessageError,
    Violation,
)
from esb.message import Envelope, Message
from esb.pipeline import Elsewhere, Watch
from esb.runtime import parcels
from esb.runtime.births import Admission
from esb.runtime.workers import TRIES, Task, TooLong, Version, WorkerLost, Workers
from esb.steps.base import Block, Enter, HandOff, Stop, Wait
from esb.store.facts import Fact


class Ended(Exception):
    """The worker was ended in ``step`` (empty: while it read the payload), for ``error``."""

    def __init__(self, step: str, error: MessageError) -> None:
        super().__init__(f"{step}: {error}")
        self.step, self.error = step, error


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of some steps of a message, and what they said on the way."""

    elsewhere: Elsewhere
    size: int
    trace: list[dict[str, Any]]
    logs: list[Any]
    remembered: Mapping[str, Any]
    response: list[Any] | None
    handoffs: list[HandOff]
    wait: Wait | None


@dataclass(frozen=True, slots=True)
class Away:
    """The workers as one version of a workspace uses them; ``watch`` interrupts what stays on the loop."""

    workers: Workers
    watch: Watch
    version: Version
    limits: Limits

    def is_heavy(self, size: int) -> bool:
        return size > self.limits.inline

    # -- tasks --------------------------------------------------------------------------------------------------------
    async def admit(self, spec: RouteSpec, incoming: Incoming, now: datetime) -> Admission:
        """Read a payload and apply the rules of the route to it.

        Raises Invalid where the source refuses it, and where a limit was met.
        """
        head = {"do": "admit", "route": spec.name, "now": now.isoformat(), "contract": incoming.contract is not None}
        value = {
            "payload": incoming.payload,
            "blob": blob_out(incoming.blob),
            "content_type": incoming.content_type,
            "headers": incoming.headers,
            "meta": incoming.meta,
            "correlation_id": incoming.correlation_id,
            "on_invalid": incoming.on_invalid,
        }
        try:
            answer, _ = await self._run(spec, None, head, value)
        except Ended as ended:
            raise Invalid(ended.error.message, hint=ended.error.hint) from None
        if "refused" in answer:
            raise error_in(answer["refused"])
        dedupe, error = answer["dedupe"], answer["error"]
        return Admission(
            key=answer["key"],
            track=answer["track"],
            overtakes=answer["overtakes"],
            dedupe=(dedupe[0], datetime.fromisoformat(dedupe[1])) if dedupe is not None else None,
            error=ErrorRecord.from_dict(error) if error is not None else None,
            facts=tuple(Fact(**{**fact, "elements": tuple(fact["elements"])}) for fact in answer["facts"]),
        )

    async def steps(self, spec: RouteSpec, block: Block, head: Mapping[str, Any], value: Mapping[str, Any]) -> Ran:
        """Run plain steps. Raises MessageError where the payload cannot be read, and Ended where a limit was met."""
        answer, size = await self._run(
            spec, block, {"do": "steps", "route": spec.name, "block": block.id, **head}, value
        )
        if "unread" in answer:
            raise error_in(answer["unread"])
        wait = _wait_in(answer) if "wait" in answer else None
        message = parcels.to_message(answer["message"]) if wait is None else Message(None)
        done = None if wait is not None else answer["answer"]
        return Ran(
            elsewhere=Elsewhere(answer.get("place", 0), message, _answer_in(done, spec)),
            size=size,
            trace=[_entry_in(entry) for entry in answer["trace"]],
            logs=answer["logs"],
            remembered=answer["remembered"],
            response=answer["response"],
            handoffs=[_handoff_in(plain) for plain in answer["handoffs"]],
            wait=wait,
        )

    async def _run(self, spec: RouteSpec, block: Block | None, head: Mapping[str, Any], value: Any) -> tuple[Any, int]:
        limits = (
            {node.id: node.timeout for node in block.nodes if node.timeout is not None} if block is not None else {}
        )

        def limit(step: str) -> float:
            return limits.get(step, self.limits.transform).total_seconds()

        try:
            return await self.workers.run(Task(spec.name, self.version, head, value, limit))
        except TooLong as late:
            raise Ended(late.step, self._too_long(late)) from None
        except WorkerLost as lost:
            raise Ended(lost.step, self._lost(lost)) from None

    def _too_long(self, late: TooLong) -> MessageError:
        if not late.step:
            return Invalid(
                f"the payload takes longer than {late.limit:g} s to read",
                hint="send it in smaller parts, or raise `limits: { transform: … }` in esb.yaml",
            )
        return InternalFault(
            f"step `{late.step}` took longer than {late.limit:g} s",
            hint="make it do less (a `split` into smaller messages, no loop in a loop), or give it a `timeout`",
        )

    def _lost(self, lost: WorkerLost) -> MessageError:
        where = f"step `{lost.step}`" if lost.step else "reading the payload"
        if not lost.memory:
            return InternalFault(
                f"{where} ended its worker process {TRIES} times",
                hint="look for what ends a process: own code that exits or crashes, or a system short of memory",
            )
        return InternalFault(
            f"{where} needs more than {self.limits.transform_memory} bytes of memory",
            hint="make it do less (a `split` into smaller messages), or raise `limits: { transform_memory: … }` in esb.yaml",
        )


def blob_out(blob: Blob | None) -> list[Any] | None:
    """A payload file as a worker is told of it: it reads the file itself."""
    return None if blob is None else [blob.sha256, blob.size, str(blob.file)]


def envelope_out(envelope: Envelope) -> dict[str, Any]:
    """What the first message is made of."""
    return {
        "id": envelope.id,
        "route": envelope.route,
        "body": envelope.body,
        "content": envelope.content,
        "blob": blob_out(envelope.blob),
        "accepted_at": envelope.accepted_at.isoformat(),
        "version": envelope.version,
        "key": envelope.key,
        "correlation_id": envelope.correlation_id,
        "headers": envelope.headers,
        "vars": envelope.vars,
        "meta": envelope.meta,
    }


def error_in(plain: Mapping[str, Any]) -> MessageError:
    """An error as it was raised in a worker."""
    after = plain["retry_after"]
    return KINDS[plain["class"]](
        plain["message"],
        hint=plain["hint"],
        violations=[Violation(pointer, detail) for pointer, detail in plain["violations"]],
        retry_after=timedelta(seconds=float(after)) if after is not None else None,
        reply=plain["reply"],
    )


def _wait_in(plain: Mapping[str, Any]) -> Wait:
    reason = plain["reason"]
    return Wait(datetime.fromisoformat(plain["wait"]), error_in(reason) if reason is not None else None)


def _entry_in(plain: Mapping[str, Any]) -> dict[str, Any]:
    return {name: float(value) if isinstance(value, Decimal) else value for name, value in plain.items()}


def _answer_in(plain: Mapping[str, Any] | None, spec: RouteSpec) -> Enter | Stop | MessageError | None:
    if plain is None:
        return None
    if "enter" in plain:
        return Enter(spec.blocks[plain["enter"]], parcels.to_message(plain["message"]))
    return Stop(plain["stop"]) if "stop" in plain else error_in(plain["error"])


def _handoff_in(plain: Mapping[str, Any]) -> HandOff:
    window = plain["dedupe_window"]
    return HandOff(
        **{
            **plain,
            "message": parcels.to_message(plain["message"]),
            "dedupe_window": timedelta(seconds=float(window)) if window is not None else None,
        }
    )
