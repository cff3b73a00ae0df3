"""What the documents say is true: YAML lints, links lead somewhere, the reference is that of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from esb.cli import cli
from esb.config.diagnostics import render_text
from esb.config.loader import load_workspace
from esb.registry import FAMILIES, load
from tests.docs.generate import REFERENCE, pages

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def blocks(document: Path, language: str) -> list[tuple[int, str]]:
    """Line and text of every fenced block of a language."""
    text = document.read_text(encoding="utf-8")
    return [(text.count("\n", 0, m.start()) + 2, m[2]) for m in BLOCK.finditer(text) if m[1] == language]


def named_schemas(document: Path) -> dict[str, str]:
    """Schemas that a document tells its reader to save: ``in `schemas/x.v1.json`:`` and the JSON block after it."""
    text = document.read_text(encoding="utf-8")
    found = re.finditer(r"`(schemas/[\w.-]+\.json)`:?\n+```json\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return {m[1]: m[2] for m in found}


def write_beside(document: Path, root: Path) -> None:
    """What the routes of a document refer to, where the document shows it: schemas and connectors."""
    found = named_schemas(document)
    connectors = [text for _, text in blocks(document, "yaml") if text.startswith("connector:")]
    found |= {f"connectors/c{number}.yaml": text for number, text in enumerate(connectors)}
    for name, text in found.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


ROUTES = [
    pytest.param(document, line, text, id=f"{document.relative_to(ROOT)}:{line}")
    for document in DOCUMENTS
    for line, text in blocks(document, "yaml")
    if text.lstrip().startswith("route:") and "\ncases:" not in text
]
SUITES = [
    pytest.param(document, line, text, id=f"{document.relative_to(ROOT)}:{line}")
    for document in DOCUMENTS
    for line, text in blocks(document, "yaml")
    if text.startswith("route:") and "\ncases:" in text
]


@pytest.mark.parametrize(("document", "line", "text"), ROUTES)
def test_every_route_in_the_documents_lints(document: Path, line: int, text: str, tmp_path: Path) -> None:
    (tmp_path / "routes").mkdir()
    (tmp_path / "routes" / "example.yaml").write_text(text, encoding="utf-8")
    write_beside(document, tmp_path)
    _, problems = load_workspace(tmp_path)
    errors = [problem for problem in problems if problem.severity == "error"]
    report = render_text(errors, lambda path: (tmp_path / path).read_text(encoding="utf-8").splitlines())
    assert not errors, f"{document.name}:{line}\n{report}"


@pytest.mark.parametrize(("document", "line", "text"), SUITES)
def test_every_test_in_the_documents_passes(document: Path, line: int, text: str, tmp_path: Path) -> None:
    tested = text.splitlines()[0]
    (tmp_path / "routes").mkdir()
    shown = [(at, block) for at, block in blocks(document, "yaml") if block.startswith(tested + "\n")]
    routes = [(at, block) for at, block in shown if "\ncases:" not in block]
    route = [block for at, block in routes if at < line or at == routes[0][0]][-1]  # as it was shown last
    (tmp_path / "routes" / "example.yaml").write_text(route, encoding="utf-8")
    (tmp_path / "routes" / "example.test.yaml").write_text(text, encoding="utf-8")
    write_beside(document, tmp_path)
    done = CliRunner().invoke(cli, ["test", str(tmp_path)])
    assert done.exit_code == 0, done.output


def test_the_documents_hold_routes() -> None:
    assert len(ROUTES) >= 4


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_inside_the_repository_lead_somewhere(document: Path) -> None:
    dead = []
    for target in LINK.findall(document.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://", "mailto:", "#")):
            continue
        path = (document.parent / target.split("#")[0]).resolve()
        if not path.exists():
            dead.append(target)
    assert not dead


def test_the_reference_is_that_of_the_code() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in REFERENCE.glob("*.md")}
    assert written == pages(), "run `make docs`"


def test_every_component_and_option_stands_in_the_reference() -> None:
    text = "\n".join(pages().values())
    registry = load()
    for family in FAMILIES:
        for name in registry.family(family):
            assert f"`{name}`" in text, f"{family} {name}"


def test_the_typo_of_the_readme_gives_the_message_of_the_readme(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    route = next(text for _, text in blocks(ROOT / "README.md", "yaml") if text.startswith("route:"))
    shown = re.search(r"<!-- golden.*?-->\n```text\n(.*?)```", readme, re.DOTALL)
    assert shown is not None
    (tmp_path / "routes").mkdir()
    (tmp_path / "routes" / "lot-hold.yaml").write_text(route.replace("max: 20", "maximum: 20"), encoding="utf-8")
    _, problems = load_workspace(tmp_path)
    report = render_text(problems, lambda path: (tmp_path / path).read_text(encoding="utf-8").splitlines())
    assert report.splitlines()[: len(shown[1].splitlines())] == shown[1].splitlines()


def test_the_tests_that_the_guarantees_name_exist() -> None:
    text = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    named = [
        name
        for paragraph in text.split("\n\n")
        if paragraph.startswith("*Tested by:*")
        for name in re.findall(r"`([\w/.]+)`", paragraph)
    ]
    assert len(named) >= 15
    assert [name for name in named if not (ROOT / "tests" / name).exists()] == []
