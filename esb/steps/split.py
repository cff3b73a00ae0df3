"""``split``: one message for each item of a list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal

from esb.errors import Invalid, MessageError, Violation
from esb.language import Expression
from esb.language.values import describe
from esb.message import Message
from esb.registry import step
from esb.spec import Node, Reader, option, part_of
from esb.steps.base import Block, Context, HandOff
from esb.steps.choices import SoonKind
from esb.steps.keys import key_text

_ON_ITEM_ERROR = SoonKind(
    ("fail",), {"quarantine": "take it out: an item that fails is a dead letter of its own, and the others go on"}
)


@dataclass(frozen=True, slots=True)
class ItemDedupe:
    """One effect per key and item."""

    key: Expression = option(doc="What identifies a repeat of an item.", example="body.serial", shorthand=True)
    window: timedelta = option(default=timedelta(days=7), doc="How long a key is remembered.", example="7d")


@step("split", pattern="Splitter")
@dataclass(frozen=True, slots=True)
class Split:
    """Make a message of its own of each item of a list; the whole message goes on after the split as it was.

    The items are stored in one transaction with the end of the whole: all or none. Inside `steps`, `body` is the item,
    `meta.split.index` counts from 0 and `meta.split.count` is their number; `vars` and `headers` are those of the whole,
    so keep in `vars` what items need of it. Items run side by side, unless they share a `key` given here; each has retries
    and a dead letter of its own, so that an item that fails does not stop the others. Null is an empty list.
    `{ each: body.lines, key: body.line_id, steps: [ { to: erp.line } ] }`
    """

    each: Expression = option(doc="The list.", example="body.lines", aliases=("list", "items", "on", "foreach", "by"))
    steps: Block = option(doc="What is done with each item.", aliases=("do", "pipeline"))
    key: Expression | None = option(
        default=None, doc="Ordering lane of an item; without it items have none.", example="body.line_id"
    )
    dedupe: ItemDedupe | None = option(
        default=None,
        doc="An item with a key that was seen in this split before is a duplicate.",
        example="body.line_id",
    )
    on_item_error: Annotated[Literal["fail"], _ON_ITEM_ERROR] = option(
        default="fail",
        doc="What an item that fails means: `fail` makes a dead letter of it, and the others go on.",
        example="fail",
    )

    max_items: int = option(
        default=10_000,
        doc="A list longer than this is refused as `invalid`: all its items are stored in one transaction.",
        example=50_000,
        minimum=1,
        maximum=1_000_000,
    )

    def check(self, node: Node, reader: Reader) -> None:
        if not self.steps.nodes:
            reader.problem(
                "ESB201", "`split` has no steps", part_of(node, "steps"), hint="put at least one step under `steps`"
            )

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Every block of steps inside this step."""
        return (self.steps,)

    def apply(self, message: Message, context: Context) -> Message:
        items = self._items(message, context)
        context.note(items=len(items))
        meta, count, place = message.meta, len(items), context.step
        for index, item in enumerate(items):
            split = {"index": index, "count": count}
            child = message.derive(body=item, meta={**meta, "split": split})
            context.emit(self._handoff(child, f"{place}[{index}]", index, context))
        return message

    def _items(self, message: Message, context: Context) -> list[Any]:
        items = self.each(context.scope(message))
        if items is None:
            return []
        if isinstance(items, list) and len(items) > self.max_items:
            raise Invalid(
                f"`each: {self.each.text}` gives {len(items)} items, more than {self.max_items}",
                hint="cut the payload into smaller ones, or raise `max_items`",
            )
        if not isinstance(items, list):
            hint = f"for its values write `values({self.each.text})`" if isinstance(items, Mapping) else ""
            raise Invalid(f"`each: {self.each.text}` gives {describe(items)}, not a list", hint=hint)
        return items

    def _handoff(self, child: Message, place: str, index: int, context: Context) -> HandOff:
        key = dedupe = window = None
        try:
            if self.key is not None:
                key = key_text(self.key(context.scope(child)), "split.key")
            if self.dedupe is not None:
                dedupe = key_text(self.dedupe.key(context.scope(child)), "split.dedupe")
                window = self.dedupe.window
        except Invalid as error:
            violations = error.violations or (Violation("", f"item {index}: {error.message}"),)
            raise Invalid(f"item {index}: {error.message}", hint=error.hint, violations=violations) from error
        except MessageError:
            context.note(item=index)
            raise
        return HandOff(
            kind="split",
            target=self.steps.id,
            message=child,
            place=place,
            key=key,
            keep_key=False,
            dedupe=dedupe,
            dedupe_window=window,
        )
