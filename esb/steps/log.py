"""``log``: a line in the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from esb.errors import MessageError
from esb.formats.unread import Unread
from esb.language import Expression, TextTemplate
from esb.message import EMPTY, Message
from esb.registry import step
from esb.spec import MapNode, Node, Reader, option
from esb.steps.base import Context
from esb.steps.unread import touches_body

#: longest text of a line or of one field, in characters
LONGEST = 2000
_TAKEN = frozenset({"text", "level", "event", "time", "route", "message", "step", "logger"})


@step("log")
@dataclass(frozen=True, slots=True)
class Log:
    """Write a line to the log of the bus; route, message id and step are added.

    A text or field that fails on a message is logged as such and never fails the message. Texts are cut at 2000
    characters; of more than 500 lines in a second the rest is only counted. Bodies may hold personal data: name the fields you need.
    `{ text: "lot {{ body.lot.id }} blocked", fields: { qty: body.qty }, level: warning }`
    """

    text: TextTemplate = option(
        doc="The line.", example="lot {{ body.lot.id }} blocked", shorthand=True, aliases=("message", "msg")
    )
    fields: Mapping[str, Expression] = option(
        default=EMPTY, doc="Values that stand beside the text.", example="{ qty: body.qty }", aliases=("values", "data")
    )
    level: Literal["debug", "info", "warning", "error"] = option(
        default="info", doc="How loud.", example="warning", aliases=("severity",)
    )

    def check(self, node: Node, reader: Reader) -> None:
        written = node.get("fields") if isinstance(node, MapNode) else None
        for name in self.fields:
            if name in _TAKEN:
                at = (written.key(name) if isinstance(written, MapNode) else None) or node
                reader.problem(
                    "ESB109", f"the field `{name}` is written by the bus", at, hint=f"call it `{name}_` or `my_{name}`"
                )

    def takes_unread(self, body: Unread) -> bool:
        """Whether the line says nothing of the body."""
        return not touches_body(self.text) and not any(touches_body(rule) for rule in self.fields.values())

    def apply(self, message: Message, context: Context) -> Message:
        scope = context.scope(message)
        try:
            text = self.text.render(scope)
        except MessageError as error:
            text = f"(this line failed: {error.message})"
        context.log(self.level, _cut(text), **{name: _field(value, scope) for name, value in self.fields.items()})
        return message


def _field(expression: Expression, scope: Mapping[str, Any]) -> Any:
    try:
        value = expression(scope)
    except MessageError as error:
        return f"(failed: {error.message})"
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, (Mapping, list)) and len(str(value)) <= LONGEST:
        return value
    return _cut(value if isinstance(value, str) else str(value))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
