"""A plain request without a task: written at once, and its answer judged where it is read.

Only on a connection that is kept from an earlier request. What needs more (a new connection, a large or packed answer, a
request that is sent again) goes on as a task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from esb.endpoints._http.answers import Answer
from esb.endpoints._http.client import Call, LiveHttp
from esb.endpoints._http.exchange import begun, judge, late, read, render
from esb.endpoints._http.media import AT_ONCE
from esb.endpoints._http.plain import Connection
from esb.endpoints.base import Answered, Delivery
from esb.errors import MessageError
from esb.message import Message
from esb.steps.base import Reply

if TYPE_CHECKING:
    from esb.endpoints.http import HttpSink


def begin(
    sink: HttpSink, message: Message, delivery: Delivery, connection: LiveHttp, answered: Answered
) -> Callable[[], None] | None:
    """See :class:`esb.endpoints.base.BeginsSink`. Raises Invalid where a value cannot stand where it is wanted."""
    live = connection.known(sink)
    pool = live.plain if live is not None else None
    kept = pool.kept() if pool is not None else None
    if live is None or pool is None or kept is None:
        return None
    try:
        call = render(sink, message, delivery)
        request = live.plainly(call, sink.auth)
    except BaseException:
        pool.put_back(kept)
        raise
    if request is None:
        pool.put_back(kept)
        return None
    asked = Asked(sink, delivery, live, call, kept, answered)
    kept.ask(request, call.max_response, asked.heard)
    live.expiries.begin(asked, delivery.timeout)
    return asked.give_up


class Asked:
    """One request that is on its way."""

    __slots__ = ("_answered", "_call", "_connection", "_delivery", "_live", "_sink", "_task")

    def __init__(
        self, sink: HttpSink, delivery: Delivery, live: LiveHttp, call: Call, connection: Connection, answered: Answered
    ) -> None:
        self._sink, self._delivery, self._live, self._call = sink, delivery, live, call
        self._connection, self._answered = connection, answered
        self._task: asyncio.Task[None] | None = None

    def heard(self, fault: Exception | None) -> None:
        """The answer is there, or does not come."""
        pool, connection, call = self._live.plain, self._connection, self._call
        assert pool is not None
        if fault is not None:
            if pool.may_ask_again(call.method, fault):
                self._task = asyncio.get_running_loop().create_task(self._again())
                return
            self._end(self._named(pool.fault_of(connection, fault, call.max_response)))
            return
        answer = pool.taken(connection)
        if answer is None:
            self._read_later(pool.unpacked(connection, call.max_response))
        elif len(answer.content) > AT_ONCE:
            self._read_later(_there(answer))
        else:
            self._end(self._judged(answer))

    def _judged(self, answer: Answer) -> Reply | Exception:
        try:
            return judge(self._sink, self._delivery.scope, answer, self._delivery, self._live.host)
        except Exception as error:  # noqa: BLE001 - whoever waits hears of it
            return error

    def _named(self, error: MessageError) -> MessageError:
        return type(error)(f"{self._live.host}: {error.message}", hint=error.hint)

    def _end(self, answer: Reply | Exception) -> None:
        self._live.expiries.end(self)
        self._answered(answer)

    # -- what takes longer --------------------------------------------------------------------------------------------
    def _read_later(self, answer: Coroutine[Any, Any, Answer]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._read(answer))

    async def _read(self, answer: Coroutine[Any, Any, Answer]) -> None:
        told: Reply | Exception
        try:
            told = self._judged(await read(await answer))
        except MessageError as error:
            told = self._named(error)
        except Exception as error:  # noqa: BLE001 - whoever waits hears of it
            told = error
        self._end(told)

    async def _again(self) -> None:
        told: Reply | Exception
        try:
            answer = await self._live.exchange(self._call, None, begun(self._delivery))
            told = self._judged(await read(answer))
        except Exception as error:  # noqa: BLE001 - whoever waits hears of it
            told = error
        self._end(told)

    # -- what takes too long ------------------------------------------------------------------------------------------
    def late(self) -> None:
        """There is no answer in time."""
        self._drop()
        progress = begun(self._delivery)
        progress.sent = True
        self._answered(late(self._delivery, self._live, progress))

    def give_up(self) -> None:
        """Nobody waits for the answer any more."""
        self._live.expiries.end(self)
        self._drop()

    def _drop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        else:
            self._connection.forsake()


async def _there(answer: Answer) -> Answer:
    return answer


__all__ = ["begin"]
