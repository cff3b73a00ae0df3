"""Forms with files: as aiohttp, requests in the wild and Python's MIME library write and read them, and as attackers do."""

from __future__ import annotations

import email
import email.policy
from decimal import Decimal
from typing import Any

import pytest

from esb.errors import Invalid
from esb.formats.content_types import content_type_of
from esb.formats.csv import Csv
from esb.formats.form import Form
from esb.formats.multipart import split_parts
from esb.formats.xml import Xml


def part(disposition: str, content: bytes = b"x", *more: str) -> bytes:
    return "\r\n".join([f"Content-Disposition: {disposition}", *more, "", ""]).encode() + content


def form(*parts: bytes, boundary: bytes = b"b-1") -> bytes:
    return b"".join(b"--" + boundary + b"\r\n" + one + b"\r\n" for one in parts) + b"--" + boundary + b"--\r\n"


def file(name: str, filename: str, content: bytes, kind: str) -> bytes:
    return part(f'form-data; name="{name}"; filename="{filename}"', content, f"Content-Type: {kind}")


def test_fields_and_files_are_one_object() -> None:
    data = form(
        part('form-data; name="lot"', b"0012"),
        part('form-data; name="tag"', b"a"),
        part('form-data; name="tag"', "b\r\né".encode()),
        file("cert", "3.1.txt", b"line\r\n--b-1x\r\nend", "text/plain"),
        file("scan", "a.pdf", b"%PDF\x00\xff", "application/pdf"),
        part('form-data; name="empty"', b""),
    )
    assert Form().decode(data) == {
        "lot": "0012",
        "tag": ["a", "b\r\né"],
        "cert": {"filename": "3.1.txt", "content_type": "text/plain", "content": "line\r\n--b-1x\r\nend"},
        "scan": {"filename": "a.pdf", "content_type": "application/pdf", "base64": "JVBERgD/"},
        "empty": "",
    }


def test_a_file_is_read_as_the_route_says() -> None:
    codec = Form(files={"rows": Csv(delimiter=";", decimal=",", numbers=("qty",))})
    data = form(file("rows", "r.csv", b"lot;qty\r\nA;12,10\r\n", "application/vnd.ms-excel"))
    assert codec.decode(data)["rows"]["content"] == [{"lot": "A", "qty": Decimal("12.10")}]
    with pytest.raises(Invalid, match="`rows`"):
        Form(files={"rows": Xml()}).decode(data)


@pytest.mark.parametrize(
    ("disposition", "name", "filename"),
    [
        ('form-data; name="f"; filename="a;b.txt"', "f", "a;b.txt"),
        ('form-data; filename="a.txt"; name="f"', "f", "a.txt"),
        (r'form-data; name="f"; filename="a\"b.txt"', "f", 'a"b.txt'),
        ('form-data; name="f%22"; filename="a%22.txt"', 'f"', 'a".txt'),
        (r'form-data; name="f"; filename="C:\up\..\..\a.txt"', "f", "a.txt"),
        ('form-data; name="f"; filename="../../etc/passwd"', "f", "passwd"),
        ("Form-Data; name=f; filename=a.txt", "f", "a.txt"),
        ('form-data; name="f"; filename=""', "f", ""),
    ],
)
def test_names_are_read_as_browsers_write_them(disposition: str, name: str, filename: str) -> None:
    assert Form().decode(form(part(disposition)))[name]["filename"] == filename


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "does not begin with a boundary"),
        (b"{}", "does not begin with a boundary"),
        (b"--\r\n\r\n", "does not begin with a boundary"),
        (b"--" + b"x" * 71 + b"\r\n", "does not begin with a boundary"),
        (form(part('form-data; name="a"'))[:-8], "last boundary is missing"),
        (form(part('attachment; name="a"')), "no name"),
        (form(part("form-data")), "no name"),
        (form(part('form-data; name=""')), "no name"),
        (form(b"broken\r\n\r\nx"), "a head that is none"),
        (form(part('form-data; name="a"', b"\xff")), "text in UTF-8"),
        (form(part('form-data; name="a"', b"eA==", "Content-Transfer-Encoding: base64")), "transfer encoding"),
        (form(*[part('form-data; name="a"')] * 4), "more than 3 parts"),
        (form(part('form-data; name="a"', b"x" * 51)), "more than 50 bytes"),
        (form(b"X: " + b"y" * 20_000), "head of more than"),
    ],
)
def test_what_is_no_form_or_too_large_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        Form(max_parts=3, max_part=50).decode(data)


BODY: Any = {
    "lot": "0012",
    "qty": Decimal("12.10"),
    "ok": True,
    "none": None,
    "tags": ["a", 'b"'],
    "meta": {"plant": "P10"},
    'odd"name': "x",
    "cert": {"filename": 'c"1.txt', "content_type": "text/plain", "content": "grün"},
    "scan": {"filename": "a.pdf", "content_type": "application/pdf", "base64": "JVBERgD/"},
}


def test_what_is_written_is_read_by_a_mime_library_and_by_ourselves() -> None:
    codec = Form()
    data = codec.encode(BODY)
    kind = content_type_of(codec, data)
    read = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + data, policy=email.policy.HTTP)
    assert [one.get_payload(decode=True) for one in read.iter_parts()] == [
        b"0012", b"12.10", b"true", b"a", b'b"', b'{"plant":"P10"}', b"x", "grün".encode(), b"%PDF\x00\xff",
    ]  # fmt: skip
    again = codec.decode(data)
    assert (again["cert"], again["scan"], again["tags"]) == (BODY["cert"], BODY["scan"], BODY["tags"])
    assert again['odd"name'] == "x"
    assert codec.encode(BODY) == data


def test_a_file_is_written_in_its_format() -> None:
    codec = Form(files={"rows": Csv(delimiter=";")})
    (part_,) = split_parts(codec.encode({"rows": {"content": [{"a": "1", "b": "2"}]}}), _boundary(codec))
    assert part_.headers["content-disposition"] == 'form-data; name="rows"; filename="rows"'
    assert part_.headers["content-type"].startswith("text/csv")
    assert part_.content.split() == [b"a;b", b"1;2"]


def _boundary(codec: Form) -> str:
    data = codec.encode({"rows": {"content": [{"a": "1", "b": "2"}]}})
    return content_type_of(codec, data).partition("boundary=")[2]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ([], ""),
        ({}, ""),
        ({"a": b"raw"}, "/a"),
        ({"a\r\nX": "1"}, "/a\r\nX"),
        ({"a": {"content": "x", "filename": "a\nb"}}, "/a/filename"),
        ({"a": {"content": "x", "content_type": "text/plain\r\nX: y"}}, "/a/content_type"),
        ({"a": {"base64": "*"}}, "/a/base64"),
    ],
)
def test_what_cannot_be_written_says_where(body: Any, pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        Form().encode(body)
    assert [one.pointer for one in caught.value.violations] == [pointer]
