"""Deliveries without a task: on a connection that is kept they mean what the same delivery with a task means."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from esb.endpoints._http.begin import Asked
from esb.endpoints.base import Delivery
from esb.endpoints.http import HttpConnection, HttpSink
from esb.errors import Invalid, MessageError, Timeout
from esb.language import TextTemplate
from esb.message import Message
from esb.steps.base import Reply
from tests.unit.endpoints.http.test_http_plain import ANSWERS, OK

LARGE = b'"' + b"x" * 200_000 + b'"'
MORE: dict[str, list[bytes | None]] = {
    "a refusal": [b"HTTP/1.1 422 No\r\nContent-Length: 2\r\n\r\n{}"],
    "not now": [b"HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n{}"],
    "JSON that is none": [b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{x"],
    "much JSON": [
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(LARGE) + LARGE
    ],
    "closed": [None],
}


def sink(method: str = "POST", **more: Any) -> HttpSink:
    path = TextTemplate("/x", lambda scope: "/x", constant=True)
    return HttpSink(path=path, method=method, **{"max_response": 2000, **more})  # type: ignore[arg-type]  # a double, or none


def begin(to: HttpSink, live: Any, sender: Any, answered: Any, body: Any = None, timeout: float = 5.0) -> Any:
    message = Message(body)
    delivery = Delivery("d-1", 1, timeout, message.scope(), sender.clock, sender.workspace)
    return to.begin(message, delivery, live, answered)


async def told(to: HttpSink, live: Any, sender: Any, **more: Any) -> Any:
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    assert begin(to, live, sender, answer.set_result, **more) is not None
    assert not answer.done()
    return await answer


def writer_of(pieces: list[bytes | None]) -> Any:
    async def script(_: Any, writer: Any) -> None:
        for piece in pieces:
            if piece is None:
                writer.close()
                return
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    return script


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("name", [*ANSWERS, *MORE])
def test_an_answer_means_the_same_with_and_without_a_task(
    name: str, method: str, run: Any, sender: Any, tools: Any
) -> None:
    script = writer_of({**ANSWERS, **MORE}[name])
    to = sink(method, max_response=300_000 if name == "much JSON" else 2000)

    async def asked(*, by_call: bool) -> Any:
        async with (
            tools.Target(OK, script, OK) as target,
            sender.opened(HttpConnection(base_url=target.url)) as live,
        ):
            await sender.send(to, live, {})
            try:
                answer = await told(to, live, sender) if by_call else await sender.send(to, live)
            except MessageError as error:
                answer = error
            if isinstance(answer, MessageError):
                words = answer.message.replace(live.host, "HOST")
                return type(answer), words, answer.hint, answer.retry_after, _dateless(answer.reply), len(target.seen)
            assert isinstance(answer, Reply)
            return _dateless(answer.as_meta()), len(target.seen)

    async def go() -> None:
        assert await asked(by_call=True) == await asked(by_call=False)

    run(go())


def _dateless(reply: Any) -> Any:
    return reply and {**reply, "headers": {k: v for k, v in reply["headers"].items() if k != "date"}}


def test_without_a_connection_that_is_kept_nothing_is_done(run: Any, sender: Any, tools: Any) -> None:
    async def go() -> None:
        async with tools.Target(OK) as target, sender.opened(HttpConnection(base_url=target.url)) as live:
            assert begin(sink(), live, sender, pytest.fail) is None
            await sender.send(sink(), live, {})
            live.plain = None  # and neither where everything goes through the library
            assert begin(sink(), live, sender, pytest.fail) is None
            assert len(target.seen) == 1

    run(go())


async def silent(_: Any, writer: Any) -> None:
    await asyncio.sleep(60)


def test_an_answer_that_does_not_come_in_time_is_a_timeout_and_leaves_no_connection(
    run: Any, sender: Any, tools: Any
) -> None:
    async def go() -> None:
        async with tools.Target(OK, silent) as target, sender.opened(HttpConnection(base_url=target.url)) as live:
            await sender.send(sink(), live, {})
            answer = await told(sink(), live, sender, timeout=0.05)
            assert isinstance(answer, Timeout)
            assert answer.message == f"{live.host}: the answer did not come within 0.05s"
            while live.plain._open:
                await asyncio.sleep(0)

    run(go())


def test_who_gives_up_hears_nothing_and_leaves_no_connection(run: Any, sender: Any, tools: Any) -> None:
    async def go() -> None:
        async with tools.Target(OK, silent) as target, sender.opened(HttpConnection(base_url=target.url)) as live:
            await sender.send(sink(), live, {})
            begin(sink(), live, sender, pytest.fail)()
            while live.plain._open:
                await asyncio.sleep(0)

    run(go())


def test_a_value_that_cannot_be_sent_costs_no_connection(run: Any, sender: Any, tools: Any) -> None:
    broken = TextTemplate("{{ x }}", lambda scope: "a\nb")

    async def go() -> None:
        async with tools.Target(OK, OK) as target, sender.opened(HttpConnection(base_url=target.url)) as live:
            await sender.send(sink(), live, {})
            kept = list(live.plain._idle)
            since = kept[0].idle_since
            with pytest.raises(Invalid):
                begin(sink(headers={"X-A": broken}), live, sender, pytest.fail)
            assert (list(live.plain._idle), kept[0].idle_since) == (kept, since)
            assert isinstance(await told(sink(), live, sender), Reply)

    run(go())


def test_whoever_is_told_may_send_again_at_once(run: Any, sender: Any, tools: Any) -> None:
    """Also where the parser has read the answer and the next request takes the same connection."""
    other = OK.replace(b"200 OK", b"201 OK")

    async def go() -> None:
        targets = tools.Target(OK, other, OK, other)
        async with targets as target, sender.opened(HttpConnection(base_url=target.url)) as live:
            await sender.send(sink(), live, {})
            found: list[Any] = []
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            def again(answer: Any) -> None:
                found.append(answer.status)
                if len(found) == 3:
                    done.set_result(None)
                else:
                    assert begin(sink(), live, sender, again) is not None

            begin(sink(), live, sender, again)
            await done
            assert found == [201, 200, 201]
            assert len(live.plain._open) == 1

    run(go())


def test_nothing_of_a_request_waits_for_the_collector(run: Any, sender: Any, tools: Any) -> None:
    class Whole:
        """Knows its request, and is known by it, until it is told."""

        def __init__(self, live: Any) -> None:
            self.answer: Any = None
            self.end = begin(sink(), live, sender, self.told)

        def told(self, answer: Any) -> None:
            self.answer, self.end = answer, None

    async def go() -> None:
        async with tools.Target(OK, OK) as target, sender.opened(HttpConnection(base_url=target.url)) as live:
            await sender.send(sink(), live, {})
            gc.collect()
            gc.disable()
            try:
                whole = Whole(live)
                while whole.answer is None:
                    await asyncio.sleep(0)
                assert [one for one in gc.get_objects() if type(one) is Asked] == []
            finally:
                gc.enable()

    run(go())
