"""Which handler a path reaches, and in which order a request is judged."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from esb.endpoints.base import Request, Response
from esb.endpoints.ingress import BadPath, HttpIngress, PathPattern, split_path
from esb.endpoints.problem import problem


def named(name: str) -> Any:
    async def handler(request: Request) -> Response:
        params = ",".join(f"{key}={value}" for key, value in request.params.items())
        return Response(200, f"{name} {params}".strip().encode())

    return handler


async def ask(
    ingress: HttpIngress, method: str, path: str, *events: Any, headers: Any = ()
) -> tuple[int, bytes, dict[bytes, bytes]]:
    """One request straight into the application."""
    raw, _, query = path.partition("?")
    sent: list[Any] = []
    waiting = list(events) or [{"type": "http.request", "body": b""}]

    async def receive() -> Any:
        return waiting.pop(0)

    async def send(event: Any) -> None:
        sent.append(event)

    scope = {
        "type": "http",
        "method": method,
        "raw_path": raw.encode(),
        "query_string": query.encode(),
        "headers": list(headers),
        "client": ("10.0.0.1", 1),
    }
    await ingress(scope, receive, send)
    return (sent[0]["status"], sent[1]["body"], dict(sent[0]["headers"])) if sent else (0, b"", {})


def status(ingress: HttpIngress, method: str, path: str) -> int:
    return asyncio.run(ask(ingress, method, path))[0]


def body(ingress: HttpIngress, method: str, path: str) -> bytes:
    return asyncio.run(ask(ingress, method, path))[1]


def test_the_most_specific_path_wins() -> None:
    ingress = HttpIngress()
    for path in ("/lots/{lot}", "/lots/new", "/{kind}/new", "/lots/{lot}/{part}", "/{a}/{b}/x", "/"):
        ingress.mount("POST", path, named(path))
    assert body(ingress, "POST", "/lots/new") == b"/lots/new"
    assert body(ingress, "POST", "/lots/12") == b"/lots/{lot} lot=12"
    assert body(ingress, "POST", "/holds/new") == b"/{kind}/new kind=holds"
    assert body(ingress, "POST", "/lots/12/x") == b"/lots/{lot}/{part} lot=12,part=x"
    assert body(ingress, "POST", "/a/b/x") == b"/{a}/{b}/x a=a,b=b"
    assert body(ingress, "POST", "/") == b"/"
    assert status(ingress, "POST", "/a/b/c/d") == 404


def test_another_method_gets_405_with_those_that_are_served() -> None:
    ingress = HttpIngress()
    ingress.mount("POST", "/a", named("post"))
    ingress.mount("put", "/a", named("put"))
    for method in ("GET", "HEAD", "OPTIONS", "DELETE", "TRACE"):
        answered, _, headers = asyncio.run(ask(ingress, method, "/a"))
        assert (answered, headers[b"allow"]) == (405, b"POST, PUT")


def test_a_header_cannot_change_the_method() -> None:
    ingress = HttpIngress()
    ingress.mount("DELETE", "/a", named("delete"))
    asked = ask(ingress, "POST", "/a", headers=[(b"x-http-method-override", b"DELETE")])
    assert asyncio.run(asked)[0] == 405


def test_a_second_mount_replaces_the_first_and_the_old_token_does_nothing() -> None:
    ingress = HttpIngress()
    old = ingress.mount("POST", "/lots/{lot}", named("old"))
    new = ingress.mount("POST", "/lots/{id}", named("new"))
    assert ingress.mounted == (("POST", "/lots/{id}"),)
    ingress.unmount(old)
    assert body(ingress, "POST", "/lots/1") == b"new id=1"
    ingress.unmount(new)
    ingress.unmount(new)
    assert status(ingress, "POST", "/lots/1") == 404


@pytest.mark.parametrize(
    "path",
    [
        "//admin", "/admin//x", "/admin/", "/admin/.", "/admin/..", "/admin/../admin", "/./admin", "/x/../admin",
        "/admin%2fx", "/%2Fadmin", "/admin%5cx", "/admin/%2e%2e", "/%2e/admin", "/admin/..;/", "/Admin", "/ADMIN",
        "/admin.", "/admin%20", "/admin;x=1", "/admin%00", "/admin%0a", "/admin/%2e", "/%61%64min%2f", "/%2561dmin",
    ],
)  # fmt: skip
def test_no_other_spelling_reaches_a_path(path: str) -> None:
    ingress = HttpIngress()
    ingress.mount("POST", "/admin", named("admin"))
    assert status(ingress, "POST", path) == 404


@pytest.mark.parametrize("path", ["/%", "/a%4", "/%zz", "/%ff", "/%c0%af", "/%ed%a0%80"])
def test_a_path_that_is_no_text_is_a_bad_request(path: str) -> None:
    assert status(HttpIngress(), "POST", path) == 400


def test_an_escaped_letter_is_that_letter_for_login_and_dispatch_alike() -> None:
    ingress = HttpIngress()
    seen = []

    def admit(request: Request) -> Response | None:
        seen.append(request.path)
        return problem(401, "unauthorized", "no")

    ingress.mount("POST", "/admin", named("admin"), admit=admit)
    assert status(ingress, "POST", "/%61dmin") == 401
    assert seen == ["/admin"]


def test_parameters_are_decoded_once() -> None:
    ingress = HttpIngress()
    ingress.mount("POST", "/lots/{lot}", named("lot"))
    assert body(ingress, "POST", "/lots/L%C3%B6t%20%2541") == "lot lot=Löt %41".encode()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("lots", "begins with"),
        ("", "begins with"),
        ("/lots/", "empty"),
        ("/a//b", "empty"),
        ("/a/../b", "dot"),
        ("/a?b", "plain"),
        ("/a%20", "plain"),
        ("/lots/x{lot}", "whole part"),
        ("/lots/{lot-id}", "whole part"),
        ("/{a}/{a}", "twice"),
    ],
)
def test_a_pattern_that_cannot_be_served_says_why(path: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PathPattern.parse(path)


def test_split_path_gives_each_part_decoded() -> None:
    assert split_path("/") == ()
    assert split_path("/a/%C3%A4") == ("a", "ä")
    with pytest.raises(BadPath):
        split_path("/a/")


def test_admission_comes_before_size_and_body() -> None:
    ingress = HttpIngress(max_body=10)
    order: list[str] = []

    def admit(request: Request) -> Response | None:
        order.append(f"admit {request.body!r}")
        return problem(401, "unauthorized", "no")

    ingress.mount("POST", "/a", named("a"), admit=admit)
    asked = ask(ingress, "POST", "/a", headers=[(b"content-length", b"10000000")])
    assert asyncio.run(asked)[0] == 401
    assert order == ["admit b''"]


@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"br", b"gzip, identity", b"x-gzip"])
def test_packed_bodies_are_not_taken(coding: bytes) -> None:
    ingress = HttpIngress()
    ingress.mount("POST", "/a", named("a"))
    answered, _, headers = asyncio.run(ask(ingress, "POST", "/a", headers=[(b"content-encoding", coding)]))
    assert (answered, headers[b"accept-encoding"]) == (415, b"identity")


def test_a_body_is_cut_where_it_grows_too_large() -> None:
    ingress = HttpIngress(max_body=10)
    ingress.mount("POST", "/a", named("a"))
    piece = {"type": "http.request", "body": b"12345", "more_body": True}
    assert asyncio.run(ask(ingress, "POST", "/a", piece, piece, piece))[0] == 413
    assert asyncio.run(ask(ingress, "POST", "/a", piece, {"type": "http.request", "body": b"12345"}))[0] == 200


def test_a_route_may_take_more_or_less_than_the_listener() -> None:
    ingress = HttpIngress(max_body=10)
    ingress.mount("POST", "/more", named("a"), max_body=20)
    ingress.mount("POST", "/less", named("a"), max_body=5)
    event = {"type": "http.request", "body": b"1234567890ab"}
    assert asyncio.run(ask(ingress, "POST", "/more", event))[0] == 200
    assert asyncio.run(ask(ingress, "POST", "/less", event))[0] == 413


def test_all_bodies_together_are_bounded_and_freed_again() -> None:
    async def story() -> None:
        ingress = HttpIngress(max_body=100, max_held=100)
        go_on = asyncio.Event()

        async def slow(request: Request) -> Response:
            await go_on.wait()
            return Response(200)

        ingress.mount("POST", "/a", slow)
        event = {"type": "http.request", "body": b"x" * 60}
        first = asyncio.create_task(ask(ingress, "POST", "/a", event))
        await asyncio.sleep(0)
        answered, _, headers = await ask(ingress, "POST", "/a", event)
        assert (answered, headers[b"retry-after"]) == (503, b"5")
        go_on.set()
        assert (await first)[0] == 200
        assert (await ask(ingress, "POST", "/a", event))[0] == 200

    asyncio.run(story())


def test_a_client_that_leaves_gets_no_answer_and_no_handler_runs() -> None:
    ingress = HttpIngress()
    ingress.mount("POST", "/a", named("a"))
    piece = {"type": "http.request", "body": b"12345", "more_body": True}
    assert asyncio.run(ask(ingress, "POST", "/a", piece, {"type": "http.disconnect"}))[0] == 0


def test_a_fault_of_ours_is_a_number_outside_and_a_log_line_inside() -> None:
    logged: list[Any] = []
    ingress = HttpIngress(log=lambda *args, **fields: logged.append((args, fields)))

    async def broken(request: Request) -> Response:
        raise RuntimeError("select * from /etc/passwd")

    ingress.mount("POST", "/a", broken)
    answered, sent, _ = asyncio.run(ask(ingress, "POST", "/a"))
    assert answered == 500
    assert b"passwd" not in sent
    assert b"RuntimeError" not in sent
    ((level, event), fields) = logged[0]
    assert (level, event) == ("error", "http.handler_failed")
    assert fields["incident"].encode() in sent
    assert "passwd" in fields["error"]


def test_a_stop_is_not_a_missing_path() -> None:
    ingress = HttpIngress()
    ingress.drain()
    answered, _, headers = asyncio.run(ask(ingress, "POST", "/anything"))
    assert (answered, headers[b"retry-after"]) == (503, b"5")


def test_routes_change_under_load_without_a_failed_request(bus: Any, tools: Any, run: Any) -> None:
    async def story() -> None:
        async with bus() as server:
            server.ingress.mount("POST", "/stays", named("stays"))
            done = asyncio.Event()

            async def client() -> list[int]:
                one = b"POST /stays HTTP/1.1\r\nHost: b\r\nContent-Length: 0\r\n\r\n"
                last = one.replace(b"Host: b", b"Host: b\r\nConnection: close")
                answers: list[int] = []
                while not done.is_set():
                    answers += [one.status for one in await tools.talk(server.listener.port, one * 20 + last)]
                return answers

            clients = [asyncio.create_task(client()) for _ in range(4)]
            for number in range(200):
                token = server.ingress.mount("POST", f"/r{number % 7}", named("r"))
                server.ingress.mount("POST", "/stays", named("stays"))
                await asyncio.sleep(0)
                server.ingress.unmount(token)
            done.set()
            statuses = [status for answers in await asyncio.gather(*clients) for status in answers]
            assert set(statuses) == {200}

    run(story())
