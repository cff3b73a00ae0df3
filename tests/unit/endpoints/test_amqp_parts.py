"""AMQP without a broker: which tags are acknowledged, how properties are read, and kombu's own memory transport."""

from __future__ import annotations

import asyncio
import gzip
import json
import pickle
import random
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import kombu
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esb.clock import SystemClock
from esb.endpoints._amqp.consume import Arrival
from esb.endpoints._amqp.hand import Hand
from esb.endpoints._amqp.properties import codec_of, headers_of, meta_of, outgoing
from esb.endpoints._amqp.receive import LOOKS, Tags
from esb.endpoints._amqp.send import parcel_of
from esb.endpoints.amqp import AmqpConnection, AmqpSink, AmqpSource, Binding, Declare
from esb.endpoints.base import ConnectionContext, Receipt
from esb.errors import EsbError, Invalid, Rejected
from esb.formats.json import Json
from esb.message import Message

# -- bytes in hand --------------------------------------------------------------------------------------------------------


def test_deliveries_are_taken_up_to_their_bytes_and_a_larger_one_alone() -> None:
    hand = Hand(most=100, asked=50)
    assert [hand.take(tag, 40) for tag in (1, 2, 3)] == [True, True, False]
    hand.free(1, multiple=False)
    assert (hand.bytes, hand.is_empty) == (40, False)
    hand.free(2, multiple=True)
    assert hand.is_empty
    assert hand.take(4, 500), "alone"
    assert not hand.take(5, 1)
    hand.clear()
    assert hand.take(6, 1)


def test_the_prefetch_follows_the_size_of_the_messages() -> None:
    hand = Hand(most=1000, asked=16)
    assert not hand.take(1, 900) or not hand.take(2, 300)
    hand.narrow()
    assert hand.prefetch == 1
    hand.clear()
    widened = [hand.may_widen() for tag in range(1000) if hand.take(tag, 1) and not hand.free(tag, multiple=False)]
    assert (hand.prefetch, widened.count(True)) == (16, 4)
    hand.take(2000, 900)
    assert not any(hand.may_widen() for _ in range(1000)), "as many as were asked for"


def arrive(sizes: Sequence[int], asked: int, most: int, chance: random.Random) -> tuple[list[int], int]:
    """The order in which messages are taken from a quorum queue, and the most bytes in hand.

    The queue sends what it got back before anything new, and puts what it gets back behind what it got back before.
    """
    hand, new, back = Hand(most, asked), deque(range(len(sizes))), deque[int]()
    taken: list[int] = []
    open_: dict[int, int] = {}  #: what is not acknowledged, with the number of its consumer
    consumer, over_full, peak = 1, False, 0
    while len(taken) < len(sizes) or open_:
        given_back = []
        while not over_full and sum(of == consumer for of in open_.values()) < hand.prefetch and (back or new):
            number = (back or new).popleft()
            if given_back or not hand.take(number, sizes[number]):
                hand.give_back(sizes[number])
                given_back.append(number)
                if len(given_back) + sum(of == consumer for of in open_.values()) >= hand.prefetch:
                    break
                continue
            open_[number] = consumer
            taken.append(number)
            if len(open_) > 1:
                peak = max(peak, hand.bytes)
        back.extend(given_back)
        over_full = over_full or bool(given_back)
        for number in chance.sample(sorted(open_), chance.randint(0, len(open_))):
            del open_[number]
            hand.free(number, multiple=False)
        if over_full and hand.is_empty:
            hand.narrow()
            consumer, over_full = consumer + 1, False
        elif not over_full and hand.may_widen():
            consumer += 1
    return taken, peak


@given(
    st.lists(st.one_of(st.integers(1, 20), st.integers(200, 400), st.integers(900, 2000)), max_size=80),
    st.integers(1, 60),
    st.integers(0, 1 << 32),  # not `st.randoms`: what it draws counts, and is too much for some seeds
)
def test_what_is_given_back_keeps_its_order_in_a_quorum_queue(sizes: list[int], asked: int, seed: int) -> None:
    taken, peak = arrive(sizes, asked, 1000, random.Random(seed))
    assert taken == list(range(len(sizes)))
    assert peak <= 1000


# -- acknowledging --------------------------------------------------------------------------------------------------------


def test_what_is_done_without_a_gap_is_acknowledged_at_once_and_the_rest_singly() -> None:
    tags = Tags()
    for tag in range(1, 7):
        tags.opened(tag)
    for tag in (1, 2, 4, 6):
        tags.done(tag)
    assert tags.take() == [(2, True), (4, False), (6, False)]
    tags.done(3)
    tags.done(5)
    assert tags.take() == [(5, True)]
    assert tags.take() == []


@pytest.mark.parametrize("seed", range(20))
def test_no_open_delivery_is_ever_acknowledged(seed: int) -> None:
    chance = random.Random(seed)
    tags, open_, acknowledged = Tags(), set[int](), set[int]()
    for tag in range(1, 200):
        tags.opened(tag)
        open_.add(tag)
        for one in chance.sample(sorted(open_), chance.randint(0, len(open_))):
            tags.done(one)
            open_.discard(one)
        for last, multiple in tags.take():
            fresh = {one for one in range(1, last + 1) if one not in acknowledged} if multiple else {last}
            assert not fresh & open_
            acknowledged |= fresh
    assert acknowledged == set(range(1, 200)) - open_


# -- properties -----------------------------------------------------------------------------------------------------------


def test_headers_become_texts_and_none_of_them_steers_the_bus() -> None:
    given = {
        "Plant": "P10",
        "n": 7,
        "price": Decimal("12.10"),
        "ok": True,
        "at": datetime(2026, 1, 5, 9, 0),  # noqa: DTZ001 - as the client library gives it
        "raw": b"\xff",
        "x-death": [{"count": 1}],
        "ESB-Route": "other",
        "esb_key": "x",
        "compression": "application/x-gzip",
        "cloudEvents:type": "lot.blocked",
        b"\xff": "x",
    }
    assert headers_of({"application_headers": given}) == {
        "plant": "P10",
        "n": "7",
        "price": "12.10",
        "ok": "true",
        "at": "2026-01-05T09:00:00Z",
        "ce-type": "lot.blocked",
    }
    assert meta_of({"message_id": "m", "type": "t", "priority": 3, "reply_to": ""}) == {
        "message_id": "m",
        "type": "t",
        "priority": "3",
    }


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"content_type": "application/x-python-serialize", "content_encoding": "binary"}, "content type"),
        ({"content_type": "application/data"}, "content type"),
        ({"content_type": "application/x-yaml"}, "content type"),
        ({"content_type": "application/json", "content_encoding": "gzip"}, "encoded as `gzip`"),
        ({"content_type": "application/json", "content_encoding": "rot13"}, "encoded as `rot13`"),
        ({"content_type": "application/json", "application_headers": {"compression": "bzip2"}}, "compressed"),
    ],
)
def test_nothing_is_inflated_or_unpickled(properties: dict[str, Any], words: str) -> None:
    codec, _ = codec_of(properties, None)
    with pytest.raises(Invalid, match=words):
        codec.decode(pickle.dumps({"x": 1}))
    with pytest.raises(Invalid, match=words):
        codec.decode(gzip.compress(b"{}"))


def test_a_content_type_chooses_and_its_encoding_is_the_charset() -> None:
    codec, kept = codec_of({"content_type": "text/plain", "content_encoding": "cp1252"}, None)
    assert codec.decode("Größe".encode("cp1252")) == "Größe"
    assert kept == "text/plain; charset=cp1252"
    assert codec_of({}, None)[0].decode(b'{"n": 12.10}') == {"n": Decimal("12.10")}


def test_a_fixed_format_refuses_other_content_types() -> None:
    assert codec_of({"content_type": "application/json"}, Json())[0].decode(b"1") == 1
    assert codec_of({}, Json())[0].decode(b"1") == 1
    with pytest.raises(Invalid, match="takes application/json"):
        codec_of({"content_type": "text/csv"}, Json())[0].decode(b"1")


@pytest.mark.parametrize("value", ["a\r\nb", "a\0b", "\ud800"])
def test_a_header_with_control_characters_or_without_meaning_is_not_sent(value: str) -> None:
    with pytest.raises(Invalid):
        outgoing(b"", "text/plain", {"x": value})


# -- options --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("amqp://", "names no host"),
        ("amqp://broker:99999/", "no address"),
        ("broker:5672", "no scheme"),
        ("rabbitmqs://broker", "is no scheme"),
        ("sqla+sqlite:///x.db", "a crash loses messages"),
        ("amqp://u:p@broker/", "holds a password"),
    ],
)
def test_an_address_that_cannot_work_is_said_so(options: Any, url: str, words: str) -> None:
    _, problems = options(AmqpConnection, {"url": url})
    assert any(words in problem for problem in problems), problems


def test_limits_of_options(options: Any) -> None:
    assert options(AmqpSource, "orders") == (AmqpSource(queue="orders"), [])
    for cls, value in (
        (AmqpSource, {"queue": ""}),
        (AmqpSource, {"queue": "x" * 256}),
        (AmqpSource, {"queue": "q", "prefetch": 0}),
        (AmqpSource, {"queue": "q", "declare": {"arguments": {"x-max-priority": 5}}}),
        (AmqpSource, {"queue": "q", "declare": {"bind": [{"exchange": "{{ site.x }}"}]}}),
        (AmqpConnection, {"url": "amqp://b", "heartbeat": "0s"}),
        (AmqpConnection, {"url": "amqp://b", "confirm_timeout": "0s"}),
        (AmqpConnection, {"url": "amqp://b", "tls": {"ca": "x.crt"}}),
        (AmqpSink, {"routing_key": "q", "headers": {"esb-route": "x"}}),
    ):
        assert options(cls, value)[1], value


def test_a_message_that_came_as_an_event_goes_on_as_one(bench: Any, template: Any) -> None:
    """What goes out is read as the same event: attributes keep their values."""

    async def scenario() -> dict[str, Any]:
        event = {"ce-specversion": "1.0", "ce-id": "e 1", "ce-source": "/s", "ce-type": "hold", "x-plant": "P10"}
        message = Message({"n": 1}, headers=event)
        parcel = parcel_of(AmqpSink(exchange=template("x")), message, bench.delivery(message))
        return dict(parcel.message.properties)

    sent = asyncio.run(scenario())
    assert headers_of(sent) == {"ce-specversion": "1.0", "ce-id": "e 1", "ce-source": "/s", "ce-type": "hold"}


# -- memory:// ------------------------------------------------------------------------------------------------------------


def test_the_memory_transport_carries_messages_and_puts_back_what_was_not_acknowledged(
    bench: Any, template: Any
) -> None:
    async def scenario() -> None:
        name = f"q.{uuid.uuid4().hex[:8]}"
        context = ConnectionContext("m", SystemClock(), bench.workspace, bench.log)
        live: Any = await AmqpConnection(url="memory://").open(context)
        source = AmqpSource(queue=name, declare=Declare(bind=(Binding(exchange=f"{name}.x", routing_key="a.*"),)))

        async def started() -> Any:
            running = source.bind(replace(bench.context(), connection=live, clock=SystemClock()))
            await running.start()
            return running

        async def sent(body: Any, key: str = "a.b") -> None:
            message = Message(body)
            sink = AmqpSink(exchange=template(f"{name}.x"), routing_key=template(key))
            await sink.send(message, bench.delivery(message, id=str(uuid.uuid4())), live)

        running = await started()
        with pytest.raises(Rejected, match="nothing is bound"):
            await sent({"n": 0}, "b.b")
        await _until(lambda: running._epoch > 0)
        await sent({"n": 1})
        await _until(lambda: bench.intake.payloads == [b'{"n":1}'])
        bench.intake.open = False
        await sent({"n": 2})
        await running.stop()
        bench.intake.open = True
        running = await started()
        await _until(lambda: bench.intake.payloads == [b'{"n":1}', b'{"n":2}'])
        await running.stop()
        await live.close()

    asyncio.run(scenario())


class Slow:
    """An intake whose commits wait."""

    open = True
    behind = False

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.go = asyncio.Event()

    def accept_soon(self, incoming: Any, told: Any) -> bool:
        return False

    async def accept(self, incoming: Any) -> Receipt:
        self.asked.append(incoming.payload)
        await self.go.wait()
        return Receipt("m", "m", "queued")


def test_a_virtual_transport_is_not_read_while_too_many_bytes_are_in_hand(bench: Any, template: Any) -> None:
    async def scenario() -> None:
        name, intake = f"q.{uuid.uuid4().hex[:8]}", Slow()
        context = ConnectionContext("m", SystemClock(), bench.workspace, bench.log)
        live: Any = await AmqpConnection(url="memory://").open(context)
        source = AmqpSource(queue=name, in_hand=200)
        running: Any = source.bind(replace(bench.context(), connection=live, clock=SystemClock(), intake=intake))
        await running.start()
        await _until(lambda: running._epoch > 0)
        opened = live.consumer._open[running._subscription]
        sink = AmqpSink(routing_key=template(name))
        for number in range(10):
            message = Message({"n": number, "text": "x" * 80})
            await sink.send(message, bench.delivery(message, id=str(uuid.uuid4())), live)
        await _until(lambda: opened.full and len(intake.asked) == opened.count)
        assert opened.count < 10
        intake.go.set()
        await _until(lambda: len(intake.asked) == 10 and not opened.tags)
        assert (opened.bytes, [json.loads(one)["n"] for one in intake.asked]) == (0, list(range(10)))
        await running.stop()
        await live.close()

    asyncio.run(scenario())


class Mixed(Slow):
    """Takes small payloads at once, and large ones in a task of their own."""

    def accept_soon(self, incoming: Any, told: Any) -> bool:
        if len(incoming.payload) > 50:
            return False
        self.asked.append(incoming.payload)
        asyncio.get_running_loop().call_soon(told, Receipt("m", "m", "queued"))
        return True


def test_a_small_message_does_not_overtake_a_large_one_of_the_same_burst(bench: Any) -> None:
    async def scenario() -> None:
        name, intake = f"q.{uuid.uuid4().hex[:8]}", Mixed()
        context = ConnectionContext("m", SystemClock(), bench.workspace, bench.log)
        live: Any = await AmqpConnection(url="memory://").open(context)
        running: Any = AmqpSource(queue=name).bind(
            replace(bench.context(), connection=live, clock=SystemClock(), intake=intake)
        )
        bodies = [b'{"n":0}', b'{"n":1,"text":"%b"}' % (b"x" * 80), b'{"n":2}', b'{"n":3}']
        running._arrived(
            0, [Arrival(tag, body, {"content_type": "application/json"}) for tag, body in enumerate(bodies, 1)]
        )
        await _until(lambda: len(intake.asked) == len(bodies))
        assert intake.asked == bodies
        running._arrived(0, [Arrival(5, b'{"n":4}', {"content_type": "application/json"})])
        assert intake.asked == [*bodies, b'{"n":4}'], "at once again"
        intake.go.set()
        await _until(lambda: not running._working and not running._open)
        await live.close()

    asyncio.run(scenario())


class Behind(Mixed):
    """Has enough to do."""

    behind = True
    looks = 0

    def __getattribute__(self, name: str) -> Any:
        if name == "behind":
            self.looks += 1
        return super().__getattribute__(name)


@pytest.mark.parametrize("catches_up", [True, False])
def test_while_a_route_is_behind_what_is_in_hand_waits_a_little(bench: Any, catches_up: bool) -> None:
    async def scenario() -> None:
        intake = Behind()
        context = ConnectionContext("m", SystemClock(), bench.workspace, bench.log)
        live: Any = await AmqpConnection(url="memory://").open(context)
        running: Any = AmqpSource(queue=f"q.{uuid.uuid4().hex[:8]}").bind(
            replace(bench.context(), connection=live, clock=SystemClock(), intake=intake)
        )
        arrivals = [Arrival(n, b"%d" % n, {"content_type": "application/json"}) for n in range(1, 6)]
        running._arrived(0, arrivals[:2])
        running._arrived(0, arrivals[2:])
        await _until(lambda: intake.looks > 4)
        assert intake.asked == []
        if catches_up:
            intake.behind = False
        await _until(lambda: not running._open and intake.asked)
        assert (intake.asked, running._looking) == ([b"1", b"2", b"3", b"4", b"5"], None), "all at once, in their order"
        assert catches_up == (intake.looks < LOOKS)
        await live.close()

    asyncio.run(scenario())


async def _until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_transport_without_its_library_says_what_to_install(bench: Any) -> None:
    context = ConnectionContext("m", SystemClock(), bench.workspace, bench.log)
    with pytest.raises(EsbError, match="needs a library") as caught:
        asyncio.run(AmqpConnection(url="gcpubsub://project").open(context))
    assert caught.value.hint == "pip install 'kombu[gcpubsub]'"


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")  # of kombu's tables
@pytest.mark.parametrize("url", ["filesystem://", "sqla+sqlite:///queue.db"])
def test_the_transports_that_lint_refuses_let_go_of_a_message_before_the_work_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """Why they are refused: what a program has in hand that is killed is gone."""
    monkeypatch.chdir(tmp_path)
    folders = {f"data_folder_{way}": str(tmp_path) for way in ("in", "out")} if url == "filesystem://" else {}
    with kombu.Connection(url, transport_options=folders) as connection:
        sender = connection.channel()
        sender.queue_declare("q")
        kombu.Producer(sender).publish({"n": 1}, routing_key="q")
        assert sender._size("q") == 1
        taker = connection.channel()
        taker.do_restore = False  # as killed: nobody is left to give it back
        assert taker.basic_get("q") is not None, "in hand, not acknowledged"
        assert sender._size("q") == 0
        if url.startswith("sqla"):
            taker.session.close()
            sender.session.close()
            sender.session.bind.dispose()
