"""What a bad item means to the step that cuts a message into items: tried before anything is born, set aside, reported.

An item is *tried*: its steps run up to the first one that waits (a `to`, an `enrich`, a `dedupe` …), over a context in which
nothing that they say has an effect. No item can have been sent by then: the messages of the items are born in the one
transaction that ends the whole, after every one of them was tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from esb.clock import Clock
from esb.durations import Rate
from esb.errors import BadRow, InternalFault, Invalid, MessageError, Timeout, Unavailable, Violation
from esb.formats.csv import ERROR
from esb.language.values import describe
from esb.message import Message
from esb.spec import Kind, Node, Reader, ScalarNode
from esb.steps.base import Block, Context, Enter, HandOff, StepNode, Stop, Wait
from esb.steps.paths import set_path

#: Bad items that the trace of the whole shows; the report has all of them.
SHOWN = 20
#: Characters of a message in the trace.
_WORDS = 200


# -- how many -----------------------------------------------------------------------------------------------------------


class MostKind(Kind):
    """A share (``5%``) or a number of items."""

    label = "a share like `5%`, or a number of items"

    def read(self, node: Node, reader: Reader) -> Any:
        value = node.value if isinstance(node, ScalarNode) else None
        if isinstance(value, int) and not isinstance(value, bool):
            return Most(count=value) if value >= 0 else self._wrong(node, reader)
        if not isinstance(value, str):
            return reader.wrong_type(node, self, hint="write `5%` or `10`")
        number, percent = value.strip().removesuffix("%").strip(), value.strip().endswith("%")
        try:
            amount = Decimal(number)
        except ArithmeticError:
            return self._wrong(node, reader)
        if not amount.is_finite() or amount < 0 or (percent and amount > 100) or (not percent and amount % 1):
            return self._wrong(node, reader)
        return Most(share=amount) if percent else Most(count=int(amount))

    def _wrong(self, node: Node, reader: Reader) -> Any:
        return reader.problem("ESB106", f"`{reader.where}` is {self.label}", node, hint="write `5%` or `10`")

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^\d+(\.\d+)?\s*%?$|\$\{"}]}


@dataclass(frozen=True, slots=True)
class Most:
    """How many items may be bad: ``count`` of them, or ``share`` per cent of all."""

    kind = MostKind()
    count: int | None = None
    share: Decimal | None = None

    def allows(self, bad: int, of: int) -> bool:
        return bad <= self.count if self.count is not None else bad * 100 <= (self.share or 0) * of

    def __str__(self) -> str:
        return f"{self.count}" if self.count is not None else f"{self.share}%"


# -- trying -------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Trial:
    """A :class:`Context` in which nothing that a step says has an effect."""

    real: Context
    step: str = ""
    known: dict[str, Any] = field(default_factory=dict)

    @property
    def clock(self) -> Clock:
        return self.real.clock

    @property
    def site(self) -> Mapping[str, Any]:
        return self.real.site

    @property
    def timezone(self) -> str:
        return self.real.timezone

    @property
    def route(self) -> str:
        return self.real.route

    @property
    def message_id(self) -> str:
        return self.real.message_id

    @property
    def attempt(self) -> int:
        return self.real.attempt

    @property
    def accepted_at(self) -> datetime:
        return self.real.accepted_at

    def scope(self, message: Message) -> dict[str, Any]:
        return self.real.scope(message)

    def emit(self, handoff: HandOff) -> None:
        """Nothing is born of a trial."""

    def note(self, **facts: Any) -> None:
        """Nothing is noted of it."""

    def log(self, level: str, text: str, **fields: Any) -> None:
        """Nothing is logged of it."""

    def respond(self, status: int, headers: Mapping[str, str], body: Any) -> None:
        """Nothing is answered by it."""

    def recall(self, step: str) -> Any:
        return self.known.get(step)

    def remember(self, step: str, value: Any) -> None:
        self.known[step] = value

    def peers(self) -> Sequence[Message]:
        raise NotImplementedError("a trial ends before a step that waits")

    async def claim(self, key: str, window: timedelta) -> bool:
        raise NotImplementedError("a trial ends before a step that waits")

    async def absorb(self, count: int, message: Message) -> bool:
        raise NotImplementedError("a trial ends before a step that waits")

    async def turn(self, rate: Rate) -> None:
        raise NotImplementedError("a trial ends before a step that waits")

    async def deliver(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("a trial ends before a step that waits")

    ask = copy = within = report = compensable = in_line = deliver


class _Ended(Exception):
    """What comes next is not known without an effect, or there is nothing more to come."""


def fault_of(block: Block, message: Message, context: Context) -> tuple[str, MessageError] | None:
    """The step that refuses an item for good, as far as its steps can tell without an effect, and why; None where none does.

    What may pass (a `timeout`, a system that is `unavailable`) is no fault of the item.
    """
    trial = _Trial(context)
    try:
        _rehearse(block, message, trial)
    except _Ended:
        return None
    except MessageError as error:
        return None if isinstance(error, (Timeout, Unavailable)) else (trial.step, error)
    return None


def _rehearse(block: Block, message: Message, trial: _Trial) -> Message:
    for node in block.nodes:
        if node.waits:
            raise _Ended
        trial.step = node.id
        try:
            answer = _answer(node, message, trial)
        except MessageError:
            if node.continue_on_error:
                continue
            raise
        if isinstance(answer, Enter):
            answer = _rehearse(answer.block, answer.message, trial)
        if isinstance(answer, Stop):
            raise _Ended
        message = answer
    return message


def _answer(node: StepNode, message: Message, trial: _Trial) -> Message | Enter | Stop:
    try:
        if node.guard is not None and not node.guard.truth(trial.scope(message)):
            return message
        answer: Any = node.step.apply(message, trial)  # a step that waits was kept out
        if node.into and isinstance(answer, Message):
            answer = set_path(answer.derive(body=message.body), node.into, answer.body)
    except Wait as wait:
        raise _Ended from wait
    except MessageError:
        raise
    except Exception as error:
        raise InternalFault(f"step `{node.id}` broke: {type(error).__name__}: {error}") from error
    made: Message | Enter | Stop = answer
    return made


# -- what was set aside -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BadItem:
    """An item that is wrong for good. ``index`` counts from 0; ``step`` refused it, empty for its key."""

    index: int
    item: Any
    error: MessageError
    step: str = ""

    @property
    def pointer(self) -> str:
        """Where in the item; empty where that is not known."""
        return self.error.violations[0].pointer if self.error.violations else ""

    @property
    def words(self) -> str:
        """Every violation, each with its place where there are several."""
        several = len(self.error.violations) > 1
        found = [f"{v.pointer}: {v.detail}" if several else v.detail for v in self.error.violations]
        return "; ".join(found) or self.error.message

    def as_row(self) -> dict[str, Any]:
        """The row of a report; ``row`` counts from 1."""
        told = {"row": self.index + 1, "code": self.error.error_class, "pointer": self.pointer, "message": self.words}
        return {**told, "step": self.step, "item": self.item}


#: One item of the list, its index and the number of all, as a message to be born. Raises MessageError for an item without it.
Make = Callable[[Any, int, int], HandOff]


class Sieve:
    """Tells bad items from good ones: with ``steps`` by trying them, without by their key alone, which fails the whole.

    ``known`` are the indexes of the bad ones where they were told apart before.
    """

    def __init__(self, make: Make, context: Context, steps: Block | None = None, known: Iterable[Any] = ()) -> None:
        self._make = make
        self._context = context
        self._steps = steps
        self.indexes = {int(index) for index in known}
        self._bad: dict[int, BadItem] = {}

    @property
    def bad(self) -> list[BadItem]:
        return [self._bad[index] for index in sorted(self._bad)]

    def good(self, item: Any, index: int, count: int) -> HandOff | None:
        """The message of an item that is good; None for a bad one, which is set aside. Raises what fails the whole."""
        if self._steps is None:
            return self._make(item, index, count)
        if isinstance(item, Mapping) and isinstance(item.get(ERROR), Mapping):
            self._unread(item, index)
            return None
        try:
            handoff = self._make(item, index, count)
            fault = fault_of(self._steps, handoff.message, self._context)
        except MessageError as error:
            fault = "", error
        if fault is None:
            return handoff
        self.indexes.add(index)
        self._bad[index] = BadItem(index, item, fault[1], fault[0])
        return None

    def _unread(self, item: Mapping[str, Any], index: int) -> None:
        """Set aside what the format could not read."""
        told = item[ERROR]
        violation = Violation(str(told.get("pointer", "")), str(told.get("message", "it cannot be read")))
        rest = {name: value for name, value in item.items() if name != ERROR}
        self.indexes.add(index)
        self._bad[index] = BadItem(index, rest, Invalid(violation.detail, violations=[violation]))

    def again(self, item: Any, index: int, count: int) -> HandOff | None:
        """The same at a second reading: what was good is not tried again, and what was bad stays so."""
        if index not in self.indexes:
            return self._make(item, index, count)
        if index not in self._bad and self.good(item, index, count) is not None:
            self._bad[index] = BadItem(index, item, Invalid("it was bad when it was tried first"))
        return None


def too_many(bad: Sequence[BadItem], of: int, most: Most, place: str | None) -> Invalid:
    """The error that refuses the whole. ``place`` is the pointer of the list in the body."""
    violations = [Violation(f"{place or ''}/{one.index}{one.pointer}", one.words) for one in bad[:50]]
    return Invalid(
        f"{len(bad)} of {of} items are bad, more than `max_bad: {most}` allows",
        hint="correct them and send the whole again; none of its items has gone out",
        violations=violations,
    )


def report_of(bad: Sequence[BadItem], of: int, *, refused: bool) -> dict[str, Any]:
    """The annotated report: the body of the message that keeps it."""
    return {"bad": len(bad), "of": of, "refused": refused, "rows": [one.as_row() for one in bad]}


def in_short(bad: Sequence[BadItem]) -> list[dict[str, Any]]:
    """What the trace of the whole shows of the first ones: their rows without the items."""
    shown = [one.as_row() for one in bad[:SHOWN]]
    return [
        {name: value for name, value in row.items() if name != "item"} | {"message": str(row["message"])[:_WORDS]}
        for row in shown
    ]


@dataclass(frozen=True, slots=True)
class Report:
    """The only step of a report: hands it to the source, which leaves it where the sender finds it.

    Where the source has no such place the message itself is the report. It is tried again like every delivery.
    """

    async def apply(self, message: Message, context: Context) -> Stop:
        report = message.body
        verb = "refused, for" if report["refused"] else "taken without"
        rows = [
            BadRow(row["row"], row["message"], row["pointer"], _text(row["item"]), row["code"], row["item"])
            for row in report["rows"]
        ]
        reason = f"{verb} {report['bad']} bad of {report['of']} items"
        place = await context.report(reason, rows, whole=report["refused"])
        context.note(report=place)
        return Stop(f"{report['bad']} bad of {report['of']}" + (f": {place}" if place else ""))


def _text(item: Any) -> str:
    return item if isinstance(item, str) else describe(item)
