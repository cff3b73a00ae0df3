"""Problems as GitHub and code scanners read them, over every golden workspace."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from jsonschema import Draft202012Validator

from esb.config.loader import read_workspace
from esb.config.reports import render_concise, render_github, render_junit, render_sarif

GOLDEN = Path(__file__).parents[2] / "golden" / "diagnostics"

TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
REGION = {
    "type": "object",
    "additionalProperties": False,
    "required": ["startLine", "startColumn", "endLine", "endColumn"],
    "properties": {
        name: {"type": "integer", "minimum": 1} for name in ("startLine", "startColumn", "endLine", "endColumn")
    },
}
FILE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["uri"],
    "properties": {"uri": {"type": "string", "format": "uri-reference"}},
}
LOCATION = {
    "type": "object",
    "additionalProperties": False,
    "required": ["physicalLocation"],
    "properties": {
        "id": {"type": "integer", "minimum": 0},
        "message": TEXT,
        "physicalLocation": {
            "type": "object",
            "additionalProperties": False,
            "required": ["artifactLocation", "region"],
            "properties": {"artifactLocation": FILE, "region": REGION},
        },
    },
}
REPLACEMENT = {
    "type": "object",
    "required": ["deletedRegion", "insertedContent"],
    "properties": {"deletedRegion": REGION, "insertedContent": {"required": ["text"]}},
}
FIX = {
    "type": "object",
    "required": ["artifactChanges"],
    "properties": {
        "description": TEXT,
        "artifactChanges": {
            "type": "array",
            "minItems": 1,
            "items": {
                "required": ["artifactLocation", "replacements"],
                "properties": {"artifactLocation": FILE, "replacements": {"items": REPLACEMENT, "minItems": 1}},
            },
        },
    },
}
RESULT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["message", "ruleId", "level", "locations"],
    "properties": {
        "ruleId": {"type": "string"},
        "ruleIndex": {"type": "integer", "minimum": 0},
        "level": {"enum": ["none", "note", "warning", "error"]},
        "message": TEXT,
        "locations": {"type": "array", "items": LOCATION, "minItems": 1},
        "relatedLocations": {"type": "array", "items": LOCATION, "uniqueItems": True},
        "fixes": {"type": "array", "items": FIX, "uniqueItems": True},
    },
}
RULE = {
    "type": "object",
    "required": ["id", "shortDescription"],
    "properties": {"id": {}, "shortDescription": TEXT, "fullDescription": TEXT, "help": TEXT},
}
#: the part of the schema of SARIF 2.1.0 that is used here
SARIF = {
    "type": "object",
    "additionalProperties": False,
    "required": ["version", "runs"],
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["tool"],
                "properties": {
                    "tool": {
                        "required": ["driver"],
                        "properties": {
                            "driver": {"required": ["name"], "properties": {"rules": {"type": "array", "items": RULE}}}
                        },
                    },
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "results": {"type": "array", "items": RESULT},
                },
            },
        },
    },
}


@pytest.mark.parametrize("case", sorted(path.name for path in GOLDEN.iterdir()))
def test_every_problem_is_told_in_every_form(case: str) -> None:
    loaded = read_workspace(GOLDEN / case, environ={})
    log = render_sarif(loaded.problems, loaded.read_lines)
    Draft202012Validator(SARIF).validate(log)
    run: dict[str, Any] = log["runs"][0]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert [rules[result["ruleIndex"]] for result in run["results"]] == [item["ruleId"] for item in run["results"]]
    github = render_github(loaded.problems, "plants/graz/").splitlines()
    concise = render_concise(loaded.problems).splitlines()
    assert len(github) == len(concise) == len(run["results"]) == len(loaded.problems)
    assert all(re.match(r"::(error|warning) file=plants/graz/[^,]+,line=\d+,", line) for line in github)
    suites = list(ET.fromstring(render_junit(loaded.problems, loaded.read_lines, "plants/graz/")))
    checks = [check for suite in suites for check in suite]
    assert len(checks) == len(loaded.problems)
    assert all(check.attrib["file"] == suite.attrib["name"] for suite in suites for check in suite)
    assert sum(check.find("failure") is not None for check in checks) == len(loaded.errors)


def test_a_fix_is_part_of_the_report() -> None:
    loaded = read_workspace(GOLDEN / "key_typo", environ={})
    (result,) = render_sarif(loaded.problems, loaded.read_lines)["runs"][0]["results"]
    (change,) = result["fixes"][0]["artifactChanges"][0]["replacements"]
    assert change["insertedContent"]["text"] == "backoff"
    assert change["deletedRegion"] == {"startLine": 7, "startColumn": 7, "endLine": 7, "endColumn": 13}


def test_no_text_can_end_a_command_of_github() -> None:
    from esb.errors import Position, Problem

    problem = Problem("ESB101", "a\n::error::b 100%", Position("routes/a,b:c.yaml", 1, 1), "c\r\nd")
    line = render_github([problem])
    assert "\n" not in line
    assert "file=routes/a%2Cb%3Ac.yaml," in line
    assert line.endswith("::a%0A::error::b 100%25%0Ac%0D%0Ad")


def test_a_build_server_sees_errors_as_failures_and_warnings_only_where_they_count() -> None:
    from esb.errors import Position, Problem

    error = Problem("ESB101", "unknown key `a\x00b`", Position("routes/a.yaml", 2, 3), "write `b`")
    warning = Problem("ESB601", "posts <twice>", Position("routes/b.yaml", 1, 1), severity="warning")

    def failures(*problems: Problem, strict: bool = False) -> list[tuple[str, str | None]]:
        root = ET.fromstring(render_junit(problems, lambda _: ["route: b"], strict=strict, passed="no problems"))
        found = [(suite, check, check.find("failure")) for suite in root for check in suite]
        for suite in root:
            own = [failure for one, _, failure in found if one is suite and failure is not None]
            assert (suite.attrib["tests"], suite.attrib["failures"]) == (str(len(suite)), str(len(own)))
        return [
            (check.attrib["name"], failure.attrib["type"] if failure is not None else None)
            for _, check, failure in found
        ]

    named = "2:3 ESB101 unknown key `a\\x00b`", "1:1 ESB601 posts <twice>"
    assert failures(warning, error) == [(named[0], "ESB101"), (named[1], None)]
    assert failures(warning, strict=True) == [(named[1], "ESB601")]
    assert failures() == [("no problems", None)]
