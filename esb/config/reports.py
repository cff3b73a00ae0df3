"""Problems in the forms that other programs read: GitHub's annotations, SARIF 2.1.0, JUnit, one line each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from esb import __version__
from esb.config.codes import CODES
from esb.config.diagnostics import ReadLines, excerpt, headline, order
from esb.config.fixes import Edit, fix_of
from esb.config.junit import Check, Failure, junit
from esb.errors import Position, Problem

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def render_concise(problems: Iterable[Problem]) -> str:
    """``path:line:col: CODE message; hint``, one problem a line."""
    return "\n".join(headline(problem) + (f"; {problem.hint}" if problem.hint else "") for problem in order(problems))


# -- GitHub -----------------------------------------------------------------------------------------------------------------


def render_github(problems: Iterable[Problem], prefix: str = "") -> str:
    """Workflow commands that put each problem beside its line in a pull request; ``prefix`` leads from the repository."""
    return "\n".join(_command(problem, prefix) for problem in order(problems))


def _command(problem: Problem, prefix: str) -> str:
    at = problem.position
    facts = {
        "file": prefix + at.path,
        "line": at.line,
        "endLine": at.line,
        "col": at.column,
        "endColumn": at.column + at.length,
        "title": f"{problem.code} {CODES[problem.code].title}" if problem.code in CODES else problem.code,
    }
    listed = ",".join(f"{name}={_property(str(value))}" for name, value in facts.items())
    text = problem.message + (f"\n{problem.hint}" if problem.hint else "")
    return f"::{problem.severity} {listed}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


# -- JUnit ------------------------------------------------------------------------------------------------------------------


def render_junit(
    problems: Iterable[Problem], read_lines: ReadLines, prefix: str = "", *, strict: bool = False, passed: str = ""
) -> str:
    """JUnit XML: a suite for each file, a case for each problem. A warning is a case that passed and says so, unless ``strict``.

    Without a problem there is one case, called ``passed``, since a report without cases counts as broken.
    """
    checks = [_check(problem, read_lines, prefix, strict) for problem in order(problems)]
    return junit(checks or [Check("esb lint", "esb lint", passed)])


def _check(problem: Problem, read_lines: ReadLines, prefix: str, strict: bool) -> Check:
    at = problem.position
    file = prefix + at.path
    text = excerpt(problem, read_lines)
    words = problem.message + (f"; {problem.hint}" if problem.hint else "")
    failure = Failure(words, text, problem.code) if strict or problem.severity == "error" else None
    name = f"{at.line}:{at.column} {problem.code} {problem.message}"
    return Check(file, problem.code, name, file, at.line, failure=failure, said="" if failure else text)


# -- SARIF ------------------------------------------------------------------------------------------------------------------


def render_sarif(problems: Iterable[Problem], read_lines: ReadLines) -> dict[str, Any]:
    """One run of SARIF 2.1.0: rules with their explanation, results with both places and, where there is one, the fix."""
    ordered = order(problems)
    codes = sorted({problem.code for problem in ordered})
    index = {code: place for place, code in enumerate(codes)}
    driver = {
        "name": "esb",
        "version": __version__,
        "rules": [_rule(code) for code in codes],
    }
    results = [_result(problem, index[problem.code], fix_of(problem, read_lines)) for problem in ordered]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(code: str) -> dict[str, Any]:
    known = CODES.get(code)
    rule: dict[str, Any] = {"id": code}
    if known is not None:
        rule |= {"shortDescription": {"text": known.title}, "fullDescription": {"text": known.text}}
        rule["help"] = {"text": f"esb explain {code}"}
    return rule


def _result(problem: Problem, rule: int, fix: Edit | None) -> dict[str, Any]:
    text = problem.message + (f"; {problem.hint}" if problem.hint else "")
    result: dict[str, Any] = {
        "ruleId": problem.code,
        "ruleIndex": rule,
        "level": problem.severity,
        "message": {"text": text},
        "locations": [_location(problem.position)],
    }
    if problem.related:
        result["relatedLocations"] = [
            {**_location(at), "id": number, "message": {"text": words}}
            for number, (at, words) in enumerate(problem.related, 1)
        ]
    if fix is not None:
        replaced = {"deletedRegion": _region(Position(fix.path, fix.line, fix.column, fix.length))}
        change = {
            "artifactLocation": {"uri": _uri(fix.path)},
            "replacements": [{**replaced, "insertedContent": {"text": fix.text}}],
        }
        result["fixes"] = [{"description": {"text": f"write `{fix.text}`"}, "artifactChanges": [change]}]
    return result


def _location(at: Position) -> dict[str, Any]:
    return {"physicalLocation": {"artifactLocation": {"uri": _uri(at.path)}, "region": _region(at)}}


def _region(at: Position) -> dict[str, int]:
    return {
        "startLine": at.line,
        "startColumn": at.column,
        "endLine": at.line,
        "endColumn": at.column + at.length,
    }


def _uri(path: str) -> str:
    from urllib.parse import quote  # noqa: PLC0415 - only this form needs it

    return quote(path)
