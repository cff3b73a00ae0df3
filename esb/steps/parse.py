"""``parse``: text or bytes inside a message become a body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from esb.errors import Invalid
from esb.formats.base import CodecKind
from esb.language import Expression
from esb.language.values import describe
from esb.message import Message
from esb.registry import step
from esb.spec import option
from esb.steps.base import Context
from esb.steps.codecs import decode_from_text


@step("parse", pattern="Normalizer")
@dataclass(frozen=True, slots=True)
class Parse:
    """Read a text, or raw bytes, in a format; the result is the new body.

    Text and bytes that are not in the format end the message as `invalid`, with the place of the fault. With `into:` beside
    the step the body stays and the result goes there.
    `{ as: { csv: { delimiter: ";" } }, from: body.attachment }`
    """

    as_: Annotated[Any, CodecKind()] = option(
        doc="The format: `json`, `xml`, `csv`, `text`, or one with options.",
        example='{ csv: { delimiter: ";" } }',
        shorthand=True,
        aliases=("format", "codec", "with", "type"),
    )
    from_: Expression | None = option(
        default=None,
        doc="The text to read; the body without it.",
        example="body.attachment",
        aliases=("source", "path", "value", "body"),
    )

    @property
    def apart(self) -> bool:
        """Whether the format is never read on the loop."""
        return bool(getattr(self.as_, "apart", False))

    def apply(self, message: Message, context: Context) -> Message:
        data = message.body if self.from_ is None else self.from_(context.scope(message))
        if isinstance(data, bytes):
            return message.derive(body=self.as_.decode(data))
        if isinstance(data, str):
            return message.derive(body=decode_from_text(self.as_, data))
        where = "the body" if self.from_ is None else f"`{self.from_.text}`"
        raise Invalid(
            f"nothing to parse: {where} is {describe(data)}, not a text",
            hint="a source that has read the format already needs no `parse`"
            if isinstance(data, (dict, list))
            else "guard the step with `if` where the text may be missing",
        )
