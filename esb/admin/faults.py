"""What an error of the bus is over HTTP: one table for the API and for the pages."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from esb.access.passwords import WeakPassword
from esb.access.people import BadName, Taken, UnknownPerson
from esb.access.requests import TooMany
from esb.access.roles import BadGrant
from esb.admin import wire
from esb.admin.actions import Forbidden
from esb.admin.sealing import CannotSign
from esb.admin.signing import NeedsProof, NeedsSignature, WrongSignature
from esb.errors import FULL, ConfigError, Disabled, EsbError, Invalid, NotRunning, StoreBusy, Violation
from esb.message import EMPTY
from esb.operations import NotAllowed, UnknownMessage
from esb.runtime.backfill import CannotFill
from esb.versions import UnknownVersion

_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
#: The first that fits counts.
_KNOWN: tuple[tuple[type[EsbError], int, str], ...] = (
    (StoreBusy, 503, "busy"),
    (wire.UnknownRoute, 404, "not-found"),
    (UnknownMessage, 404, "not-found"),
    (UnknownVersion, 404, "not-found"),
    (UnknownPerson, 404, "not-found"),
    (wire.BadRequest, 400, "bad-request"),
    (BadGrant, 400, "bad-request"),
    (BadName, 400, "bad-request"),
    (WeakPassword, 400, "weak-password"),
    (Forbidden, 403, "forbidden"),
    (NeedsProof, 403, "signature-elsewhere"),
    (NeedsSignature, 403, "signature-required"),
    (WrongSignature, 403, "signature-wrong"),
    (TooMany, 409, "not-allowed"),
    (Taken, 409, "conflict"),
    (Invalid, 422, "invalid"),
    (CannotFill, 409, "not-allowed"),
    (CannotSign, 409, "not-allowed"),
    (NotRunning, 503, "not-running"),
    (NotAllowed, 409, "not-allowed"),
    (Disabled, 409, "disabled"),
    (ConfigError, 409, "bad-configuration"),
    (EsbError, 500, "failed"),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """An answer that is an error: ``code`` is for programs, ``detail`` and ``hint`` for people."""

    status: int
    code: str
    detail: str
    hint: str = ""
    headers: Mapping[str, str] = field(default=EMPTY)
    violations: Sequence[Violation] = ()


def known(error: Exception) -> EsbError | None:
    """An error of ours, or one of the disk that whoever runs the bus can mend; None for a fault of the program."""
    if isinstance(error, EsbError):
        return error
    if isinstance(error, OSError) and error.filename:
        words = f"{os.fsdecode(error.filename)}: {error.strerror}"
        if error.errno in FULL:
            return StoreBusy(f"cannot write {words}", hint="make room, then try again")
        if error.errno in _REFUSED:
            return NotAllowed(words, hint="the user of the bus may not do that: look at owner, permissions and mount")
    return None


def fault_of(error: EsbError) -> Fault:
    status, code = next((status, code) for kind, status, code in _KNOWN if isinstance(error, kind))
    headers = {}
    if isinstance(error, StoreBusy):
        headers["Retry-After"] = str(max(1, int(error.retry_after.total_seconds())))
    violations = error.violations if isinstance(error, Invalid) else ()
    return Fault(status, code, str(error), error.hint, headers, violations)
