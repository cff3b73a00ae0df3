"""S21–S25, S27, S28, S35, S38, S45: what arrives on the two listeners before anybody knows who sends it."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator

import pytest

from tests.hostile.tools import JSON, Client, Target, attacked, esb, statuses

ROUTES = """
route: guarded
from: { http: { path: /guarded, method: POST, format: json, auth: { api_key: [
  { key: "${secret:key-a}", client: a }, { key: "${secret:key-b}", client: b } ] } } }
steps:
  - filter: "`false`"
---
route: guessed
from: { http: { path: /guessed, method: POST, format: json, auth: { basic: { user: qms, password: "${secret:key-a}" } } } }
steps:
  - filter: "`false`"
---
route: open
from: { http: { path: /open, method: POST, format: json } }
steps:
  - filter: "`false`"
"""
SETTINGS = """
bus: attacked
admin: { token: "${secret:admin-token}" }
"""
SECRETS = {
    "ESB_SECRET_KEY_A": "aaaa-key",
    "ESB_SECRET_KEY_B": "bbbb-key",
    "ESB_SECRET_ADMIN_TOKEN": "admin-token-of-the-test",
}
BEARER = {"Authorization": "Bearer admin-token-of-the-test"}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    files = {"routes/a.yaml": ROUTES, "esb.yaml": SETTINGS}
    with attacked(tmp_path_factory.mktemp("wire"), files, "--no-watch", **SECRETS) as found:
        yield found


def request(target: str, *lines: str, body: str = "", method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", *lines, "", body]).encode("latin-1")


# -- S21: smuggling -------------------------------------------------------------------------------------------------------
SECOND = "POST /open HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = "Transfer-Encoding: chunked"
AMBIGUOUS = {
    "two lengths": request("/open", "Content-Length: 2", "Content-Length: 3", body="{}" + SECOND),
    "equal lengths": request("/open", "Content-Length: 2", "Content-Length: 2", body="{}" + SECOND),
    "length list": request("/open", "Content-Length: 2, 2", body="{}" + SECOND),
    "length and chunked": request("/open", "Content-Length: 4", CHUNKED, body="0\r\n\r\n" + SECOND),
    "chunked and length": request("/open", CHUNKED, "Content-Length: 4", body="0\r\n\r\n" + SECOND),
    "plus": request("/open", "Content-Length: +2", body="{}" + SECOND),
    "minus": request("/open", "Content-Length: -2", body="{}" + SECOND),
    "hex": request("/open", "Content-Length: 0x2", body="{}" + SECOND),
    "decimal": request("/open", "Content-Length: 2.0", body="{}" + SECOND),
    "huge": request("/open", "Content-Length: 99999999999999999999", body="{}"),
    "digits of elsewhere": request("/open", "Content-Length: \xb2", body="{}" + SECOND),
    "empty length": request("/open", "Content-Length:", body="{}" + SECOND),
    "te space": request("/open", "Transfer-Encoding : chunked", body="0\r\n\r\n" + SECOND),
    "te vertical tab": request("/open", "Transfer-Encoding:\x0bchunked", body="0\r\n\r\n" + SECOND),
    "te twice": request("/open", CHUNKED, CHUNKED, body="0\r\n\r\n" + SECOND),
    "te list": request("/open", "Transfer-Encoding: gzip, chunked", body="0\r\n\r\n" + SECOND),
    "te identity": request("/open", "Transfer-Encoding: identity", "Content-Length: 2", body="{}" + SECOND),
    "te x": request("/open", "Transfer-Encoding: xchunked", body="0\r\n\r\n" + SECOND),
    "te quoted": request("/open", 'Transfer-Encoding: "chunked"', body="0\r\n\r\n" + SECOND),
    "folded": request("/open", "X: y", " Transfer-Encoding: chunked", body="0\r\n\r\n" + SECOND),
    "no colon": request("/open", "Transfer-Encoding chunked", body="0\r\n\r\n" + SECOND),
    "nul in a name": request("/open", "Content-\x00Length: 2", body="{}" + SECOND),
    "nul in a value": request("/open", "X: a\x00b", "Content-Length: 2", body="{}" + SECOND),
    "bare cr": request("/open", "X: a\rContent-Length: 2", "Content-Length: 0", body=SECOND),
    "bare lf": b"POST /open HTTP/1.1\nHost: 127.0.0.1\nContent-Length: 2\n\n{}" + SECOND.encode(),
    "lf before the end": b"POST /open HTTP/1.1\r\nHost: 127.0.0.1\nContent-Length: 2\r\n\r\n{}" + SECOND.encode(),
    "bad end of a chunk": request("/open", CHUNKED, body="2\r\n{}XX0\r\n\r\n" + SECOND),
    "chunk size with sign": request("/open", CHUNKED, body="+2\r\n{}\r\n0\r\n\r\n" + SECOND),
    "chunk size hex prefix": request("/open", CHUNKED, body="0x2\r\n{}\r\n0\r\n\r\n" + SECOND),
    "chunk extension": request("/open", CHUNKED, body="2;a=b\r\n{}\r\n0\r\n\r\n" + SECOND),
    "chunk lf": request("/open", CHUNKED, body="2\n{}\n0\n\n" + SECOND),
    "trailer": request("/open", CHUNKED, body="2\r\n{}\r\n0\r\nContent-Length: 99\r\n\r\n" + SECOND),
    "no host": b"POST /open HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    "two hosts": request("/open", "Host: other", "Content-Length: 2", body="{}"),
    "host list": b"POST /open HTTP/1.1\r\nHost: a, b\r\nContent-Length: 2\r\n\r\n{}",
    "host with a user": b"POST /open HTTP/1.1\r\nHost: a@b\r\nContent-Length: 2\r\n\r\n{}",
    "http 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http 0.9": b"POST /open\r\n\r\n",
    "http 1.2": b"POST /open HTTP/1.2\r\nHost: 127.0.0.1\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\n\n\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_s21_s22_an_ambiguous_request_is_refused_and_nothing_behind_it_is_read(target: Target, name: str) -> None:
    before = target.status("open")["accepted"]
    for client in (target.http, target.admin):
        found = statuses(client.raw(AMBIGUOUS[name]))
        assert len(found) == 1, found
        assert 400 <= found[0] < 500 or found == [505], found
    assert target.status("open")["accepted"] == before


# -- S22: hosts -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example:80", "169.254.169.254",
                                  "0.0.0.0", "[::ffff:8.8.8.8]", "2130706433", "localhost.", "localhost@evil.example"])  # fmt: skip
def test_s22_the_admin_listener_answers_under_no_foreign_name(target: Target, host: str) -> None:
    for path in ("/api/v1/status", "/metrics", "/api/v1", "/api/v1/messages"):
        answer = target.admin.send("GET", path, None, {**BEARER, "Host": host})
        assert answer.status in (400, 421), (path, answer)


def test_s22_routes_answer_under_the_names_they_are_given(tmp_path_factory: pytest.TempPathFactory) -> None:
    files = {"esb.yaml": "bus: named\nhttp: { allow_hosts: [esb.plant.example] }\n"}
    with attacked(tmp_path_factory.mktemp("hosts"), files, "--no-watch") as one:
        named = {host: one.http.send("POST", "/probe", b"{}", {**JSON, "Host": host}).status
                 for host in ("esb.plant.example", "ESB.plant.example:8080", "localhost:1", "evil.example", "esb.plant.example.evil.example")}  # fmt: skip
        assert list(named.values()) == [200, 200, 200, 421, 421]
        one.alive()


# -- S23: slow clients ----------------------------------------------------------------------------------------------------
def test_s23_slow_clients_are_cut_off_and_nobody_waits_for_them(target: Target) -> None:
    begun = b"POST /open HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
    with contextlib.ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection((client.host, client.port), timeout=25))
            for client in (target.http, target.admin)
            for _ in range(100)
        ]
        for one in slow:
            one.sendall(begun)
        for _ in range(50):
            target.alive()
        # one byte now and then gains no time
        deadline = time.monotonic() + 25
        ends = 0
        for one in slow:
            one.settimeout(max(0.1, deadline - time.monotonic()))
            with contextlib.suppress(ConnectionError):
                found = b""
                while piece := one.recv(4096):
                    found += piece
                assert statuses(found) in ([], [408]), found
            ends += 1
        assert ends == len(slow)


# -- S24: sizes -----------------------------------------------------------------------------------------------------------
def oversized() -> dict[str, bytes]:
    return {
        "length of 1 GB": request("/open", "Content-Length: 1000000000", body="{}"),
        "2000 headers": request("/open", *(f"X-{n}: y" for n in range(2000)), "Content-Length: 2", body="{}"),
        "header of 70 KB": request("/open", "X: " + "y" * 70_000, "Content-Length: 2", body="{}"),
        "header name of 70 KB": request("/open", "X" * 70_000 + ": y", "Content-Length: 2", body="{}"),
        "target of 70 KB": request("/open?" + "a" * 70_000, "Content-Length: 2", body="{}"),
        "target of 9 KB": request("/open?" + "a" * 9_000, "Content-Length: 2", body="{}"),
        "method without end": b"P" * 70_000,
        "head without end": request("/open", "X: " + "y" * 70_000)[:-4],
        "chunk of 4 GB": request("/open", CHUNKED, body="ffffffff\r\n{}"),
    }


@pytest.mark.parametrize("name", oversized())
def test_s24_what_is_too_large_is_refused_early(target: Target, name: str) -> None:
    # who waited for the rest, or for the end of the time for it, would say something else (408); the last one may wait
    found = statuses(target.http.raw(oversized()[name], within=1.5 if name == "chunk of 4 GB" else 30))
    assert found[:1] in ([400], [413], [414], [431]) or name == "chunk of 4 GB", found


def test_s24_a_body_without_end_is_cut_and_memory_stays(target: Target) -> None:
    before = target.rss()
    piece = b"10000\r\n" + b" " * 65536 + b"\r\n"
    for _ in range(5):
        sent, found = 0, b""
        with socket.create_connection((target.http.host, target.http.port), timeout=20) as one:
            one.sendall(request("/open", CHUNKED))
            with contextlib.suppress(ConnectionError):
                while sent < 40_000_000:
                    one.sendall(piece)
                    sent += len(piece)
            with contextlib.suppress(ConnectionError):
                found = one.recv(4096)
        # the answer is there early; what still comes is thrown away, so that the client can read it
        assert statuses(found) in ([], [413])
    assert target.rss() - before < 64_000_000


# -- S25, S27: nothing before the login -----------------------------------------------------------------------------------
BODIES = {
    "application/json": b'{"a":' * 300,
    "application/xml": b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    "text/csv": b"=1\n",
    "multipart/form-data; boundary=x": b'--x\r\nContent-Disposition: form-data; name="f"; filename="../x"\r\n\r\ny\r\n--x--',
    "application/x-www-form-urlencoded": b"a=b",
    "application/x-yaml": b"!!python/object/apply:os.system [id]",
    "application/x-java-serialized-object": b"\xac\xed\x00\x05",
    "application/octet-stream": b"\x80\x04cos\nsystem\n.",
    "": b"x" * 10_000_000,
}  # fmt: skip
ACTIONS = [
    "dlq/retry",
    "dlq/discard",
    "dlq/edit",
    "replay",
    "reload",
    "routes/open/send",
    "routes/open/pause",
    "routes/open/resume",
]
READS = [
    "",
    "/status",
    "/routes",
    "/messages",
    "/messages/x",
    "/trace/x",
    "/dlq",
    "/dlq/groups",
    "/audit",
    "/audit/verify",
]


@pytest.mark.parametrize("media", BODIES)
def test_s25_without_credentials_no_body_is_parsed(target: Target, media: str) -> None:
    headers = {"Content-Type": media} if media else {}
    places = [(target.http, "/guarded")] + [(target.admin, f"/api/v1/{name}") for name in ACTIONS]
    for client, path in places:
        answer = Client(f"http://{client.host}:{client.port}")
        found = answer.send("POST", path, BODIES[media][:9_000_000], headers)
        answer.close()
        assert found.status == 401, (path, found)
        assert found.json["code"] == "unauthorized"


def test_s25_reading_needs_the_token_once_there_is_one(target: Target) -> None:
    for path in (*(f"/api/v1{name}" for name in READS), "/metrics"):
        for headers in (
            {},
            {"Cookie": "token=admin-token-of-the-test"},
            {"Authorization": "Basic YTpi"},
            {"X-Forwarded-For": "127.0.0.1"},
        ):
            assert target.admin.send("GET", path, None, headers).status == 401, (path, headers)
        assert (
            target.admin.send(
                "GET", f"{path}?token=admin-token-of-the-test&access_token=admin-token-of-the-test"
            ).status
            == 401
        )


PATHS = [
    "//api/v1/status", "/api//v1/status", "/api/v1//status", "/api/v1/status/", "/api/v1/status//", "/api/v1/./status",
    "/api/v1/x/../status", "/livez/../api/v1/status", "/livez/..;/api/v1/status", "/livez;/api/v1/status", "/api/v1/status;a=b",
    "/%61pi/v1/status", "/api/v1/%73tatus", "/api%2fv1%2fstatus", "/api/v1%2fstatus", "/api/v1/status%00", "/api/v1/status%20", "/api/v1/status.",
    "/api/v1/status.json", "/API/v1/status", "/api/V1/status", "/Api/v1/Status", "/api/v1/status%2e", "/api/v1/%2e%2e/v1/status",
    "/api/v1/..%2fv1/status", "/%2fapi/v1/status", "/api\\v1\\status", "/api/v1/status%0a", "/api/v1/status?", "/api/v1/status#x",
    "/livez%2f..%2fapi%2fv1%2fstatus", "/api/v1/status%3f", "/api/v1/status%23", "/metrics/", "//metrics", "/%6detrics", "/METRICS",
    "/metrics;x", "/metrics%00", "/livez/../metrics", "/api/v1/messages/../status", "/api/v1/trace/../status", "/api/v1/trace/..%2fstatus",
    "http://127.0.0.1/api/v1/status", "http://evil.example/api/v1/status", "/api/v1/status%c0%af", "/api/v1/%c1%b3tatus", "/.//api/v1/status",
    "*", "/api/v1/routes/open/send/", "/api/v1/routes/%2e%2e/send", "/api/v1/dlq/retry/..", "/admin", "/..", "/%2e%2e", "/openapi.json/../api/v1/status",
    "/docs", "/static/../api/v1/status", "/api/v1/status%e2%80%8b", "/\u00e0pi/v1/status",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=ascii)
def test_s27_no_spelling_of_a_path_goes_around_the_login(target: Target, path: str) -> None:
    for method in ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE"):
        found = statuses(target.admin.raw(request(path, "Content-Length: 0", "Connection: close", method=method)))
        assert found[:1] in ([400], [401], [404], [405], [421], [501]), (method, found)


@pytest.mark.parametrize(
    "header",
    [
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Forwarded-Prefix",
    ],
)
def test_s27_no_header_changes_method_or_path(target: Target, header: str) -> None:
    for value in ("POST", "/open", "GET", "/api/v1/status"):
        assert target.http.send("GET", "/open", None, {header: value}).status == 405
        assert target.http.send("POST", "/guarded", b"{}", {**JSON, header: value}).status == 401
        assert target.admin.send("GET", "/api/v1/status", None, {header: value}).status == 401
    assert target.http.send("POST", "/open?_method=GET", b"{}", JSON).status == 202


# -- S28: other people's pages --------------------------------------------------------------------------------------------
FOREIGN = [
    {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"}, {"Origin": "http://localhost"}, {"Origin": "file://"},
    {"Origin": ""}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
]  # fmt: skip


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_s28_a_page_of_another_site_can_do_nothing(target: Target, headers: dict[str, str]) -> None:
    for media in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json",
    ):
        for path in ACTIONS:
            answer = target.admin.send("POST", f"/api/v1/{path}", b"{}", {**BEARER, "Content-Type": media, **headers})
            assert (answer.status, answer.json["code"]) == (403, "foreign-page"), path
    assert target.admin.send("GET", "/api/v1/status", None, {**BEARER, **headers}).status == 403
    if headers.get("Sec-Fetch-Site") == "cross-site":
        assert target.http.send("POST", "/open", b"{}", {**JSON, **headers}).status == 403
    assert "access-control-allow-origin" not in answer.headers


def test_s28_s54_get_has_no_effect_and_answers_are_kept_from_pages(target: Target) -> None:
    for path in ACTIONS:
        assert target.admin.send("GET", f"/api/v1/{path}", None, BEARER).status in (404, 405)
    answer = target.admin.send("GET", "/api/v1/status", None, BEARER)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"


# -- what the admin API is asked ------------------------------------------------------------------------------------------
NONSENSE = [
    b"[" * 5000, b'{"ids":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b"\xff\xfe", b"null", b"[]", b'{"a":1,"a":2}', b'{"limit":NaN}',
    b'{"all":true,"limit":Infinity}', b'{"all":true,"limit":1e400}', b'{"all":true,"limit":1' + b"0" * 5000 + b"}", b'{"headers":[1],"body":"x"}',
    b'{"headers":"abc","body":"x"}', b'{"body":"\\ud800"}', b'{"all":true,"before":"x","reason":"r"}', b'{"all":true,"rate":"1e9/s"}',
    b'{"all":true,"since":"99999999999999999d"}', b'{"all":true,"track":[["a"]]}', b'{"all":true,"reason":"\\ud800"}', b'{"ids":{"a":1}}',
    b'{"all":true,"since":{"a":1}}', b'{"body":"{}","wait":"99999999999999999999d"}', b'{"body_base64":"?"}',
]  # fmt: skip
QUERIES = [
    "messages?before=abc", "messages?before=" + "9" * 5000, "messages?before=99999999999999999999", "audit?after=%C2%B2", "audit?after=" + "9" * 5000,
    "messages?since=99999999999999999d", "messages?limit=1e9", "messages?limit=-1", "messages?track=a", "messages?route=%00", "messages?state='",
    "messages?key='%20or%201=1--", "messages?text=%00'", "messages?group=%ff", "trace/" + "a" * 3000, "messages/%F0%9F", "messages?since=0001-01-01",
    "messages?until=9999-12-31T23:59:59-12:00", "dlq?limit=%27;drop%20table%20message;--",
]  # fmt: skip


@pytest.mark.parametrize("body", NONSENSE, ids=lambda body: repr(body[:40]))
def test_s33_nonsense_is_answered_in_words_and_never_with_a_fault(target: Target, body: bytes) -> None:
    for path in ACTIONS:
        if path.endswith(("pause", "reload")):
            continue
        answer = target.admin.send("POST", f"/api/v1/{path}", body, {**BEARER, **JSON})
        assert answer.status < 500, (path, answer)
        assert answer.headers["content-type"].startswith(("application/json", "application/problem+json"))
        assert b"Traceback" not in answer.body
        assert b"Error:" not in answer.body


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: str(query)[:40])
def test_s16_queries_are_values_and_never_statements(target: Target, query: str) -> None:
    answer = target.admin.send("GET", f"/api/v1/{query}", None, BEARER)
    assert answer.status in (200, 400, 404), answer
    assert b"sqlite" not in answer.body.lower()


# -- S35, S38 -------------------------------------------------------------------------------------------------------------
def call_from(address: str, target: Target, path: str, headers: dict[str, str]) -> int:
    lines = [f"{name}: {value}" for name, value in headers.items()]
    with socket.create_connection((target.http.host, target.http.port), timeout=10, source_address=(address, 0)) as one:
        one.sendall(
            request(path, *lines, "Connection: close", "Content-Length: 2", "Content-Type: application/json", body="{}")
        )
        return statuses(one.recv(65536))[0]


def test_s35_who_guesses_waits_and_the_others_do_not(target: Target) -> None:
    wrong = {"Authorization": "Basic cW1zOndyb25n"}
    right = {"Authorization": "Basic cW1zOmFhYWEta2V5"}
    assert call_from("127.0.0.9", target, "/guessed", right) == 202
    found = [call_from("127.0.0.9", target, "/guessed", wrong) for _ in range(200)]
    assert found[0] == 401
    assert found.count(401) < 60
    assert found[-1] == 429
    assert call_from("127.0.0.9", target, "/guessed", right) == 429, "while it waits, nothing is looked at"
    assert call_from("127.0.0.10", target, "/guessed", right) == 202
    for _ in range(100):
        assert call_from("127.0.0.10", target, "/guessed", right) == 202, "right ones cost nothing"


def test_s35_unknown_users_and_wrong_passwords_look_alike(target: Target) -> None:
    with contextlib.closing(Client(f"http://{target.http.host}:{target.http.port}")) as client:
        answers = [
            client.send("POST", "/guessed", b"{}", {**JSON, "Authorization": f"Basic {word}"})
            for word in ("cW1zOndyb25n", "bm9ib2R5Ondyb25n", "Og==", "?", "")
        ]
    assert {answer.status for answer in answers} == {401}
    assert len({answer.body for answer in answers}) == 1


def test_s38_an_idempotency_key_belongs_to_its_client(target: Target) -> None:
    def send(key: str, client: str, body: bytes = b"{}") -> tuple[int, dict[str, str]]:
        answer = target.http.send(
            "POST", "/guarded", body, {**JSON, "X-API-Key": f"{client * 4}-key", "Idempotency-Key": key}
        )
        return answer.status, json.loads(answer.body)

    first, again, other = send("k-1", "a"), send("k-1", "a"), send("k-1", "b")
    assert (first[0], again[0], other[0]) == (202, 202, 202)
    assert first[1]["message_id"] == again[1]["message_id"] != other[1]["message_id"]
    changed = send("k-1", "b", b'{"n":1}')
    assert (changed[0], changed[1]["message_id"]) == (409, other[1]["message_id"])
    assert send("x" * 255, "a")[0] == 202
    assert send("x" * 256, "a")[0] == 400
    assert send("x" * 30_000, "a")[0] == 400
    assert statuses(
        target.http.raw(request("/open", "Idempotency-Key: " + "x" * 1_000_000, "Content-Length: 2", body="{}"))
    ) == [431]
    # a client's name is no part of a key that another one could write
    assert send("1:a:k-1", "b")[1]["message_id"] not in {first[1]["message_id"], other[1]["message_id"]}


# -- S45: two listeners, two powers ---------------------------------------------------------------------------------------
def test_s45_nothing_of_the_control_plane_is_on_the_port_of_messages(target: Target) -> None:
    for path in (
        "/",
        "/livez",
        "/readyz",
        "/metrics",
        "/api/v1",
        "/api/v1/status",
        "/api/v1/reload",
        "/api/v1/audit",
        "/openapi.json",
    ):
        for method in ("GET", "POST"):
            assert target.http.send(method, path, b"{}", {**BEARER, **JSON}).status == 404
    for path in ("/open", "/guarded", "/probe"):
        assert target.admin.send("POST", path, b"{}", {**BEARER, **JSON}).status == 404


# -- S26 ------------------------------------------------------------------------------------------------------------------
def test_s26_off_loopback_the_admin_listener_needs_a_token(
    target: Target, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("bare")
    (root / "routes").mkdir()
    for host in ("0.0.0.0:0", "[::]:0"):
        done = esb("run", ".", "--admin", host, "--http", "127.0.0.1:0", cwd=root)
        assert done.returncode == 78, (host, done.stderr)
        assert "needs a token" in done.stderr
    assert f"http://127.0.0.1:{target.admin.port}" == target.bus.admin
