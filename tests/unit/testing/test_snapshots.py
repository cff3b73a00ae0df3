"""What a case sends, publishes and answers is kept on request, and compared from then on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from esb.cli import cli

from .test_plugin import ERP, ROUTE

SUITE = """route: lots
cases:
  - name: a lot is held
    send: { json: { lot: "0012", qty: 12.10 } }
    stubs: { erp.hold: { status: 201 } }
    expect: { state: done, snapshot: true }
  - name: another
    send: { json: { lot: "0013" } }
    stubs: { erp.hold: { status: 201 } }
    expect: { state: done, snapshot: true }
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    route = ROUTE.replace("Lot: body.lot,", "Lot: body.lot, Id: meta.message_id,")
    for name, text in {"routes/lots.yaml": route, "routes/lots.test.yaml": SUITE, "connectors/erp.yaml": ERP}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def esb(root: Path, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["test", str(root), *words])
    return result.exit_code, result.output


def test_a_snapshot_is_written_on_request_and_compared_from_then_on(root: Path) -> None:
    code, shown = esb(root)
    assert code == 1
    assert "routes/lots.test.yaml:6:28: there is no snapshot yet" in shown
    assert esb(root, "--update")[0] == 0
    file = root / "routes/lots.snapshots.json"
    text = file.read_text(encoding="utf-8")
    assert '"Quantity": 12.10' in text, "digits stay"
    assert json.loads(text)["a lot is held"]["sent"][0]["body"]["Id"] == "<id-1>", (
        "what is new in every run is not kept"
    )
    assert esb(root)[0] == 0

    file.write_text(text.replace("12.10", "12.1"), encoding="utf-8")
    code, shown = esb(root)
    assert code == 1
    assert "another than in routes/lots.snapshots.json" in shown
    assert "/sent/0/body/Quantity: was 12.1, is 12.10" in shown
    assert esb(root, "--update", "-k", "another")[0] == 0
    assert esb(root)[0] == 1, "only the chosen case was updated"
    assert esb(root, "--update")[0] == 0
    assert file.read_text(encoding="utf-8") == text


def test_snapshots_of_cases_that_are_gone_go_and_a_broken_file_is_named(root: Path) -> None:
    assert esb(root, "--update")[0] == 0
    suite = root / "routes/lots.test.yaml"
    suite.write_text(SUITE.replace("name: another", "name: renamed"), encoding="utf-8")
    assert esb(root, "--update")[0] == 0
    file = root / "routes/lots.snapshots.json"
    assert list(json.loads(file.read_text(encoding="utf-8"))) == ["a lot is held", "renamed"]
    file.write_text("{", encoding="utf-8")
    assert "cannot be read" in esb(root)[1]
    assert esb(root, "--update")[0] == 0
