"""`$batch` of OData over a real socket: what goes out, as a MIME library reads it, and what each part of an answer means."""

from __future__ import annotations

import email
import email.policy
import json
from pathlib import Path
from typing import Any

import pytest

from esb.endpoints._http.batch import parts_of
from esb.endpoints._http.client import Answer
from esb.endpoints.http import HttpConnection, HttpSink
from esb.errors import Invalid, MessageError, Rejected, Unavailable

DATA = Path(__file__).parents[4] / "examples" / "data"
ITEMS = [{"lot": "0012", "qty": 1}, {"lot": "a/b", "qty": 2}, {"lot": "c", "qty": 3}]
SINK = {"path": "/API_LOT/A_Lot('{{ body.lot }}')", "batch": {"each": "body.items", "path": "/API_LOT/$batch"}}


def part(status: int, body: Any = None, *, number: int | None = None, end: str = "\r\n") -> str:
    head = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    head += [f"Content-ID: {number}"] if number is not None else []
    text = "" if body is None else json.dumps(body)
    inner = [f"HTTP/1.1 {status} X", *(["Content-Type: application/json"] if text else []), "", text]
    return end.join([*head, "", *inner])


def mixed(*parts: str, boundary: str = "b1", end: str = "\r\n") -> str:
    return "".join(f"--{boundary}{end}{one}{end}" for one in parts) + f"--{boundary}--{end}"


def changeset(*parts: str, end: str = "\r\n") -> str:
    return end.join(["Content-Type: multipart/mixed; boundary=cs", "", mixed(*parts, boundary="cs", end=end)])


def error(text: str) -> dict[str, Any]:
    return {"error": {"code": "QM/305", "message": {"lang": "en", "value": text}}}


@pytest.fixture
def post(run: Any, sender: Any, options: Any, tools: Any) -> Any:
    def go(text: str, *, status: int = 202, kind: str = "multipart/mixed; boundary=b1", **batch: Any) -> Any:
        sink = {**SINK, **batch.pop("sink", {}), "batch": {**SINK["batch"], **batch}}  # type: ignore[dict-item]  # a mapping

        async def story() -> Any:
            async with tools.Target(tools.answer(status, text.encode(), kind=kind)) as target:
                connection = options.read(HttpConnection, {"base_url": target.url + "/sap"})
                async with sender.opened(connection) as live:
                    try:
                        body = {"items": ITEMS}
                        return target, await sender.send(options.read(HttpSink, sink), live, body, correlation_id="c-1")
                    except MessageError as failed:
                        return target, failed

        return run(story())

    return go


def read(seen: Any) -> Any:
    """The request as Python's own MIME parser sees it."""
    head = f"Content-Type: {seen.headers['content-type']}\r\n\r\n".encode()
    return email.message_from_bytes(head + seen.body, policy=email.policy.HTTP)


OK = changeset(part(204), part(201, {"d": {"Lot": "x"}}), part(204))


def test_a_changeset_holds_every_item_as_a_request(post: Any) -> None:
    target, reply = post(mixed(OK))
    (seen,) = target.seen
    assert (seen.method, seen.path) == ("POST", "/sap/API_LOT/$batch")
    assert seen.headers["x-correlation-id"] == "c-1"
    assert "idempotency-key" not in seen.headers
    (outer,) = read(seen).iter_parts()
    inner = list(outer.iter_parts())
    assert [one["content-id"] for one in inner] == ["1", "2", "3"]
    first, _, rest = inner[1].get_content().decode().partition("\r\n")
    assert first == "POST A_Lot('a%2Fb') HTTP/1.1"
    head, _, body = rest.partition("\r\n\r\n")
    assert "Idempotency-Key: d-1-2" in head
    assert json.loads(body) == {"lot": "a/b", "qty": 2}
    assert f"Content-Length: {len(body)}" in head
    assert [one["status"] for one in reply.body] == [204, 201, 204]
    assert reply.body[1]["body"] == {"d": {"Lot": "x"}}


def test_each_item_by_itself_has_a_changeset_of_its_own(post: Any) -> None:
    target, _ = post(mixed(*(changeset(part(204)) for _ in ITEMS)), atomic=False)
    assert len(list(read(target.seen[0]).iter_parts())) == 3
    assert target.seen[0].headers["prefer"] == "odata.continue-on-error"


def test_questions_stand_outside_of_changesets(post: Any) -> None:
    sink = {"method": "GET"}
    target, reply = post(mixed(*(part(200, {"d": {"n": n}}) for n in range(3))), sink=sink, atomic=False)
    kinds = [one.get_content_type() for one in read(target.seen[0]).iter_parts()]
    assert kinds == ["application/http"] * 3
    assert [one["body"]["d"]["n"] for one in reply.body] == [0, 1, 2]


def test_a_refused_changeset_is_rejected_and_names_the_item_where_the_target_does(post: Any) -> None:
    _, failed = post(mixed(part(400, error("lot closed"), number=2)))
    assert type(failed) is Rejected
    assert [(one.pointer, "lot closed" in one.detail) for one in failed.violations] == [("/items/1", True)]
    _, failed = post(mixed(part(400, error("lot closed"))))
    assert [one.pointer for one in failed.violations] == ["/items"]
    _, failed = post(mixed(part(503)))
    assert type(failed) is Unavailable


def test_items_that_fail_by_themselves_are_named(post: Any) -> None:
    parts = [changeset(part(204)), part(400, error("lot closed")), part(404, error("no lot"))]
    _, failed = post(mixed(*parts), atomic=False)
    assert type(failed) is Rejected
    assert [one.pointer for one in failed.violations] == ["/items/1", "/items/2"]
    assert "2 of 3" in failed.message
    assert [one["status"] for one in failed.reply["body"]] == [204, 400, 404]


def test_one_that_may_work_later_is_tried_again_with_all(post: Any) -> None:
    _, failed = post(mixed(part(204), part(400), part(503)), atomic=False)
    assert type(failed) is Unavailable
    _, failed = post(mixed(part(204), part(400)), atomic=False)
    assert (type(failed), failed.violations[1].pointer) == (Unavailable, "/items/2")
    assert "not answered" in failed.violations[1].detail


def test_success_in_the_words_of_the_target_holds_for_each_item(post: Any) -> None:
    parts = [part(200, {"ok": True}), part(200, {"ok": False}), part(200, {"ok": True})]
    _, failed = post(mixed(*parts), atomic=False, sink={"success_when": "meta.reply.body.ok"})
    assert [one.pointer for one in failed.violations] == ["/items/1"]


def test_parts_of_a_changeset_are_known_by_their_number(post: Any) -> None:
    parts = [part(200, {"n": n}, number=n) for n in (3, 1, 2)]
    _, reply = post(mixed(changeset(*parts)))
    assert [one["body"]["n"] for one in reply.body] == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("{}", "application/json", "no `multipart/mixed`"),
        (mixed(OK), "multipart/mixed", "names no boundary"),
        (mixed(OK)[:-20], "multipart/mixed; boundary=b1", "boundary"),
        (mixed(OK), "multipart/mixed; boundary=other", "boundary never comes"),
        (
            mixed("Content-Type: text/html\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
            "multipart/mixed; boundary=b1",
            "no HTTP answer",
        ),
        (mixed("Content-Type: application/http\r\n\r\nSIP/2.0 200"), "multipart/mixed; boundary=b1", "no HTTP answer"),
        (mixed("no head\r\n\r\nx"), "multipart/mixed; boundary=b1", "a head that is none"),
        (mixed(changeset(part(204))), "multipart/mixed; boundary=b1", "1 parts for 3"),
        (mixed(changeset(*(part(204) for _ in range(4)))), "multipart/mixed; boundary=b1", "4 parts for 3"),
        (mixed(part(200)), "multipart/mixed; boundary=b1", "one 200 for a changeset"),
    ],
)
def test_an_answer_that_is_none_is_unavailable(text: str, kind: str, words: str, post: Any) -> None:
    _, failed = post(text, kind=kind)
    assert type(failed) is Unavailable
    assert words in failed.message


def test_a_refused_batch_is_a_refusal(post: Any) -> None:
    _, failed = post(json.dumps(error("not allowed")), status=401, kind="application/json")
    assert (type(failed), "not allowed" in failed.message) == (Rejected, True)


def test_an_empty_list_sends_nothing(run: Any, sender: Any, options: Any, tools: Any) -> None:
    async def story() -> None:
        async with tools.Target(tools.answer()) as target:
            async with sender.opened(options.read(HttpConnection, {"base_url": target.url})) as live:
                sink = options.read(HttpSink, SINK)
                assert (await sender.send(sink, live, {"items": []})).body == []
                with pytest.raises(Invalid, match="no list"):
                    await sender.send(sink, live, {"items": {}})
            assert target.seen == []

    run(story())


def test_the_csrf_token_of_a_batch_is_asked_for_at_the_service(run: Any, sender: Any, options: Any, tools: Any) -> None:
    async def story() -> None:
        answers = [
            tools.answer(200, b"{}", "X-CSRF-Token: t1"),
            tools.answer(202, mixed(OK).encode(), kind="multipart/mixed; boundary=b1"),
        ]
        async with tools.Target(*answers) as target:
            connection = options.read(HttpConnection, {"base_url": target.url, "csrf": "sap"})
            async with sender.opened(connection) as live:
                await sender.send(options.read(HttpSink, SINK), live, {"items": ITEMS})
            assert [(seen.method, seen.path) for seen in target.seen] == [
                ("GET", "/API_LOT/"),
                ("POST", "/API_LOT/$batch"),
            ]

    run(story())


def test_a_real_answer_with_bare_line_ends_is_read() -> None:
    data = (DATA / "odata" / "BatchReadResponseBody.txt").read_bytes()
    boundary = data.split(b"\n", 1)[0].strip().removeprefix(b"--").decode()
    first, second = parts_of(Answer(200, {"content-type": f"multipart/mixed; boundary={boundary}"}, data))
    assert isinstance(first, Answer)
    assert isinstance(second, Answer)
    assert (first.status, first.headers["odata-version"]) == (200, "4.0")
    assert [one["UserName"] for one in json.loads(first.content)["value"]] == ["angelhuffman"]
    assert [one["LastName"] for one in json.loads(second.content)["value"]] == ["Kinski", "Brühl"]


@pytest.mark.parametrize(
    ("sink", "code"),
    [
        ({"path": "/A_Lot", "batch": "body.items"}, ""),
        ({"path": "/A_Lot", "batch": {"each": "body.items", "path": "/API_LOT/$batch"}}, "ESB103"),
        ({"path": "/A_Lot", "batch": {"each": "body.items", "path": "/batch"}}, "ESB103"),
        ({"url": "http://a/A_Lot", "batch": "body.items"}, "ESB107"),
        ({"path": "/A_Lot", "etag": "fetch", "batch": "body.items"}, "ESB107"),
    ],
)
def test_a_batch_that_cannot_work_is_an_error_at_load(sink: Any, code: str, options: Any) -> None:
    _, problems = options.try_read(HttpSink, sink)
    assert [problem[:6] for problem in problems] == ([code] if code else [])
