"""Cross-reference tables: exact keys, sites, validity, reading backwards, and what is wrong with a file."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from esb.errors import ConfigError, InternalFault, Problem, Unmapped
from esb.tables import CsvTable

PATH = "transforms/tables/plants.csv"
PLANTS = "plant,werks\nP10,1000\nP20,2000\n0012,0099\n12,0012\n"
DEFECTS = """code,erp,site,valid_from,valid_to
SCR,0100,,,
SCR,0190,P20,,
DENT,0200,,,2025-12-31
DENT,0210,,2026-01-01,
"""
WIDE = "code,text_en,text_de,group\nA,Scratch,Kratzer,SURF\nB,Dent,Delle,SURF\n"


def table(text: str, **options: Any) -> CsvTable:
    return CsvTable.read("plants", text, PATH, **options)


def problems(text: str, **options: Any) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        table(text, **options)
    return list(caught.value.problems)


def unmapped(found: CsvTable, value: Any, **options: Any) -> Unmapped:
    with pytest.raises(Unmapped) as caught:
        found.find(value, **options)
    return caught.value


def on(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# -- finding -----------------------------------------------------------------------------------------------------------


def test_the_first_column_is_the_key_and_the_second_the_value() -> None:
    found = table(PLANTS)
    assert found.find("P10") == "1000"
    assert found.columns == ("plant", "werks")


def test_keys_are_texts_and_compared_exactly() -> None:
    found = table(PLANTS)
    assert found.find("0012") == "0099"
    assert found.find("12") == "0012"


@pytest.mark.parametrize(
    ("value", "result"), [(12, "0012"), (Decimal(12), "0012"), (Decimal("1.2E+1"), "0012"), (True, "yes")]
)
def test_numbers_are_looked_up_by_their_text(value: Any, result: str) -> None:
    assert table(PLANTS + "true,yes\n").find(value) == result


def test_null_is_the_empty_key() -> None:
    assert table("a,b\n,nothing\n").find(None) == "nothing"
    assert "no row for null" in unmapped(table(PLANTS), None).message


def test_a_column_can_be_chosen() -> None:
    assert table(WIDE).find("A", column="text_de") == "Kratzer"
    assert table(WIDE).find("A", column="code") == "A"


def test_a_wide_table_gives_the_whole_row() -> None:
    assert table(WIDE).find("A") == {"code": "A", "text_en": "Scratch", "text_de": "Kratzer", "group": "SURF"}


def test_two_value_columns_give_the_first() -> None:
    assert table("a,b,c\n1,2,3\n").find("1") == "2"


def test_another_column_can_be_the_key() -> None:
    assert table(PLANTS, key="werks").find("1000") == "P10"


def test_a_row_of_the_site_beats_one_for_all() -> None:
    found = table(DEFECTS)
    assert found.find("SCR") == "0100"
    assert found.find("SCR", site={"plant": "P10"}) == "0100"
    assert found.find("SCR", site={"plant": "P20"}) == "0190"
    assert found.find("SCR", site={"id": "P20"}) == "0190"


def test_a_row_of_another_site_does_not_count() -> None:
    found = table("code,erp,site\nX,1,P20\n")
    assert found.find("X", site={"plant": "P20"}) == "1"
    assert "no row for 'X' for site P10" in unmapped(found, "X", site={"plant": "P10"}).message
    assert "no row for 'X' without a site" in unmapped(found, "X").message


def test_validity_includes_both_days() -> None:
    found = table(DEFECTS)
    assert found.find("DENT", on=on("2025-12-31T23:59:59")) == "0200"
    assert found.find("DENT", on=on("2026-01-01T00:00:00")) == "0210"


def test_without_a_day_the_latest_row_wins() -> None:
    assert table(DEFECTS).find("DENT") == "0210"


def test_a_row_that_is_not_valid_on_the_day_does_not_count() -> None:
    found = table("code,erp,valid_from\nX,1,2026-01-01\n")
    assert "no row for 'X' without a site on 2025-06-01" in unmapped(found, "X", on=on("2025-06-01")).message


def test_a_table_in_the_manner_of_german_excel() -> None:
    text = '\ufeffplant;werks\r\nP10;"10;00"\r\n\r\nP20;2000\r\n'
    assert table(text).find("P10") == "10;00"
    assert table("a\tb\n1\t2\n").find("1") == "2"


def test_an_empty_table_has_no_rows_and_is_no_problem() -> None:
    found = table("plant,werks\n")
    assert found.columns == ("plant", "werks")
    assert "no row for 'P10'" in unmapped(found, "P10").message


# -- what is missing ---------------------------------------------------------------------------------------------------


def test_a_missing_row_names_table_value_and_the_nearest_keys() -> None:
    error = unmapped(table(PLANTS), "P11")
    assert error.error_class == "unmapped"
    assert error.message == "table plants: no row for 'P11'"
    assert "'P10'" in error.hint
    assert PATH in error.hint


@pytest.mark.parametrize("value", ["p10", " P10", "P10 "])
def test_a_key_that_differs_in_case_or_spaces_is_pointed_out(value: str) -> None:
    assert "the table has 'P10'; keys are compared exactly" in unmapped(table(PLANTS), value).hint


def test_leading_zeros_are_pointed_out() -> None:
    hint = unmapped(table(PLANTS), "012").hint
    assert "'0012'" in hint
    assert "'12'" in hint


def test_a_long_value_is_cut() -> None:
    assert len(unmapped(table(PLANTS), "x" * 1000).message) < 150


@pytest.mark.parametrize("value", [["a"], {"a": 1}, 1.5])
def test_what_cannot_be_a_key_is_a_fault_of_the_route(value: Any) -> None:
    with pytest.raises(InternalFault, match="cannot be looked up"):
        table(PLANTS).find(value)


def test_an_unknown_column_is_a_fault_of_the_route() -> None:
    with pytest.raises(InternalFault, match="has no column `text_dee`") as caught:
        table(WIDE).find("A", column="text_dee")
    assert caught.value.hint == "did you mean `text_de`?"
    with pytest.raises(InternalFault, match="has no column"):
        table(WIDE).reverse("A", column="code")


# -- backwards ---------------------------------------------------------------------------------------------------------


def test_a_table_is_read_backwards() -> None:
    found = table(PLANTS)
    assert found.reverse("1000") == "P10"
    assert found.reverse(2000) == "P20"
    assert table(WIDE).reverse("Delle", column="text_de") == "B"


def test_backwards_minds_site_and_day() -> None:
    found = table("code,erp,site,valid_to\nA,1,,\nB,1,P20,\nC,2,,2025-12-31\n")
    assert found.reverse("1") == "A"
    assert found.reverse("1", site={"plant": "P20"}) == "B"
    with pytest.raises(Unmapped, match="on 2026-05-01"):
        found.reverse("2", on=on("2026-05-01"))


def test_a_value_that_stands_for_several_keys_is_not_guessed() -> None:
    with pytest.raises(Unmapped, match="stands for several keys: 'A', 'B'"):
        table(WIDE).reverse("SURF", column="group")


def test_a_missing_value_names_the_nearest() -> None:
    with pytest.raises(Unmapped, match="no row has '1001' in `werks`") as caught:
        table(PLANTS).reverse("1001")
    assert "'1000'" in caught.value.hint


# -- what is wrong with a file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "it is empty"),
        ("plant\nP10\n", 1, "a table needs two columns"),
        ("plant,site,valid_from\nP10,,\n", 1, "a table needs two columns"),
        ("plant,plant\n1,2\n", 1, "two columns are called 'plant'"),
        ("a,b\n1,2\n\n3\n", 4, "only 1 cell where the header has 2"),
        ("a,b\n1,2,3\n", 2, "3 cells where the header has 2"),
        ('a,b\n1,"2\n', 2, "a quote is opened here"),
        ("a,b\n1,2\n2,3\n1,4\n", 4, "the key '1' stands twice"),
        ("a,b,site\n1,2,P10\n1,4,P10\n", 3, "the key '1' stands twice for site P10"),
        ("a,b,valid_from\n1,2,2026-13-01\n", 2, "valid_from '2026-13-01' is not a date"),
        ("a,b,valid_to\n1,2,01.02.2026\n", 2, "valid_to '01.02.2026' is not a date"),
        ("a,b,valid_from,valid_to\n1,2,2026-02-01,2026-01-01\n", 2, "is before valid_from"),
        ("a,b,valid_from,valid_to\n1,2,,2026-06-30\n1,3,2026-06-30,\n", 3, "the key '1' stands twice"),
        ("a,b\n1,\x00\n", 1, "is a NUL"),
    ],
)
def test_a_problem_has_its_line(text: str, line: int, said: str) -> None:
    found = problems(text)
    assert [problem.code for problem in found] == ["ESB304"]
    assert said in found[0].message
    assert (found[0].position.path, found[0].position.line) == (PATH, line)


def test_all_problems_are_told_in_order() -> None:
    found = problems("a,b,valid_from\n1,2,x\n3\n4,5,y\n6,7,\n6,8,\n")
    assert [problem.position.line for problem in found] == [2, 3, 4, 6]
    assert found[3].related[0][0].line == 5


def test_rows_of_different_sites_or_times_are_no_doubles() -> None:
    table("a,b,site\n1,2,\n1,3,P10\n1,4,P20\n")
    table("a,b,valid_from,valid_to\n1,2,,2026-06-29\n1,3,2026-06-30,\n")


def test_an_unknown_key_column_is_a_problem() -> None:
    assert "there is no column `nope`" in problems(PLANTS, key="nope")[0].message


def test_a_row_without_an_end_holds_until_the_next_one_of_its_key_begins() -> None:
    """New codes from a date on are one more row: the old one stays as it is."""
    found = table(
        "plant,werks,site,valid_from\nP10,1000,,\nP10,1100,,2026-07-01\nP10,1200,,2027-01-01\nP10,9,P10,\nP20,2,,\n"
    )
    days = [("2020-01-01", "1000"), ("2026-06-30", "1000"), ("2026-07-01", "1100"), ("2026-12-31", "1100"), ("2030-01-01", "1200")]  # fmt: skip
    for day, werks in days:
        at = datetime.fromisoformat(f"{day}T12:00:00+00:00")
        assert found.find("P10", on=at) == werks, day
        assert found.find("P10", site={"name": "P20"}, on=at) == werks
        assert found.find("P20", on=at) == "2"
    at = datetime.fromisoformat("2026-08-01T12:00:00+00:00")
    assert (found.reverse("1100", on=at), found.find("P10")) == ("P10", "1200")
    with pytest.raises(Unmapped):
        found.reverse("1000", on=at)
    with pytest.raises(ConfigError, match="stands twice"):
        table("plant,werks,valid_from\nP10,1000,2026-07-01\nP10,1100,2026-07-01\n")
    with pytest.raises(ConfigError, match="stands twice"):
        table("plant,werks,valid_from,valid_to\nP10,1000,,2026-12-31\nP10,1100,2026-07-01,\n")
