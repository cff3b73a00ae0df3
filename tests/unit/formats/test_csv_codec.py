"""CSV: records with their lines, exact numbers, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from esb.errors import Invalid
from esb.formats.csv import Csv, HeaderKind
from esb.spec import MISSING, ListNode, Reader, ScalarNode, read_options
from esb.spec.nodes import MapNode, Position


def refused(data: bytes, **options: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        Csv(**options).decode(data)
    return caught.value


def unwritable(body: Any, **options: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        Csv(**options).encode(body)
    return caught.value


# -- reading -----------------------------------------------------------------------------------------------------------


def test_cells_stay_text() -> None:
    data = b"PO;Charge;Menge\r\n4500000123;0012;1.234,50\r\n"
    assert Csv(delimiter=";").decode(data) == [{"PO": "4500000123", "Charge": "0012", "Menge": "1.234,50"}]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_is_read(newline: bytes) -> None:
    data = newline.join([b"a,b", b"1,2", b"3,4"])
    assert Csv().decode(data) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


def test_a_quoted_cell_may_hold_anything() -> None:
    data = b'a,b\n"x, ""y""\r\nz",2\n'
    assert Csv().decode(data) == [{"a": 'x, "y"\r\nz', "b": "2"}]


def test_a_quote_inside_of_a_bare_cell_is_a_character() -> None:
    assert Csv().decode(b'size\n3/4" pipe\n') == [{"size": '3/4" pipe'}]


def test_without_a_quote_character_quotes_are_characters() -> None:
    assert Csv(quote="").decode(b'a,b\n"1,2"\n') == [{"a": '"1', "b": '2"'}]


def test_the_encoding_is_declared() -> None:
    assert Csv(encoding="cp1252").decode("Name\nJörg €\n".encode("cp1252")) == [{"Name": "Jörg €"}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_the_header(encoding: str) -> None:
    data = "lot\n1\n".encode("utf-8-sig" if encoding != "utf-16" else "utf-16")
    assert Csv(encoding=encoding).decode(data) == [{"lot": "1"}]


def test_names_for_a_file_without_a_header() -> None:
    assert Csv(header=("lot", "qty")).decode(b"1,2\n3,4\n") == [{"lot": "1", "qty": "2"}, {"lot": "3", "qty": "4"}]
    assert Csv(header=("lot", "")).decode(b"1,2\n") == [{"lot": "1"}]
    assert Csv(header=False).decode(b"1,2\n3,4\n") == [{"c1": "1", "c2": "2"}, {"c1": "3", "c2": "4"}]


def test_blank_lines_are_skipped_and_do_not_shift_lines() -> None:
    records = list(Csv(delimiter=";").records(b"\r\na;b\n\n ; \n1;2\n;;\n".replace(b";;\n", b";\n") + b"3;4"))
    assert records == [(5, {"a": "1", "b": "2"}), (7, {"a": "3", "b": "4"})]


def test_blank_lines_can_count() -> None:
    assert Csv(skip_blank=False).decode(b"a,b\n,\n") == [{"a": "", "b": ""}]
    assert "line 2" in refused(b"a,b\n\n1,2\n", skip_blank=False).message


def test_trim() -> None:
    assert Csv(trim=True).decode(b'a, b \n x , "y, z"\n') == [{"a": "x", "b": "y, z"}]
    assert Csv().decode(b" a ,b\n x ,y\n") == [{"a": " x ", "b": "y"}]


def test_a_record_knows_the_line_that_it_starts_on() -> None:
    data = b'a,b\n"1\n1",2\n3,4\n'
    assert [line for line, _ in Csv().records(data)] == [2, 4]


def test_a_trailing_delimiter_makes_a_column_without_a_name_that_is_left_out() -> None:
    assert Csv(delimiter=";").decode(b"a;b;\n1;2;\n") == [{"a": "1", "b": "2"}]
    error = refused(b"a;b;\n1;2;\n1;2;x\n", delimiter=";")
    assert "line 3: cell 3 is 'x', but its column has no name" in error.message


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "mark", "number"),
    [
        ("12.10", ".", Decimal("12.10")),
        ("1,234.5", ".", Decimal("1234.5")),
        ("1,234,567", ".", Decimal(1234567)),
        ("1.234,50", ",", Decimal("1234.50")),
        ("1 234,5", ",", Decimal("1234.5")),
        ("1\u00a0234,5", ",", Decimal("1234.5")),
        ("1’234.5", ".", Decimal("1234.5")),
        ("12,50-", ",", Decimal("-12.50")),
        ("+5", ".", Decimal(5)),
        (" 7 ", ".", Decimal(7)),
        ("1,5E+03", ",", Decimal("1.5E+3")),
        ("0012", ".", Decimal(12)),
        ("", ".", None),
        ("  ", ",", None),
    ],
)
def test_a_number_is_read_exactly(cell: str, mark: Any, number: Decimal | None) -> None:
    data = f"q;x\n{cell};1\n".encode()
    [record] = Csv(delimiter=";", decimal=mark, numbers=("q",)).decode(data)
    assert repr(record["q"]) == repr(number)


@pytest.mark.parametrize(
    ("cell", "mark"),
    [
        ("1.23", ","),
        ("1,23", "."),
        ("1.2345", ","),
        ("1.234.56", ","),
        ("1,234.567.8", "."),
        ("1.234 567,0", ","),
        ("-5-", "."),
        ("12a", "."),
        ("0x10", "."),
        ("NaN", "."),
        ("1e999", "."),
        ("1" * 500, "."),
        ("1" * 5000, "."),
        (".5.", "."),
    ],
)
def test_what_is_no_number_is_refused_with_line_column_and_pointer(cell: str, mark: Any) -> None:
    data = f"x;q\n1;5\n1;{cell}\n".encode()
    error = refused(data, delimiter=";", decimal=mark, numbers=("q",))
    assert "line 3: q " in error.message
    assert error.violations[0].pointer == "/1/q"
    assert len(error.message) < 300


def test_numbers_name_columns_that_exist() -> None:
    assert "no column 'q'" in refused(b"a\n1\n", numbers=("q",)).message


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is empty"),
        (b"\n\n", "it is empty"),
        (b"a,b\n1\n", "line 2: only 1 cell where the header has 2"),
        (b"a,b\n1,2,3\n", "line 2: 3 cells where the header has 2"),
        (b"a,a\n1,2\n", "line 1: two columns are called 'a' (1 and 2)"),
        (b"a,b,a \n", "two columns are called 'a' (1 and 3)"),
        (b'a,b\n"1,2\n3,4\n', "line 2: a quote is opened here and never closed"),
        (b'a,b\n"1"x,2\n', "line 2: something follows the closing quote"),
        (b"a,b\n1,\x00\n", "character 7 (line 2) is a NUL"),
        (b"a,b\n1,\xff\n", "byte 6 (line 2) is 0xFF"),
        (b"a,b\n1," + b"x" * 200_000, "line 2: field larger than"),
    ],
)
def test_refused_with_its_line(data: bytes, said: str) -> None:
    error = refused(data)
    assert said in error.message
    assert error.message.startswith("the body is not valid CSV: ")


def test_every_bad_row_is_listed_up_to_fifty() -> None:
    data = b"a,b\n" + b"1,2\n1\n" * 60
    error = refused(data)
    assert len(error.violations) == 50
    assert error.violations[0].detail.startswith("line 3: ")
    assert error.violations[1].detail.startswith("line 5: ")
    assert error.violations[1].pointer == "/3"


def test_bad_rows_can_be_set_aside_while_the_good_ones_go_on() -> None:
    bad: list[tuple[int, list[str], str]] = []

    def note(line: int, cells: Sequence[str], error: Invalid) -> None:
        bad.append((line, list(cells), error.violations[0].detail))

    data = b'a,q\n1,5\n2\n3,x\n"4"z,5\n5,6\n'
    good = list(Csv(numbers=("q",)).records(data, note))
    assert [record["a"] for _, record in good] == ["1", "5"]
    assert [(line, cells) for line, cells, _ in bad] == [(3, ["2"]), (4, ["3", "x"]), (5, [])]
    assert "only 1 cell" in bad[0][2]


def test_records_without_a_place_for_bad_rows_stop_at_the_first() -> None:
    records = Csv().records(b"a,b\n1,2\n3\n")
    assert next(records) == (2, {"a": "1", "b": "2"})
    with pytest.raises(Invalid, match="line 3"):
        next(records)


# -- writing -----------------------------------------------------------------------------------------------------------


def test_written_by_rfc_4180() -> None:
    body = [{"lot": "0012", "text": 'a "b", c', "n": Decimal("12.10"), "i": 5, "t": True, "x": None}]
    assert Csv().encode(body) == b'lot,text,n,i,t,x\r\n0012,"a ""b"", c",12.10,5,true,\r\n'


def test_columns_choose_and_order_and_fill() -> None:
    body = [{"b": 2, "a": 1}, {"a": 3}]
    assert Csv(columns=("a", "b"), newline="lf").encode(body) == b"a,b\n1,2\n3,\n"


def test_written_without_a_header() -> None:
    assert Csv(header=False, newline="lf").encode([{"a": 1}]) == b"1\n"
    assert Csv(header=("b", "a"), newline="lf").encode([{"a": 1, "b": 2}]) == b"2,1\n"


def test_one_object_is_one_row() -> None:
    assert Csv(newline="lf").encode({"a": "x"}) == b"a\nx\n"


def test_no_records_are_a_header_where_it_is_known() -> None:
    assert Csv().encode([]) == b""
    assert Csv(columns=("a", "b")).encode([]) == b"a,b\r\n"
    assert Csv(columns=("a", "b")).decode(b"a,b\r\n") == []


def test_decimals_get_the_mark_of_the_country_and_no_exponent() -> None:
    codec = Csv(delimiter=";", decimal=",", newline="lf")
    assert codec.encode([{"a": Decimal("1234.50"), "b": Decimal("1E+3"), "c": "1.5"}]) == b"a;b;c\n1234,50;1000;1.5\n"


@pytest.mark.parametrize(
    ("cell", "guarded"),
    [
        ("=1+1", b"'=1+1"),
        ("@SUM(A1)", b"'@SUM(A1)"),
        ("+cmd|' /C calc'!A0", b"'+cmd|' /C calc'!A0"),
        ("-2+3", b"'-2+3"),
        ("\tx", b"'\tx"),
        ("-12.5", b"-12.5"),
        ("+49", b"+49"),
        ("a=b", b"a=b"),
        (Decimal(-5), b"-5"),
    ],
)
def test_formulas_are_guarded_on_request(cell: Any, guarded: bytes) -> None:
    assert Csv(guard_formulas=True, newline="lf").encode([{"a": cell}]) == b"a\n" + guarded + b"\n"


def test_formulas_are_left_alone_in_files_for_machines() -> None:
    assert Csv(newline="lf").encode([{"a": "=1+1"}]) == b"a\n=1+1\n"


@pytest.mark.parametrize(
    ("body", "options", "said", "pointer"),
    [
        ("text", {}, "it is 'text', not a list of objects", ""),
        ([1], {}, "record 1 is 1, not an object", "/0"),
        ([{"a": 1}, {"a": 1, "b": 2}], {}, "record 2 has 'b', which is no column", "/1/b"),
        ([{"a": {"b": 1}}], {}, "an object with 1 member does not fit into a cell", "/0/a"),
        ([{"a": ["x"]}], {}, "a list of 1 item does not fit into a cell", "/0/a"),
        ([{"a": 1.5}], {}, "a float does not fit", "/0/a"),
        ([{"a": Decimal("NaN")}], {}, "a number may have", "/0/a"),
        ([{"a": "x,y"}], {"quote": ""}, "holds a delimiter or a line end", "/0/a"),
        ([{"a": "中"}], {"encoding": "cp1252"}, "U+4E2D, which cp1252 cannot write", ""),
    ],
)
def test_what_does_not_fit_is_refused(body: Any, options: dict[str, Any], said: str, pointer: str) -> None:
    error = unwritable(body, **options)
    assert said in error.message
    assert error.violations[0].pointer == pointer


# -- options -----------------------------------------------------------------------------------------------------------

AT = Position("routes/x.yaml", 3, 5)


def scalar(value: Any) -> ScalarNode:
    return ScalarNode(AT, value, str(value))


def read(**options: Any) -> tuple[Any, list[str]]:
    entries = tuple(
        (scalar(name), ListNode(AT, tuple(map(scalar, value))) if isinstance(value, list) else scalar(value))
        for name, value in options.items()
    )
    reader = Reader(where="csv")
    return read_options(Csv, MapNode(AT, entries), reader), [f"{p.code} {p.message}" for p in reader.problems]


def test_options_are_read() -> None:
    codec, problems = read(delimiter=";", decimal=",", encoding="CP1252", header=["a", "b"], numbers=["a"])
    assert problems == []
    assert codec == Csv(delimiter=";", decimal=",", encoding="cp1252", header=("a", "b"), numbers=("a",))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"delimiter": ";;"}, "`delimiter` needs one character"),
        ({"delimiter": ""}, "`delimiter` needs one character"),
        ({"delimiter": "\\t"}, "`delimiter` needs one character"),
        ({"quote": '""'}, "`quote` needs one character"),
        ({"delimiter": ";", "quote": ";"}, "`quote` needs one character that is not the delimiter"),
        ({"encoding": "klingon"}, "`klingon` is not a known encoding"),
        ({"encoding": "base64"}, "`base64` is not a known encoding"),
        ({"header": "yes"}, "`header` needs `true`, `false` or a list of column names"),
        ({"decimal": ";"}, "`;` is not one of `.`, `,`"),
        ({"separator": ";"}, "unknown key `separator`"),
    ],
)
def test_a_bad_option_is_a_problem(options: dict[str, Any], said: str) -> None:
    codec, problems = read(**options)
    assert codec is MISSING
    assert any(said in problem for problem in problems), problems


def test_the_schema_of_the_header_option_names_both_forms() -> None:
    assert {"type": "boolean"} in HeaderKind().schema()["anyOf"]
