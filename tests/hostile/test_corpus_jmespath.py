"""T19: every case of the JMESPath compliance suite in a route of a running bus, asked over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.corpora import jmespath
from tests.hostile.tools import Target, attacked, problems, write

ROUTE = """
route: r{n}
from: {{ http: {{ path: /e/{n}, method: POST, format: json, reply: delivered }} }}
steps:
  - set: {{ vars.result: {expression} }}
  - respond: {{ status: 200, body: "{{ result: vars.result }}" }}
"""
CASES: list[tuple[Any, dict[str, Any]]] = [
    (group["given"], case) for groups in jmespath().values() for group in groups for case in group["cases"]
]
#: Names that look like the literals of other languages are refused, so that nobody compares with a field that is not there.
LOOKS_LIKE_A_LITERAL = "without quotes is the name of a field"
#: Faults that can be seen without data.
AT_LOAD = {"syntax", "invalid-arity", "unknown-function"}


def route(n: int) -> str:
    expression = CASES[n][1]["expression"]
    # the suite's expressions begin at the document, those of a route at the names of a message
    whole = f"body | ({expression})" if expression.strip() else expression
    return ROUTE.format(n=n, expression=json.dumps(whole, ensure_ascii=False))


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """The cases that are an error at load, with the words."""
    root = write(tmp_path_factory.mktemp("lint"), {f"routes/r{n}.yaml": route(n) for n in range(len(CASES))})
    found = [item for item in problems(root) if item["severity"] == "error"]
    assert all(item["line"] for item in found)
    return {int(item["path"].removeprefix("routes/r").removesuffix(".yaml")): item["message"] for item in found}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, refused: dict[int, str]) -> Iterator[Target]:
    routes = {f"routes/r{n}.yaml": route(n) for n in range(len(CASES)) if n not in refused}
    with attacked(tmp_path_factory.mktemp("jmespath"), routes, "--no-watch") as found:
        yield found


def test_faults_that_can_be_seen_without_data_are_errors_at_load(refused: dict[int, str]) -> None:
    wrong = {
        case["expression"]: refused.get(n)
        for n, (_, case) in enumerate(CASES)
        if (case.get("error") in AT_LOAD) != (n in refused)
        and LOOKS_LIKE_A_LITERAL not in refused.get(n, "")
        and case.get("error") is None
    }
    assert wrong == {}
    missed = [case for n, (_, case) in enumerate(CASES) if case.get("error") in AT_LOAD and n not in refused]
    assert missed == []


def test_every_expression_gives_the_result_of_the_suite(target: Target, refused: dict[int, str]) -> None:
    wrong, asked = [], 0
    for n, (given, case) in enumerate(CASES):
        if n in refused:
            continue
        answer = target.http.post_json(f"/e/{n}", given)
        asked += 1
        if asked % 50 == 0:
            target.alive()
        if "error" in case:
            good = (
                answer.status == 500
                and answer.json["code"] == "internal"
                and case["expression"] not in answer.json["detail"]
            )
        else:
            good = answer.status == 200 and ("bench" in case or answer.json == {"result": case["result"]})
        if not good:
            wrong.append((case, answer))
    assert wrong == []
    assert asked > 750
