"""What is said of values before any message comes is never wrong: held against public suites of schemas and expressions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from esb.contracts import JsonContract
from esb.errors import ConfigError
from esb.language import ExpressionError
from esb.language.inference import Inference
from esb.language.parsing import exact_json, parse
from esb.language.shapes import Shape, of_value, type_of
from esb.language.workspace import WorkspaceLanguage
from tests.corpora import jmespath, json_schema


def misfits(value: Any, shape: Shape, at: str = "$") -> Iterator[str]:
    """Where a value is something that its shape rules out; null stands for everything that is not there."""
    if value is None:
        return
    if type_of(value) not in shape.types:
        yield f"{at} is {type_of(value)}, not {sorted(shape.types)}"
    if shape.values is not None and type_of(value) not in ("object", "array", "number") and value not in shape.values:
        yield f"{at} is none of {shape.values}"
    if isinstance(value, dict):
        for name, inner in value.items():
            look = shape.look(name)
            if look.verdict == "never":
                yield f"{at}.{name} is called impossible"
            else:
                yield from misfits(inner, look.shape, f"{at}.{name}")
    elif isinstance(value, list):
        for inner in value:
            yield from misfits(inner, shape.items(), f"{at}[]")


@pytest.mark.parametrize("name", sorted(json_schema()))
def test_what_a_schema_allows_is_never_called_impossible(name: str) -> None:
    wrong = []
    for group in json_schema()[name]:
        try:
            contract = JsonContract.compile("x.v1", group["schema"], "schemas/x.v1.json")
        except ConfigError:
            continue  # what this schema needs is not local, or not of a dialect that is known
        shape = contract.shape(lambda path, parts: None)
        for case in group["tests"]:
            if contract.validator.is_valid(case["data"]):
                found = list(misfits(case["data"], shape))
                wrong += [f"{group['description']} / {case['description']}: {text}" for text in found]
    assert not wrong


def test_what_an_expression_gives_fits_what_was_foreseen() -> None:
    language, checked = WorkspaceLanguage(), 0
    wrong = []
    for groups in jmespath().values():
        for group in groups:
            for case in group["cases"]:
                # the language of the bus begins with `body`, and `$` is the whole message
                expression = f"body | {case['expression']}" if "result" in case else ""
                try:
                    compiled = language.expression(expression)
                except ExpressionError:
                    continue
                given = exact_json(json.dumps(group["given"]))
                shape = Inference(of_value({"body": given}), lambda finding: None).shape(parse(expression))
                checked += 1
                found = [] if (result := compiled({"body": given})) is None else list(misfits(result, shape))
                wrong += [f"{case['expression']}: {text}" for text in found]
    assert checked > 400
    assert not wrong
