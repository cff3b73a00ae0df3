"""What counts as a request, without sockets."""

from __future__ import annotations

import pytest

from esb.endpoints._http.framing import CHUNKED, Chunks, Framing, Refused, read_head


def head(*lines: str) -> Framing:
    return read_head("\r\n".join([*lines, "", ""]).encode("latin-1"), max_headers=10, max_target=100)


def refused(*lines: str) -> Refused:
    with pytest.raises(Refused) as caught:
        head(*lines)
    return caught.value


def test_a_plain_request_has_the_length_it_says() -> None:
    assert head("POST /a HTTP/1.1", "Host: bus", "Content-Length: 12").length == 12
    assert head("GET /a?b=c HTTP/1.1", "Host: bus:8080").length == 0
    assert head("POST /a HTTP/1.1", "Host: [::1]:80", "transfer-encoding: Chunked").length == CHUNKED
    assert head("GET /a HTTP/1.0").length == 0


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Content-Length: 5", "Content-Length: 5"],
        ["Content-Length: 5", "content-length: 6"],
        ["Content-Length: 5, 5"],
        ["Content-Length: +5"],
        ["Content-Length: -5"],
        ["Content-Length: 0x5"],
        ["Content-Length: 5 5"],
        ["Content-Length: "],
        ["Content-Length: ٥".encode().decode("latin-1")],
        ["Content-Length: 9999999999999999999999"],
        ["Transfer-Encoding: identity"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: chunked, chunked"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
        ["Transfer-Encoding: \x0bchunked"],
        ["Transfer-Encoding:\x00chunked"],
        ["Transfer-Encoding : chunked"],
        ["Content-Length : 5"],
        ["X: a", " folded"],
        ["X: a", "\tfolded"],
        ["X: a\nContent-Length: 5"],
        ["X: a\rContent-Length: 5"],
        [": no name"],
        ["no colon"],
        ["X: \x7f"],
        ["Näme: x"],
    ],
)
def test_ambiguous_framing_is_refused(lines: list[str]) -> None:
    assert refused("POST /a HTTP/1.1", "Host: bus", *lines).status == 400


@pytest.mark.parametrize(
    "lines",
    [[], ["Host: a", "Host: a"], ["Host: a", "hOST: b"], ["Host:"], ["Host: a b"], ["Host: user@a"], ["Host: a/b"]],
)
def test_a_request_has_exactly_one_well_formed_host(lines: list[str]) -> None:
    assert refused("GET /a HTTP/1.1", *lines).status == 400


@pytest.mark.parametrize(
    "line",
    [
        "get /a HTTP/1.1",
        "GET  /a HTTP/1.1",
        "GET /a HTTP/2.0",
        "GET /a HTTP/1.2",
        "GET /a",
        "GET /a b HTTP/1.1",
        "GET /ä HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET \\a HTTP/1.1",
        "GET /a\\b HTTP/1.1",
        "GET * HTTP/1.1",
        "GET a HTTP/1.1",
        "CONNECT a:80 HTTP/1.1",
        "GET http://user@a/ HTTP/1.1",
        "GET ftp://a/ HTTP/1.1",
        "GET http:///a HTTP/1.1",
    ],
)
def test_a_malformed_request_line_is_refused(line: str) -> None:
    assert refused(line, "Host: bus").status == 400


def test_an_absolute_target_becomes_a_path_and_its_host_wins() -> None:
    found = head("GET http://right:80/a?b HTTP/1.1", "Host: wrong", "X: y")
    assert found.head == b"GET /a?b HTTP/1.1\r\nHost: right:80\r\nX: y\r\n\r\n"
    assert head("GET HTTPS://right HTTP/1.1", "Host: wrong").head.startswith(b"GET / HTTP/1.1\r\n")


def test_limits_have_their_own_answers() -> None:
    assert refused("GET /a HTTP/1.1", "Host: b", *["X: y"] * 10).status == 431
    assert refused(f"GET /{'a' * 100} HTTP/1.1", "Host: b").status == 414
    assert refused("GET / HTTP/1.1", "Host: b", "Expect: 200-maybe").status == 417


def test_an_expectation_is_told_for_http_1_1_only() -> None:
    assert head("PUT / HTTP/1.1", "Host: b", "Expect: 100-Continue", "Content-Length: 1").expects_continue
    assert not head("PUT / HTTP/1.0", "Expect: 100-continue", "Content-Length: 1").expects_continue


def test_one_empty_line_before_a_request_is_forgiven() -> None:
    assert head("", "GET / HTTP/1.1", "Host: b").length == 0
    assert refused("", "", "GET / HTTP/1.1", "Host: b").status == 400


def test_a_head_of_hostile_repetition_is_looked_at_once() -> None:
    for line in ("a" * 30_000, "a:\x00" * 10_000, "\t" * 30_000, "a:b\r" * 8_000):
        assert refused("GET / HTTP/1.1", "Host: b", line).status in (400, 431)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_the_end_of_a_chunked_body_is_found_however_it_arrives(step: int) -> None:
    body = b"5\r\nhello\r\n00a\r\n0123456789\r\n0\r\n\r\n"
    data = body + b"GET / HTTP/1.1"
    chunks, taken = Chunks(), 0
    for start in range(0, len(data), step):
        if chunks.done:
            break
        taken += chunks.take(data[start : start + step])
    assert chunks.done
    assert taken == len(body)


@pytest.mark.parametrize(
    "body",
    [
        b"5;ext=1\r\nhello\r\n0\r\n\r\n",
        b"5\nhello\n0\n\n",
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"-1\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"\r\n",
        b"100000000000\r\n",
        b"5" * 40,
        b"0\r\nTrailer: x\r\n\r\n",
        b"5\r\rhello\r\n0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("step", [1, 1000])
def test_a_bad_chunk_is_refused(body: bytes, step: int) -> None:
    chunks = Chunks()

    def feed() -> None:
        for start in range(0, len(body), step):
            chunks.take(body[start : start + step])

    with pytest.raises(Refused):
        feed()
