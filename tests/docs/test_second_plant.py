"""What "Bring up a second plant" tells its reader to write works, and says what it is said to say."""

from __future__ import annotations

from pathlib import Path

import pytest

from esb.config.diagnostics import render_text
from esb.config.loader import read_workspace

from .test_docs import ROOT, blocks

PAGE = ROOT / "docs" / "second-plant.md"


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    names = {"template": "routes/lot-blocks.yaml", "connector": "connectors/erp.yaml", "site": "routes/sites/P20.yaml"}
    for _, text in blocks(PAGE, "yaml"):
        path = tmp_path / names.pop(text.partition(":")[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert not names
    return tmp_path


def test_the_plant_of_the_page_lints(plant: Path) -> None:
    loaded = read_workspace(plant, environ={})
    assert loaded.problems == []
    assert loaded.workspace is not None
    assert list(loaded.workspace.routes) == ["lot-block-p20"]
    assert list(loaded.workspace.connectors) == ["plant-erp@P20"]


def test_the_diagnostic_of_the_page_is_the_real_one(plant: Path) -> None:
    site = plant / "routes" / "sites" / "P20.yaml"
    site.write_text(site.read_text(encoding="utf-8").replace('"2000"', '"2000", wait: fast'), encoding="utf-8")
    loaded = read_workspace(plant, environ={})
    shown = render_text(loaded.problems, loaded.read_lines).rpartition("\n\n")[0]
    assert shown in {text.rstrip("\n") for _, text in blocks(PAGE, "text")}
