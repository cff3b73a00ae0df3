"""``transform``: a new body from a file of the workspace or from an inline text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from esb.errors import InternalFault, Invalid
from esb.formats.base import CodecKind
from esb.formats.json import Json
from esb.language import Expression, TextTemplate
from esb.message import Message
from esb.registry import step
from esb.spec import Node, Reader, option, part_of
from esb.steps.base import Context, TransformRef
from esb.steps.codecs import decode_from_text

_JSON = Json()


@step("transform", pattern="Message Translator")
@dataclass(frozen=True, slots=True)
class Transform:
    """Make a new body with a transform file (`x.jmes`, `x.j2`), an expression or a template.

    The text that a template gives is read in its `format` before it becomes the body, so that a template that makes
    broken JSON or XML is found here (class `internal`) and not by the target; with `format: text` it stays as it is.
    Values go into JSON with `{{ value | tojson }}`, into XML with `{{ value | e }}`.
    """

    file: TransformRef | None = option(
        default=None, doc="A transform file.", example="transforms/inspection_lot.jmes", shorthand=True
    )
    jmespath: Expression | None = option(
        default=None, doc="An expression that gives the body.", example='"body.lines[].{ pos: line, qty: menge }"'
    )
    jinja: TextTemplate | None = option(
        default=None, doc="A template whose text gives the body.", example="'{ \"lot\": {{ body.lot | tojson }} }'"
    )
    format: Annotated[Any, CodecKind()] = option(
        default=None,
        doc="How the text of `jinja` is read: `json` (if nothing is said), `xml`, `text` or another format.",
        example="json",
    )

    def check(self, node: Node, reader: Reader) -> None:
        ways = [name for name in ("file", "jmespath", "jinja") if getattr(self, name) is not None]
        if len(ways) != 1:
            said = "none" if not ways else " and ".join(f"`{name}`" for name in ways)
            reader.problem(
                "ESB107",
                f"`transform` needs exactly one of a file, `jmespath` and `jinja`, not {said}",
                node,
                hint="write `transform: transforms/x.jmes`, `{ jmespath: … }` or `{ jinja: …, format: json }`",
            )
        elif self.format is not None and self.jinja is None:
            reader.problem(
                "ESB107", "`format` goes with `jinja` only", part_of(node, "format"), hint="take `format` out"
            )

    def apply(self, message: Message, context: Context) -> Message:
        scope = context.scope(message)
        if self.jmespath is not None:
            return message.derive(body=self.jmespath(scope))
        if self.jinja is not None:
            return message.derive(body=self._read(self.jinja.render(scope)))
        assert self.file is not None  # `check` has seen to it
        return message.derive(body=self.file.apply(scope))

    def _read(self, text: str) -> Any:
        try:
            return decode_from_text(self.format or _JSON, text)
        except Invalid as error:
            raise InternalFault(
                f"the template gave a text that cannot be read: {error}",
                hint="put values into JSON with `| tojson`, into XML with `| e`; or say `format: text`",
            ) from error
