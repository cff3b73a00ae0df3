"""XML: how it maps to a body, and what is refused."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from esb.errors import Invalid
from esb.formats.json import Json
from esb.formats.xml import Xml
from esb.formats.xml_write import MAX_DEPTH

IDOC = b"""<?xml version="1.0" encoding="UTF-8"?>
<MATMAS05>
   <IDOC BEGIN="1">
      <EDI_DC40 SEGMENT="1"><DOCNUM>0000000215172311</DOCNUM><SNDPRT></SNDPRT></EDI_DC40>
      <!-- one material -->
      <E1MARAM SEGMENT="1">
         <MATNR>000000000123456789</MATNR>
         <BRGEW>5.550</BRGEW>
         <E1MAKTM SEGMENT="1"><SPRAS>E</SPRAS><MAKTX> Gear, 12" </MAKTX></E1MAKTM>
         <E1MAKTM SEGMENT="1"><SPRAS>D</SPRAS><MAKTX>Zahnrad</MAKTX></E1MAKTM>
      </E1MARAM>
   </IDOC>
</MATMAS05>
"""


def refused(data: bytes, **options: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        Xml(**options).decode(data)
    return caught.value


def unwritable(body: Any, **options: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        Xml(**options).encode(body)
    return caught.value


# -- the mapping -------------------------------------------------------------------------------------------------------


def test_an_idoc_keeps_its_zeros_spaces_and_segments() -> None:
    body = Xml(always_list=("E1MARAM",)).decode(IDOC)
    assert body == {
        "MATMAS05": {
            "IDOC": {
                "@BEGIN": "1",
                "EDI_DC40": {"@SEGMENT": "1", "DOCNUM": "0000000215172311", "SNDPRT": ""},
                "E1MARAM": [
                    {
                        "@SEGMENT": "1",
                        "MATNR": "000000000123456789",
                        "BRGEW": "5.550",
                        "E1MAKTM": [
                            {"@SEGMENT": "1", "SPRAS": "E", "MAKTX": ' Gear, 12" '},
                            {"@SEGMENT": "1", "SPRAS": "D", "MAKTX": "Zahnrad"},
                        ],
                    }
                ],
            }
        }
    }


@pytest.mark.parametrize(
    ("document", "body"),
    [
        ("<A/>", {"A": ""}),
        ("<A></A>", {"A": ""}),
        ("<A>  </A>", {"A": "  "}),
        ("<A>0012</A>", {"A": "0012"}),
        ('<A x="1"/>', {"A": {"@x": "1"}}),
        ('<A x="1">t</A>', {"A": {"@x": "1", "#text": "t"}}),
        ("<A><B>1</B><C/><B>2</B></A>", {"A": {"B": ["1", "2"], "C": ""}}),
        ("<A> one <B/> two </A>", {"A": {"B": "", "#text": "one two"}}),
        ("<A>a<!-- c -->b<?pi?>c</A>", {"A": "abc"}),
        ("<A><![CDATA[<b>&amp;]]></A>", {"A": "<b>&amp;"}),
        ("<A><![CDATA[<!DOCTYPE html>]]></A>", {"A": "<!DOCTYPE html>"}),
        ("<A>&lt;&#228;&#x20AC;</A>", {"A": "<ä€"}),
        ("<?xml version='1.0'?>\n<!-- c -->\n<?pi?><A>1</A>\n<!-- d -->", {"A": "1"}),
    ],
)
def test_the_convention(document: str, body: Any) -> None:
    assert Xml().decode(document.encode()) == body


def test_the_root_can_be_left_out_and_put_back() -> None:
    codec = Xml(root="drop", element="Order")
    body = codec.decode(b'<Order no="1"><Qty>5</Qty></Order>')
    assert body == {"@no": "1", "Qty": "5"}
    assert codec.encode(body).endswith(b'<Order no="1"><Qty>5</Qty></Order>')


SOAP = (
    b'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" xmlns="urn:qms">'
    b'<s:Body s:id="7" xml:lang="de"><Lot>1</Lot></s:Body></s:Envelope>'
)


def test_namespaces_are_stripped() -> None:
    assert Xml().decode(SOAP) == {"Envelope": {"Body": {"@id": "7", "@lang": "de", "Lot": "1"}}}


def test_namespaces_are_kept_and_written_again() -> None:
    codec = Xml(namespaces="keep", declaration=False)
    body = codec.decode(SOAP)
    assert body == {
        "s:Envelope": {
            "@xmlns:s": "http://schemas.xmlsoap.org/soap/envelope/",
            "@xmlns": "urn:qms",
            "s:Body": {"@s:id": "7", "@xml:lang": "de", "Lot": "1"},
        }
    }
    assert codec.encode(body) == SOAP


def test_a_prefix_of_the_route_stands_for_its_namespace_whatever_the_sender_calls_it() -> None:
    codec = Xml(
        namespaces="keep",
        prefixes={"soap": "http://schemas.xmlsoap.org/soap/envelope/", "q": "urn:qms"},
        declaration=False,
    )
    body = codec.decode(SOAP)
    assert body == {"soap:Envelope": {"soap:Body": {"@soap:id": "7", "@xml:lang": "de", "q:Lot": "1"}}}
    written = codec.encode(body)
    assert b'xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/" xmlns:q="urn:qms"' in written
    assert codec.decode(written) == body


def test_an_undeclared_default_namespace_is_kept() -> None:
    codec = Xml(namespaces="keep", declaration=False)
    document = b'<a xmlns="u"><b xmlns=""><c/></b></a>'
    assert codec.encode(codec.decode(document)) == document


def test_attributes_that_strip_makes_equal_are_refused() -> None:
    error = refused(b'<a xmlns:p="u" p:x="1" x="2"/>')
    assert "two attributes are called `x`" in error.message
    assert error.hint == "set `namespaces: keep`"


# -- encodings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1", "windows-1252"])
def test_the_declared_encoding_is_read(encoding: str) -> None:
    document = f'<?xml version="1.0" encoding="{encoding}"?><A>Jörg</A>'.encode(encoding)
    assert Xml().decode(document) == {"A": "Jörg"}


def test_a_byte_order_mark_is_accepted() -> None:
    assert Xml().decode(b"\xef\xbb\xbf<A>\xc3\xa4</A>") == {"A": "ä"}
    assert Xml().decode("<A>ä</A>".encode("utf-16")) == {"A": "ä"}


def test_a_wrong_declaration_is_overruled() -> None:
    document = '<?xml version="1.0" encoding="UTF-8"?><A>Jörg €</A>'.encode("cp1252")
    assert "charset" in refused(document).hint
    assert Xml(charset="cp1252").decode(document) == {"A": "Jörg €"}


def test_bytes_beyond_the_overruling_charset_are_refused() -> None:
    assert "0x81" in refused(b"<A>\x81</A>", charset="cp1252").message


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("utf-8", b"UTF-8"),
        ("iso-8859-1", b"ISO-8859-1"),
        ("cp1252", b"windows-1252"),
        ("ascii", b"US-ASCII"),
        ("utf-8-sig", b"UTF-8"),
    ],
)
def test_the_written_encoding_is_declared_and_what_it_lacks_is_a_reference(encoding: str, declared: bytes) -> None:
    data = Xml(encoding=encoding).encode({"A": {"@b": "ü中", "#text": "ü中"}})
    assert b'encoding="' + declared + b'"' in data
    assert Xml().decode(data) == {"A": {"@b": "ü中", "#text": "ü中"}}


# -- writing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "written"),
    [
        ({"n": Decimal("12.10"), "i": 10**20, "t": True, "f": False}, b"<n>12.10</n><i>100000000000000000000</i><t>true</t><f>false</f>"),
        ({"n": Decimal("1E+5")}, b"<n>100000</n>"),
        ({"n": Decimal("1E-7")}, b"<n>0.0000001</n>"),
        ({"a": None, "b": ["x", None, "y"], "@c": None}, b"<b>x</b><b>y</b>"),
        ({"a": {}, "b": []}, b"<a/>"),
        ({"a": {"#text": 5, "@u": Decimal("0.50")}}, b'<a u="0.50">5</a>'),
        ({"a": "<&>\r\n\t\"'"}, b"<a>&lt;&amp;&gt;&#13;\n\t\"'</a>"),
        ({"a": {"@x": "<&>\r\n\t\"'"}}, b'<a x="&lt;&amp;&gt;&#13;&#10;&#9;&quot;\'"/>'),
        ({"a": "]]>"}, b"<a>]]&gt;</a>"),
    ],
)  # fmt: skip
def test_values_are_written(content: Any, written: bytes) -> None:
    assert Xml(declaration=False).encode({"R": content}) == b"<R>" + written + b"</R>"


def test_a_list_of_one_is_a_root() -> None:
    assert Xml(declaration=False).encode({"R": [{"a": "x"}]}) == b"<R><a>x</a></R>"


def test_null_can_be_an_empty_element() -> None:
    assert Xml(declaration=False, nulls="empty").encode({"R": {"a": None, "b": [None]}}) == b"<R><a/><b/></R>"


def test_a_document_begins_with_its_declaration() -> None:
    assert Xml().encode({"R": "x"}) == b'<?xml version="1.0" encoding="UTF-8"?>\n<R>x</R>'


@pytest.mark.parametrize(
    ("body", "said", "pointer"),
    [
        ({}, "it has 0 keys", ""),
        ({"a": 1, "b": 2}, "it has 2 keys", ""),
        ({"@a": "1"}, "it has 1 keys", ""),
        ("text", "it is not an object", ""),
        ({"R": ["a", "b"]}, "one root element, not 2", "/R"),
        ({"R": {"a b": 1}}, "`a b` is not a name", "/R/a b"),
        ({"R": {"1a": 1}}, "`1a` is not a name", "/R/1a"),
        ({"R": {"": 1}}, "`` is not a name", "/R/"),
        ({"R": {"@x y": 1}}, "`x y` is not a name", "/R/@x y"),
        ({"R": {"p:a": 1}}, "the prefix of `p:a` is not declared", "/R/p:a"),
        ({"R": {"@p:a": 1}}, "the prefix of `p:a` is not declared", "/R/@p:a"),
        ({"R": {"a": {"@xmlns:xml": "u"}}}, "cannot be declared", "/R/a"),
        ({"R": {"@xmlns:p": ""}}, "not a namespace declaration", "/R/@xmlns:p"),
        ({"R": {"a": [["x"]]}}, "a list inside of a list", "/R/a/0"),
        ({"R": {"a": b"x"}}, "raw bytes has no text form", "/R/a"),
        ({"R": {"a": 1.5}}, "a float has no text form", "/R/a"),
        ({"R": {"@a": {"b": 1}}}, "an object with 1 member has no text form", "/R/@a"),
        ({"R": {"a": Decimal("NaN")}}, "a number may have", "/R/a"),
        ({"R": {"a": Decimal("1E+1000000")}}, "a number may have", "/R/a"),
        ({"R": {"a": ["ok", "a\x00b"]}}, "character 2 is U+0000", "/R/a/1"),
        ({"R": {"@a": "\x1f"}}, "character 1 is U+001F", "/R/@a"),
        ({"R": {"a": "\ud800"}}, "U+D800", "/R/a"),
        ({"R": {"a": "\uffff"}}, "U+FFFF", "/R/a"),
        ({"R": {5: "x"}}, "5 is not an element name", "/R"),
    ],
)
def test_what_xml_cannot_hold_is_refused_by_its_pointer(body: Any, said: str, pointer: str) -> None:
    error = unwritable(body)
    assert said in error.message
    assert error.violations[0].pointer == pointer


def test_a_dropped_root_needs_a_name_to_be_written() -> None:
    assert "set `element: <name>`" in unwritable({"a": 1}, root="drop").hint


def test_a_name_that_the_encoding_lacks_is_refused() -> None:
    assert "not a name" in unwritable({"中": "x"}, encoding="iso-8859-1").message


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is empty"),
        (b"  \n", "it is empty"),
        (b'{"a": 1}', "line 1, column 1"),
        (b"<a>\n<b></a>", "line 2"),
        (b"<a>", "line 1"),
        (b"<a/><b/>", "Extra content"),
        (b"<a>&nbsp;</a>", "Entity 'nbsp' not defined"),
        (b'<a x="1" x="2"/>', "redefined"),
        (b"<p:a/>", "prefix p"),
        (b"<a>&#0;</a>", "line 1"),
        (b"<a>\x01</a>", "line 1"),
        (b"<a>\xff</a>", "encoding"),
        (b'<?xml version="1.0" encoding="klingon"?><a/>', "ncoding"),
        (b'\n<?xml version="1.0"?><a/>', "line 2"),
    ],
)
def test_what_is_not_well_formed_is_refused_with_its_line(data: bytes, said: str) -> None:
    error = refused(data)
    assert said in error.message
    assert error.message.startswith("the body is not acceptable XML: ")


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 300, 50_000])
def test_nesting_is_bounded(depth: int) -> None:
    assert f"deeper than {MAX_DEPTH} levels" in refused(b"<a>" * depth + b"</a>" * depth).message


def test_the_deepest_document_still_fits_into_json() -> None:
    document = b"<a>1</a><a>2</a>"
    for _ in range(MAX_DEPTH - 2):
        document = b"<a>" + document + b"</a><a/>"
    body = Xml().decode(b"<r>" + document + b"</r>")
    assert Json().decode(Json().encode(body)) == body
    assert Xml().decode(Xml().encode(body)) == body


def test_writing_is_bounded_as_deep_as_reading() -> None:
    body: Any = "x"
    for _ in range(MAX_DEPTH + 1):
        body = {"a": body}
    assert f"deeper than {MAX_DEPTH}" in unwritable(body).message


# -- no document type, no entity, no file, no network --------------------------------------------------------------------


def _laughs(count: int) -> bytes:
    entities = b'<!ENTITY l0 "ha">' + b"".join(
        b'<!ENTITY l%d "%s">' % (i, b"&l%d;" % (i - 1) * 10) for i in range(1, count)
    )
    return b"<!DOCTYPE a [" + entities + b']><a b="&l%d;">&l%d;</a>' % (count - 1, count - 1)


ATTACKS = {
    "bare": b"<!DOCTYPE a><a/>",
    "html": b"<!DOCTYPE html><html/>",
    "internal entity": b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
    "external entity": b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><a>&x;</a>',
    "external subset": b'<!DOCTYPE a SYSTEM "file:///etc/hostname"><a/>',
    "parameter entity": b'<!DOCTYPE a [<!ENTITY % p SYSTEM "file:///etc/hostname"> %p;]><a/>',
    "public subset": b'<!DOCTYPE a PUBLIC "-//X//Y" "http://127.0.0.1:9/x.dtd"><a/>',
    "laughs": _laughs(12),
    "quadratic": b'<!DOCTYPE a [<!ENTITY x "' + b"x" * 50_000 + b'">]><a b="' + b"&x;" * 5_000 + b'"/>',
    "default attribute": b'<!DOCTYPE a [<!ATTLIST a x CDATA "1">]><a/>',
    "utf-16": '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'.encode("utf-16"),
    "utf-7": b'<?xml version="1.0" encoding="UTF-7"?>+ADwAIQ-DOCTYPE a SYSTEM +ACI-file:///etc/hostname+ACIAPgA8-a/+AD4-',
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_document_type_is_refused_whatever_it_holds(name: str) -> None:
    error = refused(ATTACKS[name])
    assert "document type" in error.message
    assert "hostname" not in error.message


def test_a_file_that_a_document_type_names_is_not_opened(tmp_path: Path) -> None:
    secret = tmp_path / "secret.dtd"
    secret.write_text("<!ENTITY leak 'the secret'>")
    error = refused(f'<!DOCTYPE a SYSTEM "{secret.as_uri()}"><a>&leak;</a>'.encode())
    assert "the secret" not in str(error)
    assert "document type" in error.message


@pytest.fixture
def listener() -> Iterator[tuple[int, list[object]]]:
    """A local port that counts who calls."""
    calls: list[object] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, address = server.accept()
            except OSError:
                return
            calls.append(address)
            connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield server.getsockname()[1], calls
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(5)


def test_nothing_calls_the_network(listener: tuple[int, list[object]]) -> None:
    port, calls = listener
    url = f"http://127.0.0.1:{port}/x"
    for document in (
        f'<!DOCTYPE a SYSTEM "{url}"><a/>',
        f'<!DOCTYPE a [<!ENTITY x SYSTEM "{url}">]><a>&x;</a>',
        f'<!DOCTYPE a [<!ENTITY % p SYSTEM "{url}"> %p;]><a/>',
    ):
        refused(document.encode())
    include = f'<a xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="{url}"/></a>'
    assert Xml().decode(include.encode()) == {"a": {"include": {"@href": url}}}
    schema = f'<a xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="u {url}"><?xml-stylesheet href="{url}"?></a>'
    Xml().decode(schema.encode())
    assert calls == []
