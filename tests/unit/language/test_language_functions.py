"""The functions beyond JMESPath: exact numbers, texts, choices, identity, tables, and the docs that come from them."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esb.errors import Unmapped
from esb.language import numbers, texts
from esb.language.catalogue import function_docs
from esb.language.workspace import WorkspaceLanguage

Scope = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("declared", function_docs(), ids=lambda f: f.name)
def test_every_function_does_what_its_docs_say(language: WorkspaceLanguage, scope: Scope, declared: Any) -> None:
    found, told = language.expression(declared.example)(scope()), language.expression(declared.gives)(scope())
    assert found == told
    assert type(found) is type(told)
    assert str(found) == str(told)
    assert declared.doc.endswith(".")
    assert declared.signature.startswith(f"{declared.name}(")


def test_the_functions_of_the_contract_exist() -> None:
    names = {declared.name for declared in function_docs()}
    assert names >= {
        "add",
        "sub",
        "mul",
        "div",
        "round",
        "coalesce",
        "default",
        "concat",
        "substr",
        "replace",
        "upper",
        "lower",
        "pad",
        "strip_zeros",
        "split_text",
        "date_parse",
        "date_format",
        "now",
        "in_zone",
        "number",
        "uuid",
        "hash",
        "xref",
        "nullify",
    }


# -- numbers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "result"),
    [
        ("add(`0.1`, `0.2`)", "0.3"),
        ("add(`1`, `2`)", "3"),
        ("add(`1`, `2`, `0.50`)", "3.50"),
        ("sub(`10`, `0.10`)", "9.90"),
        ("mul(`12.10`, `3`)", "36.30"),
        ("mul(`2`, `3`, `4`)", "24"),
        ("div(`1`, `3`)", "0.3333333333333333333333333333333333"),
        ("div(`6`, `3`)", "2"),
        ("div(`1`, `8`)", "0.125"),
        ("div(`-7`, `2`)", "-3.5"),
        ("mod(`7`, `4`)", "3"),
        ("mod(`7.5`, `2`)", "1.5"),
        ("round(`2.5`)", "2"),
        ("round(`3.5`)", "4"),
        ("round(`2.345`, `2`)", "2.34"),
        ("round(`2.345`, `2`, 'half_up')", "2.35"),
        ("round(`2.341`, `2`, 'up')", "2.35"),
        ("round(`2.349`, `2`, 'down')", "2.34"),
        ("round(`-2.5`, `0`, 'floor')", "-3"),
        ("round(`12.1`, `2`)", "12.10"),
        ("round(`5`, `2`)", "5.00"),
        ("round(`5`)", "5"),
        ("round(`1250`, `-2`)", "1200"),
        ("round(`1350`, `-2`)", "1400"),
        ("sub(`1e20`, `1e-20`)", "99999999999999999999.99999999999999999999"),
    ],
)
def test_arithmetic_is_exact(language: WorkspaceLanguage, scope: Scope, call: str, result: str) -> None:
    assert str(language.expression(call)(scope())) == result


@given(st.decimals(allow_nan=False, allow_infinity=False, places=9, min_value=-(10**18), max_value=10**18),
       st.decimals(allow_nan=False, allow_infinity=False, places=12, min_value=-(10**18), max_value=10**18))  # fmt: skip
def test_sums_and_differences_undo_each_other(left: Decimal, right: Decimal) -> None:
    assert numbers.sub(numbers.add(left, right), right) == left
    assert numbers.add(left, right) == numbers.add(right, left)
    if right:
        assert numbers.div(numbers.mul(left, right), right) == left


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("add(`1`, 'x')", "argument 2` must be a number, it is the text 'x'; write number"),
        ("add(`1`, `null`)", "it is null"),
        ("add(`1`, `true`)", "it is `true`"),
        ("sub(body, `1`)", "it is an object"),
        ("div(`1`, `0`)", "division by zero"),
        ("div(`0`, `0`)", "division by zero"),
        ("mod(`1`, `0`)", "division by zero"),
        ("round('x')", "must be a number"),
        ("round(`1`, `1.5`)", "must be a whole number"),
        ("round(`1`, `1000`)", "from -100 to 100"),
        ("mul(`1e300`, `1e300`, `1e300`, `1e300`)", "digits"),
        ("add(`1e300`, `1e-300`)", "digits"),
    ],
)
def test_arithmetic_refuses_what_is_no_number(language: WorkspaceLanguage, scope: Scope, call: str, words: str) -> None:
    with pytest.raises(Exception, match="failed: ") as caught:
        language.expression(call)(scope({}))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "locale", "result"),
    [
        ("1.234,56", "de-DE", "1234.56"),
        ("1.234,56-", "de-DE", "-1234.56"),
        ("-1.234,56", "de-DE", "-1234.56"),
        ("1234,5", "de-DE", "1234.5"),
        ("12,10", "de", "12.10"),
        ("1.234.567", "de-DE", "1234567"),
        (",5", "de-DE", "0.5"),
        ("5,", "de-DE", "5"),
        (" 7 ", "de-DE", "7"),
        ("0012", "de-DE", "12"),
        ("1,234.56", "en-US", "1234.56"),
        ("1234.56", "en-US", "1234.56"),
        ("1,234", "en-GB", "1234"),
        ("1'234.50", "de-CH", "1234.50"),
        ("1\u2019234.50", "de-CH", "1234.50"),
        ("1\u00a0234,5", "fr-FR", "1234.5"),
        ("1\u202f234,5", "fr-FR", "1234.5"),
        ("1 234,5", "pl-PL", "1234.5"),
        ("1.234,5", "it-IT", "1234.5"),
        ("1.234,5", "de_AT", "1234.5"),
        ("\u22125,5", "sv-SE", "-5.5"),
        ("1234.56", "c", "1234.56"),
        ("-1e3", "c", "-1000"),
        ("12-", "c", "-12"),
        ("+3", "c", "3"),
    ],
)
def test_numbers_of_a_country_are_read(text: str, locale: str, result: str) -> None:
    found = numbers.number(text, locale)
    assert found == Decimal(result)
    assert not isinstance(found, float)


@pytest.mark.parametrize(
    ("text", "locale"),
    [
        ("12.5", "de-DE"),
        ("1.2345", "de-DE"),
        ("12.34.567", "de-DE"),
        ("1,234,5", "de-DE"),
        ("1,5", "en-US"),
        ("1,23,456", "en-US"),
        ("1.234.567,8.9", "de-DE"),
        ("1,234", "c"),
        ("", "c"),
        ("-", "de-DE"),
        (",", "de-DE"),
        ("abc", "de-DE"),
        ("12 Stk", "de-DE"),
        ("1e5", "de-DE"),
        ("NaN", "c"),
        ("Infinity", "c"),
        ("0x10", "c"),
        ("1_000", "c"),
        ("٣", "c"),
        ("--5", "c"),
        ("-5-", "c"),
        ("1e99999", "c"),
        ("9" * 2000, "c"),
    ],
)
def test_what_is_no_number_of_the_country_is_an_error(text: str, locale: str) -> None:
    with pytest.raises(ValueError, match="is not a number in locale"):
        numbers.number(text, locale)


def test_numbers_and_null_pass_and_unknown_locales_do_not() -> None:
    assert numbers.number(5, "de-DE") == 5
    assert numbers.number(None, "de-DE") is None
    for locale in ("xx-YY", "", None, 5):
        with pytest.raises(ValueError, match="unknown locale"):
            numbers.number("5", locale)
    with pytest.raises(ValueError, match="must be text"):
        numbers.number([], "c")


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**12), max_value=10**12))
def test_what_germany_writes_is_read_back(value: Decimal) -> None:
    written = f"{value:,f}".replace(",", "_").replace(".", ",").replace("_", ".")
    assert numbers.number(written, "de-DE") == value


# -- texts ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "result"),
    [
        ("upper('straße')", "STRASSE"),
        ("lower('REL')", "rel"),
        ("trim('  x ')", "x"),
        ("trim('--x--', '-')", "x"),
        ("substr('4711-A', `0`, `4`)", "4711"),
        ("substr('4711-A', `-1`)", "A"),
        ("substr('4711-A', `5`)", "A"),
        ("substr('4711-A', `50`)", ""),
        ("substr('4711-A', `-50`, `2`)", "47"),
        ("replace('A/B/C', '/', '')", "ABC"),
        ("pad(`4711`, `10`)", "0000004711"),
        ("pad('A', `3`, ' ')", "  A"),
        ("pad('ABCDE', `3`)", "ABCDE"),
        ("strip_zeros('0000004711')", "4711"),
        ("strip_zeros('0000')", "0"),
        ("strip_zeros('')", ""),
        ("strip_zeros('0A')", "A"),
        ("strip_zeros('100')", "100"),
        ("split_text('10;20', ';')", ["10", "20"]),
        ("split_text('10', ';')", ["10"]),
        ("concat('LOT-', `7`, '/', `1.50`, `true`)", "LOT-7/1.50true"),
        ("to_text(`12.10`)", "12.10"),
        ("to_text(`1e3`)", "1000"),
        ("to_text(`[1, 2.50]`)", "[1,2.50]"),
        ("to_text(`null`)", None),
        ("coalesce(`null`, body.x, 'c')", "c"),
        ("coalesce(`null`)", None),
        ("coalesce('', 'c')", ""),
        ("default(body.x, 'd')", "d"),
        ("default('', 'd')", ""),
        ("default('', 'd', `true`)", "d"),
        ("default(`0`, 'd', `true`)", 0),
        ("default(`false`, 'd', `true`)", "d"),
        ("if_else(`0`, 'y', 'n')", "y"),
        ("if_else('', 'y', 'n')", "n"),
        ("if_else(body.x == 'R', 'y', 'n')", "n"),
        ("nullify('')", None),
        ("nullify('  ')", None),
        ("nullify('0000-00-00')", None),
        ("nullify('00000000')", None),
        ("nullify('0000-00-00T00:00:00')", None),
        ("nullify('00.00.0000')", None),
        ("nullify('0000000000')", None),
        ("nullify('0')", "0"),
        ("nullify('0.00')", "0.00"),
        ("nullify('0001')", "0001"),
        ("nullify(`0`)", 0),
        ("nullify('N/A', ['N/A', '-'])", None),
        ("nullify('', ['N/A'])", ""),
        ("nullify(`9999`, [`9999`])", None),
        ("get(`{\"a\": 1}`, 'a')", 1),
        ("get(`{\"a\": 1}`, 'b')", None),
        ('get(`{"1": 5}`, `1`)', 5),
        ("get(`[5, 6]`, `-1`)", 6),
        ("get(`[5, 6]`, `2`)", None),
        ("get(body.x, 'b')", None),
        ('unique(`[2, 1, 2, "2", {"a": 1}, {"a": 1}]`)', [2, 1, "2", {"a": 1}]),
    ],
)
def test_texts_and_choices(language: WorkspaceLanguage, scope: Scope, call: str, result: Any) -> None:
    assert language.expression(call)(scope({})) == result


@pytest.mark.parametrize("name", ["upper", "lower", "trim", "strip_zeros", "to_text", "number", "sap_date", "in_zone"])
def test_null_stays_null_where_one_value_becomes_another(language: WorkspaceLanguage, scope: Scope, name: str) -> None:
    assert language.expression(f"{name}(body.missing)")(scope({})) is None


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("upper(`5`)", "upper: `text` must be text, it is the number 5; write to_text(…) around it"),
        ("concat('a', body.x)", "concat: `argument 2` must be text or a number, it is null"),
        ("concat('a', `[]`)", "it is a list"),
        ("pad('a', `3`, 'xy')", "must be one character"),
        ("pad('a', `100000`)", "from 0 to 10000"),
        ("split_text('a', '')", "is an empty text"),
        ("replace('a', '', 'b')", "is an empty text"),
        ("substr('abc', `0`, `-1`)", "whole number from 0"),
        ("get('text', 'a')", "must be an object or a list"),
        ("hash(body.x)", "`value` is null"),
        ("uuid(body.x)", "it is null"),
        ("uuid('a', body)", "it is an object"),
        ("unique('x')", "must be a list"),
        ("nullify('x', 'y')", "must be a list"),
    ],
)
def test_texts_refuse_what_they_cannot_take(language: WorkspaceLanguage, scope: Scope, call: str, words: str) -> None:
    with pytest.raises(Exception, match="failed: ") as caught:
        language.expression(call)(scope({}))
    assert words in str(caught.value)


def test_a_replacement_cannot_explode() -> None:
    with pytest.raises(ValueError, match="16000000 characters"):
        texts.replace("a" * 5000, "a", "b" * 5000)
    with pytest.raises(ValueError, match="16000000 characters"):
        texts.concat("a" * 9_000_000, "b" * 9_000_000)


# -- identity -------------------------------------------------------------------------------------------------------------


def test_ids_depend_on_their_names_only(language: WorkspaceLanguage, scope: Scope) -> None:
    made = language.expression("uuid(body.site, body.lot)")
    first = made(scope({"site": "GRZ", "lot": 4711}))
    assert first == made(scope({"site": "GRZ", "lot": 4711}))
    assert first != made(scope({"site": "GRZ4", "lot": 711}))
    assert uuid.UUID(first).version == 5
    fresh = language.expression("uuid()")
    assert fresh(scope()) != fresh(scope())
    assert uuid.UUID(fresh(scope())).version == 7


def test_a_hash_is_sha256_and_ignores_the_order_of_fields(language: WorkspaceLanguage, scope: Scope) -> None:
    hashed = language.expression("hash(body)")
    assert hashed(scope("abc")) == hashlib.sha256(b"abc").hexdigest()
    assert hashed(scope({"a": 1, "b": {"d": 2, "c": 3}})) == hashed(scope({"b": {"c": 3, "d": 2}, "a": 1}))
    assert hashed(scope({"a": Decimal("1.0")})) != hashed(scope({"a": Decimal("1.00")}))
    assert hashed(scope(["ü"])) == hashlib.sha256('["ü"]'.encode()).hexdigest()


# -- tables ---------------------------------------------------------------------------------------------------------------


def test_a_table_gives_a_column_and_knows_the_site(language: WorkspaceLanguage, scope: Scope) -> None:
    assert language.expression("xref('plants', body)")(scope("P10")) == "1000"
    assert language.expression("xref('plants', body, 'name')")(scope("P10")) == "Graz"
    assert language.expression("xref('plants', body, 'name')")(scope("P20", site={"city": "Linz"})) == "Linz"
    assert language.expression("body[].xref('plants', @)")(scope(["P10", "P20"])) == ["1000", "2000"]
    assert language.expression("map(&xref('plants', @, 'name'), body)")(scope(["P20"], site={"city": "Linz"})) == [
        "Linz"
    ]
    with pytest.raises(Unmapped):
        language.expression("xref('plants', body)")(scope("P30"))


def test_a_table_named_by_a_message_may_be_unknown(language: WorkspaceLanguage, scope: Scope) -> None:
    with pytest.raises(Exception, match="there is no table 'plant'; did you mean 'plants'"):
        language.expression("xref(body.table, 'P10')")(scope({"table": "plant"}))
