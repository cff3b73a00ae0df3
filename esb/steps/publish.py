"""``publish``: hand the message to a topic of the bus."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from esb.language import Expression, TextTemplate
from esb.message import EMPTY, Message
from esb.registry import step
from esb.spec import Kind, Node, Reader, ScalarNode, option
from esb.steps.base import Context, HandOff
from esb.steps.headers import check_names, render_headers

_TOPIC = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*")


class TopicKind(Kind):
    """A fixed topic name; lint pairs it with the routes that read it."""

    label = "the name of a topic"

    def read(self, node: Node, reader: Reader) -> Any:
        if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
            return reader.wrong_type(node, self)
        if "{{" in node.value or "{%" in node.value:
            return reader.problem(
                "ESB110",
                "a topic is a fixed name, not a template",
                node,
                hint="use `choose` to publish to one topic or another, and put what differs into the message",
            )
        if not _TOPIC.fullmatch(node.value):
            return reader.problem(
                "ESB110",
                f"`{node.value}` is no name for a topic",
                node,
                hint="use small letters, digits, `-` and `.`, such as `quality.lot-blocked`",
            )
        return node.value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{_TOPIC.pattern}$"}


@step("publish", pattern="Publish-Subscribe Channel")
@dataclass(frozen=True, slots=True)
class Publish:
    """Hand the message to every route that reads a topic (`from: { topic: … }`), and go on.

    Each of them gets a message of its own, stored in one transaction with the end of this one: all or none, and nothing
    where this one fails. They run by their own `key`, retries and dead letters. `vars` stay here; body and headers go along.
    `{ topic: quality.lot-blocked, body: "{ lot: body.lot.id }" }`
    """

    topic: Annotated[str, TopicKind()] = option(
        doc="The topic.", example="quality.lot-blocked", shorthand=True, aliases=("to", "channel", "subject", "name")
    )
    body: Expression | None = option(
        default=None, doc="What to publish; the body without it.", example="body.lot", aliases=("payload", "message")
    )
    headers: Mapping[str, TextTemplate] = option(
        default=EMPTY, doc="Headers to add.", example='{ x-plant: "{{ site.plant }}" }'
    )

    def check(self, node: Node, reader: Reader) -> None:
        check_names(self.headers, node, reader)

    def apply(self, message: Message, context: Context) -> Message:
        published = message.derive(vars=EMPTY)
        if self.body is not None or self.headers:
            scope = context.scope(message)
            if self.body is not None:
                published = published.derive(body=self.body(scope))
            if self.headers:
                added = {name.lower(): text for name, text in render_headers(self.headers, scope).items()}
                published = published.derive(headers={**message.headers, **added})
        context.emit(HandOff("topic", self.topic, published, context.step, keep_key=False))
        return message
