"""`verify` of an operation in the running bus, over real sockets: answers that are lost, and a stop while one is awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from esb.errors import Unavailable
from tests.runtime.conftest import Start
from tests.runtime.test_promises import run
from tests.unit.endpoints.http.conftest import Seen, Target, answer

CONNECTOR = """
connector: erp
type: http
base_url: URL
AUTHoperations:
  order: { path: /orders, verify: VERIFY }
  get: { path: "/orders/{{ body.id }}", method: GET }
"""
ROUTE = """
route: r
from: { route: {} }
retry: { max: 3, backoff: 1s, jitter: none }
steps:
  - STEP
  - to: { probe: later }
"""
FORMS = ["{ to: erp.get, done_when: meta.reply.body.id == body.id }", "{ path: '/orders/{{ body.id }}', done_when: meta.reply.body.id == body.id }"]  # fmt: skip
STEPS = ["to: erp.order", "to: { any_of: [erp.order, erp.get], by: \"'erp.order'\" }", "tap: erp.order"]


async def lost(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """The request has arrived, and its answer never comes."""
    writer.transport.abort()


async def hangs(seen: Seen, writer: asyncio.StreamWriter) -> None:
    await asyncio.get_running_loop().create_future()


def files(url: str, verify: str, step: str = STEPS[0], *, login: bool = False) -> dict[str, str]:
    auth = 'auth: { bearer: "${secret:erp}" }\n' if login else ""
    connector = CONNECTOR.replace("URL", url).replace("VERIFY", verify).replace("AUTH", auth)
    return {"connectors/erp.yaml": connector, "routes/r.yaml": ROUTE.replace("STEP", step)}


async def until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not there():
            await asyncio.sleep(0.005)


async def until_done(bus: Any) -> None:
    async with asyncio.timeout(60):
        while bus.states("r") != ["done"]:
            await bus.advance(1)
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("verify", FORMS)
@pytest.mark.parametrize("step", STEPS[:2])
@pytest.mark.parametrize("first", [lost, answer(503)], ids=["lost", "503"])  # one keeps the connection: no task then
@pytest.mark.parametrize("login", [False, True])  # with a login every delivery needs a task
def test_a_system_that_has_it_gets_it_once(
    start: Start, probe: Any, monkeypatch: pytest.MonkeyPatch, verify: str, step: str, login: bool, first: Any
) -> None:
    async def scenario() -> None:
        monkeypatch.setenv("ESB_SECRET_ERP", "token")
        async with (
            Target(first, answer(200, b'{"id": 7}')) as system,
            start(files(system.url, verify, step, login=login)) as bus,
        ):
            await bus.send("r", {"id": 7})
            await until_done(bus)
            assert [(seen.method, seen.path) for seen in system.seen] == [("POST", "/orders"), ("GET", "/orders/7")]
            assert {seen.headers.get("authorization") for seen in system.seen} == {"Bearer token" if login else None}
            assert probe.bodies("later") == [{"id": 7}]
            bus.whole()

    run(scenario())


@pytest.mark.parametrize("verify", FORMS)
def test_a_stop_while_the_answer_is_awaited_is_asked_about(start: Start, probe: Any, verify: str) -> None:
    async def scenario() -> None:
        async with Target(hangs, answer(200, b'{"id": 7}')) as system:
            texts = files(system.url, verify)
            async with start(texts) as bus:
                await bus.send("r", {"id": 7})
                await until(lambda: bool(system.seen))
                clock = bus.clock
            async with start(clock=clock) as bus:
                await until_done(bus)
                assert [seen.method for seen in system.seen] == ["POST", "GET"]
                assert probe.bodies("later") == [{"id": 7}]

    run(scenario())


def test_a_system_that_does_not_have_it_gets_it_under_the_same_id(start: Start, probe: Any) -> None:
    async def scenario() -> None:
        async with (
            Target(lost, answer(404), answer(201)) as system,
            start(files(system.url, FORMS[0])) as bus,
        ):
            await bus.send("r", {"id": 7})
            await until_done(bus)
            assert [seen.method for seen in system.seen] == ["POST", "GET", "POST"]
            first, _, last = (seen.headers["idempotency-key"] for seen in system.seen)
            assert first == last

    run(scenario())


def test_a_copy_is_asked_about_where_its_message_is_tried_again(start: Start, probe: Any) -> None:
    async def scenario() -> None:
        probe.script["later"] = [Unavailable("down")]
        async with (
            Target(lost, answer(200, b'{"id": 7}')) as system,
            start(files(system.url, FORMS[0], STEPS[2])) as bus,
        ):
            await bus.send("r", {"id": 7})
            await until_done(bus)
            assert [seen.method for seen in system.seen] == ["POST", "GET"]

    run(scenario())
