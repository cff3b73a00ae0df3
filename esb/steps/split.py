"""``split``: one message for each item of a list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from esb.errors import Invalid, MessageError, Position, Violation
from esb.formats.unread import Unread
from esb.language import Expression
from esb.language.values import describe
from esb.message import Message
from esb.registry import step
from esb.spec import Node, Reader, option, part_of
from esb.steps.base import Block, Context, HandOff, StepNode
from esb.steps.items import BadItem, Most, Report, Sieve, in_short, report_of, too_many
from esb.steps.keys import key_text
from esb.steps.split_stream import MOST_BAD, begun, can_stream, same_count, stream_items
from esb.steps.unread import StreamContext
from esb.steps.validate import pointer_to


@dataclass(frozen=True, slots=True)
class ItemDedupe:
    """One effect per key and item."""

    key: Expression = option(doc="What identifies a repeat of an item.", example="body.serial", shorthand=True)
    window: timedelta = option(
        default=timedelta(days=7), doc="How long a key is remembered.", example="7d", positive=True
    )


@step("split", pattern="Splitter")
@dataclass(frozen=True, slots=True)
class Split:
    """Make a message of its own of each item of a list; the whole message goes on after the split as it was.

    The items of a payload that is held in memory are stored in one transaction with the end of the whole. Inside `steps`, `body` is the item,
    `meta.split.index` counts from 0 and `meta.split.count` is their number; `vars` and `headers` are those of the whole,
    so keep in `vars` what items need of it. Items run side by side, unless they share a `key` given here; each has retries
    and a dead letter of its own, so that an item that fails does not stop the others. Null is an empty list.
    Where `each` is a plain path, the list of a large `csv`, `fixed`, `jsonl`, `json`, `xml` or `idoc` payload is read item by item and
    stored in batches, and so are the messages of an `edifact` (`body.messages`) or `x12` one
    (`body.interchanges[].groups[].transactions[]`); after an interruption it goes on behind the last one.
    With `on_item_error: quarantine` the steps up to the first one that waits are tried on every item first. Those that fail
    for good are left out and reported: row, code, pointer and message beside the original columns, in the file that
    `failed: { report: errors.csv }` of a file source names, and in a message of the route that ends as done. Rows that the CSV
    format could not read, and messages of EDIFACT and X12 with a wrong count or reference of their own, are among them where this
    is the first step and `each` is the list of the format. What fails later, at a target, is a dead letter of its own as ever.
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
    on_item_error: Literal["fail", "quarantine"] = option(
        default="fail",
        doc="What an item that fails means: `fail` makes a dead letter of it; `quarantine` sets aside, before any item is"
        " born, those that their steps refuse up to the first one that sends, and reports them.",
        example="quarantine",
    )
    max_bad: Most | None = option(
        default=None,
        doc="With `quarantine`: where more items are bad (a share like `5%`, or a number) the whole is refused as `invalid`.",
        example="5%",
    )
    max_items: int = option(
        default=10_000,
        doc="A list longer than this is refused as `invalid`.",
        example=50_000,
        minimum=1,
        maximum=100_000_000,
    )

    def check(self, node: Node, reader: Reader) -> None:
        if not self.steps.nodes:
            reader.problem(
                "ESB201", "`split` has no steps", part_of(node, "steps"), hint="put at least one step under `steps`"
            )
        if self.max_bad is not None and self.on_item_error != "quarantine":
            hint = "write `on_item_error: quarantine` beside it"
            reader.problem("ESB115", "`max_bad` has no effect here", part_of(node, "max_bad"), hint=hint)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Every block of steps inside this step."""
        return (self.steps,)

    def own_blocks(self, id_: str, position: Position) -> tuple[Block, ...]:
        """The blocks that messages of this step run beside its items': the report of the bad ones."""
        if self.on_item_error != "quarantine":
            return ()
        place = f"{id_}/report"
        return (Block((StepNode(place, "report", Report(), position, waits=True),), place),)

    @property
    def apart(self) -> bool:
        """Tried items run every plain step, so that one which must not run on the loop takes the whole with it."""
        return self.on_item_error == "quarantine" and _apart(self.steps)

    def takes_unread(self, body: Unread) -> bool:
        """Whether the items can be read one by one."""
        return can_stream(self.each, body) and not self.apart

    async def stream(self, message: Message, context: StreamContext) -> Message:
        """The same as :meth:`apply` for a payload that is not read as a whole."""
        known = (context.recall(context.step) or {}).get("bad", ())
        sieve = self._sieve(message, context, known)

        def told(count: int) -> None:
            self._refuse(sieve.bad, count, message, context, Most(count=MOST_BAD))

        count = await stream_items(self.each, self.max_items, sieve, told, message, context)
        self._tell(sieve.bad, count, message, context)
        return message

    def apply(self, message: Message, context: Context) -> Message:
        items = self._items(message, context)
        count, sieve = len(items), self._sieve(message, context)
        before, at = begun(self.each, context)  # where the list was read piece by piece before
        if before is not None:
            same_count(count, before, at)
        context.note(items=count)
        found = [sieve.good(item, index, count) for index, item in enumerate(items)]
        self._refuse(sieve.bad, count, message, context)
        self._tell(sieve.bad, count, message, context)
        for handoff in found[at:]:
            if handoff is not None:
                context.emit(handoff)
        return message

    def _sieve(self, message: Message, context: Context, known: Iterable[Any] = ()) -> Sieve:
        place, meta = context.step, message.meta

        def make(item: Any, index: int, count: int) -> HandOff:
            child = message.derive(body=item, meta={**meta, "split": {"index": index, "count": count}})
            return self._handoff(child, f"{place}[{index}]", index, context)

        return Sieve(make, context, self.steps if self.on_item_error == "quarantine" else None, known)

    def _refuse(
        self, bad: list[BadItem], count: int, message: Message, context: Context, bound: Most | None = None
    ) -> None:
        """Raises Invalid where too many are bad, for `max_bad` or for a bound of ours; the report is born all the same."""
        for most in (self.max_bad, bound):
            if most is not None and not most.allows(len(bad), count):
                self._tell(bad, count, message, context, refused=True)
                raise too_many(bad, count, most, pointer_to(self.each.text))

    @staticmethod
    def _tell(bad: list[BadItem], count: int, message: Message, context: Context, *, refused: bool = False) -> None:
        """Have the report of the bad items born, where there are any."""
        if not bad:
            return
        context.note(bad=len(bad), report=in_short(bad))
        place = f"{context.step}/report"
        report = message.derive(body=report_of(bad, count, refused=refused))
        context.emit(HandOff("split", place, report, place, keep_key=False, even_if_dead=refused))

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


def _apart(block: Block) -> bool:
    inner = (getattr(node.step, "blocks", ()) for node in block.nodes)
    return any(node.apart for node in block.nodes) or any(_apart(one) for blocks in inner for one in blocks)
