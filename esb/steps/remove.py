"""``remove``: take parts out of a message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from esb.formats.unread import OutlineCodec, Unread
from esb.message import Message
from esb.registry import step
from esb.spec import Node, Reader, option
from esb.steps.base import Context
from esb.steps.paths import Path, PathKind
from esb.steps.unread import StreamContext, to_end


@step("remove", pattern="Content Filter")
@dataclass(frozen=True, slots=True)
class Remove:
    """Take fields out of the body, headers or vars.

    What is not there is no fault. A name that meets a list is taken from every item of it, so that
    `body.items.price` and `body.items[].price` mean the same: what is to be removed is never left in.
    Without the messages of a large `edifact` or `x12` payload (`body.messages`), or without their segments, what is left is read
    without ever holding the whole: what an answer to the interchange needs, and with `into: vars.x` the sender for a `split` behind it.
    """

    paths: tuple[Annotated[Any, PathKind(nested=True)], ...] = option(
        doc="The places to take out.",
        example="[body.price, 'body.items[].cost', headers.authorization]",
        shorthand=True,
    )

    def check(self, node: Node, reader: Reader) -> None:
        if not self.paths:
            reader.problem("ESB102", "`remove` names nothing to remove", node, hint="write `remove: [body.x]`")

    @property
    def _of_body(self) -> frozenset[Path]:
        """What is taken out of the body: names below it."""
        return frozenset(path[1:] for path in self.paths if path[0] == "body")

    @property
    def cuts_body(self) -> bool:
        """Whether something of the body is taken out."""
        return bool(self._of_body)

    def takes_unread(self, body: Unread) -> bool:
        """Whether the body is left alone, or what is left of it can be had without reading it as a whole."""
        removed = self._of_body
        return not removed or (isinstance(body.codec, OutlineCodec) and body.codec.outlines(removed))

    async def stream(self, message: Message, context: StreamContext) -> Message:
        """The same as :meth:`apply` for a payload that is not read as a whole."""
        if removed := self._of_body:
            body = message.body
            assert isinstance(body, Unread)
            assert isinstance(body.codec, OutlineCodec)
            with body.blob.open() as source:
                message = message.derive(body=await to_end(body.codec.outline(source, removed)))
            context.note(streamed=True)
        return self.apply(message, context)

    def apply(self, message: Message, context: Context) -> Message:
        body, headers, vars_ = message.body, message.headers, message.vars
        for path in self.paths:
            match path[0]:
                case "body":
                    body = without(body, path, 1)
                case "headers":
                    headers = without(headers, path, 1)
                case _:
                    vars_ = without(vars_, path, 1)
        if body is message.body and headers is message.headers and vars_ is message.vars:
            return message
        return message.derive(body=body, headers=headers, vars=vars_)


def without(container: Any, path: Path, index: int) -> Any:
    """``container`` without what ``path[index:]`` names; the same object where there is nothing to take out."""
    if isinstance(container, list):
        items = [without(item, path, index) for item in container]
        return items if any(new is not old for new, old in zip(items, container, strict=True)) else container
    name = path[index]
    if not isinstance(container, Mapping) or name not in container:
        return container
    if index + 1 == len(path):
        return {other: value for other, value in container.items() if other != name}
    inner = without(container[name], path, index + 1)
    return container if inner is container[name] else {**container, name: inner}
