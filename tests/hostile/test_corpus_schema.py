"""T19: every case of the JSON Schema test suite (2020-12) as a contract of an HTTP source of a running bus."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.corpora import json_schema
from tests.hostile.tools import Target, attacked, problems, write

ROUTE = """
route: r{n}
from: {{ http: {{ path: /s/{n}, method: POST, format: json, contract: g{n}.v1 }} }}
steps:
  - filter: "`false`"
"""
GROUPS: list[tuple[str, dict[str, Any]]] = [
    (f"{name}#{place}", group) for name, groups in json_schema().items() for place, group in enumerate(groups)
]
#: Groups that stand on documents of other servers, or on a dialect of their own. Nothing is fetched: an error at load.
ELSEWHERE = {
    "optional/cross-draft.json#0",
    *(f"optional/format-assertion.json#{n}" for n in range(2)),
    *(f"refRemote.json#{n}" for n in range(15)),
    *(f"vocabulary.json#{n}" for n in range(2)),
    *(f"dynamicRef.json#{n}" for n in range(13, 18)),
}
#: The bus asserts `format`; the suite's main part does not.
ASSERTED = "format.json"


def files(n: int, group: dict[str, Any]) -> dict[str, str]:
    return {f"schemas/g{n}.v1.json": json.dumps(group["schema"]), f"routes/r{n}.yaml": ROUTE.format(n=n)}


def test_schemas_that_need_the_network_are_refused_at_load_with_their_place(tmp_path: Path) -> None:
    here = {n: group for n, (name, group) in enumerate(GROUPS) if name in ELSEWHERE}
    assert len(here) == len(ELSEWHERE)
    write(tmp_path, {path: text for n, group in here.items() for path, text in files(n, group).items()})
    found = problems(tmp_path)
    assert {item["code"] for item in found} <= {"ESB302", "ESB307", "ESB308"}
    assert {item["path"] for item in found} == {f"schemas/g{n}.v1.json" for n in here}
    assert all(item["line"] and item["hint"] for item in found)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    kept = {n: group for n, (name, group) in enumerate(GROUPS) if name not in ELSEWHERE}
    contracts = {path: text for n, group in kept.items() for path, text in files(n, group).items()}
    with attacked(tmp_path_factory.mktemp("schemas"), contracts, "--no-watch") as found:
        yield found


def test_every_instance_is_accepted_or_refused_as_the_suite_says(target: Target) -> None:
    wrong, sent, asserted = [], 0, 0
    for n, (name, group) in enumerate(GROUPS):
        if name in ELSEWHERE:
            continue
        for case in group["tests"]:
            answer = target.http.post_json(f"/s/{n}", case["data"])
            sent += 1
            if sent % 50 == 0:
                target.alive()
            if name.startswith(ASSERTED) and answer.status == 422:
                asserted += 1
            elif answer.status != (202 if case["valid"] else 422):
                wrong.append((name, group["description"], case["description"], answer))
            elif answer.status == 422:
                assert answer.json["errors"], answer
    assert wrong == []
    assert (sent > 2100, asserted) == (True, 19)
