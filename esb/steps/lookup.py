"""``lookup``: a value of a cross-reference table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from esb.errors import Invalid, Unmapped
from esb.language import Expression
from esb.language.values import describe
from esb.message import PARKED, Message
from esb.registry import step
from esb.spec import Node, Reader, option, part_of
from esb.steps.base import Context, TableRef, Wait, set_path
from esb.steps.paths import Path, PathKind, header_text


@step("lookup", pattern="Content Enricher")
@dataclass(frozen=True, slots=True)
class Lookup:
    """Find a value in a cross-reference table and keep it `into` a place of the message.

    A value without a row ends the message as `unmapped`, unless there is a `default`; with `missing: park` the message waits
    until the table has the row: a reload of the table lets those go on that have theirs now, in their order. It uses up no
    attempt, and later messages of the same key wait behind it. Null has no row, and never gets one.
    `{ table: plants, by: body.plant, into: vars.werks }`
    """

    table: TableRef = option(doc="The cross-reference table.", example="plants")
    by: Expression = option(
        doc="What to look up.", example="body.plant", aliases=("key", "value", "match", "lookup_key")
    )
    into: Annotated[Path, PathKind()] = option(
        doc="Where the found value goes.", example="vars.werks", aliases=("to", "target", "as")
    )
    column: str | None = option(
        default=None,
        doc="Column of the table, where it has several (without it: the first, or the whole row where there are more than two).",
        example="werks",
        aliases=("field", "return"),
    )
    reverse: bool = option(
        default=False, doc="Look for `by` in the column, and give what the table is keyed by.", example=True
    )
    on: Expression | None = option(
        default=None,
        doc="Date (or instant) on which a row must be valid, where the table has `valid_from` and `valid_to`; without it the day on"
        " which the message was accepted, in the time zone of its site or of the bus.",
        example="body.posting_date",
        aliases=("at", "date", "valid_on"),
    )
    missing: Literal["reject", "default", "park"] | None = option(
        default=None,
        doc="What a value without a row means: `reject` (class `unmapped`), `default` (if a `default` is given), or `park`.",
        example="park",
    )
    default: Expression | None = option(
        default=None, doc="The value where there is no row.", example="\"'UNKNOWN'\"", aliases=("fallback",)
    )

    def check(self, node: Node, reader: Reader) -> None:
        if self.missing == "default" and self.default is None:
            reader.problem(
                "ESB102",
                "`missing: default` needs a `default`",
                part_of(node, "missing"),
                hint="for example `default: \"'X'\"`",
            )
        if self.missing in ("reject", "park") and self.default is not None:
            reader.problem(
                "ESB107",
                f"`missing: {self.missing}` and `default` exclude each other",
                part_of(node, "missing"),
                hint="take one of them out",
            )

    @property
    def writes(self) -> tuple[Path, ...]:
        """The place that this step sets."""
        return (self.into,)

    def apply(self, message: Message, context: Context) -> Message:
        scope = context.scope(message)
        try:
            found = self._find(scope, context)
        except Unmapped:
            if self.default is None:
                raise
            found = self.default(scope)
            context.note(lookup="default")
        if self.into[0] == "headers":
            found = header_text(found, self.into[1])
        return set_path(message, self.into, found)

    def _find(self, scope: Mapping[str, Any], context: Context) -> Any:
        value = self.by(scope)
        if value is None or value == "":
            raise Unmapped(
                f"nothing to look up in `{self.table.name}`: `{self.by.text}` is {'null' if value is None else 'empty'}",
                hint="give a `default`, or guard the step with `if`",
            )
        if isinstance(value, (Mapping, list)):
            raise Invalid(f"`{self.by.text}` gives {describe(value)}; a table is asked for one value")
        if self.on is not None:
            on = day(self.on(scope), self.on.text)
        else:
            dated = getattr(self.table, "dated", False)
            on = context.accepted_at.astimezone(ZoneInfo(context.timezone)) if dated else None
        ask = self.table.reverse if self.reverse else self.table.find
        try:
            return ask(value, column=self.column, site=context.site, on=on)
        except Unmapped as error:
            if self.missing == "park":
                raise Wait(PARKED, error) from error
            raise


def day(value: Any, what: str) -> datetime | None:
    """A date or instant of ISO 8601 for a table; null is none. Raises Invalid for anything else."""
    if value is None or value == "":
        return None
    try:
        return value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise Invalid(
            f"`{what}` is {describe(value)}, not a date such as 2026-03-01",
            hint="bring it into form with `date_parse(text, format)`",
        ) from None
