"""Polling over HTTP: what is new, where links may lead, and what a system that lies or fails cannot do."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from esb.clock import ManualClock
from esb.config.loader import load_workspace
from esb.endpoints._http.pages import link_header, same_origin
from esb.endpoints.base import SourceContext
from esb.endpoints.poll import After, Pages, PollSource
from esb.errors import Invalid, MessageError, Rejected, Timeout, Unavailable
from esb.formats.odata import OData
from esb.formats.text import Text
from tests.contracts.poll_rigs import Closing, address, poller, text
from tests.contracts.source_contract import DurableIntake
from tests.contracts.sql_rigs import State, expression
from tests.servers.lots import Lots

DATA = Path(__file__).parents[3] / "examples" / "data"


class Plant:
    """One system, and a source over it that a test lets look by hand; `restart` is a new process over the same store."""

    def __init__(self, lots: Lots) -> None:
        self.lots = lots
        self.intake, self.state, self.clock = DurableIntake(), State(), ManualClock()
        self.logs: list[str] = []
        self.source: Closing | None = None

    async def look(self, options: PollSource, **connector: Any) -> int:
        if self.source is None:
            context = SourceContext(
                route="r",
                intake=self.intake,
                clock=self.clock,
                workspace=Path("/"),
                state=self.state,
                ingress=None,  # type: ignore[arg-type]  # only a listening source has one
                log=lambda level, event, **fields: self.logs.append(event),
            )
            self.source = await poller(options, self.lots, context, **connector)
        return await self.source.poll_once()

    async def restart(self) -> None:
        if self.source is not None:
            await self.source.stop()
        self.source = None

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(payload) for payload in self.intake.payloads]

    @property
    def asked(self) -> list[str]:
        return [path for path, _ in self.lots.seen]


@pytest.fixture
def plant() -> Iterator[Plant]:
    lots = Lots()
    yield Plant(lots)
    lots.close()


Story = Callable[[], Awaitable[None]]


def run(plant: Plant, story: Story) -> None:
    async def whole() -> None:
        async with asyncio.timeout(20):
            try:
                await story()
            finally:
                await plant.restart()

    asyncio.run(whole())


LIST = PollSource(path=address("/lots"))
DELTA = PollSource(path=address("/changes"), delta=True)


def answers(plant: Plant, *replies: Any) -> None:
    """What the system says, one after the other; the last one stays. Text, or status, headers and body."""
    left = list(replies)

    def before(path: str, headers: dict[str, str]) -> Any:
        reply = left.pop(0) if len(left) > 1 else left[0]
        return reply if isinstance(reply, tuple) else (200, {}, reply if isinstance(reply, bytes) else reply.encode())

    plant.lots.before = before


# -- what is new ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [LIST, DELTA], ids=["list", "delta"])
def test_an_item_that_returns_to_an_earlier_content_is_a_new_message(options: PollSource, plant: Plant) -> None:
    async def story() -> None:
        for state in ("hold", "free", "hold", "free"):
            plant.lots.put("L1", state=state)
            for _ in range(2):
                await plant.look(options)
                await plant.restart()
        assert [body["state"] for body in plant.bodies] == ["hold", "free", "hold", "free"]

    run(plant, story)


def test_what_is_unchanged_is_not_even_offered_again_also_after_a_restart(plant: Plant) -> None:
    async def story() -> None:
        plant.lots.before = lambda path, headers: (200, {}, b'[{"id": 1, "qty": 12.10}, {"id": 2}]')
        assert await plant.look(LIST) == 2
        assert plant.intake.payloads == [b'{"id":1,"qty":12.10}', b'{"id":2}']
        await plant.restart()
        assert await plant.look(LIST) == 0
        assert plant.intake.asked == 2

    run(plant, story)


def test_an_item_that_was_gone_and_comes_back_is_a_new_message(plant: Plant) -> None:
    async def story() -> None:
        answers(plant, '[{"id": 1}, {"id": 2}]', '[{"id": 2}]', '[{"id": 1}, {"id": 2}]')
        assert [await plant.look(LIST) for _ in range(4)] == [2, 0, 1, 0]
        assert plant.bodies == [{"id": 1}, {"id": 2}, {"id": 1}]

    run(plant, story)


def test_an_unchanged_list_costs_one_304(plant: Plant) -> None:
    async def story() -> None:
        plant.lots.put("L1")
        assert [await plant.look(LIST), await plant.look(LIST)] == [1, 0]
        assert "if-none-match" not in plant.lots.seen[0][1]
        assert plant.lots.seen[1][1]["if-none-match"].startswith('"')
        plant.lots.put("L2")
        assert await plant.look(LIST) == 1

    run(plant, story)


def test_a_date_is_asked_with_where_there_is_no_tag_and_neither_where_it_is_not_wanted(plant: Plant) -> None:
    async def story() -> None:
        date = "Mon, 23 Nov 2026 17:21:47 GMT"
        answers(plant, (200, {"Last-Modified": date}, b"[]"), (304, {}, b""))
        await plant.look(LIST)
        assert await plant.look(LIST) == 0
        assert plant.lots.seen[1][1]["if-modified-since"] == date
        await plant.restart()
        plain = PollSource(path=address("/lots"), conditional=False)
        with pytest.raises(Rejected, match="answered 304"):
            await plant.look(plain)

    run(plant, story)


def test_a_date_of_this_very_second_is_not_asked_with(plant: Plant) -> None:
    async def story() -> None:
        now = "Mon, 23 Nov 2026 17:21:47 GMT"
        # the server's own clock comes first; it is the one that the date is held against
        answers(plant, (200, {"Last-Modified": formatdate(usegmt=True)}, b"[]"), (200, {"Last-Modified": now}, b"[]"))
        for _ in range(3):
            await plant.look(LIST)
        assert ["if-modified-since" in headers for _, headers in plant.lots.seen] == [False, False, True]

    run(plant, story)


def test_the_tag_of_a_first_page_says_nothing_about_the_second(plant: Plant) -> None:
    async def story() -> None:
        first = (200, {"ETag": '"same"', "Link": '</more>; rel="next"'}, b'[{"id": 1}]')
        answers(plant, first, "[]", first, '[{"id": 2}]')
        await plant.look(LIST)
        assert await plant.look(LIST) == 1
        assert all("if-none-match" not in headers for _, headers in plant.lots.seen)

    run(plant, story)


def test_items_are_told_apart_by_what_the_route_says(plant: Plant) -> None:
    async def story() -> None:
        options = PollSource(path=address("/x"), items=expression("body.data.lots"), id=expression("body.no"))
        answers(plant, '{"data": {"lots": [{"no": 7, "q": 1}]}}', '{"data": {"lots": [{"no": 7, "q": 2}]}}')
        assert [await plant.look(options), await plant.look(options)] == [1, 1]
        answers(plant, '{"data": {"lots": [{"no": 7, "q": 2}, {"no": 7, "q": 3}]}}')
        with pytest.raises(Rejected, match="same identity"):
            await plant.look(options)

    run(plant, story)


def test_an_answer_that_is_not_json_is_one_message(plant: Plant) -> None:
    async def story() -> None:
        answers(plant, "a;b", "a;b", "a;c")
        options = PollSource(path=address("/list.csv"), format=Text())
        assert [await plant.look(options) for _ in range(3)] == [1, 0, 1]
        assert plant.intake.payloads == [b"a;b", b"a;c"]
        assert plant.intake.committed[0].codec == Text()

    run(plant, story)


def test_values_beyond_the_last_one_are_asked_for(plant: Plant) -> None:
    async def story() -> None:
        options = PollSource(
            path=address("/since"),
            query={"after": text("{{ meta.after }}")},
            after=After(value=expression("body.seq"), first="0"),
        )
        for number in range(12):
            plant.lots.put(f"L{number}")
        assert await plant.look(options) == 12
        assert plant.asked == ["/since?after=0", "/since?after=5", "/since?after=9", "/since?after=12"]
        await plant.restart()
        plant.lots.put("L12")
        await plant.look(options)
        assert [body["id"] for body in plant.bodies] == [f"L{number}" for number in range(13)]
        answers(plant, '{"value": [{"id": "a", "seq": 99}, {"id": "b", "seq": 98}]}')
        with pytest.raises(Rejected, match="not in the order"):
            await plant.look(options)

    run(plant, story)


# -- pages and positions ----------------------------------------------------------------------------------------------


def test_the_position_moves_page_by_page_and_a_page_that_is_gone_is_found_anew(plant: Plant) -> None:
    async def story() -> None:
        for number in range(12):
            plant.lots.put(f"L{number}")
        calls = iter([None, (503, {}, b""), (404, {}, b"")])
        plant.lots.before = lambda path, headers: next(calls, None)
        with pytest.raises(Unavailable):
            await plant.look(DELTA)
        assert len(plant.bodies) == 5
        await plant.restart()
        assert await plant.look(DELTA) == 12
        assert plant.logs == ["poll.position_refused"]
        assert "skiptoken=5" in plant.asked[2]
        # five of them were known
        assert [body["id"] for body in plant.bodies] == [f"L{number}" for number in range(12)]
        assert plant.lots.seen[0][1]["prefer"] == "odata.track-changes"
        assert await plant.look(DELTA) == 0

    run(plant, story)


def test_a_delta_link_that_is_gone_means_reading_everything_again_as_new(plant: Plant) -> None:
    async def story() -> None:
        plant.lots.put("L1", state="hold")
        await plant.look(DELTA)
        plant.lots.before = lambda path, headers: (410, {}, b"") if "since=1" in path else None
        assert await plant.look(DELTA) == 1
        assert [body["state"] for body in plant.bodies] == ["hold", "hold"]
        assert plant.logs == ["poll.position_refused"]

    run(plant, story)


def test_another_question_is_asked_from_the_beginning(plant: Plant) -> None:
    """The route was edited: the delta link goes on with the old query for ever."""

    async def story() -> None:
        for name in ("L1", "L2"):
            plant.lots.put(name, state="hold")
        await plant.look(DELTA)
        await plant.restart()
        other = replace(DELTA, query={"plant": text("P20")})
        assert await plant.look(other) == 2
        assert [path for path in plant.asked if "since" not in path] == ["/changes", "/changes?plant=P20"]
        assert plant.logs == ["poll.begins_anew"]
        await plant.restart()
        assert await plant.look(other) == 0
        assert plant.logs == ["poll.begins_anew"], "once"

    run(plant, story)


def test_that_nothing_has_changed_is_no_answer_to_another_question(plant: Plant) -> None:
    async def story() -> None:
        def before(path: str, headers: dict[str, str]) -> Any:
            if headers.get("if-none-match") == '"1"':
                return 304, {}, b""
            return 200, {"ETag": '"1"'}, b'{"data": {"new": [1], "old": [2, 3]}}'

        plant.lots.before = before
        assert await plant.look(replace(LIST, items=expression("body.data.new"))) == 1
        await plant.restart()
        assert await plant.look(replace(LIST, items=expression("body.data.old"))) == 2
        await plant.restart()
        assert await plant.look(replace(LIST, items=expression("body.data.old"))) == 0
        assert plant.lots.seen[-1][1]["if-none-match"] == '"1"'

    run(plant, story)


def test_a_system_without_delta_links_is_told(plant: Plant) -> None:
    async def story() -> None:
        answers(plant, '{"value": []}')
        with pytest.raises(Rejected, match="gave no delta link"):
            await plant.look(DELTA)

    run(plant, story)


def test_links_below_another_root_of_the_same_host_are_followed(plant: Plant) -> None:
    async def story() -> None:
        answers(plant, '{"d": {"results": [{"id": 1}], "__next": "more?$skiptoken=1"}}', '{"d": {"results": []}}')
        await plant.look(PollSource(path=address("/A_Lot?$top=1")), below="/sap/odata/")
        assert plant.asked == ["/sap/odata/A_Lot?$top=1", "/sap/odata/more?$skiptoken=1"]

    run(plant, story)


@pytest.mark.parametrize(
    "link",
    [
        "http://169.254.169.254/latest",
        "//evil.example/x",
        "https://127.0.0.1:{port}/x",
        "http://127.0.0.1:1/x",
        "http://127.0.0.1:{port}@evil.example/x",
        "http://user@127.0.0.1:{port}/x",
        "http://127.0.0.1:99999/x",
        "file:///etc/passwd",
        "/x\r\nHost: evil",
        "/x y",
        "\\\\evil.example\\x",
        "http://[::1",
    ],
)
def test_a_link_that_leaves_the_system_is_never_asked(link: str, plant: Plant) -> None:
    async def story() -> None:
        port = plant.lots.url.rpartition(":")[2]
        answers(plant, json.dumps({"value": [], "@odata.nextLink": link.replace("{port}", port)}))
        with pytest.raises(Rejected, match="gave a link"):
            await plant.look(LIST)
        assert plant.asked == ["/lots"]

    run(plant, story)


@pytest.mark.parametrize("options", [LIST, DELTA], ids=["list", "delta"])
def test_pages_that_go_round_in_a_circle_end(options: PollSource, plant: Plant) -> None:
    async def story() -> None:
        plant.lots.before = lambda path, headers: (
            200,
            {},
            json.dumps({"value": [], "@odata.nextLink": "/b" if path == "/a" else "/a"}).encode(),
        )
        with pytest.raises(Rejected, match="circle"):
            await plant.look(options)
        assert len(plant.asked) == 3

    run(plant, story)


def test_pages_without_end_are_refused(plant: Plant) -> None:
    async def story() -> None:
        plant.lots.before = lambda path, headers: (200, {"Link": f'<{path}x>; rel="next"'}, b"[]")
        with pytest.raises(Rejected, match="more than 7 pages"):
            await plant.look(PollSource(path=address("/lots"), max_pages=7))
        await plant.restart()
        answers(plant, "[1, 2]")
        with pytest.raises(Rejected, match="more than 3 pages"):
            await plant.look(PollSource(path=address("/n"), pages=Pages(size=2), max_pages=3))

    run(plant, story)


# -- answers that fail or lie -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        ('{"error": {"code": "X/1", "message": {"value": "lot locked"}}}', Unavailable, "an error: lot locked"),
        ((401, {}, b""), Rejected, "answered 401"),
        ((302, {"Location": "/other"}, b""), Rejected, "answered 302"),
        ((500, {}, b'{"error": {"message": "dump"}}'), Unavailable, "500: dump"),
        ("<html>", Unavailable, "not valid JSON"),
        ("", Unavailable, "it is empty"),
        ('[{"id": 1, "id": 2}]', Unavailable, "stands twice"),
        (b"[" + b"0," * 600 + b"0]", Invalid, "more than 1000 bytes"),
        ('{"value": null}', Unavailable, "no list at `body.value`"),
    ],
)
def test_an_answer_that_is_no_list_moves_nothing(reply: Any, error: Any, words: str, plant: Plant) -> None:
    async def story() -> None:
        answers(plant, reply)
        options = PollSource(path=address("/lots"), items=expression("body.value"), max_response=1_000)
        with pytest.raises(MessageError, match=words) as caught:
            await plant.look(options)
        assert type(caught.value) is error
        assert plant.intake.asked == 0
        assert plant.state.values == {}

    run(plant, story)


def test_a_system_that_asks_to_wait_is_left_alone_so_long(plant: Plant) -> None:
    async def story() -> None:
        answers(plant, (429, {"Retry-After": "90"}, b""), '[{"id": 1}]')
        assert await plant.look(LIST) == 0
        assert plant.logs == ["poll.asked_to_wait"]
        plant.clock.advance(timedelta(seconds=89))
        assert await plant.look(LIST) == 0
        assert len(plant.asked) == 1
        plant.clock.advance(timedelta(seconds=2))
        assert await plant.look(LIST) == 1

    run(plant, story)


def test_a_silent_system_ends_in_a_timeout(plant: Plant) -> None:
    async def story() -> None:
        gate = threading.Event()
        plant.lots.before = lambda path, headers: gate.wait(15) and None
        try:
            with pytest.raises(Timeout, match=r"the answer did not come within 0\.2s"):
                await plant.look(PollSource(path=address("/lots"), timeout=timedelta(milliseconds=200)))
        finally:
            gate.set()

    run(plant, story)


def test_an_item_that_breaks_its_contract_is_a_dead_letter_and_holds_up_nothing(plant: Plant) -> None:
    class Positive:
        name = "positive.v1"

        def check(self, body: Any) -> None:
            if body["q"] < 0:
                raise Invalid("q is negative")

    async def story() -> None:
        answers(plant, '[{"id": 1, "q": -1}, {"id": 2, "q": 1}]')
        options: Any = PollSource(path=address("/lots"), contract=Positive())  # type: ignore[arg-type]  # a contract of the test
        assert await plant.look(options) == 2
        assert (len(plant.intake.dead), plant.bodies) == (1, [{"id": 2, "q": 1}])
        assert await plant.look(options) == 0

    run(plant, story)


# -- OData as it comes ------------------------------------------------------------------------------------------------


def test_purchase_orders_of_a_gateway_are_plain_entities(plant: Plant) -> None:
    async def story() -> None:
        answers(plant, (DATA / "sap_gateway_exchanges" / "v2_purchaseorders_expand_inlinecount.json").read_bytes())
        codec = OData(numbers=("OrderQuantity",))
        assert await plant.look(PollSource(path=address("/A_PurchaseOrder"), format=codec)) == 3
        order = codec.decode(plant.intake.payloads[0])
        assert (order["PurchaseOrder"], order["PurchaseOrderDate"]) == ("4500000101", "2025-07-22T00:00:00Z")
        assert str(order["to_PurchaseOrderItem"][0]["OrderQuantity"]) == "213.000"
        assert plant.intake.committed[0].codec is codec

    run(plant, story)


def test_a_date_that_is_none_is_a_dead_letter_of_its_item_only(plant: Plant) -> None:
    async def story() -> None:
        answers(plant, '{"d": [{"ID": 1, "At": "/Date(999999999999999)/"}, {"ID": 2, "At": "/Date(0)/"}]}')
        assert await plant.look(PollSource(path=address("/x"), format=OData())) == 2
        assert (len(plant.intake.dead), len(plant.intake.committed)) == (1, 1)

    run(plant, story)


@pytest.mark.parametrize(
    ("header", "link"),
    [
        ('<https://a/x?p=2>; rel="next"', "https://a/x?p=2"),
        ('<a>; rel=prev, <b>; title="x, y"; rel=next', "b"),
        ('<a>; rel="last next"', "a"),
        ('<a>; rel="nextish"', ""),
        ("", ""),
        ("<<<;;;rel=next", ""),
    ],
)
def test_the_link_header_is_read_as_it_is_written(header: str, link: str) -> None:
    assert link_header(header) == link


def test_a_link_is_relative_to_what_was_asked() -> None:
    base = "https://erp.example:443/sap"
    assert same_origin("?p=2", "https://erp.example/sap/lots?p=1", base) == "/sap/lots?p=2"
    assert same_origin("HTTPS://ERP.example/é x".replace(" ", "%20"), base, base) == "/%C3%A9%20x"


# -- options ----------------------------------------------------------------------------------------------------------


def codes(
    tmp_path: Path, *lines: str, kind: str = "http", address: str = "base_url: https://erp.example.com"
) -> list[str]:
    for folder, told in (
        ("connectors", f"connector: erp\ntype: {kind}\n{address}\n"),
        (
            "routes",
            "route: r\nfrom:\n  poll:\n" + "".join(f"    {line}\n" for line in lines) + "steps: [ { log: x } ]\n",
        ),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "x.yaml").write_text(told)
    _, problems = load_workspace(tmp_path, environ={}, resolve_env=False)
    return [problem.code for problem in problems]


AFTER = "after: { value: body.At, first: '2026-01-01' }"


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (("connector: erp", "path: /lots"), []),
        (("connector: erp", "path: /lots", "delta: true", "format: odata", "every: 10s"), []),
        (("connector: erp", "path: '/lots?$filter=At gt {{ meta.after }}'", AFTER), []),
        (("connector: erp", "path: /lots", "pages: { size: 100 }"), []),
        (("path: /lots",), ["ESB102"]),
        (("connector: erp", "path: /lots", AFTER), ["ESB102"]),
        (("connector: erp", "path: '/lots?at={{ meta.after }}'"), ["ESB102"]),
        (("connector: erp", "path: /lots", "delta: true", "pages: { size: 5 }"), ["ESB107"]),
        (("connector: erp", "path: /lots", "format: csv", "delta: true"), ["ESB107"]),
        (("connector: erp", "path: https://other.example/lots"), ["ESB103"]),
        (("connector: erp", "path: /lots", "headers: { 'X Y': a }"), ["ESB103"]),
    ],
)
def test_options_that_cannot_work_are_errors_at_load(lines: tuple[str, ...], found: list[str], tmp_path: Path) -> None:
    assert codes(tmp_path, *lines) == found


def test_only_a_connector_over_http_can_be_polled(tmp_path: Path) -> None:
    assert codes(tmp_path, "connector: erp", "path: /x", kind="sql", address="url: sqlite:///a.db") == ["ESB301"]
