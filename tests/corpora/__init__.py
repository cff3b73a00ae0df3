"""Public test suites, kept beside the tests; where each comes from stands in SOURCES.md."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any


def _read(name: str) -> Any:
    return json.loads(gzip.decompress((Path(__file__).parent / f"{name}.json.gz").read_bytes()))


def json_parsing() -> dict[str, bytes]:
    """File name to bytes: ``y_`` must be accepted, ``n_`` refused, ``i_`` is left open by the standard."""
    return {name: base64.b64decode(text) for name, text in _read("json-parsing").items()}


def json_schema() -> dict[str, list[dict[str, Any]]]:
    """File name to groups ``{description, schema, tests: [{description, data, valid}]}``."""
    return {name: json.loads(text) for name, text in _read("json-schema-2020-12").items()}


def jmespath() -> dict[str, list[dict[str, Any]]]:
    """File name to groups ``{given, cases: [{expression, result | error | bench}]}``."""
    return {name: json.loads(text) for name, text in _read("jmespath").items()}


def naughty_strings() -> list[str]:
    return list(_read("naughty-strings"))


def yaml_files() -> dict[str, str]:
    """File name to the text of a file of the suite, itself YAML: a list of cases with ``yaml`` and perhaps ``fail``."""
    return dict(_read("yaml"))


def batchml_recipe() -> bytes:
    """A master recipe of 250 KB: three vocabularies, default namespaces that change on the way, lists between other elements."""
    return gzip.decompress((Path(__file__).parent / "batchml-recipe.xml.gz").read_bytes())
