"""What the publisher makes of confirms that come late."""

from __future__ import annotations

import asyncio
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from esb.endpoints._amqp import publish
from esb.endpoints._amqp.link import Address
from esb.endpoints._amqp.properties import Outgoing
from esb.endpoints._amqp.publish import WINDOW, Lane, Parcel, Publisher

WIRE: Any = SimpleNamespace(transport=SimpleNamespace(out=b""))


class Channel:
    on_lost = None
    left = False

    def leave(self) -> None:
        self.left = True


class Link:
    """Tells at once what the real one hands over to the loop."""

    def __init__(self, address: Address, *_: Any) -> None:
        self.address, self.trouble = address, ""

    def wake_soon(self) -> None:
        pass

    def wake(self) -> None:
        pass

    def tell(self, what: Any, *arguments: Any) -> None:
        what(*arguments)


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Publisher:
    monkeypatch.setattr(publish, "Link", Link)
    made = Publisher(Address("broker", 5672, "/", "guest", "guest"), lambda *_, **__: None, "broker")
    made._lanes[""] = Lane(Channel())  # type: ignore[arg-type]  # a double, or none
    return made


#: What the senders of parcels heard.
Heard = dict[Parcel, Any]


@pytest.fixture
def heard() -> Heard:
    return {}


def sent(publisher: Publisher, heard: Heard, count: int) -> list[Parcel]:
    lane, made = publisher._lanes[""], []
    for _ in range(count):
        parcel = Parcel("", "q", Outgoing(b"", {}), True, sent=True, confirms=lane.confirms, lane=lane)
        parcel.told = partial(heard.__setitem__, parcel)
        lane.tag += 1
        lane.flying[lane.tag] = parcel
        publisher._flying += 1
        made.append(parcel)
    return made


def give_up(publisher: Publisher, parcel: Parcel) -> None:
    publisher.give_up(parcel)
    publisher.work(WIRE)


def test_a_slow_broker_keeps_its_channel_and_a_silent_one_loses_it(publisher: Publisher, heard: Heard) -> None:
    async def scenario() -> None:
        lane = publisher._lanes[""]
        channel: Any = lane.channel
        late, other = sent(publisher, heard, 2)
        publisher._confirmed(lane, 2, multiple=False, fault=None)
        give_up(publisher, late)
        assert heard[other] is None
        assert not channel.left
        silent, waiting = sent(publisher, heard, 2)
        give_up(publisher, silent)
        assert channel.left
        assert "did not come" in str(heard[waiting])
        assert publisher._flying == 0

    asyncio.run(scenario())


def test_confirms_that_are_owed_for_ever_do_not_fill_the_window(publisher: Publisher, heard: Heard) -> None:
    async def scenario() -> None:
        lane = publisher._lanes[""]
        channel: Any = lane.channel
        for number in range(WINDOW // 2 + 1):
            assert not channel.left, number
            lost, _ = sent(publisher, heard, 2)
            publisher._confirmed(lane, lane.tag, multiple=False, fault=None)
            give_up(publisher, lost)
            assert lost not in heard
        assert channel.left

    asyncio.run(scenario())
