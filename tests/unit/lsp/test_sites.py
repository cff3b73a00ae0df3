"""Templates and sites in the editor: the same completion as in a route."""

from __future__ import annotations

import pytest

from esb.lsp.answers import Answers
from esb.lsp.desk import Desk

from .test_session import CONTRACT

TEMPLATE = """template: hold
params: { plant: { type: string } }
routes:
  - route: hold
    owner: me
    from: { http: { path: "/{{ site.id }}/h", contract: inspection.v1 } }
    steps:
      - filter: body.result == 'REJECT'
      - to: erp.block
"""
FILES = {
    "esb.yaml": "bus: graz\n",
    "schemas/inspection.v1.json": CONTRACT,
    "connectors/erp.yaml": "connector: erp\ntype: http\nparams: { url: { type: string } }\nbase_url: '{{ params.url }}'\n"
    "operations: { block: { path: /b } }\n",
    "routes/hold.yaml": TEMPLATE,
    "routes/sites/P20.yaml": "site: P20\nuse: [ { template: hold, params: { plant: P20 } } ]\n"
    "connectors: { erp: { url: 'https://x.example' } }\n",
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    root = tmp_path_factory.mktemp("plant")
    for path, text in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return Answers(Desk(root))


def choices(answers: Answers, marked: str, path: str = "routes/hold.yaml") -> set[str]:
    before, _, after = marked.partition("|")
    line, column = before.count("\n"), len(before.rpartition("\n")[2])
    return {choice.label for choice in answers.complete(path, before + after, line, column)}


@pytest.mark.parametrize(
    ("marked", "path", "expected"),
    [
        (TEMPLATE.replace("owner", "own|"), "routes/hold.yaml", {"description", "key", "within"}),
        (TEMPLATE + "      - |", "routes/hold.yaml", {"map", "lookup", "to"}),
        (TEMPLATE.replace("erp.block", "e|"), "routes/hold.yaml", {"erp.block"}),
        (TEMPLATE.replace("body.result", "body.|"), "routes/hold.yaml", {"result", "lot", "lines"}),
        ("site: P20\n|", "routes/sites/P20.yaml", {"use", "timezone", "locale", "overrides"}),
        ("site: P20\nuse: [ { template: | } ]\n", "routes/sites/P20.yaml", {"hold"}),
        ("", "routes/new.yaml", {"route", "template", "site"}),
    ],
)
def test_what_may_be_written(answers: Answers, marked: str, path: str, expected: set[str]) -> None:
    assert choices(answers, marked, path) >= expected
