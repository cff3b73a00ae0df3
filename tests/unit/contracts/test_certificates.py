"""Real certificates of analysis: those that pass and those that fail (see examples/data/certificates/SOURCES.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from esb.contracts import JsonContract, read_schema
from esb.errors import Invalid
from esb.formats.json import Json

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "examples" / "data" / "certificates"
SCHEMA = ROOT / "schemas" / "certificate-coa.v1.json"


@pytest.fixture(scope="module")
def contract() -> JsonContract:
    data = SCHEMA.read_bytes()
    return JsonContract.compile("coa.v1", read_schema(data, "schemas/coa.v1.json"), "schemas/coa.v1.json")


def certificate(name: str) -> Any:
    return Json().decode((FOLDER / f"CoA_v1.1.0_{name}.json").read_bytes())


def test_a_valid_certificate_passes(contract: JsonContract) -> None:
    contract.check(certificate("valid_certificate_1"))


def test_a_certificate_without_languages_fails_in_one_place(contract: JsonContract) -> None:
    with pytest.raises(Invalid) as caught:
        contract.check(certificate("missing_languages"))
    [violation] = caught.value.violations
    assert violation.pointer == "/Certificate/CertificateLanguages"
    assert violation.detail == "must have at least 1 item, not 0"


def test_an_invalid_certificate_fails_where_the_reference_validator_says(contract: JsonContract) -> None:
    body = certificate("invalid_cert")
    with pytest.raises(Invalid) as caught:
        contract.check(body)
    schema = jsonschema.Draft202012Validator(_floats(certificate_schema()), format_checker=jsonschema.FormatChecker())
    expected = {"/" + "/".join(map(str, error.absolute_path)) for error in schema.iter_errors(_floats(body))}
    assert {violation.pointer for violation in caught.value.violations} == expected


def test_a_certificate_survives_writing_and_reading() -> None:
    body = certificate("valid_certificate_1")
    assert repr(Json().decode(Json().encode(body))) == repr(body)


def certificate_schema() -> Any:
    return read_schema(SCHEMA.read_bytes(), "x.json")


def _floats(value: Any) -> Any:
    """The reference validator takes no Decimals."""
    import json

    return json.loads(Json().encode(value))
