"""Texts that break careless programs come back byte for byte from every format that can hold them."""

from __future__ import annotations

import pytest

from esb.formats.csv import Csv
from esb.formats.json import Json
from esb.formats.text import Text
from esb.formats.xml import Xml

NAUGHTY = [
    "",
    " ",
    "  leading and trailing  ",
    "undefined",
    "null",
    "NaN",
    "-Infinity",
    "true",
    "0012",
    "1e5",
    "12.10",
    "1,5",
    "0x1F",
    "12e5",
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)",
    "+1-2",
    "'; DROP TABLE lots; --",
    '" or ""="',
    "<script>alert(1)</script>",
    "<![CDATA[x]]>",
    "]]>",
    "<!-- c -->",
    "<?pi?>",
    "&lt;&amp;&#65;&unknown;",
    "{{ 7*7 }}",
    "{% raw %}",
    "${jndi:ldap://x}",
    "%s%n%x",
    "../../etc/passwd",
    "C:\\CON\\aux",
    "a\tb",
    "line\nfeed",
    "carriage\rreturn",
    "both\r\nends\r\n",
    "\n",
    "semi;colon, comma|pipe",
    "3/4\" pipe, 5' long",
    '""',
    "ﬀ ligature",
    "Straße ẞ ß",
    "İstanbul ıI",
    "ＦＵＬＬｗｉｄｔｈ",
    "e\u0301 combining",
    "Å Å",
    "مرحبا بالعالم",
    "\u202eright to left override",
    "שָׁלוֹם",
    "田中さんにあげて下さい",
    "👩‍👩‍👧‍👦 🏳️‍🌈",
    "𝕳𝖊𝖑𝖑𝖔 \U0010fffd",
    "\u200b\u200czero width\u2060",
    "\ufeffmark inside\ufeff",
    "\u0085\u2028\u2029 line ends of other kinds",
    "no-break\u00a0space\u3000wide",
    "\x7f\x80\x9f",
    "Ω≈ç√∫˜µ≤≥÷",
    "٠١٢٣ ৪ Ⅷ ½",
    "a" * 5000,
]


def test_there_are_enough_of_them() -> None:
    assert len(NAUGHTY) >= 50


@pytest.mark.parametrize("text", NAUGHTY)
def test_json(text: str) -> None:
    body = {"value": text, "list": [text], f"k{text}": 1}
    assert Json().decode(Json().encode(body)) == body


@pytest.mark.parametrize("text", NAUGHTY)
def test_xml_text_and_attribute(text: str) -> None:
    body = {"Root": {"@a": text, "Child": text, "Last": {"@b": "1", **({"#text": text} if text else {})}}}
    data = Xml().encode(body)
    assert Xml().decode(data) == body
    assert Xml(encoding="iso-8859-1").decode(Xml(encoding="iso-8859-1").encode(body)) == body
    assert Xml().encode(Xml().decode(data)) == data


@pytest.mark.parametrize("text", NAUGHTY)
@pytest.mark.parametrize("codec", [Csv(), Csv(delimiter=";", quote="'", newline="lf"), Csv(delimiter="\t")])
def test_csv_cell(text: str, codec: Csv) -> None:
    records = [{"id": "1", "value": text}, {"id": "2", "value": text}]
    data = codec.encode(records)
    assert codec.decode(data) == records
    assert codec.encode(codec.decode(data)) == data


@pytest.mark.parametrize("text", NAUGHTY)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
def test_plain_text(text: str, encoding: str) -> None:
    codec = Text(encoding=encoding)
    assert codec.decode(codec.encode(text)) == text
