"""``respond``: the answer of a synchronous source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from esb.errors import InternalFault
from esb.language import Expression, TextTemplate
from esb.language.values import describe
from esb.message import EMPTY, Message
from esb.registry import step
from esb.spec import Node, Reader, option, part_of
from esb.steps.base import Context
from esb.steps.headers import check_names, render_headers


@step("respond", pattern="Request-Reply")
@dataclass(frozen=True, slots=True)
class Respond:
    """Set what the caller of a synchronous source (`reply: delivered`) is answered when the message is done; go on.

    The last one that ran counts. It is sent only once the message is done; a message that fails is answered by
    `on_error` or as a fault. Sources that do not wait take no notice of it.
    `{ status: 201, headers: { Location: "/orders/{{ body.no }}" }, body: "{ no: body.no }" }`
    """

    status: int | Expression = option(
        default=200,
        doc="HTTP status, 200 to 599, or an expression for it.",
        example=201,
        aliases=("code", "status_code"),
    )
    headers: Mapping[str, TextTemplate] = option(
        default=EMPTY, doc="Headers of the answer.", example='{ Location: "/orders/{{ body.no }}" }'
    )
    body: Expression | None = option(
        default=None,
        doc="Body of the answer; the message's body without it. Null is an empty answer.",
        example='"{ no: body.no }"',
        aliases=("payload", "data"),
    )

    def check(self, node: Node, reader: Reader) -> None:
        if isinstance(self.status, int) and not 200 <= self.status <= 599:
            reader.problem("ESB106", f"`status` must be 200 to 599, not {self.status}", part_of(node, "status"))
        check_names(self.headers, node, reader)

    def apply(self, message: Message, context: Context) -> Message:
        scope = context.scope(message)
        body = message.body if self.body is None else self.body(scope)
        context.respond(self._status(scope), render_headers(self.headers, scope), body)
        return message

    def _status(self, scope: Mapping[str, object]) -> int:
        if isinstance(self.status, int):
            return self.status
        value = self.status(scope)
        if isinstance(value, bool) or not isinstance(value, int) or not 200 <= value <= 599:
            raise InternalFault(f"`status: {self.status.text}` gives {describe(value)}, not a status from 200 to 599")
        return value
