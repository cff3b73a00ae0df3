"""``split`` over a large payload: its items one by one from the file, handed on in batches, with durable progress."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, BinaryIO

from esb.errors import InternalFault, Invalid
from esb.formats.unread import StreamingCodec, Unread
from esb.language import Expression
from esb.message import Message
from esb.steps.base import Context, HandOff
from esb.steps.items import Sieve
from esb.steps.unread import StreamContext

#: Items that are stored together.
BATCH = 50
#: Bad items beyond which the whole is refused, whatever `max_bad` allows: they are held in memory for their report.
MOST_BAD = 10_000
#: Behind the step's id: where the next batch begins.
NEXT = "/next"
#: Seconds of the loop that are used at a time before others have their turn.
SLICE = 0.002
_PATH = re.compile(r"body((?:\.[A-Za-z_][A-Za-z0-9_]*(?:\[\])?)*)")


def path_of(each: Expression) -> tuple[str, ...] | None:
    """Where the list stands in the body (``body.order.lines``, ``body.messages[].items[]``); None for an expression that is more."""
    found = _PATH.fullmatch(each.text.strip())
    return tuple(found[1].split(".")[1:]) if found is not None else None


def can_stream(each: Expression, body: Unread) -> bool:
    path = path_of(each)
    return path is not None and isinstance(body.codec, StreamingCodec) and body.codec.streams(path)


async def stream_items(
    each: Expression,
    most: int,
    sieve: Sieve,
    counted: Callable[[int], None],
    message: Message,
    context: StreamContext,
) -> int:
    """Hand on every good item; gives the number of all.

    The payload is read twice: to its end before anything is handed on, so that a broken one has no effect (Invalid), and
    then in batches. ``counted`` hears of the number between the two, and may raise. After an interruption the second
    reading goes on behind the last batch that was stored. Raises InternalFault where the list is another one by then.
    """
    body, path = message.body, path_of(each)
    assert isinstance(body, Unread)
    assert isinstance(body.codec, StreamingCodec)
    assert path is not None
    count, at = begun(each, context)
    with body.blob.open() as source:
        if count is None:
            count = await _counted(body.codec.items(source, path), each, most, sieve)
            counted(count)
            source.seek(0)
            await context.hand_on((), {"count": count, "bad": sorted(sieve.indexes), "each": each.text})
        context.note(items=count, streamed=True)
        await _handed_on(source, body.codec, path, (count, at), sieve, context)
    return count


def begun(each: Expression, context: Context) -> tuple[int | None, int]:
    """How many items the list has, None where it was not read yet, and where those begin that are not born.

    Raises InternalFault where it was another list: what is next would count the items of that one.
    """
    known, at = context.recall(context.step), int(context.recall(context.step + NEXT) or 0)
    if known is None:
        return None, 0
    before = known.get("each", each.text)
    if at and before != each.text:
        raise _another(f"`each: {each.text}` was `{before}`", at, int(known["count"]))
    return int(known["count"]), at


def born_of(ledger: Mapping[str, Any]) -> int:
    """How many items of a payload are messages of their own already, by what is kept of it."""
    return sum(int(at or 0) for name, at in ledger.items() if name.endswith(NEXT))


def same_count(count: int, begun_with: int, at: int) -> None:
    """Raise InternalFault where a list of which some items were born has another number of items than before."""
    if at and count != begun_with:
        raise _another(f"its list has {count} items now", at, begun_with)


def _another(what: str, at: int, count: int) -> InternalFault:
    return InternalFault(
        f"{at} of {count} items were born by another version of the route; {what}",
        hint="put the list and the format back and retry it; `esb replay` begins anew, under the same delivery ids",
    )


async def _counted(items: Iterator[Any], each: Expression, most: int, sieve: Sieve) -> int:
    """The number of items, each of which is well-formed and has a key where one is wanted, or is known to be bad."""
    count = 0
    async for index, item in paced(items):
        if index >= most:
            raise Invalid(
                f"`each: {each.text}` gives more than {most} items",
                hint="cut the payload into smaller ones, or raise `max_items`",
            )
        sieve.good(item, index, 0)
        count = index + 1
        if len(sieve.indexes) > MOST_BAD:
            break
    return count


async def _handed_on(
    source: BinaryIO,
    codec: StreamingCodec,
    path: tuple[str, ...],
    progress: tuple[int, int],
    sieve: Sieve,
    context: StreamContext,
) -> None:
    count, at = progress
    batch: list[HandOff] = []
    if at >= count and not sieve.indexes:
        return
    number = 0
    async for index, item in paced(codec.items(source, path)):
        number = index + 1
        if index < at and index not in sieve.indexes:
            continue
        handoff = sieve.again(item, index, count)
        if handoff is None:
            continue
        batch.append(handoff)
        if len(batch) == BATCH:
            await context.hand_on(batch, index + 1, NEXT)
            batch = []
    same_count(number, count, at)
    if batch:
        await context.hand_on(batch, count, NEXT)


async def paced(items: Iterator[Any]) -> AsyncIterator[tuple[int, Any]]:
    """The items with their indexes, with pauses in which the loop does other work."""
    since = time.perf_counter()
    for pair in enumerate(items):
        yield pair
        if time.perf_counter() - since > SLICE:
            await asyncio.sleep(0)
            since = time.perf_counter()


__all__ = ["can_stream", "paced", "path_of", "stream_items"]
