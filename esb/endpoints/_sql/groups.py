"""``batch``: deliveries of one statement that are under way at the same time share a transaction and its commit.

Nobody waits for a group to fill: while one transaction runs those that come wait, and the next takes what is there. A group
is only ever a faster way: whatever is out of the ordinary in it (a violated constraint, a locked row, a statement that takes
long) is rolled back and sent in a transaction of its own, as without ``batch``, where it gets its own verdict.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from esb.endpoints._sql.faults import fault_of
from esb.endpoints._sql.pipelined import can_pipeline, sent
from esb.endpoints._sql.work import Part, alone, applied, limit, ready
from esb.errors import MessageError, Rejected, Timeout, Unavailable
from esb.steps.base import Reply

if TYPE_CHECKING:
    from esb.endpoints._sql.live import LiveSql

#: part of its time that a delivery spends in a group, waiting for its turn or in a transaction with others
SHARE = 0.25
#: SQLSTATE of a row that stays locked, and of a statement that takes too long
SLOW = frozenset({"55P03", "57014"})
#: seconds that a group waits for a locked row, so that others need not
LOCK = 0.2
#: deliveries that fail in one group before every other goes by itself, too
FAILED = 3

#: what came of a part: its answer, or that it goes by itself, or that it was not begun and goes with the next group
Outcome = Reply | Literal["alone", "next"]


class Turn:
    """A part that waits for its group."""

    def __init__(self, part: Part, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        self.part = part
        self.seconds = seconds
        self.until = loop.time() + seconds
        self.told: asyncio.Future[Reply | None] = loop.create_future()
        self.begun = False

    def leave(self) -> None:
        """It has waited enough for those before it."""
        if not self.begun:
            self.tell(None)

    def tell(self, answer: Reply | MessageError | None) -> None:
        """The answer, None where it goes by itself; nobody may hear it any more."""
        if self.told.done():
            return
        if isinstance(answer, MessageError):
            self.told.set_exception(answer)
        else:
            self.told.set_result(answer)


class Groups:
    """The groups of one connector."""

    def __init__(self, live: LiveSql) -> None:
        self._live = live
        self._waiting: dict[str, deque[Turn]] = {}  #: by statement; there is one while a task serves it
        self._tasks: set[asyncio.Task[None]] = set()

    async def send(self, part: Part, seconds: float) -> Reply | None:
        """Send with others; None where nothing was done and it goes by itself. Raises MessageError for the whole group's fate."""
        loop = asyncio.get_running_loop()
        turn = Turn(part, seconds, loop)
        queue = self._waiting.get(part.statement)
        if queue is None:
            queue = self._waiting[part.statement] = deque()
            task = loop.create_task(self._serve(part.statement, queue))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        queue.append(turn)
        patience = loop.call_later(seconds * SHARE, turn.leave)
        try:
            async with asyncio.timeout(seconds):
                return await turn.told
        except TimeoutError:
            raise Timeout(f"{self._live.name}: the database did not answer within {seconds:g}s") from None
        finally:
            patience.cancel()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- one statement ------------------------------------------------------------------------------------------------
    async def _serve(self, statement: str, queue: deque[Turn]) -> None:
        """Group after group while somebody waits."""
        turns: list[Turn] = []
        try:
            while queue:
                turns = self._take(queue)
                if turns:
                    await self._run(turns, queue)
        finally:
            del self._waiting[statement]
            for turn in (*turns, *queue):  # the connection is closed; else all of them have their answer
                turn.tell(Unavailable(f"{self._live.name}: the connection was closed"))

    @staticmethod
    def _take(queue: deque[Turn]) -> list[Turn]:
        now = asyncio.get_running_loop().time()
        taken: list[Turn] = []
        while queue and len(taken) < (taken[0] if taken else queue[0]).part.sink.batch:
            turn = queue.popleft()
            if turn.told.done():
                continue  # its time was up, or nobody wants it any more
            if turn.until - now < turn.seconds * (1 - SHARE):
                turn.tell(None)  # it has waited enough
            else:
                turn.begun = True
                taken.append(turn)
        return taken

    async def _run(self, turns: Sequence[Turn], queue: deque[Turn]) -> None:
        parts, budget = [turn.part for turn in turns], min(turn.until for turn in turns)
        budget -= asyncio.get_running_loop().time()
        try:
            async with self._live.borrowed() as session:
                found = await session.run(lambda c: _together(parts, self._live, budget, c), budget)
        except Exception as error:  # noqa: BLE001 - the fate of all of them, each of which has an error of its own
            fault = fault_of(self._live.name, error)
            for turn in turns:
                turn.tell(copy.copy(fault))
            return
        for turn, outcome in zip(turns, found, strict=True):
            if isinstance(outcome, Reply):
                turn.tell(outcome)
            elif outcome == "alone":
                turn.tell(None)
        again = [turn for turn, outcome in zip(turns, found, strict=True) if outcome == "next"]
        for turn in again:
            turn.begun = False
        queue.extendleft(reversed(again))


# -- in the thread of the session ---------------------------------------------------------------------------------------


def _together(parts: Sequence[Part], live: LiveSql, budget: float, connection: Connection) -> list[Outcome]:
    """Run the parts in one transaction. Raises where nobody knows what came of it: the connection or the commit failed."""
    if len(parts) == 1:
        return [_one(parts[0], live, budget, connection)]
    try:
        ready(parts, live, budget, connection)
        aside: set[int] = set()
        end = time.monotonic() + budget * SHARE
        while len(aside) < min(FAILED, len(parts)) and time.monotonic() < end:
            limit(connection, live, budget * SHARE, lock=LOCK)
            left = [number for number in range(len(parts)) if number not in aside]
            replies = _attempt(parts, left, live, end, connection)
            if isinstance(replies, dict):
                return [replies.get(n) or ("alone" if n in aside else "next") for n in range(len(parts))]
            aside |= replies
    except BaseException:
        if not connection.invalidated:
            connection.rollback()
        raise
    return ["alone"] * len(parts)


def _one(part: Part, live: LiveSql, budget: float, connection: Connection) -> Outcome:
    """The part that was there; others wait behind it, so it is not long in their way."""
    try:
        return alone(part, live, budget * SHARE, connection, lock=LOCK)
    except DBAPIError as error:
        if error.connection_invalidated or getattr(error.orig, "sqlstate", None) not in SLOW:
            raise
        return "alone"


def _attempt(
    parts: Sequence[Part], left: Sequence[int], live: LiveSql, end: float, connection: Connection
) -> dict[int, Reply] | set[int]:
    """The answers of those that are committed, or else the numbers of those because of which nothing is."""
    replies: dict[int, Reply] = {}
    began, pipelines, size = time.monotonic(), can_pipeline(connection), 1
    while len(replies) < len(left):
        chunk = left[len(replies) : len(replies) + size]
        found = _chunk([parts[number] for number in chunk], live, connection, pipelines=pipelines)
        if isinstance(found, int):
            connection.rollback()
            return {chunk[found]}
        replies.update(zip(chunk, found, strict=True))
        now = time.monotonic()
        if now > end:
            break  # those behind it go with the next group
        if pipelines:  # as many at once as there is time for, by what each of them took so far
            size = max(1, min(size * 4, int((end - now) * len(replies) / max(now - began, 1e-6))))
    try:
        connection.commit()
    except Exception as error:
        if connection.invalidated or not isinstance(fault_of(live.name, error), Rejected):
            raise
        connection.rollback()  # a constraint that is checked at the commit: whose it is, each finds out by itself
        return set(left)
    return replies


def _chunk(parts: Sequence[Part], live: LiveSql, connection: Connection, *, pipelines: bool) -> list[Reply] | int:
    """The answers, or the place of the first that failed."""
    if pipelines:
        return sent(parts, live, connection)
    try:
        return [applied(part, live, connection) for part in parts]
    except Exception:
        if connection.invalidated:
            raise
        return 0  # there is one only
