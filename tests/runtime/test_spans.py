"""Spans: one trace from the header that came in to the header that goes out, over hand-offs, retries and replays."""

from __future__ import annotations

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from esb.config.model import Traces
from esb.errors import Rejected, Unavailable
from esb.observe.otel import Exporter, exporter_of
from esb.observe.spans import message_span, parsed
from esb.operations import Who
from esb.secret import Secret
from esb.store.base import Filter

TRACE, CALLER = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
HEADER = f"00-{TRACE:032x}-{CALLER:016x}-01"
ROUTES = """
route: first
from: { route: {} }
retry: { max: 3, backoff: 10s, jitter: none }
steps:
  - set: { vars.x: body.no }
  - to: { probe: erp }
  - publish: second
---
route: second
from: { topic: second }
steps: [ { to: { probe: mes } } ]
"""


@pytest.fixture
def memory() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def watched(bus: Any, memory: InMemorySpanExporter) -> None:
    bus.supervisor.observer.emit = Exporter("plant", SimpleSpanProcessor(memory))


def spans(memory: InMemorySpanExporter, name: str) -> list[Any]:
    return [span for span in memory.get_finished_spans() if span.name == name]


def test_one_trace_from_the_caller_over_a_hand_off_to_every_target(start: Any, probe: Any, memory: Any) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Unavailable("503")]
        async with start({"routes/a.yaml": ROUTES}) as bus:
            watched(bus, memory)
            receipt = await bus.send("first", {"no": 1}, meta={"traceparent": HEADER})
            await bus.settle()
            await bus.advance(10)
            (first,), (second,) = spans(memory, "process first"), spans(memory, "process second")
            assert {span.context.trace_id for span in memory.get_finished_spans()} == {TRACE}
            assert (first.parent.span_id, first.context.span_id) == (CALLER, message_span(receipt.message_id))
            assert second.parent.span_id == first.context.span_id
            failed, good = spans(memory, "send probe")[:2]
            assert (failed.status.status_code.name, failed.attributes["error.type"]) == ("ERROR", "unavailable")
            assert good.parent.span_id == first.context.span_id
            assert good.attributes["esb.attempt"] == 2
            assert first.attributes["messaging.message.conversation_id"] == receipt.correlation_id
            assert first.end_time - first.start_time == 10_000_000_000
            assert [span.attributes["esb.step"] for span in spans(memory, "set")] == ["set", "set"]

    asyncio.run(scenario())


def test_a_target_gets_the_span_of_its_delivery(start: Any, probe: Any, memory: Any) -> None:
    async def scenario() -> None:
        seen: list[str] = []
        keep = probe.take

        async def take(name: str, message: Any, delivery: Any) -> Any:
            seen.append(delivery.scope["meta"]["traceparent"])
            return await keep(name, message, delivery)

        probe.take = take
        async with start({"routes/a.yaml": ROUTES}) as bus:
            watched(bus, memory)
            await bus.send("first", {"no": 1}, meta={"traceparent": HEADER})
            await bus.settle()
            sent = [(span.context.trace_id, span.context.span_id) for span in spans(memory, "send probe")]
            assert [parsed(header)[:2] for header in seen] == sent  # type: ignore[index]  # it is there

    asyncio.run(scenario())


def test_a_replay_is_a_new_trace_linked_to_the_old_one(start: Any, probe: Any, memory: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": ROUTES}) as bus:
            watched(bus, memory)
            receipt = await bus.send("first", {"no": 1}, meta={"traceparent": HEADER})
            await bus.settle()
            memory.clear()
            await bus.operations.replay(Filter(ids=(receipt.message_id,)), Who("mia", "again"))
            await bus.settle()
            (again,), (child,) = spans(memory, "process first"), spans(memory, "process second")
            assert again.parent is None
            assert again.context.trace_id == child.context.trace_id != TRACE
            assert [(link.context.trace_id, link.context.span_id) for link in again.links] == [(TRACE, message_span(receipt.message_id))]  # fmt: skip

    asyncio.run(scenario())


def test_dead_letters_are_errors_and_what_is_not_sampled_is_not_told(start: Any, probe: Any, memory: Any) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Rejected("never")] * 2
        async with start({"routes/a.yaml": ROUTES}) as bus:
            watched(bus, memory)
            await bus.send("first", {"no": 1}, meta={"traceparent": HEADER[:-1] + "0"})
            await bus.settle()
            assert memory.get_finished_spans() == ()
            await bus.send("first", {"no": 2})  # nobody began a trace: one of its own
            await bus.settle()
            (dead,) = spans(memory, "process first")
            assert (dead.attributes["esb.state"], dead.attributes["error.type"]) == ("dead", "rejected")
            assert dead.parent is None
            assert dead.status.status_code.name == "ERROR"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "text",
    ["", "00-0-0-01", "ff" + HEADER[2:], HEADER.replace(f"{TRACE:032x}", "0" * 32), HEADER.upper(), HEADER + "-x"],
)
def test_a_header_that_is_none_begins_a_new_trace(text: str) -> None:
    assert parsed(text) is None


def test_a_collector_gets_them_over_http_and_an_absent_one_stops_nothing(start: Any, probe: Any) -> None:
    got: list[tuple[str, Any]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            got.append((self.headers["authorization"], ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/v1/traces"
        exporter = exporter_of(Traces(endpoint=url, headers={"Authorization": Secret("token")}), "plant")
        assert exporter is not None

        async def scenario() -> None:
            async with start({"routes/a.yaml": ROUTES}) as bus:
                bus.supervisor.observer.emit = exporter
                await bus.send("first", {"no": 1}, meta={"traceparent": HEADER})
                await bus.settle()

        asyncio.run(scenario())
        exporter.close()
        server.shutdown()
        thread.join(5)
    names = [span.name for _, request in got for one in request.resource_spans for scope in one.scope_spans for span in scope.spans]  # fmt: skip
    assert sorted(set(names)) == ["process first", "process second", "publish", "send probe", "set"]
    assert {header for header, _ in got} == {"token"}
    assert exporter_of(Traces(), "plant") is None


def test_records_of_the_log_carry_the_ids_of_the_message(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Unavailable("503"), Rejected("never")]
        async with start(
            {"routes/a.yaml": ROUTES.replace("set: { vars.x: body.no }", 'log: "no {{ body.no }}"')}
        ) as bus:
            receipt = await bus.send("first", {"no": 1}, correlation_id="case-7")
            await bus.settle()
            await bus.advance(10)
            told = [record for record in bus.logs if record["event"].startswith("message.")]
            assert [record["event"] for record in told] == [
                "message.log",
                "message.retry",
                "message.log",
                "message.dead",
            ]
            assert {(one["route"], one["message"], one["correlation"]) for one in told} == {
                ("first", receipt.message_id, "case-7")
            }

    asyncio.run(scenario())
