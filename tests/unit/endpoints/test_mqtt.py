"""What the options of ``mqtt`` let through, and which topics are ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from esb.config.loader import load_workspace
from esb.endpoints._mqtt.link import Room
from esb.endpoints.mqtt import fault_of


def test_arrivals_are_bounded_by_number_and_bytes_and_one_is_always_let_in() -> None:
    room = Room(number=3, most=100)
    assert room.enter(500, 0.0), "alone"
    assert not room.enter(1, 0.0)
    room.leave(500)
    assert [room.enter(size, 0.0) for size in (60, 50, 40)] == [True, False, True]
    assert [room.enter(0, 0.0) for _ in range(2)] == [True, False], "three at most"
    room.leave(60)
    assert room.enter(60, 0.0)


GOOD = "url: mqtt://broker.plant.example"
SOURCE = "connector: floor, topics: [ plant/+/scrap ]"
SINK = "connector: floor, topic: 'plant/{{ body.lot }}'"
ROUTE = "route: r\nfrom: { mqtt: { %s } }\nsteps: [ { to: { mqtt: { %s } } } ]\n"


def codes(tmp_path: Path, connector: str = GOOD, source: str = SOURCE, sink: str = SINK) -> list[str]:
    for folder, text in (
        ("connectors", f"connector: floor\ntype: mqtt\n{connector}\n"),
        ("routes", ROUTE % (source, sink)),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.yaml").write_text(text)
    _, problems = load_workspace(tmp_path, environ={}, resolve_env=False)
    return [problem.code for problem in problems]


def test_a_broker_a_source_and_a_sink(tmp_path: Path) -> None:
    assert codes(tmp_path) == []


@pytest.mark.parametrize(
    ("connector", "code"),
    [
        ("user: esb", "ESB102"),
        ("url: amqp://broker", "ESB105"),
        ("url: broker:1883", "ESB105"),
        ("url: 'mqtt://'", "ESB103"),
        ("url: mqtt://broker/plant", "ESB103"),
        ("url: mqtt://esb:geheim@broker", "ESB501"),
        (f"{GOOD}\ntls: {{ ca: ca.crt }}", "ESB107"),
        (f"{GOOD}\nkeepalive: 0s", "ESB106"),
        (f"{GOOD}\nversion: '3'", "ESB105"),
    ],
)
def test_a_broker_that_is_refused(tmp_path: Path, connector: str, code: str) -> None:
    assert codes(tmp_path, connector) == [code]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("plant/+/scrap", "plant/#/scrap"), "ESB103"),
        (("plant/+/scrap", "'plant/{{ site.plant }}'"), "ESB103"),
        (("[ plant/+/scrap ]", "[]"), "ESB102"),
        (("topics:", "qos: 2, topics:"), "ESB106"),
        (("topics:", "client_id: 'a b', topics:"), "ESB103"),
    ],
)
def test_a_source_that_is_refused(tmp_path: Path, change: tuple[str, str], code: str) -> None:
    assert codes(tmp_path, source=SOURCE.replace(*change)) == [code]


@pytest.mark.parametrize(
    "sink", ["connector: floor, topic: plant/#", f"{SINK}, headers: {{ 'a b': x }}", f"{SINK}, headers: {{ esb-x: x }}"]
)
def test_a_sink_that_is_refused(tmp_path: Path, sink: str) -> None:
    assert codes(tmp_path, sink=sink) == ["ESB103"]


@pytest.mark.parametrize(
    ("topic", "wildcards", "fault"),
    [
        ("plant/+/scrap", True, ""),
        ("plant/#", True, ""),
        ("#", True, ""),
        ("plant/#/x", True, "its last level"),
        ("plant/a+", True, "beside other characters"),
        ("plant/a", False, ""),
        ("plant/+", False, "wildcard"),
        ("a\x00b", False, "control character"),
        ("é" * 40_000, False, "longer than"),
    ],
)
def test_topics(topic: str, wildcards: bool, fault: str) -> None:
    found = fault_of(topic, wildcards=wildcards)
    assert (fault in found) if fault else found == ""
