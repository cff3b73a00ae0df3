"""Every error of the bus, named for what the runtime will do with it.

::

    EsbError
    ├── ConfigError            invalid workspace; carries every Problem; never raised at message time
    ├── NotRunning             only a running bus can do this
    ├── StoreError             the store cannot take or give what was asked
    │   ├── KeyTaken           another message has the dedupe key
    │   ├── StoreBusy          temporary: try again (another process owns it, no space, over a limit)
    │   └── StoreCorrupt       permanent: needs a person
    └── MessageError           the fate of one message; ``error_class`` is the word that routes use in ``retry.for``
        ├── Invalid            contract or parse violation                     never retried
        ├── Unmapped           no row in a cross-reference table               never retried
        ├── Rejected           a target, or a ``reject`` step, said no for good  never retried
        ├── Timeout            the time of a step or a wait was up             retried
        ├── Unavailable        refused, 429, 5xx, lock, open circuit           retried
        └── InternalFault      fault in the route, such as a failing expression  never retried
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal

#: What a full disk, a used-up quota or a limit of the size of files says.
FULL = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})
#: The words of ``retry.for`` and ``on_error.for``.
ErrorClass = Literal[
    "invalid", "unmapped", "rejected", "timeout", "unavailable", "exhausted", "expired", "internal", "any"
]

ERROR_CLASSES: tuple[str, ...] = (
    "invalid",
    "unmapped",
    "rejected",
    "timeout",
    "unavailable",
    "exhausted",
    "expired",
    "internal",
    "any",
)


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file of the workspace. ``line`` and ``column`` count from 1; ``length`` is in characters."""

    path: str
    line: int = 1
    column: int = 1
    length: int = 1

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One diagnostic: what is wrong, where, and what to write instead.

    ``label`` stands under the caret; ``related`` names a second place when two files disagree.
    """

    code: str
    message: str
    position: Position
    hint: str = ""
    label: str = ""
    severity: Literal["error", "warning"] = "error"
    related: tuple[tuple[Position, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.position}: {self.code} {self.message}"


class EsbError(Exception):
    """Base of every error that the bus raises on purpose. ``hint`` says what to do next."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(EsbError):
    """The workspace is not valid. ``problems`` holds every fault found, never only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems) or "invalid configuration")
        self.problems = tuple(problems)


class Disabled(EsbError):
    """A route whose file says that it takes nothing in (``enabled: false``)."""


class NotRunning(EsbError):
    """Only a running bus can do what was asked."""


class StoreError(EsbError):
    """The store cannot take or give what was asked."""


class StoreBusy(StoreError):
    """Temporary: another process owns the store, the disk is full, or a limit is reached. Try again later."""

    def __init__(self, message: str, *, hint: str = "", retry_after: timedelta = timedelta(seconds=5)) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class KeyTaken(StoreError):
    """Another message has the dedupe key: its id, empty where retention removed it."""

    def __init__(self, first_id: str) -> None:
        super().__init__(f"message {first_id or 'that was removed since'} has its dedupe key")
        self.first_id = first_id


class StoreCorrupt(StoreError):
    """The store is damaged, or newer than this program; its files were not touched."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One fault in a payload: JSON pointer and what is wrong there."""

    pointer: str
    detail: str

    def as_dict(self) -> dict[str, str]:
        return {"pointer": self.pointer, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class BadRow:
    """One part of a delivery that could not be taken, for the people who sent it. ``row`` counts from 1; 0 means none.

    ``item`` is the part itself where it was read; its columns then stand in the report.
    """

    row: int
    reason: str
    pointer: str = ""
    original: str = ""
    code: str = ""
    item: Any = None


class MessageError(EsbError):
    """What befell one message. The runtime decides by ``error_class``; see SPEC "Error classes"."""

    error_class: ClassVar[str] = "internal"
    #: whether later messages of its key wait for a person where it is dead (``order: { on_dead: block }``)
    holds_lane: ClassVar[bool] = True
    #: the class under which an earlier attempt gave up already: `on_error` has its word at once
    gave_up: str = ""

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        violations: Sequence[Violation] = (),
        retry_after: timedelta | None = None,
        reply: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.violations = tuple(violations)
        self.retry_after = retry_after
        #: what the target answered, as in ``meta.reply``; empty where there was no answer
        self.reply = reply


class Invalid(MessageError):
    """The payload breaks its contract or cannot be parsed."""

    error_class = "invalid"


class Unmapped(MessageError):
    """A cross-reference table has no row for a value."""

    error_class = "unmapped"


class Rejected(MessageError):
    """The target (or a ``reject`` step) said no for good."""

    error_class = "rejected"


class Late(Rejected):
    """It came after its turn was given up: a dead letter that holds up nothing behind it."""

    holds_lane = False


class Timeout(MessageError):
    """The time of a step or of a wait was up; whether the target acted is unknown."""

    error_class = "timeout"


class Unavailable(MessageError):
    """The target cannot take the message now: refused, 429, 5xx, locked, circuit open."""

    error_class = "unavailable"
    #: when the message is dropped where the outage goes on (``when_down: { drop_after: … }``); until then it is tried
    dropped_at: datetime | None = None


class Overdue(MessageError):
    """What the message waited for did not come in time."""

    error_class = "expired"


class InternalFault(MessageError):
    """A fault in the route itself, such as an expression that fails on this message."""

    error_class = "internal"


#: What a note in the ledger that a step was given up is called, behind the name of the step.
GAVE_UP = "/gave-up"


def given_up(note: Mapping[str, str]) -> MessageError:
    """The error that a step was given up for, of ``class cause message hint``."""
    error = KINDS[note["cause"]](note["message"], hint=note["hint"])
    error.gave_up = note["class"]
    return error


#: The kinds of errors by the word that routes use.
KINDS: Mapping[str, type[MessageError]] = {
    kind.error_class: kind for kind in (Invalid, Unmapped, Rejected, Timeout, Unavailable, Overdue, InternalFault)
}


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """An error as it is stored, shown and answered: ``error{class,message,step,pointer,at}``.

    It has two addresses: ``pointer`` into the payload, ``at`` (``routes/x.yaml:12:5``) into the workspace.
    """

    error_class: str
    message: str
    step: str = ""
    pointer: str = ""
    hint: str = ""
    violations: tuple[Violation, ...] = field(default=())
    #: the dead letter group a route's ``on_error`` named, empty where none did
    dead_letter: str = ""
    at: str = ""

    def as_dict(self) -> dict[str, Any]:
        record: dict[str, Any] = {
            "class": self.error_class,
            "message": self.message,
            "step": self.step,
            "pointer": self.pointer,
        }
        if self.at:
            record["at"] = self.at
        if self.hint:
            record["hint"] = self.hint
        if self.violations:
            record["errors"] = [violation.as_dict() for violation in self.violations]
        if self.dead_letter:
            record["dead_letter"] = self.dead_letter
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> ErrorRecord:
        return cls(
            error_class=record["class"],
            message=record["message"],
            step=record.get("step", ""),
            pointer=record.get("pointer", ""),
            hint=record.get("hint", ""),
            violations=tuple(Violation(v["pointer"], v["detail"]) for v in record.get("errors", ())),
            dead_letter=record.get("dead_letter", ""),
            at=record.get("at", ""),
        )
