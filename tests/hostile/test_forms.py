"""S51: forms with files, as an attacker writes them: read strictly, bounded, and never more than data."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.hostile.tools import Listener, Target, attacked

ROUTES = """
route: form
from: {{ http: {{ path: /form, method: POST, format: {{ form: {{ max_parts: 50 }} }} }} }}
steps:
  - to: {{ http: {{ url: "{sink}/form", method: POST, format: json }} }}
"""
FORM = "multipart/form-data; boundary=b"


def part(disposition: str, content: bytes = b"x", *more: str) -> bytes:
    head = "\r\n".join([f"Content-Disposition: {disposition}", *more])
    return b"--b\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"


FIELD = part('form-data; name="a"')
END = b"--b--\r\n"
REFUSED = {
    "no end": FIELD,
    "no boundary": b"x" * 1_000_000,
    "another boundary": FIELD.replace(b"--b", b"--c") + END,
    "boundary of a line": b"--b\n" + FIELD[5:] + END,
    "51 parts": FIELD * 51 + END,
    "100 000 parts": FIELD * 100_000 + END,
    "long head": b"--b\r\nX: " + b"y" * 100_000 + b"\r\n\r\nx\r\n" + END,
    "10 000 headers": b"--b\r\n" + b"X: y\r\n" * 10_000 + b"\r\nx\r\n" + END,
    "head without a colon": b"--b\r\nContent-Disposition\r\n\r\nx\r\n" + END,
    "no name": part("form-data") + END,
    "empty name": part('form-data; name=""') + END,
    "quotes without end": part('form-data; name="' + '\\"' * 5_000) + END,
    "no form-data": part('attachment; name="a"') + END,
    "coded": part('form-data; name="a"', b"eA==", "Content-Transfer-Encoding: base64") + END,
    "no text": part('form-data; name="a"', b"\xff\xfe") + END,
    "marks without lines": b"--b\r\n" + b"--b" * 1_000_000,
    "near boundaries": b"--b\r\n\r\n" + b"\r\n--bb" * 1_000_000,
    "blanks behind the boundary": b"--b\r\n\r\n" + (b"\r\n--b" + b" " * 99) * 50_000,
}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, sink: Listener) -> Iterator[Target]:
    with attacked(
        tmp_path_factory.mktemp("forms"), {"routes/a.yaml": ROUTES.format(sink=sink.url)}, "--no-watch"
    ) as found:
        yield found


@pytest.mark.parametrize("name", REFUSED)
def test_s51_a_form_that_is_none_is_refused(target: Target, name: str) -> None:
    before = target.rss()
    answer = target.http("POST", "/form", REFUSED[name], Content_Type=FORM)
    assert answer.status == 400, answer
    assert b"Traceback" not in answer.body
    assert target.rss() - before < 64_000_000


def test_s51_names_of_fields_and_files_are_data(target: Target, sink: Listener) -> None:
    names = ["../../x", "/etc/passwd", "C:\\x", "..\\x", "a\u202eb", "__proto__", "{{7*7}}", "a;b", "%00", "x" * 200]
    body = b"".join(
        part(f'form-data; name="n{n}"; filename="{name}"', b"x", "Content-Type: text/plain")
        for n, name in enumerate(names)
    )
    seen = len(sink.bodies("/form"))
    assert (
        target.http("POST", "/form", body + part('form-data; name="__class__"') + END, Content_Type=FORM).status == 202
    )
    got = json.loads(sink.wait(seen + 1, "/form")[-1].body)
    assert got["__class__"] == "x"
    assert [got[f"n{n}"]["content"] for n in range(len(names))] == ["x"] * len(names)
    assert not any("/" in got[f"n{n}"]["filename"] or "\\" in got[f"n{n}"]["filename"] for n in range(len(names)))


@pytest.mark.parametrize(
    "media",
    [
        "multipart/mixed; boundary=b",
        "multipart/related; boundary=b",
        "application/json",
        "text/plain",
        "application/x-www-form-urlencoded",
    ],
)
def test_s51_s39_what_is_not_called_a_form_is_not_read_as_one(target: Target, media: str) -> None:
    assert target.http("POST", "/form", FIELD + END, Content_Type=media).status == 415
