"""The endpoints inside the bus: they hand over, and nothing is ever sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from esb.endpoints.route import RouteSink, RouteSource
from esb.endpoints.topic import TopicSink, TopicSource
from esb.errors import InternalFault
from esb.message import Message
from esb.spec import MISSING, options_of
from esb.steps.base import HandOff

Options = Callable[[type, Any], tuple[Any, list[str]]]


def test_a_topic_sink_hands_the_message_over(options: Options) -> None:
    sink, problems = options(TopicSink, "lot-blocked")
    assert problems == []
    message = Message({"lot": "0012"})
    assert sink.handoff(message, "to:topic", None) == HandOff("topic", "lot-blocked", message, "to:topic")


def test_a_route_sink_hands_the_message_over(options: Options) -> None:
    sink, problems = options(RouteSink, "qms-notify")
    assert problems == []
    message = Message({"lot": "0012"})
    assert sink.handoff(message, "notify", None) == HandOff("route", "qms-notify", message, "notify")


@pytest.mark.parametrize("sink", [TopicSink(topic="t"), RouteSink(route="r")])
def test_sending_is_a_fault(bench: Any, sink: Any) -> None:
    message = Message({})
    with pytest.raises(InternalFault, match="hand-off"):
        asyncio.run(sink.send(message, bench.delivery(message), None))


@pytest.mark.parametrize("source", [TopicSource(topic="t"), RouteSource()])
def test_a_source_has_nothing_to_run(bench: Any, source: Any) -> None:
    async def scenario() -> None:
        running = source.bind(bench.context())
        await running.start()
        await running.stop()

    asyncio.run(scenario())
    assert bench.intake.accepted == []


def test_a_topic_needs_its_name_and_a_route_needs_none(options: Options) -> None:
    assert options(TopicSource, "lot-blocked")[0] == TopicSource(topic="lot-blocked")
    assert options(TopicSource, {"topic": "lot-blocked"})[0] == TopicSource(topic="lot-blocked")
    assert options(RouteSource, {})[0] == RouteSource()
    assert options(RouteSource, None)[0] == RouteSource()
    missing, problems = options(TopicSource, {})
    assert missing is MISSING
    assert "lot-blocked" in problems[0]


@pytest.mark.parametrize("cls", [TopicSource, TopicSink, RouteSource, RouteSink])
def test_every_option_is_described(cls: type) -> None:
    assert cls.__doc__
    assert all(spec.doc and spec.example for spec in options_of(cls))
