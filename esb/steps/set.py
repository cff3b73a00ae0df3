"""``set``: single values of vars, headers and body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from esb.formats.unread import Unread
from esb.language import Expression
from esb.language.base import ExpressionKind
from esb.message import Message
from esb.registry import step
from esb.spec import MISSING, Kind, MapNode, Node, Reader, option
from esb.steps.base import Context, put_in
from esb.steps.paths import Path, PathKind, header_text
from esb.steps.unread import touches_body

_EXPRESSION = ExpressionKind()
_PATH = PathKind()


class AssignmentsKind(Kind):
    """A mapping of places to expressions."""

    label = "a mapping of `vars.x`, `headers.x` or `body.x` to expressions"

    def read(self, node: Node, reader: Reader) -> Any:
        if not isinstance(node, MapNode):
            return reader.wrong_type(node, self, hint="write `vars.x: expression`")
        if not node.entries:
            return reader.problem("ESB102", "`set` names nothing to set", node, hint="write `vars.x: expression`")
        found = []
        for key, value in node.entries:
            path = _PATH.parse(key.text, key, reader)
            with reader.inside(key.text):
                expression = _EXPRESSION.read(value, reader)
            found.append(MISSING if path is MISSING or expression is MISSING else (path, expression))
        return reader.unless_missing(Assignments(tuple(found)), found)

    def schema(self) -> dict[str, Any]:
        return {"type": "object", "propertyNames": _PATH.schema(), "additionalProperties": {"type": "string"}}


@dataclass(frozen=True, slots=True)
class Assignments:
    """Places and the expressions for them, in the order of the file."""

    kind = AssignmentsKind()
    entries: tuple[tuple[Path, Expression], ...]


@step("set", pattern="Content Enricher")
@dataclass(frozen=True, slots=True)
class Set:
    """Set single values of `vars`, `headers` and `body`; everything else stays.

    The lines are done from top to bottom and each sees what the ones before it set. Objects on the way to
    `body.x.y` are made where they are missing. A header is text; null takes the header away.
    `{ vars.total: "sum(body.lines[].qty)", body.checked_by: meta.route, headers.x-plant: site.plant }`
    """

    values: Assignments = option(
        doc="`vars.x`, `headers.x`, `body` or `body.x.y`: expression.",
        example="{ vars.decision: \"'R'\", body.plant: site.plant }",
        rest=True,
        shorthand=True,
    )

    @property
    def writes(self) -> tuple[Path, ...]:
        """The places that this step sets."""
        return tuple(path for path, _ in self.values.entries)

    def takes_unread(self, body: Unread) -> bool:
        """Whether the body is neither read nor written."""
        return not any(path[0] == "body" or touches_body(expression) for path, expression in self.values.entries)

    def apply(self, message: Message, context: Context) -> Message:
        scope = dict(context.scope(message))
        for path, expression in self.values.entries:
            value = expression(scope)
            root = path[0]
            if root == "vars" and len(path) == 2:
                scope["vars"] = {**scope["vars"], path[1]: value}
            elif root == "headers":
                scope["headers"] = _with_header(scope["headers"], path[1], value)
            else:
                scope[root] = put_in(scope[root], path, 1, value) if len(path) > 1 else value
        return message.derive(body=scope["body"], headers=scope["headers"], vars=scope["vars"])


def _with_header(headers: Any, name: str, value: Any) -> dict[str, Any]:
    text = header_text(value, name)
    if text is None:
        return {other: kept for other, kept in headers.items() if other != name}
    return {**headers, name: text}
