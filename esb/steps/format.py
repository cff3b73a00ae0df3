"""``format``: a body becomes text or bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from esb.formats.base import CodecKind
from esb.language import Expression
from esb.message import Message
from esb.registry import step
from esb.spec import option
from esb.steps.base import Context
from esb.steps.codecs import gives_text


@step("format", pattern="Normalizer")
@dataclass(frozen=True, slots=True)
class Format:
    """Write the body, or a part, in a format; the result is the new body.

    The result is a text; with an `encoding` other than UTF-8, and for formats that are no text, it is bytes, which a
    target gets as they are. What the format cannot hold ends the message as `invalid`. With `into:` beside the step the
    body stays and the result goes there. A sink that has a `format` of its own needs no such step.
    `{ as: { csv: { delimiter: ";", encoding: cp1252 } }, from: body.rows }`
    """

    as_: Annotated[Any, CodecKind()] = option(
        doc="The format: `json`, `xml`, `csv`, `text`, or one with options.",
        example="xml",
        shorthand=True,
        aliases=("format", "codec", "with", "type"),
    )
    from_: Expression | None = option(
        default=None,
        doc="What to write; the body without it.",
        example="body.rows",
        aliases=("source", "path", "value", "body"),
    )

    def apply(self, message: Message, context: Context) -> Message:
        value = message.body if self.from_ is None else self.from_(context.scope(message))
        data: bytes = self.as_.encode(value)
        return message.derive(body=data.decode() if gives_text(self.as_) else data)
