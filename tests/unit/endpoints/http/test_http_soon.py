"""A route that answers from the commit itself, without a task: the same bytes, and the same promises."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from esb.endpoints._http.replies import accepted_answer, ended_answer
from esb.endpoints.base import Outcome, Receipt
from esb.endpoints.http import HttpSource
from esb.endpoints.http_auth import HmacClient, InboundAuth, sign
from esb.errors import StoreBusy, StoreCorrupt
from esb.formats.json import Json
from esb.message import State
from esb.secret import Secret

BODY = b'{"lot": "0012"}'
ASKED = b"POST /in HTTP/1.1\r\nHost: b\r\nContent-Type: application/json\r\nContent-Length: 15\r\n%s\r\n" + BODY


class HeldIntake:
    """Takes what comes; the test says when its commit is through, and what came of it."""

    def __init__(self) -> None:
        self.told: list[Callable[[Any], None]] = []
        self.ends: list[Callable[[Any], None]] = []
        self.refuses: Exception | None = None
        self.open = True

    def accept_soon(self, incoming: Any, told: Callable[[Any], None]) -> bool:
        if self.refuses is not None:
            raise self.refuses
        self.told.append(told)
        return True

    def outcome_then(self, message_id: str, timeout: float, seq: int, told: Callable[[Any], None]) -> None:
        self.ends.append(told)

    async def asked(self, count: int) -> None:
        while len(self.told) < count:
            await asyncio.sleep(0)


async def serving(bus: Any, **options: Any) -> tuple[Any, HeldIntake, Any]:
    server = bus()
    server.intake = HeldIntake()
    return server, server.intake, await server.serve(HttpSource(path="/in", **options))


async def begin(server: Any, intake: HeldIntake, headers: bytes = b"") -> tuple[Any, Any]:
    """A request that waits for its commit."""
    count = len(intake.told)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.listener.port)
    writer.write(ASKED.replace(b"%s", headers))
    await intake.asked(count + 1)
    return reader, writer


async def answer_of(tools: Any, reader: Any) -> Any:
    (found,) = tools.split_answers(await reader.readuntil(b"\r\n\r\n"))
    found.body = await reader.readexactly(int(found.headers.get("content-length", "0")))
    return found


def test_nothing_is_answered_before_the_commit(bus: Any, tools: Any, run: Any) -> None:
    async def story() -> None:
        server, intake, _ = await serving(bus)
        async with server:
            reader, writer = await begin(server, intake)
            waiting = asyncio.create_task(answer_of(tools, reader))
            for _ in range(20):
                await asyncio.sleep(0)
            assert not waiting.done()
            intake.told[0](Receipt("m-1", "c-1", "queued"))
            answered = await waiting
            assert (answered.status, answered.json["message_id"]) == (202, "m-1")
            writer.close()

    run(story())


def test_a_client_that_leaves_before_the_commit_takes_no_answer_and_leaves_nothing_behind(
    bus: Any, tools: Any, run: Any
) -> None:
    async def story() -> None:
        server, intake, receiver = await serving(bus)
        async with server:
            _, writer = await begin(server, intake)
            writer.transport.abort()
            while server.listener.connections:
                await asyncio.sleep(0.001)
            intake.told[0](Receipt("m-1", "c-1", "queued"))
            assert server.ingress._held == 0
            await receiver.stop()

    run(story())


def test_a_source_that_stops_waits_for_the_requests_that_are_not_committed(bus: Any, tools: Any, run: Any) -> None:
    async def story() -> None:
        server, intake, receiver = await serving(bus)
        async with server:
            reader, writer = await begin(server, intake)
            stopping = asyncio.create_task(receiver.stop())
            for _ in range(20):
                await asyncio.sleep(0)
            assert not stopping.done()
            intake.told[0](Receipt("m-1", "c-1", "queued"))
            await stopping
            assert (await answer_of(tools, reader)).status == 202
            writer.close()

    run(story())


def test_a_source_that_stops_waits_for_the_ends_that_are_waited_for(bus: Any, tools: Any, run: Any) -> None:
    async def story() -> None:
        server, intake, receiver = await serving(bus, reply="delivered")
        async with server:
            reader, writer = await begin(server, intake)
            intake.told[0](Receipt("m-1", "c-1", "queued"))
            stopping = asyncio.create_task(receiver.stop())
            for _ in range(20):
                await asyncio.sleep(0)
            assert not stopping.done()
            intake.ends[0](Outcome("done"))
            await stopping
            assert (await answer_of(tools, reader)).json["state"] == "done"
            writer.close()

    run(story())


def test_a_listener_that_stops_answers_what_it_has_begun_and_closes_behind_it(bus: Any, tools: Any, run: Any) -> None:
    async def story() -> None:
        server, intake, _ = await serving(bus)
        async with server:
            reader, writer = await begin(server, intake)
            stopping = asyncio.create_task(server.listener.stop(5.0))
            await asyncio.sleep(0)
            intake.told[0](Receipt("m-1", "c-1", "queued"))
            answered = await answer_of(tools, reader)
            assert (answered.status, answered.headers["connection"]) == (202, "close")
            assert await reader.read() == b""
            writer.close()
            await stopping

    run(story())


@pytest.mark.parametrize(
    ("told", "status", "code"),
    [
        (StoreBusy("the disk is full", retry_after=timedelta(seconds=2)), 503, "busy"),
        (StoreCorrupt("page 7"), 503, "store-down"),
        (OSError("a fault of the bus"), 500, "internal"),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_store_that_fails_is_told(
    told: Exception, status: int, code: str, at_once: bool, bus: Any, tools: Any, run: Any
) -> None:
    async def story() -> None:
        server, intake, receiver = await serving(bus)
        async with server:
            if at_once:
                intake.refuses = told
                reader, writer = await asyncio.open_connection("127.0.0.1", server.listener.port)
                writer.write(ASKED.replace(b"%s", b""))
            else:
                reader, writer = await begin(server, intake)
                intake.told[0](told)
            answered = await answer_of(tools, reader)
            assert (answered.status, answered.code) == (status, code)
            assert server.ingress._held == 0
            writer.close()
            await receiver.stop()

    run(story())


def test_what_was_not_stored_may_come_again_under_the_same_signature(bus: Any, tools: Any, run: Any) -> None:
    client = HmacClient(secret=Secret("s"), timestamp_header="X-Timestamp")

    async def story() -> None:
        server, intake, _ = await serving(bus, auth=InboundAuth(hmac=(client,)))
        at = str(int(server.clock.now().timestamp()) + 1)
        signed = f"X-Timestamp: {at}\r\nX-Signature: {sign('sha256', client.secret, BODY, at)}\r\n".encode()
        async with server:
            seen = []
            for came_of in (StoreBusy("full"), Receipt("m-1", "c-1", "queued")):
                reader, writer = await begin(server, intake, signed)
                intake.told[-1](came_of)
                seen.append((await answer_of(tools, reader)).status)
                writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", server.listener.port)
            writer.write(ASKED.replace(b"%s", signed))
            seen.append((await answer_of(tools, reader)).status)
            writer.close()
            assert seen == [503, 202, 401]

    run(story())


def test_many_answers_of_one_commit_go_each_to_its_own_connection(bus: Any, tools: Any, run: Any) -> None:
    async def story() -> None:
        server, intake, _ = await serving(bus)
        async with server:
            open_ = [await begin(server, intake) for _ in range(10)]
            for number, told in enumerate(intake.told):
                told(Receipt(f"m-{number}", f"c-{number}", "queued"))
            for number, (reader, writer) in enumerate(open_):
                assert (await answer_of(tools, reader)).json["message_id"] == f"m-{number}"
                writer.close()

    run(story())


def test_bodies_count_as_held_until_they_are_answered(bus: Any, tools: Any, run: Any) -> None:
    async def story() -> None:
        server, intake, _ = await serving(bus)
        server.ingress._max_held = 2 * len(BODY)
        async with server:
            first, second = await begin(server, intake), await begin(server, intake)
            reader, writer = await asyncio.open_connection("127.0.0.1", server.listener.port)
            writer.write(ASKED.replace(b"%s", b""))
            assert (await answer_of(tools, reader)).code == "busy"
            for told in intake.told:
                told(Receipt("m-1", "c-1", "queued"))
            for opened, _ in (first, second):
                assert (await answer_of(tools, opened)).status == 202
            assert server.ingress._held == 0
            for _, one in (first, second, (reader, writer)):
                one.close()

    run(story())


def test_requests_behind_each_other_are_answered_in_their_order(bus: Any, tools: Any, run: Any) -> None:
    async def story() -> None:
        server, intake, _ = await serving(bus)
        async with server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.listener.port)
            writer.write(ASKED.replace(b"%s", b"") * 5)
            for number in range(5):
                await intake.asked(number + 1)
                assert len(intake.told) == number + 1  # the next one waits for the answer to this one
                intake.told[number](Receipt(f"m-{number}", "c", "queued"))
                assert (await answer_of(tools, reader)).json["message_id"] == f"m-{number}"
            writer.close()

    run(story())


CORRELATIONS = ["c-1", "order 7", 'a "b"', "a\\b", "ä", "\t", "", "x" * 128, "a:b/c+d=._"]


@pytest.mark.parametrize("correlation", CORRELATIONS)
@pytest.mark.parametrize("state", ["queued", "duplicate", "known", "dead"])
def test_the_quick_202_is_written_as_the_slow_one(correlation: str, state: Any) -> None:
    receipt = Receipt("m-1", correlation, state, "m-0")
    answered = accepted_answer(receipt, "accepted")
    assert answered is not None
    facts = {"message_id": "m-1", "correlation_id": correlation, "state": state}
    if state == "duplicate":
        facts["duplicate_of"] = "m-0"
    assert answered.body == Json().encode(facts)
    printable = bool(re.fullmatch(r"[ -~]+", correlation))
    assert answered.headers.get("x-correlation-id") == (correlation if printable else None)


@pytest.mark.parametrize("correlation", CORRELATIONS)
@pytest.mark.parametrize("state", ["queued", "duplicate", "known"])
@pytest.mark.parametrize("end", ["done", State.DONE, "superseded"])
def test_the_quick_answer_to_an_end_is_written_as_the_slow_one(correlation: str, state: Any, end: str) -> None:
    answered = ended_answer(Receipt("m-1", correlation, state, "m-0"), Outcome(end))
    facts = {"message_id": "m-1", "correlation_id": correlation, "state": end}
    if state == "duplicate":
        facts["duplicate_of"] = "m-0"
    assert (answered.status, answered.body) == (200, Json().encode(facts))
    printable = bool(re.fullmatch(r"[ -~]+", correlation))
    assert answered.headers.get("x-correlation-id") == (correlation if printable else None)
    assert answered.headers.get("idempotent-replayed") == ("true" if state == "known" else None)


def test_an_end_with_more_to_say_is_not_answered_in_one_piece() -> None:
    receipt = Receipt("m-1", "c-1", "queued")
    assert ended_answer(receipt, None).status == 504
    assert ended_answer(receipt, Outcome("dead", error={"class": "internal", "message": "m"})).status == 500
    assert ended_answer(receipt, Outcome("done", response=(201, {}, "made"))).body == b"made"
    assert ended_answer(receipt, Outcome("done", left_out=200)).status == 410
