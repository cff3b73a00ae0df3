"""``validate``: a contract inside a route."""

from __future__ import annotations

import re
from dataclasses import dataclass

from esb.errors import Invalid, Violation
from esb.formats.faults import pointer
from esb.language import Expression
from esb.message import Message
from esb.registry import step
from esb.spec import option
from esb.steps.base import Context, ContractRef

_PART = re.compile(r'body(?:\.(?:[A-Za-z_]\w*|"[^"]+")|\[\d+\])*')
_NAMES = re.compile(r'\.(?:([A-Za-z_]\w*)|"([^"]+)")|\[(\d+)\]')


@step("validate")
@dataclass(frozen=True, slots=True)
class Validate:
    """Check the body, or a part of it, against a contract.

    Every violation is reported, with a JSON pointer into the body (of more than 50 the first and their number, in a
    body of more than 10 000 values the first alone); the message ends as a dead letter of class `invalid`
    and is never retried. The message itself is not changed. A part that is missing is checked as null.
    """

    contract: ContractRef = option(
        doc="Name (`nonconformance.v1`) or file of the contract.", example="nonconformance.v1", shorthand=True
    )
    as_: Expression | None = option(
        default=None,
        doc="The part to check; the body without it.",
        example="body.lot",
        aliases=("part", "path", "value"),
    )

    def apply(self, message: Message, context: Context) -> Message:
        if self.as_ is None:
            self.contract.check(message.body)
            return message
        try:
            self.contract.check(self.as_(context.scope(message)))
        except Invalid as error:
            raise self._placed(error, self.as_.text) from error
        return message

    @staticmethod
    def _placed(error: Invalid, part: str) -> Invalid:
        """The same error with its pointers counted from the body, or with the part named where it is not in the body."""
        prefix = pointer_to(part)
        violations = [
            Violation(prefix + v.pointer, v.detail)
            if prefix is not None
            else Violation(v.pointer, f"{v.detail} (in `{part}`)")
            for v in error.violations
        ]
        return Invalid(f"{error.message} (in `{part}`)", hint=error.hint, violations=violations)


def pointer_to(part: str) -> str | None:
    """The JSON pointer of a plain path into the body (``body.lines[0]`` is ``/lines/0``), None for any other expression."""
    if not _PART.fullmatch(part.strip()):
        return None
    return pointer(name or quoted or index for name, quoted, index in _NAMES.findall(part))
